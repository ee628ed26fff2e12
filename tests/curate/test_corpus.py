"""Parts hold every unit once."""

from pathlib import Path

from codeshell_hf.curate.corpus import list_all, split_parts
from codeshell_hf.curate.settings import Source
from tests.curate.toy_corpus import write_files


def test_parts_hold_every_unit_once(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{index}.py": "x" * 10 * index for index in range(9)})
    units = list_all([Source(name="a", path=str(tmp_path))])

    parts = split_parts(units, part_bytes=60)

    assert [unit for part in parts for unit in part] == units
    assert len(parts) > 2
