"""Files of pairs: the ways they are written, and what is refused."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from codeshell_hf.align.preferences import Pair, read_all_pairs, read_pairs, write_pairs
from codeshell_hf.errors import DataError
from codeshell_hf.text.settings import Reading

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def write_lines(path: Path, *lines: Mapping[str, object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_pairs_survive_writing_and_equal_answers_are_counted(tmp_path: Path) -> None:
    pair = Pair(({"role": "user", "content": "q"},), "good", "bad", "tests", "assert True")
    write_pairs(tmp_path / "pairs.jsonl", [pair, replace(pair, rejected=" good ")])

    reading = read_pairs(tmp_path / "pairs.jsonl")

    assert reading.pairs == [pair]
    assert reading.dropped == {"chosen equals rejected": 1}


@pytest.mark.parametrize(
    "line",
    [
        {"prompt": "q", "chosen": "good", "rejected": "bad"},
        {"prompt": [{"role": "user", "content": "q"}], "chosen": "good", "rejected": "bad"},
        {
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "good"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "bad"}],
        },
    ],
)
def test_the_ways_to_write_a_pair_are_one(tmp_path: Path, line: Mapping[str, object]) -> None:
    pair = read_pairs(write_lines(tmp_path / "p.jsonl", line)).pairs[0]

    assert (pair.prompt, pair.chosen, pair.rejected) == (({"role": "user", "content": "q"},), "good", "bad")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"prompt": "q", "chosen": "a"}, r"line 1 .* lacks chosen or rejected \(it has prompt, chosen\)"),
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "1 because rejected is empty"),
        ({"prompt": "q", "chosen": " ", "rejected": "b"}, "1 because chosen is empty"),
        ({"chosen": "a", "rejected": "b"}, "1 because conversations hold no answer"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "a"},
            r"no pair to learn from \(1 because chosen equals rejected\)",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "chosen_score": 7, "rejected_score": 7.0}, "the same score"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 2},
            "has the lower score",
        ),
        ({"prompt": "q", "chosen": "a", "rejected": "b", "chosen_score": "?", "rejected_score": 2}, "write a number"),
        ({"prompt": "q", "response_a": "a", "response_b": "b"}, "without a verdict; write winner: a, b or tie"),
        (
            {
                "chosen": [{"role": "user", "content": "q"}, TURNS[1]],
                "rejected": [{"role": "user", "content": "other"}, TURNS[1]],
            },
            "1 because answers belong to different prompts",
        ),
        ({"prompt": "q", "chosen": TURNS[:1], "rejected": "b"}, "1 because conversations hold no answer"),
    ],
)
def test_what_is_no_pair_is_refused_with_its_line(tmp_path: Path, line: Mapping[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(write_lines(tmp_path / "p.jsonl", line))


def test_files_of_pairs_are_read_one_after_the_other(tmp_path: Path) -> None:
    first = write_lines(tmp_path / "a.jsonl", {"prompt": "q", "chosen": "1", "rejected": "2"})
    equal = {"prompt": "q", "chosen": "3", "rejected": "3"}
    second = write_lines(tmp_path / "b.jsonl", equal, {"prompt": "q", "chosen": "3", "rejected": "4"})

    reading = read_all_pairs([first, second])

    assert [(pair.chosen, pair.source) for pair in reading.pairs] == [("1", "a.jsonl"), ("3", "b.jsonl")]
    assert reading.dropped == {"chosen equals rejected": 1}


CASES = Path(__file__).parents[3] / "shared" / "cases" / "conversations"


def test_bad_lines_are_counted_over_files_up_to_a_threshold(tmp_path: Path) -> None:
    good = json.dumps({"prompt": "q", "chosen": "1", "rejected": "2"})
    (tmp_path / "p.jsonl").write_text(f"{good}\n{{\n{good}\n")

    made = read_all_pairs([tmp_path / "p.jsonl"] * 2, Reading(max_bad_rows=2))

    assert (len(made.pairs), made.findings.bad_rows) == (4, 2)
    with pytest.raises(DataError, match=r"line 2 of .* is not JSON .*; 3 rows are bad, and max_bad_rows is 2"):
        read_all_pairs([tmp_path / "p.jsonl"] * 3, Reading(max_bad_rows=2))


def test_labelled_answers_are_pairs_where_a_prompt_has_both(tmp_path: Path) -> None:
    rows = [("q", "good", True), ("q", "bad", False), ("q", "worse", False), ("p", "alone", True)]
    lines = [{"prompt": q, "completion": a, "label": label} for q, a, label in rows]
    path = write_lines(tmp_path / "k.jsonl", *lines)

    made = read_all_pairs([path])

    assert [(pair.chosen, pair.rejected) for pair in made.pairs] == [("good", "bad")]
    assert [(one.answer, one.is_good) for one in made.labelled] == [(a, label) for _, a, label in rows]
    assert made.dropped == {"a labelled answer has no opposite to its prompt": 2}
    with pytest.raises(DataError, match="1 labelled answers were read, of which no good and bad one"):
        read_all_pairs([write_lines(tmp_path / "one.jsonl", lines[0])])


@pytest.mark.shared
@pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here")
def test_the_shared_cases_are_pairs_labels_or_dropped_for_a_reason() -> None:
    question = "Write a function that adds two numbers."
    systems = {"p_orca.jsonl": "Be terse.\n\n", "p_system_column.jsonl": "Be terse.\n\n"}
    for name in ("p_hh.jsonl", "p_orca.jsonl", "p_strings.jsonl", "p_system_column.jsonl", "p_ultrafeedback.jsonl"):
        made = read_pairs(CASES / name)
        assert [pair.prompt[0]["content"] for pair in made.pairs] == [systems.get(name, "") + question], name
        assert made.pairs[0].chosen.startswith("def add(a, b):"), name
    assert [one.is_good for one in read_pairs(CASES / "p_kto.jsonl").labelled] == [True]
    with pytest.raises(DataError, match="1 because rejected is empty"):
        read_pairs(CASES / "p_empty_rejected.jsonl")
    with pytest.raises(DataError, match="1 because answers have the same score"):
        read_pairs(CASES / "p_reject_bool.jsonl")
