"""Documents that another corpus has."""

import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate.shingles import find_sets, measure_jaccard, shingle
from codeshell_hf.errors import DataError
from tests.curate.toy_corpus import NO_RULES, run, write_files


def make_program(seed: int, lines: int = 40) -> str:
    rng = random.Random(seed)
    return "".join(f"{''.join(rng.choices('abcdefghij', k=7))} = {seed}\n" for _ in range(lines))


def test_what_another_corpus_has_is_dropped_exactly_and_nearly(tmp_path: Path) -> None:
    old = {f"{n}.py": make_program(n) for n in range(6)}
    near = old["1.py"] + "one_more = 1\n"
    fresh = make_program(77)
    both = {"same.py": old["0.py"], "near.py": near, "fresh.py": fresh, "again.py": near + "and_more = 2\n"}
    write_files(tmp_path / "old", old)
    write_files(tmp_path / "in", both)
    existing = [{"name": "old", "path": str(tmp_path / "old")}]

    outcome = run(tmp_path / "in", tmp_path / "out", existing=existing, rules=NO_RULES, engine={"part_bytes": 900})
    only_exact = run(tmp_path / "in", tmp_path / "out2", existing=existing, rules=NO_RULES, near_duplicates=None)

    assert dict(outcome.funnel.reasons()) == {"exact-existing": 1, "near-existing": 2}
    assert dict(only_exact.funnel.reasons()) == {"exact-existing": 1}
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()}
    first, second = find_sets(shingle([old["1.py"].encode(), near.encode()]))
    assert rows["source/near.py"]["value"] == measure_jaccard(first, second)
    assert rows["source/near.py"]["threshold"] == 0.7
    assert rows["source/same.py"]["reason"] == "exact-existing"


def test_an_output_of_curate_is_an_existing_corpus_even_where_it_was_redacted(tmp_path: Path) -> None:
    address = "contact = 'jane.roe@example-mail.org'\n"
    write_files(tmp_path / "in", {"a.py": address, "b.py": make_program(3)})
    run(tmp_path / "in", tmp_path / "one", rules=NO_RULES, redacts=True)
    write_files(tmp_path / "in", {"c.py": make_program(4)})

    done = run(
        tmp_path / "in",
        tmp_path / "two",
        rules=NO_RULES,
        near_duplicates=None,
        existing=[{"name": "one", "kind": "parquet", "path": str(tmp_path / "one" / "documents")}],
    )

    assert dict(done.funnel.reasons()) == {"exact-existing": 2}
    ids = pq.read_table(tmp_path / "two" / "documents", columns=["id"])["id"].to_pylist()
    assert ids == ["source/c.py"]


def test_a_corpus_that_the_other_has_whole_leaves_nothing(tmp_path: Path) -> None:
    write_files(tmp_path / "in", {"a.py": make_program(1)})
    existing = [{"name": "x", "path": str(tmp_path / "in")}]

    with pytest.raises(DataError, match=r"none of 1 documents is left .exact-existing 1"):
        run(tmp_path / "in", tmp_path / "out", rules=NO_RULES, existing=existing)
