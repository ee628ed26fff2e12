"""Shards that the tests of packing share."""

from pathlib import Path

import numpy as np
import pytest

from codeshell_hf.text.shards import TokenShards
from tests.pack.letters import make_shards


@pytest.fixture
def shards(tmp_path: Path) -> TokenShards:
    # Each document has one letter of its own, so that a token tells its document.
    lengths = np.random.default_rng(0).integers(1, 60, size=60)
    return make_shards(tmp_path, [chr(33 + index) * int(length) for index, length in enumerate(lengths)])
