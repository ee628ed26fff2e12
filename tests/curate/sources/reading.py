"""Reads sources whole, and runs git as a tester."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from codeshell_hf.curate.settings import Source
from codeshell_hf.curate.sources import Document, list_units, read_unit

MAX_BYTES = 2_000
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def read_all(kind: str, path: Path | str, *, max_bytes: int = MAX_BYTES, **fields: object) -> dict[str, Document]:
    """Every document of a source, by its id."""
    source = Source.model_validate({"name": "s", "kind": kind, "path": str(path), **fields})
    read = [document for unit in list_units(source) for document in read_unit(source, unit, max_bytes=max_bytes)]
    documents = {document.id: document for document in read}
    assert len(documents) == len(read), "ids are unlike one another"
    return documents


def git(folder: Path, *arguments: str) -> str:
    """Runs git as a tester without configuration of their own."""
    names = {f"GIT_{who}_{what}": "tester" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], env=environment, check=True, capture_output=True, text=True
    ).stdout
