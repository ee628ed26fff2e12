"""Parts hold every unit once."""

import gzip
from pathlib import Path

from codeshell_hf.curate.corpus import list_all, split_parts, weigh
from codeshell_hf.curate.settings import Source
from codeshell_hf.curate.sources import Unit
from tests.curate.toy_corpus import write_files


def test_parts_hold_every_unit_once(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{index}.py": "x" * 10 * index for index in range(9)})
    units = list_all([Source(name="a", path=str(tmp_path))])

    parts = split_parts(units, part_bytes=60)

    assert [unit for part in parts for unit in part] == units
    assert len(parts) > 2


def test_parts_are_cut_by_what_files_unpack_to(tmp_path: Path) -> None:
    text = b"".join(b'{"content": "x = %d", "path": "a.py"}\n' % number for number in range(2000))
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.jsonl.gz").write_bytes(gzip.compress(text))
    units = list_all([Source(name="a", kind="jsonl", path=str(tmp_path))])

    assert [weigh(unit) for unit in units] == [len(text)] * 3
    assert len(split_parts(units, part_bytes=len(text))) == 3
    assert sum(unit.size for unit in units) < len(text), "by their size on disk they would be one part"


def test_weights_of_files_that_lie_or_say_nothing_are_estimates(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(b"x" * 100 + (2**32 - 1).to_bytes(4, "little"))

    assert weigh(Unit("s", str(tmp_path / "a.gz"), 104)) == 4 * 104
    assert weigh(Unit("s", str(tmp_path / "none.gz"), 104)) == 4 * 104
    assert weigh(Unit("s", "hf://datasets/a/b@c/d.jsonl.zst", 10)) == 40
    assert weigh(Unit("s", "a.tar.xz", 10)) == 60
    assert weigh(Unit("s", "a.py", 10)) == 10
