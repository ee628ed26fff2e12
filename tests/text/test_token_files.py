"""Token files are read as if they lay end to end."""

from pathlib import Path

import numpy as np

from codeshell_hf.text import token_files
from codeshell_hf.text.token_files import OPEN_TOGETHER, TokenFiles


def test_any_number_of_files_is_read_with_few_of_them_open(tmp_path: Path) -> None:
    count = OPEN_TOGETHER + 20
    paths = [tmp_path / f"{number}.ds" for number in range(count)]
    for number, path in enumerate(paths):
        np.array([number, number + 1], "<u2").tofile(path)
    files = TokenFiles(paths, [2] * count, np.dtype("<u2"))
    own = Path("/proc/self/fd")

    for number in (*range(count), 0, count - 1):
        assert files.read(2 * number, 2 * number + 2).tolist() == [number, number + 1]
        assert files.find(2 * number + 1) == paths[number]

    if own.exists():
        opened = {str(link.readlink()) for link in own.iterdir() if link.is_symlink()}
        assert sum(str(path) in opened for path in paths) <= OPEN_TOGETHER
    assert files.read(1, 2).tolist() == [1]
    assert files.read(7, 7).tolist() == []


def test_two_bytes_hold_65536_ids() -> None:
    assert [token_files.choose_dtype(size).itemsize for size in (2**16, 2**16 + 1)] == [2, 4]
