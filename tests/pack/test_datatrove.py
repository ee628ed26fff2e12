"""datatrove's shards."""

from pathlib import Path

import numpy as np
import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.pack.datatrove import DatatroveShards
from codeshell_hf.pack.rows import Phase, Rows
from codeshell_hf.text.shards import Header
from tests.pack.common import END, SENTINELS


def write_ds(folder: Path, documents: list[list[int]], width: str = "<u2") -> None:
    folder.mkdir(exist_ok=True)
    np.array([value for one in documents for value in one], width).tofile(folder / "00000.ds")
    np.cumsum([len(one) for one in documents]).astype("<u8").tofile(folder / "00000.ds.index")


@pytest.mark.parametrize("width", ["<u2", "<u4"])
def test_shards_of_datatrove_are_read(tmp_path: Path, width: str) -> None:
    write_ds(tmp_path, [[65, 66, END], [67], [END], [68, 69]], width)

    shards = DatatroveShards(tmp_path, Header(320, END, SENTINELS, "hash"))

    assert [shards[index].tolist() for index in range(len(shards))] == [[65, 66], [67], [], [68, 69]]
    batch = Rows(shards, seed=0, phases=[Phase(0, 3)], infilling=None).read(0, 3)
    assert set(batch.input_ids.ravel().tolist()) <= {65, 66, 67, 68, 69, END}


def test_broken_shards_of_datatrove_are_refused(tmp_path: Path) -> None:
    header = Header(320, END, SENTINELS, "hash")
    with pytest.raises(DataError, match=r"holds no \.ds file"):
        DatatroveShards(tmp_path, header)
    write_ds(tmp_path / "a", [[65, 400]])
    with pytest.raises(DataError, match="has token 400, but the vocabulary has 320 entries"):
        DatatroveShards(tmp_path / "a", header)
    write_ds(tmp_path / "b", [[65, 66]])
    np.array([1, 3], "<u8").tofile(tmp_path / "b" / "00000.ds.index")
    with pytest.raises(DataError, match=r"an id takes 1 bytes|which its index contradicts"):
        DatatroveShards(tmp_path / "b", header)
    (tmp_path / "b" / "00000.ds.index").unlink()
    with pytest.raises(DataError, match=r"it needs its \.ds\.index"):
        DatatroveShards(tmp_path / "b", header)
