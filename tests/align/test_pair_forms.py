"""Preferences in the forms that people have: which answer is the better one, and to which prompt."""

import json
from pathlib import Path

import pytest

from codeshell_hf.align.preferences import read_pairs

PROMPT, GOOD, BAD = (
    {"role": role, "content": text} for role, text in (("user", "q"), ("assistant", "g"), ("assistant", "b"))
)

ONE_PAIR = {
    "strings": {"prompt": "q", "chosen": "g", "rejected": "b"},
    "lists": {"prompt": [PROMPT], "chosen": [GOOD], "rejected": [BAD]},
    "objects": {"conversations": [{"from": "human", "value": "q"}], "chosen": {"from": "gpt", "value": "g"},
                "rejected": {"from": "gpt", "value": "b"}},
    "whole conversations": {"chosen": [PROMPT, GOOD], "rejected": [PROMPT, BAD]},
    "ultrafeedback": {"prompt": "q", "prompt_id": "1", "chosen": [PROMPT, GOOD], "rejected": [PROMPT, BAD],
                      "messages": [PROMPT, GOOD], "score_chosen": 8.0, "score_rejected": 3.0},
    "argilla": {"instruction": "q", "chosen_response": "g", "rejected_response": "b",
                "chosen_rating": 5, "rejected_rating": 1},
    "hh": {"chosen": "\n\nHuman: q\n\nAssistant: g", "rejected": "\n\nHuman: q\n\nAssistant: b"},
    "openai": {"input": {"messages": [PROMPT], "tools": [], "parallel_tool_calls": True},
               "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    "swift": {"messages": [PROMPT, GOOD], "rejected_response": "b"},
    "swift with turns": {"messages": [PROMPT, GOOD], "rejected_messages": [PROMPT, BAD]},
    "alpaca": {"instruction": "q", "input": "", "chosen": "g", "rejected": "b"},
    "two outputs": {"instruction": "q", "output": ["g", "b"]},
    "orca": {"system": "", "question": "q", "chosen": "g", "rejected": "b"},
    "nectar": {"prompt": "\n\nHuman: q\n\nAssistant: ", "answers": [
        {"answer": "b", "rank": 2}, {"answer": "g", "rank": 1}]},
    "ultrafeedback before": {"instruction": "q", "models": ["m"], "completions": [
        {"model": "m", "response": "b", "overall_score": 2.5}, {"model": "n", "response": "g", "overall_score": 9}]},
    "scores": {"prompt": "q", "responses": ["b", "g"], "scores": [0.1, 0.9]},
    "ratings as texts": {"instruction": "q", "generations": ["g", "b"], "ratings": ["5", "1"]},
    "shp": {"history": "q", "human_ref_A": "b", "human_ref_B": "g", "labels": 0},
    "saferlhf": {"prompt": "q", "response_0": "b", "response_1": "g", "better_response_id": 1},
    "helpsteer": {"context": [PROMPT], "response1": "g", "response2": "b", "overall_preference": -2},
    "arena": {"conversation_a": [PROMPT, BAD], "conversation_b": [PROMPT, GOOD], "winner": "model_b"},
    "lmsys": {"prompt": json.dumps(["q"]), "response_a": json.dumps(["g"]), "response_b": json.dumps(["b"]),
              "winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
    "webgpt": {"question": {"full_text": "q"}, "answer_0": "b", "answer_1": "g", "score_0": -0.5, "score_1": 0.5},
    "alpaca farm": {"instruction": "q", "input": "", "output_1": "b", "output_2": "g", "preference": 2},
    "capybara": {"conversation": [{"input": "q", "output": "g"}], "chosen": [PROMPT, GOOD], "rejected": [PROMPT, BAD]},
    "stackexchange": {"question": "q", "answers": [{"text": "b", "pm_score": 1}, {"text": "g", "pm_score": 3}]},
    "steps": {"prompt": "q", "initial_reason_steps": "", "chosen": "g", "rejected": "b"},
}  # fmt: skip


def read_one(tmp_path: Path, row: object) -> list[tuple[str, str, str]]:
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    made = read_pairs(tmp_path / "p.jsonl")
    return [("|".join(turn["content"] for turn in pair.prompt), pair.chosen, pair.rejected) for pair in made.pairs]


@pytest.mark.parametrize("row", ONE_PAIR.values(), ids=ONE_PAIR)
def test_the_better_answer_is_found_in_every_form(tmp_path: Path, row: object) -> None:
    assert read_one(tmp_path, row) == [("q", "g", "b")]


def test_a_system_text_is_part_of_the_prompt(tmp_path: Path) -> None:
    assert read_one(tmp_path, {"system": "s", "prompt": "q", "chosen": "g", "rejected": "b"}) == [("s\n\nq", "g", "b")]


def test_the_best_answer_stands_against_each_that_is_worse(tmp_path: Path) -> None:
    row = {"prompt": "q", "responses": ["c", "g", "a", "g2"], "scores": [1, 3, 2, 3]}

    assert read_one(tmp_path, row) == [("q", "g", "c"), ("q", "g", "a")]


def test_steps_that_both_begin_with_are_part_of_both(tmp_path: Path) -> None:
    row = {"prompt": "q", "initial_reason_steps": "1. ", "chosen": "g", "rejected": "b"}

    assert read_one(tmp_path, row) == [("q", "1. g", "1. b")]


def test_earlier_turns_of_a_transcript_are_the_prompt(tmp_path: Path) -> None:
    start = "\n\nHuman: q\n\nAssistant: r\n\nHuman: q2\n\nAssistant:"

    assert read_one(tmp_path, {"chosen": f"{start} g", "rejected": f"{start} b"}) == [("q|r|q2", "g", "b")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "responses": ["a", "b"], "scores": [1, 1]},
        {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "tie"},
        {"prompt": "q", "response1": "a", "response2": "b", "overall_preference": 0},
        {"prompt": "q", "response_a": "a", "response_b": "b", "winner": "tie (bothbad)"},
    ],
)
def test_answers_of_the_same_worth_are_dropped_and_counted(tmp_path: Path, row: object) -> None:
    (tmp_path / "p.jsonl").write_text(
        json.dumps(row) + "\n" + json.dumps({"prompt": "q", "chosen": "g", "rejected": "b"}) + "\n"
    )

    made = read_pairs(tmp_path / "p.jsonl")

    assert len(made.pairs) == 1
    assert made.dropped == {"answers have the same score": 1}


def test_unused_fields_and_forms_are_counted(tmp_path: Path) -> None:
    row = {
        "prompt": "q",
        "chosen": "g",
        "rejected": "b",
        "source": "s",
        "id": 3,
        "chosen_score": 2,
        "rejected_score": 1,
    }
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")

    made = read_pairs(tmp_path / "p.jsonl")

    assert made.findings.unused == {"id": 1}
    assert made.findings.forms == {"pairs": 1}
    assert made.pairs[0].source == "s"
