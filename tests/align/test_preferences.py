"""Files of pairs: the ways they are written, and what is refused."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from codeshell_hf.align.preferences import Pair, read_all_pairs, read_pairs, write_pairs
from codeshell_hf.errors import DataError

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
        ({"prompt": "q", "chosen": "a"}, "line 1 .* lacks chosen or rejected"),
        ({"prompt": "q", "chosen": "a", "rejected": ""}, "is empty"),
        ({"chosen": "a", "rejected": "b"}, "is the assistant's, but turns alternate"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "a"},
            r"no pair to learn from \(1 because chosen equals rejected\)",
        ),
        (
            {
                "chosen": [{"role": "user", "content": "q"}, TURNS[1]],
                "rejected": [{"role": "user", "content": "other"}, TURNS[1]],
            },
            "answers to two different prompts",
        ),
        ({"prompt": "q", "chosen": TURNS[:1], "rejected": "b"}, "make it the assistant's"),
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
