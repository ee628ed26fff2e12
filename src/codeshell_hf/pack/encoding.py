"""Encodes curated documents into pieces of shards, a process a core; finished pieces are not encoded again."""

import functools
import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from tqdm import tqdm

from ..processors import count_usable_cpus
from ..text.documents import list_parts, read_part
from ..text.shards import Header
from ..tokenization_codeshell import CodeShellTokenizer
from .encoder import make_tiktoken
from .perturbation import perturb
from .settings import Perturbation
from .shards import Document, Encoder, write_shards

WORTH_A_WORKER = 64_000_000  # bytes of compressed Parquet
TRAIN = "train"


@dataclass(frozen=True)
class PartTask:
    """One file of curated documents to encode.

    Args:
        part: The file.
        split: Of its documents.
        piece: Folder to write.
        is_fast: Whether tiktoken encodes.
        perturbation: Of training documents; held-out ones are never changed.
    """

    part: Path
    split: str
    piece: Path
    header: Header
    tokenizer: Path
    is_fast: bool
    perturbation: Perturbation | None


def encode_documents(
    documents: Path,
    split: str,
    folder: Path,
    header: Header,
    tokenizer: Path,
    *,
    is_fast: bool,
    perturbation: Perturbation | None = None,
    workers: int | None = None,
) -> list[Path]:
    """Encodes the curated documents of a split, each file into a piece.

    Args:
        documents: The output of `curate`.
        folder: Of the pieces; those that are there are finished.
        is_fast: Whether tiktoken encodes.
        workers: Processes; `None` for one each 64 MB of Parquet, up to one a core.

    Returns:
        Folders of pieces, in the order of their documents.
    """
    parts = list_parts(documents)
    applied = perturbation if split == TRAIN else None
    tasks = [PartTask(part, split, folder / part.stem, header, tokenizer, is_fast, applied) for part in parts]
    left = [task for task in tasks if not task.piece.exists()]
    folder.mkdir(exist_ok=True)
    # A process takes seconds to start, and tiktoken has threads of its own.
    worth = max(1, sum(part.stat().st_size for part in parts) // WORTH_A_WORKER)
    workers = min(workers or min(count_usable_cpus(), worth), max(len(left), 1))
    with tqdm(total=len(tasks), initial=len(tasks) - len(left), desc=f"pack {split}", unit="part") as bar:
        for _ in _run(left, workers):
            bar.update()
    return [task.piece for task in tasks]


def _run(tasks: Sequence[PartTask], workers: int) -> Iterator[Path]:
    """Encodes parts and yields their pieces as they are finished."""
    if workers == 1:
        yield from map(encode_part, tasks)
        return
    # Spawned: a forked process would share the locks of libraries that are already running threads.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(encode_part, task) for task in tasks]):
            yield done.result()


@functools.cache
def load_encoder(tokenizer: Path, *, is_fast: bool) -> Encoder:
    """Loads what encodes, once a process."""
    loaded = CodeShellTokenizer.from_pretrained(tokenizer)
    return make_tiktoken(loaded) if is_fast else loaded


def encode_part(task: PartTask) -> Path:
    """Encodes one file of curated documents into a piece, which is whole or absent."""
    temporary = task.piece.with_name(f".{task.piece.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    encoder = load_encoder(task.tokenizer, is_fast=task.is_fast)
    write_shards(_read(task), encoder, task.header, temporary)
    temporary.rename(task.piece)
    return task.piece


def _read(task: PartTask) -> Iterator[Document]:
    for row in read_part(task.part, split=task.split, columns=["id", "language", "source", "text"]):
        document = cast(Document, row)
        if task.perturbation is not None:
            document["text"] = perturb(document["text"], document["language"], document["id"], task.perturbation)
        yield document
