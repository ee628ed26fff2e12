"""The list of dropped documents."""

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codeshell_hf.curate.rules import RULES, explain
from codeshell_hf.curate.settings import Rules
from tests.curate.sources.reading import git, needs_git
from tests.curate.test_rules import BROKEN_RULES
from tests.curate.toy_corpus import BAD, GOOD, NO_RULES, measure_all, run, write_files


def test_every_dropped_document_is_listed_with_value_and_threshold(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD, **{name: text for name, (text, _) in BAD.items()}})

    outcome = run(folder, tmp_path / "out", engine={"part_bytes": 3_000})

    rows = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()}
    assert {key: row["reason"] for key, row in rows.items()} == {
        f"source/{n}": reason for n, (_, reason) in BAD.items()
    }
    assert Counter(row["reason"] for row in rows.values()) == dict(outcome.funnel.reasons())
    measured = {key: (row["value"], row["threshold"]) for key, row in rows.items() if row["value"] is not None}
    assert measured == {  # by hand
        "source/minified.js": (1_600, 1_000),
        "source/wide.py": (152, 100),
        "source/data.py": (0, 0.25),
        "source/made.c": (1, 0),
        "source/big.py": (12_000, 5_000),
    }


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_what_a_rule_measured_is_explained(rule: str) -> None:
    threshold, name, text = BROKEN_RULES[rule]
    (row,) = measure_all({name: text}, lints=True).to_pylist()
    rules = Rules.model_construct(**(dict(NO_RULES) | {rule: threshold}))

    value, bound = explain(rules, RULES[rule][0], row)

    assert value is not None
    assert bound is not None
    assert bound == (float(rule == "must_parse") if threshold is True else threshold)
    assert (value < bound) if rule.startswith(("min_", "must_")) else (value > bound)


def test_reasons_of_later_steps_have_their_values(tmp_path: Path) -> None:
    texts = {
        f"{n}.py": f"def f{n}(a):\n" + "".join(f"    {'bcdefghij'[n]}{k} = a + {k * n}\n" for k in range(n + 1))
        for n in range(9)
    }
    folder = write_files(tmp_path / "in", {**texts, "a.go": "package a\n\nvar B = c\n"})

    run(
        folder,
        tmp_path / "out",
        near_duplicates=None,
        rules=NO_RULES,
        min_language_bytes=100,
        perplexity={"keep_fraction": 0.5, "order": 2, "sample_bytes": 10_000},
        rights={"licences": ["MIT"], "allows_unknown": True},
    )

    rows = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    (small,) = [row for row in rows if row["reason"] == "small-language"]
    assert (small["value"], small["threshold"]) == (len("package a\n\nvar B = c\n"), 100)
    high = [row for row in rows if row["reason"] == "high-perplexity"]
    assert high
    assert all(row["value"] > row["threshold"] > 1 for row in high)


def test_a_refused_licence_is_named(tmp_path: Path) -> None:
    rows = [{"text": GOOD.replace("area", name), "path": "a.py", "license": name} for name in ("MIT", "GPL-3.0")]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    run(tmp_path / "t.jsonl", tmp_path / "out", kind="jsonl", rights={"licences": ["MIT"]}, near_duplicates=None)

    (row,) = pq.read_table(tmp_path / "out" / "dropped.parquet").to_pylist()
    assert (row["source"], row["reason"], row["detail"], row["value"]) == ("source", "licence", "GPL-3.0", None)


@needs_git
def test_every_kept_document_says_where_it_comes_from(tmp_path: Path) -> None:
    checkout = write_files(tmp_path / "in" / "tool", {"area.py": GOOD})
    git(checkout, "init", "--quiet")
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "Add all")
    git(checkout, "remote", "add", "origin", "https://user:secret@example.org/owner/tool.git")
    commit = git(checkout, "rev-parse", "HEAD").strip()
    write_files(checkout.parent, {"deep/loose.py": GOOD})

    run(checkout.parent, tmp_path / "out", drops_exact_duplicates=False, near_duplicates=None, rules=NO_RULES)

    columns = ["id", "origin", "version", "path", "digest"]
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "documents", columns=columns).to_pylist()}
    area, loose = rows["source/tool/area.py"], rows["source/deep/loose.py"]
    assert (area["origin"], area["version"]) == ("https://example.org/owner/tool.git", commit)
    assert area["path"] == "area.py"
    assert (loose["origin"], loose["version"]) == ("deep/loose.py", None)
