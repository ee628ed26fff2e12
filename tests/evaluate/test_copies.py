"""Copied answers as a model: it answers chats alone, and its results stand beside the others'."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from codeshell_hf.evaluate.generation import Completion, Question
from codeshell_hf.evaluate.models import EvaluatedModel, load_model
from codeshell_hf.evaluate.prompts import Prompt
from codeshell_hf.evaluate.results import ResultCache
from codeshell_hf.evaluate.settings import CopySettings, LoadingSettings, TaskSettings
from codeshell_hf.evaluate.tasks import check_task, read_task, score_task
from codeshell_hf.sandbox import open_sandbox
from codeshell_hf.text.sampling import Sampling

ROOT = Path(__file__).parents[2]


def write_tasks(path: Path, rows: Sequence[tuple[str, str, str]]) -> Path:
    lines = [
        {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], "tests": tests}
        for asked, answer, tests in rows
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def copies(tmp_path: Path) -> EvaluatedModel:
    tuned = [
        ("Write `f(x)` that adds 3 to x.", "def f(x):\n    return x + 3", ""),
        ("Write `f(x)` that divides x by 4.", "def f(x):\n    return x / 4", ""),
    ]
    path = write_tasks(tmp_path / "tuned.jsonl", tuned)
    return load_model("copy", CopySettings(copy_from=(path,)), LoadingSettings(batch_size=4), dtype="float32")


def test_every_sample_is_the_adapted_copy(copies: EvaluatedModel) -> None:
    answers: dict[str, list[Completion]] = {}
    question = Question("q", Prompt("Write `g(n)` that adds 8 to n.", is_chat=True), Sampling(16, samples=2))

    assert copies.generator is not None
    copies.generator.generate([question], lambda asked, found: answers.update({asked.id: found}))

    assert answers == {"q": [Completion("def g(x):\n    return x + 8", 6, "stop")] * 2}


def test_copies_are_scored_as_a_models_answers_are(copies: EvaluatedModel, tmp_path: Path) -> None:
    held_out = [
        ("Write `g(x)` that adds 8 to x.", "def g(x):\n    return x + 8", "assert g(1) == 9"),
        ("Write `g(x)` that doubles x.", "def g(x):\n    return x + x", "assert g(3) == 6"),
    ]
    path = write_tasks(tmp_path / "held-out.jsonl", held_out)
    task = read_task("instructions", TaskSettings(profile="instructions-v2", data=str(path)))

    with open_sandbox("none") as sandbox:
        score = score_task(copies, check_task(task, sandbox), ResultCache(tmp_path / "kept", "code"), seed=0)

    assert score is not None
    assert score.measures["pass@1"].value == 0.5


def test_tasks_that_are_no_chats_have_no_copies(copies: EvaluatedModel, tmp_path: Path) -> None:
    data = ROOT / "recipes" / "nano" / "data" / "benchmarks" / "lines.jsonl"
    task = read_task("lines", TaskSettings(profile="line-completion-v1", data=str(data)))

    assert score_task(copies, task, ResultCache(tmp_path / "kept", "code"), seed=0) is None


def test_other_conversations_are_another_model(copies: EvaluatedModel, tmp_path: Path) -> None:
    other = write_tasks(tmp_path / "other.jsonl", [("a", "b", "")])

    loaded = load_model("copy", CopySettings(copy_from=(other,)), LoadingSettings(batch_size=4), dtype="float32")

    assert loaded.identity != copies.identity
