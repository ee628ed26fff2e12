"""datatrove's shards."""

from pathlib import Path

import numpy as np
import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.pack import datatrove
from codeshell_hf.pack.datatrove import DatatroveShards
from codeshell_hf.pack.layout import Phase
from codeshell_hf.pack.rows import Rows
from codeshell_hf.text.shards import CHECKED_WHEN_OPENED, Header
from tests.pack.letters import END, SENTINELS

HEADER = Header(320, END, SENTINELS, "hash")


def write_ds(folder: Path, documents: list[list[int]], width: str = "<u2", name: str = "00000") -> None:
    folder.mkdir(exist_ok=True)
    np.array([value for one in documents for value in one], width).tofile(folder / f"{name}.ds")
    np.cumsum([len(one) for one in documents]).astype("<u8").tofile(folder / f"{name}.ds.index")


@pytest.mark.parametrize("width", ["<u2", "<u4"])
def test_shards_of_datatrove_are_read(tmp_path: Path, width: str) -> None:
    write_ds(tmp_path, [[65, 66, END], [67], [END], [68, 69]], width)

    shards = DatatroveShards(tmp_path, Header(320, END, SENTINELS, "hash"))

    assert [shards[index].tolist() for index in range(len(shards))] == [[65, 66], [67], [], [68, 69]]
    batch = Rows(shards, seed=0, phases=[Phase(0, 3)], infilling=None).read(0, 3)
    assert set(batch.input_ids.ravel().tolist()) <= {65, 66, 67, 68, 69, END}


def test_several_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, documents in (("b", [[69, END]]), ("a", [[65], [66, 67]]), ("c", [[70, 71, END], [72, END]])):
        write_ds(tmp_path, documents, name=name)
    write_ds(tmp_path, [], name="empty")

    shards = DatatroveShards(tmp_path, HEADER)

    expected = [[65], [66, 67], [69], [70, 71], [72]]
    assert [shards[place].tolist() for place in range(len(shards))] == expected
    assert shards.lengths[:].tolist() == [len(ids) for ids in expected]


def test_of_files_too_large_to_read_when_opened_documents_are_checked_when_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datatrove, "CHECKED_WHEN_OPENED", 0)
    monkeypatch.setattr(datatrove, "COMPARED_DOCUMENTS", 2)
    write_ds(tmp_path / "closed", [[65, END], [66], [67, END], [68, 400, END]])
    write_ds(tmp_path / "open", [[65], [66, END], [67], [68]])
    write_ds(tmp_path / "both", [[65, END], [66, END], [67], [68, END]])

    closed = DatatroveShards(tmp_path / "closed", HEADER)
    assert [closed[place].tolist() for place in (0, 2)] == [[65], [67]]
    with pytest.raises(DataError, match=r"00000\.ds closes some documents with token 300 and others not"):
        closed[1]
    with pytest.raises(DataError, match="has token 400, but the vocabulary has 320 entries"):
        closed[3]
    with pytest.raises(DataError, match="closes some documents with token 300 and others not"):
        DatatroveShards(tmp_path / "both", HEADER)
    opened = DatatroveShards(tmp_path / "open", HEADER)
    assert [opened[place].tolist() for place in (0, 2)] == [[65], [67]]


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
    np.array([2, 1, 2], "<u8").tofile(tmp_path / "b" / "00000.ds.index")
    with pytest.raises(DataError, match="which its index contradicts"):
        DatatroveShards(tmp_path / "b", header)
    (tmp_path / "b" / "00000.ds.index").unlink()
    with pytest.raises(DataError, match=r"it needs its \.ds\.index"):
        DatatroveShards(tmp_path / "b", header)
    write_ds(tmp_path / "c", [[65]])
    write_ds(tmp_path / "c", [[65]], "<u4", "00001")
    with pytest.raises(DataError, match="holds ids of two and of four bytes"):
        DatatroveShards(tmp_path / "c", header)


def test_lengths_are_read_across_chunks_and_files_and_nothing_is_kept_of_a_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datatrove, "CHUNK_DOCUMENTS", 4)
    monkeypatch.setattr(datatrove, "READ_TOGETHER", 3)
    sizes = [[1, 3, 2, 5, 1, 1, 4], [2, 2], [6, 1, 3, 2]]
    for name, own in zip("abc", sizes, strict=True):
        write_ds(tmp_path, [[65] * (size - 1) + [END] for size in own], name=name)
    expected = np.array([size - 1 for own in sizes for size in own])
    asked = np.array([12, 0, 7, 7, 3, 8, 9, 11])

    for checked in (CHECKED_WHEN_OPENED, 0):
        monkeypatch.setattr(datatrove, "CHECKED_WHEN_OPENED", checked)
        shards = DatatroveShards(tmp_path, HEADER)

        assert [len(shards[place]) for place in range(len(shards))] == expected.tolist()
        assert shards.lengths[asked].tolist() == expected[asked].tolist()
        assert shards.lengths[3:12].tolist() == expected[3:12].tolist()
        assert {one.strides for one in shards.lengths._closed} == {(0,)}
