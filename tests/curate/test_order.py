"""What is parsed last is judged as if all had been parsed first, document by document."""

import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate import examination
from codeshell_hf.curate.examination import ExamineShared, ExamineTask
from codeshell_hf.curate.languages import name_language
from codeshell_hf.curate.measured_parts import measure_batch
from codeshell_hf.curate.settings import Measuring, NearDuplicates, Rules
from codeshell_hf.curate.sources import Document
from codeshell_hf.curate.syntax import Syntax, parse
from codeshell_hf.text.documents import read_documents
from tests.curate.test_shingles import jaccard, plain_shingles
from tests.curate.toy_corpus import OFF, run, write_files

RULES = Rules.model_validate(
    {**OFF, "by_language": None, "max_line_bytes": 200, "max_string_fraction": 0.5, "must_parse": True, "max_depth": 4}
)


def make_corpus(rng: random.Random) -> dict[str, str]:
    """Families of near files, of which some are minified, do not parse, nest deeply, or are mostly strings."""
    files: dict[str, str] = {}
    for family in range(14):
        lines = [f"def function_{family}_{n}(value_{n}):\n    return value_{n} + {n}\n" for n in range(30)]
        for member in range(6):
            body = lines.copy()
            for _ in range(rng.choice((0, 1, 3, 6))):
                place = rng.randrange(30)
                body[place] = f"def other_{rng.randrange(10**6)}(thing):\n    return thing * {rng.randrange(99)}\n"
            text = "".join(body)
            kind = rng.random()
            if kind < 0.15:
                text = f"def broken(:\n{text}"
            elif kind < 0.3:
                text += f"x = ('{'words of a story ' * 9}')\n" * 14
            elif kind < 0.4:
                text += "if a:\n if b:\n  if c:\n   if d:\n    if e:\n     x = 1\n"
            elif kind < 0.5:
                text += f"y = [{'1, ' * 90}]\n"
            if family % 3 == 0:
                text = f"import numpy\n{text}" if rng.random() < 0.5 else text + "z = 1   \n" * 3
            files[f"{family:02d}/{member}.py"] = text
            if rng.random() < 0.3:
                files[f"{family:02d}/copy_{member}.py"] = text
    return files


def judge_naively(files: dict[str, str]) -> dict[str, str]:
    """The reason of each document: all are measured in full, then taken one after another, the best first."""
    batch = [("s", Document(name, name, text.encode(), len(text), name_language(name))) for name, text in files.items()]
    rows = {str(row["id"]): row for row in measure_batch(batch, Measuring(lints=False))}
    verdicts = {name: "long-lines" for name, row in rows.items() if float(str(row["longest_line"])) > 200}
    ranked = sorted(rows.keys() - verdicts.keys(), key=lambda name: (-float(str(rows[name]["standing"])), name))
    seen: set[str] = set()
    kept: list[str] = []
    sets = {name: plain_shingles(files[name]) for name in ranked}
    for name in ranked:
        row = rows[name]
        broken = (
            "mostly-strings" if float(str(row["string_fraction"])) > 0.5
            else "syntax-error" if row["parses"] is False
            else "deep-nesting" if int(str(row["depth"])) > 4
            else None
        )  # fmt: skip
        if files[name] in seen:
            verdicts[name] = "exact-duplicate"
        elif any(jaccard(sets[name], sets[other]) >= 0.7 for other in kept):
            verdicts[name] = "near-duplicate"
        elif broken:
            verdicts[name] = broken
        else:
            kept.append(name)
            verdicts[name] = "kept"
        seen.add(files[name])
    return verdicts


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_steps_changes_no_verdict(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make_corpus(random.Random(seed))
    examined: list[bytes] = []

    def count(data: bytes, language: str | None) -> Syntax | None:
        examined.append(data)
        return parse(data, language)

    monkeypatch.setattr(examination, "parse", count)
    expected = judge_naively(files)
    all_parsed = len(examined)
    examined.clear()

    outcome = run(
        write_files(tmp_path / "in", files), tmp_path / "out", rules=RULES, near_duplicates=NearDuplicates(),
        engine={"part_bytes": 10**9},
    )  # fmt: skip

    kept = {row["id"].removeprefix("source/") for row in read_documents(tmp_path / "out", columns=["id"])}
    assert kept == {name for name, verdict in expected.items() if verdict == "kept"}
    counts: dict[str, int] = defaultdict(int)
    for verdict in expected.values():
        counts[verdict] += 1
    dropped = outcome.funnel.counts()["dropped"]
    assert dropped["long-lines"] == counts["long-lines"]
    assert dropped["exact-duplicate"] == counts["exact-duplicate"]
    assert sum(dropped.values()) == len(files) - len(kept)
    assert {"near-duplicate", "mostly-strings", "syntax-error", "deep-nesting"} <= dropped.keys()
    assert len(kept) < len(examined) < 0.7 * all_parsed, "most documents are never parsed"


def test_a_looser_rule_examines_only_what_it_readmits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_files(tmp_path / "in", make_corpus(random.Random(2)))
    examined: list[int] = []
    examine = examination.examine_part

    def count(task: ExamineTask, shared: ExamineShared) -> None:
        examine(task, shared)
        examined.append(len(pq.read_table(task["output"])))

    monkeypatch.setattr("codeshell_hf.curate.corpus.examine_part", count)
    settings: dict[str, Any] = {"cache": tmp_path / "cache", "engine": {"part_bytes": 10**9}, "near_duplicates": None}

    run(folder, tmp_path / "a", rules=RULES, **settings)
    first = sum(examined)
    examined.clear()
    run(folder, tmp_path / "b", rules=RULES, **settings)
    assert examined == []
    outcome = run(folder, tmp_path / "c", rules=RULES.model_copy(update={"max_line_bytes": 1000}), **settings)

    readmitted = outcome.funnel.counts()["documents_before"] - first
    assert 0 < sum(examined) <= readmitted


def test_equal_documents_of_a_near_duplicate_belong_to_the_one_that_represents_it(tmp_path: Path) -> None:
    text = "".join(f"def function_{n}(value):\n    return value + {n}\n" for n in range(40))
    folder = write_files(tmp_path / "in", {"a.py": f"import os\nimport numpy\n{text}", "b.py": text, "c.py": text})

    run(folder, tmp_path / "out", rules=RULES, near_duplicates=NearDuplicates())

    clusters = pq.read_table(tmp_path / "out" / "duplicates.parquet").to_pylist()
    assert [(row["id"], row["cluster"], row["kind"]) for row in clusters] == [
        ("source/b.py", "source/a.py", "near"),
        ("source/c.py", "source/a.py", "exact"),
    ]
