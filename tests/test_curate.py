"""Curation: every document has one language and one verdict, and the table adds up."""

import dataclasses
import json
import os
import random
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codeshell_hf.curate.corpus import list_all, split_parts
from codeshell_hf.curate.languages import LANGUAGES, find_language, name_language, name_language_by_shebang
from codeshell_hf.curate.options import Perplexity, Pieces, Selection
from codeshell_hf.curate.page import write_report
from codeshell_hf.curate.report import print_table
from codeshell_hf.curate.rules import RULES as RULE_NAMES
from codeshell_hf.curate.rules import Rules, Thresholds
from codeshell_hf.curate.sources import Source
from codeshell_hf.curate.verdicts import Verdicts
from codeshell_hf.curate.writing import choose_split
from codeshell_hf.errors import DataError
from codeshell_hf.stages.stage import main
from codeshell_hf.text.documents import read_documents
from recipes.curate import STAGE
from tests.curation import GOOD, RULES, run, write_files
from tests.warm import warm_python

ROOT = Path(__file__).parents[1]

TABLE_1 = (
    "markdown python java javascript php cpp c c-sharp go rust ruby kotlin swift typescript scala lua julia "
    "github-issues html git-commits shell perl css assembly powershell json r sql dart jupyter-scripts "
    "jupyter-structured tex restructuredtext haskell ada yaml common-lisp pascal makefile java-server-pages ocaml "
    "fortran visual-basic mathematica erlang vhdl elixir groovy smalltalk dockerfile"
)


@pytest.mark.parametrize(
    ("path", "language"),
    [
        ("a/b.py", "python"),
        ("x.PYI", "python"),
        ("x.hpp", "cpp"),
        ("x.h", "c"),
        ("Makefile", "makefile"),
        ("a/Dockerfile", "dockerfile"),
        ("CMakeLists.txt", "cmake"),
        ("notes.txt", "text"),
        ("x.jl", "julia"),
        ("x.rkt", "racket"),
        ("x.unknown", None),
        ("noextension", None),
    ],
)
def test_languages_are_named_by_file_name(path: str, language: str | None) -> None:
    assert name_language(path) == language


@pytest.mark.parametrize(
    ("line", "language"),
    [
        (b"#!/usr/bin/env python3\n", "python"),
        (b"#!/bin/bash -e\n", "shell"),
        (b"#! /usr/bin/perl\n", "perl"),
        (b"#!/usr/bin/env -S node\n", "javascript"),
        (b"#!/opt/strange\n", None),
        (b"\x7fELF", None),
    ],
)
def test_scripts_are_named_by_their_first_line(line: bytes, language: str | None) -> None:
    assert name_language_by_shebang(line) == language


def test_all_languages_of_the_reports_table_are_known_and_no_extension_names_two() -> None:
    extensions = Counter(extension for row in LANGUAGES.values() for extension in row[0].split())

    assert [extension for extension, count in extensions.items() if count > 1] == []
    assert [name for name in TABLE_1.split() if name not in LANGUAGES] == []
    assert [find_language(name) for name in ("C++", "Jupyter Notebook", "Visual Basic")] == [
        *("cpp", "jupyter-notebook", "visual-basic")
    ]


BAD = {
    "minified.js": ("var a=1;" * 200, "long-lines"),
    "wide.py": (("# " + "word " * 30 + "\n") * 5, "long-lines"),
    "data.py": ("1, 2, 3,\n" * 50, "few-letters"),
    "made.c": ("/* automatically generated */\nint x;\n", "generated"),
    "copy.py": (GOOD, "exact-duplicate"),
    "empty.py": ("", "empty"),
    "blank.py": (" \n\t\n", "empty"),
    "big.py": ("x = 1\n" * 2000, "too-large"),
    "what.xyz": ("text", "unknown-language"),
    "latin.py": ("# café\n".encode("latin-1"), "not-text"),
    "nul.py": (b"x = '\0'\n", "not-text"),
}


def test_every_fault_falls_under_its_own_name(tmp_path: Path) -> None:
    good = {"area.py": GOOD, "long.md": "prose " * 400, "run": "#!/bin/sh\necho hello to everyone\n"}
    folder = write_files(tmp_path / "in", good | {name: text for name, (text, _) in BAD.items()})
    (folder / "loop").symlink_to(folder)

    funnel = run(folder, tmp_path / "out").funnel

    kept = {row["id"]: row for row in read_documents(tmp_path / "out", columns=["id", "language", "text", "split"])}
    assert sorted(kept) == ["source/area.py", "source/long.md", "source/run"]
    assert kept["source/run"]["language"] == "shell"
    assert kept["source/area.py"]["text"] == GOOD
    expected = Counter(reason for _, reason in BAD.values())
    assert dict(funnel.reasons()) == expected
    assert funnel.counts()["documents_before"] == len(kept) + sum(expected.values())


def test_rules_that_are_off_drop_nothing(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {name: text for name, (text, _) in BAD.items()})

    funnel = run(folder, tmp_path / "out", rules=Rules(Thresholds(), {})).funnel

    assert {reason for reason, _ in funnel.reasons()} == {"empty", "too-large", "unknown-language", "not-text"}


BROKEN_RULES = {
    "drops_generated": (True, "a.py", "# Code generated by a tool\nx = 1\n"),
    "drops_scaffolds": (True, "models.py", "from django.db import models\n\n# Create your models here.\n"),
    "drops_xml": (True, "a.py", '<?xml version="1.0"?>\n<a/>\n'),
    "max_line_bytes": (50, "a.py", "x = '" + "a" * 80 + "'\n"),
    "max_mean_line": (20, "a.py", "value_of_something = another_value\n" * 3),
    "min_lines": (3, "a.py", "x = 1\n"),
    "max_lines": (3, "a.py", "x = 1\n" * 5),
    "min_bytes": (100, "a.json", '{"a": 1}'),
    "max_bytes": (10, "a.json", '{"a": [1, 2, 3, 4]}'),
    "min_letter_fraction": (0.25, "a.py", "1, 2, 3, 4, 5\n" * 4),
    "max_digit_fraction": (0.2, "a.py", "x = 123456789\n"),
    "max_space_fraction": (0.5, "a.py", "if x:\n" + " " * 60 + "y = 1\n"),
    "max_encoded_fraction": (0.5, "a.py", "x = '" + "aGVsbG8gd29ybGQxMjM0" * 20 + "'\n"),
    "max_encoded_bytes": (100, "a.py", "x = [" + "0x1f, " * 60 + "]\n"),
    "max_duplicate_line_fraction": (0.5, "a.py", "print('the same line')\n" * 9),
    "max_header_fraction": (0.8, "a.py", "# Copyright somebody\n# All rights\n# are kept\n# for ever\n# x\n"),
    "min_visible_fraction": (0.2, "a.html", "<div>" * 40 + "x" + "</div>" * 40),
    "min_visible_bytes": (100, "a.html", "<p>some words</p>"),
    "min_comment_fraction": (0.01, "a.py", "x = 1\ny = 2\n"),
    "max_comment_fraction": (0.8, "a.py", '"""' + "a long story " * 20 + '"""\nx = 1\n'),
    "max_string_fraction": (0.6, "a.py", "x = ('" + "words " * 40 + "')\n"),
    "must_parse": (True, "a.py", "def f(:\n    return\n"),
    "max_depth": (2, "a.py", "if a:\n    if b:\n        if c:\n            x = 1\n"),
    "max_complexity": (2, "a.py", "def f(x):\n    if x:\n        return 1\n    for y in x:\n        pass\n"),
    "max_faults_per_line": (0.5, "a.py", "import os, sys\nimport re\nx = 1   \n"),
    "max_security_faults": (0, "a.py", "def f(text):\n    return eval(text)\n"),
    "min_preference": (0.9, "a.py", "x=1\n"),
    "min_words": (10, "a.md", "# Three words here\n"),
    "min_mean_word": (3, "a.md", "a b c d e f g h i j k l\n"),
    "max_mean_word": (10, "a.md", "incomprehensibilities antidisestablishmentarianism\n"),
    "max_symbol_fraction": (0.1, "a.md", "# # # words and more words\n"),
    "max_bullet_fraction": (0.9, "a.md", "- one\n- two\n- three\n"),
}


def test_every_rule_has_an_example() -> None:
    assert set(BROKEN_RULES) == set(RULE_NAMES)


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_what_breaks_a_rule_falls_under_its_reason_and_stays_without_it(rule: str, tmp_path: Path) -> None:
    threshold, name, text = BROKEN_RULES[rule]
    folder = write_files(tmp_path / "in", {name: text, "good.sh": "echo this one always stays here\n"})
    options = {"near": None, "measuring": {"lints": rule in ("max_faults_per_line", "max_security_faults")}}

    language = name_language(name) or ""
    on = run(folder, tmp_path / "out", rules=Rules(Thresholds(), {language: {rule: threshold}}), **options).funnel
    off = run(
        folder, tmp_path / "off", rules=Rules(Thresholds(**{rule: threshold}), {language: {rule: None}}), **options
    ).funnel

    reason = RULE_NAMES[rule][0]
    assert on.documents[language, reason] == 1
    assert on.documents["shell", "kept"] == 1
    assert off.documents[language, "kept"] == 1, "the language's own threshold wins"


def test_a_language_may_have_a_threshold_that_others_have_not(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"a.json": '{"some": "words"}', "a.py": "some = 'words'\n"})

    funnel = run(folder, tmp_path / "out", rules=Rules(Thresholds(), {"json": {"min_bytes": 100}})).funnel

    assert funnel.documents["json", "too-small"] == 1
    assert funnel.documents["python", "kept"] == 1


def test_small_languages_fall_as_a_whole(tmp_path: Path) -> None:
    files = {f"f{place}.py": f"def function_{place}():\n    return {place}\n" for place in range(9)}
    folder = write_files(tmp_path / "in", files | {"one.rb": "puts 'hello to all'\n"})

    funnel = run(folder, tmp_path / "out", near=None, min_language_bytes=100).funnel

    assert dict(funnel.reasons()) == {"small-language": 1}
    assert funnel.documents["ruby", "small-language"] == 1


def test_licences_and_opt_outs_are_honoured(tmp_path: Path) -> None:
    licences = {"a/one": ["MIT"], "a/two": ["MIT", "GPL-3.0"], "b/three": None, "c/four": ["MIT"], "d/five": ["MIT"]}
    rows = [
        {"content": f"x = '{name}'\n", "lang": "Python", "max_stars_repo_licenses": found, "max_stars_repo_name": name}
        for name, found in licences.items()
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rights = {"licences": ("MIT",), "opted_out": ("c/four", "d/")}

    funnel = run(path, tmp_path / "out", kind="jsonl", near=None, rules=rights).funnel
    generous = run(path, tmp_path / "out2", kind="jsonl", near=None, rules=rights | {"allows_unknown_licence": True})

    assert dict(funnel.reasons()) == {"licence": 2, "opted-out": 2}
    assert dict(generous.funnel.reasons()) == {"licence": 1, "opted-out": 2}


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.from_regex(r"[a-z]{1,6}\.(py|c|md|json|xyz|ipynb|tar|html)", fullmatch=True),
        st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))),
        min_size=1,
        max_size=12,
    )
)
def test_kept_and_dropped_add_up_whatever_the_files_hold(tmp_path_factory, files: dict[str, bytes]) -> None:
    place = tmp_path_factory.mktemp("property")
    folder = write_files(place / "in", files | {"good.py": GOOD})

    counts = run(folder, place / "out").funnel.counts()

    notebooks = sum(name.endswith("ipynb") for name in files)
    assert len(files) + 1 <= counts["documents_before"] <= len(files) + 1 + notebooks
    assert counts["documents_after"] + sum(counts["dropped"].values()) == counts["documents_before"]
    assert counts["documents_after"] == len(list(read_documents(place / "out", columns=["id"])))
    for row in counts["languages"]:
        assert row["documents_after"] + sum(row["dropped"].values()) == row["documents_before"]
    assert sum(row["bytes_before"] for row in counts["languages"]) == counts["bytes_before"]


def test_a_run_that_was_killed_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    files = {f"f{index:02d}.py": f"def function_{index}():\n    return 'value {index}'\n" for index in range(20)}
    folder = write_files(tmp_path / "in", files)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(folder, whole)

    class Killed(Exception):
        pass

    killed_at = []
    for step in ("measure", "exact duplicates", "near duplicates", "inspect", "write"):

        def kill(name: str, done: int, total: int, step: str = step) -> None:
            if name == step and done == total:
                killed_at.append(name)
                raise Killed

        with pytest.raises(Killed):
            run(folder, broken, on_progress=kill)
    run(folder, broken)

    assert killed_at == ["measure", "exact duplicates", "near duplicates", "inspect", "write"]
    for name in ("documents/part-00000.parquet", "duplicates.parquet", "funnel.json"):
        assert (whole / name).read_bytes() == (broken / name).read_bytes()
    assert sorted(path.name for path in broken.iterdir()) == ["documents", "duplicates.parquet", "funnel.json"]


def test_another_threshold_measures_nothing_again_and_a_changed_file_its_part_alone(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD, "b.py": "def b():\n    return 'another one'\n"})
    run(folder, tmp_path / "out")
    measured = {path: path.stat().st_mtime_ns for path in (tmp_path / "out.measured" / "measured").iterdir()}

    with pytest.raises(DataError, match="few-letters 2"):
        run(folder, tmp_path / "out", rules=Rules(Thresholds(min_letter_fraction=0.99), {}))
    assert {path: path.stat().st_mtime_ns for path in measured} == measured
    (folder / "area.py").write_text(GOOD * 2)
    run(folder, tmp_path / "out2")
    run(folder, tmp_path / "out")
    assert len(list((tmp_path / "out.measured" / "measured").iterdir())) == 2


def test_splits_are_decided_by_content_alone() -> None:
    digests = [f"{number:032x}" for number in range(5000)]

    held_out = sum(choose_split(digest, 0.1) == "held-out" for digest in digests)

    # A binomial of 5,000 x 0.1 leaves 430 to 570 once in 1,000 tries.
    assert 430 < held_out < 570
    assert {choose_split(digest, 0.0) for digest in digests} == {"train"}


def test_parts_hold_every_unit_once(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{index}.py": "x" * 10 * index for index in range(9)})
    units = list_all([Source("a", "folder", str(tmp_path))])

    parts = split_parts(units, part_bytes=60)

    assert [unit for part in parts for unit in part] == units
    assert len(parts) > 2


def test_verdicts_stay_what_they_were_first() -> None:
    verdicts = Verdicts([3, 2])

    assert verdicts.drop([1 << 32, 0], "first") == 2
    assert verdicts.drop([0, 1, (1 << 32) + 1], "second") == 2
    assert verdicts.select(0).tolist() == [1, 2, 0]
    assert verdicts.select(1).tolist() == [1, 2]
    assert verdicts.count_kept() == 1


def test_repeated_paragraphs_are_removed_and_what_is_nothing_else_falls(tmp_path: Path) -> None:
    licence = "# Permission is granted to nobody at all, whatever they may do with it.\n# " + "Words " * 12
    files = {f"f{place}.py": f"{licence}\n\ndef f{place}():\n    return '{'xyz' * place}'\n" for place in range(6)}
    folder = write_files(tmp_path / "in", files | {"only.py": f"{licence}\n"})

    outcome = run(
        folder, tmp_path / "out", near=None, pieces=Pieces("paragraph", 5, 60, 10),
        measuring={"pieces": "paragraph", "min_piece_bytes": 60},
    )  # fmt: skip

    texts = {row["id"]: row["text"] for row in read_documents(tmp_path / "out", columns=["id", "text"])}
    assert len(texts) == 6
    assert not any("Permission" in text for text in texts.values())
    assert texts["source/f1.py"] == "def f1():\n    return 'xyz'\n"
    assert dict(outcome.funnel.reasons()) == {"repeated-text": 1}
    assert outcome.funnel.written["python", "kept"] < outcome.funnel.bytes["python", "kept"]


def test_the_highest_perplexity_of_each_language_falls(tmp_path: Path) -> None:
    files = {f"f{n:02d}.py": f"def area_{n}(radius):\n    return 3.14 * radius ** {n}\n" for n in range(19)}
    odd = "zq = lambda wv: [~kk @ jj for kk, jj in vv[::7] if not (yy ^ 0b1)]\n"
    folder = write_files(tmp_path / "in", files | {"odd.py": odd, "one.sh": "echo the only one\n"})
    options = Perplexity(0.95, None, 3, 10_000, 2, "code", 4000)

    outcome = run(folder, tmp_path / "out", near=None, perplexity=options)

    assert dict(outcome.funnel.reasons()) == {"high-perplexity": 1}
    kept = {row["id"]: row["perplexity"] for row in read_documents(tmp_path / "out", columns=["id", "perplexity"])}
    assert "source/odd.py" not in kept
    assert all(value > 1 for value in kept.values())
    assert outcome.measures["perplexity_cuts"].keys() == {"python", "shell"}
    given = dataclasses.replace(options, model=tmp_path / "out" / "ngrams.arpa")
    again = run(folder, tmp_path / "again", near=None, perplexity=given)
    assert again.funnel.counts() == outcome.funnel.counts()


def test_selection_takes_as_many_tokens_as_it_may(tmp_path: Path) -> None:
    files = {f"f{n:02d}.py": f"def area_{n}(radius):\n    return radius ** {n}\n" for n in range(20)}
    folder = write_files(tmp_path / "in", files)

    first = run(folder, tmp_path / "a", near=None, selection=Selection(50, "random", 0)).funnel
    same = run(folder, tmp_path / "b", near=None, selection=Selection(50, "random", 0)).funnel
    other = run(folder, tmp_path / "c", near=None, selection=Selection(50, "random", 1))

    assert first.counts() == same.counts()
    assert 44 <= first.counts()["tokens_after"] <= 50
    assert first.counts()["dropped"] == {"not-selected": 20 - first.counts()["documents_after"]}
    kept = [{row["id"] for row in read_documents(tmp_path / name, columns=["id"])} for name in "abc"]
    assert kept[0] == kept[1] != kept[2]
    assert other.steps[-1] == ("selection", len(kept[2]))


def test_selection_keeps_the_shares_of_languages(tmp_path: Path) -> None:
    files = {f"f{n:02d}.py": f"def area_{n}(radius):\n    return radius ** {n}\n" for n in range(40)}
    files |= {f"f{n:02d}.sh": f"#!/bin/sh\necho the area of {n} is {n * n}\n" for n in range(20)}
    folder = write_files(tmp_path / "in", files)

    def count(name: str, selection: Selection | None) -> dict[str, int]:
        rows = run(folder, tmp_path / name, near=None, selection=selection).funnel.counts()["languages"]
        return {row["language"]: row["tokens_after"] for row in rows}

    whole = count("all", None)
    half = count("half", Selection(sum(whole.values()) // 2, "random", 0))
    assert whole.keys() == {"python", "shell"}
    for language, tokens in whole.items():
        assert 0.4 <= half[language] / tokens <= 0.5


def test_bad_folders_and_empty_results_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"which is no folder; name one that exists"):
        run(tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no file was found in"):
        run(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "empty" / "x.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"none of 1 documents is left \(unknown-language 1\); loosen the rules"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(DataError, match=r"run python -m recipes.curate first"):
        list(read_documents(tmp_path, columns=["id"]))


def test_a_hundred_thousand_empty_files_are_a_hundred_thousand_reasons(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD})
    for place in range(100_000):
        if place % 1000 == 0:
            inner = folder / f"d{place // 1000:03d}"
            inner.mkdir()
        (inner / f"{place}.py").touch()

    counts = run(folder, tmp_path / "out").funnel.counts()

    assert counts["dropped"] == {"empty": 100_000}
    assert counts["documents_after"] == 1


def test_the_report_shows_the_table_the_reasons_and_examples(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD} | {name: text for name, (text, _) in BAD.items()})

    outcome = run(folder, tmp_path / "out")
    write_report(outcome, RULES, tmp_path / "out", title="bad & good", unit="words")

    page = (tmp_path / "out" / "report.html").read_text()
    data = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "Curation of bad &amp; good" in page
    for reason in outcome.funnel.counts()["dropped"]:
        assert f"<td>{reason}</td>" in page
    assert data["examples"]["long-lines"][0]["start"]
    assert data["histograms"]["longest_line"]["thresholds"] == {"max_line_bytes": 1000}
    shown = data["histograms"]["lines"]
    readable = 12 - sum(
        outcome.funnel.counts()["dropped"][name] for name in ("empty", "too-large", "unknown-language", "not-text")
    )
    assert sum(shown["kept"]) + sum(shown["dropped"]) == readable
    assert data["steps"][0] == ["read", 12]
    assert json.loads((tmp_path / "out" / "funnel.json").read_text()) == outcome.funnel.counts()
    assert "kept 1 of 12" in print_table(outcome.funnel)[-1]


def test_documents_carry_where_they_come_from_and_their_cluster(tmp_path: Path) -> None:
    body = "".join(f"    total_{n} = radius * {n} + offset\n" for n in range(40))
    files = {
        "a.py": f"def first(radius, offset):\n{body}",
        "b.py": f"def second(radius, offset):\n{body}",
        "c.py": GOOD,
    }
    folder = write_files(tmp_path / "in", files)

    run(folder, tmp_path / "out", source={"licence": "MIT"})

    rows = {row["id"]: row for row in pq.read_table(tmp_path / "out" / "documents").to_pylist()}
    assert rows.keys() == {"source/a.py", "source/c.py"}
    assert rows["source/a.py"]["cluster"] == "source/a.py"
    assert rows["source/a.py"]["cluster_size"] == 2
    assert rows["source/c.py"]["cluster"] is None
    assert rows["source/c.py"]["licence"] == "MIT"
    assert pq.read_table(tmp_path / "out" / "duplicates.parquet").to_pylist() == [
        {"id": "source/b.py", "cluster": "source/a.py", "kind": "near"}
    ]


# The whole recipe, as users start it


def start_recipe(
    home: Path, *options: str, prepare: Callable[[], None] | None = None, is_warm: bool = False
) -> subprocess.Popen[str]:
    settings_file = home / "curate.yaml"
    settings_file.write_text(f"output: {home}/out\nsources: [{{name: here, path: {home}/in}}]\nlints: false\n")
    python = warm_python(os.environ) if is_warm else sys.executable
    command = [python, "-m", "recipes.curate", str(settings_file), *options]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - it sets a limit
    )


def test_a_kill_at_any_moment_leaves_nothing_broken(tmp_path: Path) -> None:
    files = {f"f{n:03d}.py": make_program(n) for n in range(30)}
    write_files(tmp_path / "in", files)
    options = ("engine.part_bytes=20000",)
    whole = start_recipe(tmp_path, *options, f"output={tmp_path}/whole", is_warm=True)
    _, errors = whole.communicate(timeout=200)
    assert whole.returncode == 0, errors
    killed = 0
    for wait_s in (5.0, 8.0):
        process = start_recipe(tmp_path, *options)
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.communicate()

    last = start_recipe(tmp_path, *options, is_warm=True)
    _, errors = last.communicate(timeout=200)

    assert last.returncode == 0, errors
    assert killed >= 1
    for path in sorted((tmp_path / "whole").rglob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes()


def make_program(seed: int) -> str:
    """A program like no other."""
    rng = random.Random(seed)
    names = ["".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(40)]
    return f"def run_{names[0]}(path):\n" + "".join(f"    {a} = open(path).{b}()\n" for a, b in pairwise(names))


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    write_files(tmp_path / "in", {f"f{n}.py": make_program(n) for n in range(90)})

    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    full = start_recipe(tmp_path, prepare=fill_disk)
    _, errors = full.communicate(timeout=120)
    again = start_recipe(tmp_path, is_warm=True)
    _, more = again.communicate(timeout=120)

    assert full.returncode == 1
    line = errors.replace("\r", "\n").strip().splitlines()[-1]
    assert line.startswith("curate: error: ")
    assert "run the same command again" in line
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists() or again.returncode == 0
    assert again.returncode == 0, more


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    write_files(tmp_path / "in", {"area.py": GOOD})

    process = start_recipe(tmp_path, "engine.runner=ray", "engine.address=127.0.0.1:9")
    _, errors = process.communicate(timeout=100)

    assert process.returncode == 2
    line = errors.strip().splitlines()[-1]
    assert "no Ray cluster answers at 127.0.0.1:9" in line or "ray, which is not installed" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["sources=[{name: a, path: nowhere}]"], "nowhere"),
        (["sources=[{name: a, kind: parquet, path: HOME/in}]"], "no file ends in .parquet"),
        (["sources=[{name: a, path: HOME/in}, {name: a, path: HOME/in}]"], "sources has the name 'a' twice"),
        (["rules.by_language={python: {max_lin: 3}}"], "has the unknown rule 'max_lin'"),
        (["selection={max_tokens: 5, by: quality}"], "selection.by is quality, but quality is null"),
        (["rights.opt_out=HOME/none.txt"], "none.txt does not exist"),
        (["benchmarks=[{name: b, path: HOME/in}]"], "has none of the fields"),
        (["perplexity={model: HOME/none.arpa}"], "which is no file; name one, or null to train"),
        (["perplexity={words: HOME/none}"], "is no tokenizer.json that can be read"),
        (["quality={model: HOME/none}"], "is no encoder that can be loaded"),
        (["quality={endpoint: {model: m, token_variable: NO_SUCH}}"], "NO_SUCH, which is not set"),
        (["near_duplicates.min_jaccard=2"], "near_duplicates.min_jaccard is 2"),
    ],
)  # fmt: skip
def test_wrong_calls_are_one_line_and_exit_2(options: list[str], message: str, tmp_path: Path, capsys) -> None:
    write_files(tmp_path / "in", {"area.py": GOOD, "b.py": "def b():\n    return 'another'\n"})
    settings_file = tmp_path / "curate.yaml"
    settings_file.write_text(f"output: {tmp_path}/out\nsources: [{{name: here, path: {tmp_path}/in}}]\n")

    code = main(STAGE, [str(settings_file), *(option.replace("HOME", str(tmp_path)) for option in options)])

    errors = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert code == 2, errors
    assert re.search(message, errors[-1]), errors[-1]
    assert not (tmp_path / "out").exists()
