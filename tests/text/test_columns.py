"""Columns and names are what was written, read one at a time or as a whole."""

from pathlib import Path

import numpy as np
import pytest

from codeshell_hf.text.columns import Column, Names


@pytest.mark.parametrize("dtype", ["<u2", "<u4", "<i8"])
def test_single_values_are_those_of_the_array(tmp_path: Path, dtype: str) -> None:
    values = np.array([0, 1, 300, 65_535, 7], dtype)
    np.save(tmp_path / "a.npy", values)

    column = Column(tmp_path / "a.npy")

    assert [column[place] for place in range(5)] == values.tolist()
    assert column[-1] == 7
    assert np.array_equal(column.array, values)
    with pytest.raises(IndexError):
        column[5]


def test_a_file_that_is_shorter_than_it_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(5))
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(ValueError, match="mmap length"):
        Column(path)


def test_an_empty_column_has_no_values(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.empty(0, "<u4"))

    assert len(Column(tmp_path / "a.npy")) == 0


def test_names_are_read_by_their_codes() -> None:
    names = Names(np.array([1, 0, 1, 2], np.uint16), ["a", "b", "c"])

    assert list(names) == ["b", "a", "b", "c"]
    assert names[1:3] == ["a", "b"]
    assert len(names) == 4
