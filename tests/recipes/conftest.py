"""Outputs of stages that several files of tests read."""

from pathlib import Path

import pytest

from codeshell_hf import CodeShellTokenizer


@pytest.fixture(scope="session")
def aligned(tmp_path_factory: pytest.TempPathFactory, shared_tokenizer: CodeShellTokenizer) -> Path:
    """What `toy_alignment.make_home` makes; tests that read it are in the xdist group `alignment`."""
    from tests.recipes.toy_alignment import make_home

    return make_home(tmp_path_factory.mktemp("alignment"), shared_tokenizer)
