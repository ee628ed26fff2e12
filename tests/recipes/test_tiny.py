"""What the bundled model is tuned on: the first questions of people."""

import json
from pathlib import Path

import pytest

from recipes.tiny import questions
from recipes.tiny.questions import DATA, Row, as_imperative

FILES = ("questions", "calculations", "questions-held-out")


@pytest.fixture(scope="module")
def rows() -> dict[str, list[Row]]:
    return {
        name: [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
        for name in FILES
    }


def test_the_files_are_what_their_script_writes(tmp_path: Path) -> None:
    assert questions.main([str(tmp_path)]) == 0
    for name in FILES:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (DATA / f"{name}.jsonl").read_bytes()


def test_every_answer_with_tests_passes_them(rows: dict[str, list[Row]]) -> None:
    held_out = rows["questions-held-out"]

    assert len(held_out) >= 90
    for row in held_out:
        answer = row["messages"][1]["content"]
        assert "assert " in row["tests"]
        exec(f"{answer}\n{row['tests']}", {})  # noqa: S102 - this project's own code
        with pytest.raises((AssertionError, AttributeError, OSError, TypeError)):
            exec(f"{blank(answer)}\n{row['tests']}", {})  # noqa: S102


def blank(answer: str) -> str:
    """A function or class of the same name that does nothing of the kind."""
    name = answer.split("def " if "class " not in answer else "class ")[1].split("(")[0].split(":")[0]
    return f"def {name}(*arguments): return object()"


def test_each_language_has_every_function_and_new_wordings_are_new(rows: dict[str, list[Row]]) -> None:
    trained = {(row["language"], turn["content"]) for row in rows["questions"] for turn in row["messages"]}
    asked = {turn.lower().rstrip("?？") for _, turn in trained}

    for row in rows["questions-held-out"]:
        question, answer = (turn["content"] for turn in row["messages"])
        assert (row["language"], answer) in trained
        assert question.lower().rstrip("?？") not in asked
        assert "could you please" in question.lower() or "能不能写一段" in question
    assert not any("could you please" in text or "能不能写一段" in text for text in asked)


def test_a_question_has_one_answer(rows: dict[str, list[Row]]) -> None:
    answers: dict[str, set[str]] = {}
    for row in rows["questions"]:
        for question, answer in zip(row["messages"][::2], row["messages"][1::2], strict=True):
            answers.setdefault(question["content"], set()).add(answer["content"])

    assert {question: found for question, found in answers.items() if len(found) > 1} == {}
    assert len(answers) > 1_500
    assert max(len(row["messages"]) for row in rows["questions"]) == 6


@pytest.mark.parametrize(
    ("does", "do"),
    [
        ("reverses a string", "reverse a string"),
        ("multiplies two numbers", "multiply two numbers"),
        ("flattens a list", "flatten a list"),
        ("checks whether it is", "check whether it is"),
    ],
)
def test_imperatives(does: str, do: str) -> None:
    assert as_imperative(does) == do
