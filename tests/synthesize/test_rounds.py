"""Further answers: whose they are, and which are right."""

from pathlib import Path

import pytest

from codeshell_hf.sandbox import Sandbox
from codeshell_hf.synthesize.asking import ReplyStore
from codeshell_hf.synthesize.requests import SeedRequest
from codeshell_hf.synthesize.rounds import Asker, ask_for_tasks, gather_answers, make_server_asker, run_answers
from codeshell_hf.synthesize.seeds import Seed
from codeshell_hf.synthesize.settings import AskSettings, BudgetSettings
from codeshell_hf.synthesize.task_rules import SynthesizedTask
from codeshell_hf.text.client import Client
from codeshell_hf.text.replies import Reply
from tests.synthesize.teacher import Teacher, say, serve_teacher


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


def make(number: int) -> SynthesizedTask:
    return SynthesizedTask(f"t{number}", "d:1", None, "en", f"problem {number}", "x = 1", "x = 1", "assert x == 1")


def open_asker(server: Teacher, folder: Path, **budget: int) -> Asker:
    store = ReplyStore(folder, BudgetSettings(**budget))
    return make_server_asker(Client(server.url, "m", concurrency=1), store, max_failures=0)


def test_seeds_keep_their_document_and_licence_and_those_without_a_reply_a_reason(tmp_path: Path) -> None:
    wanted = [SeedRequest(Seed(f"d{number}:7", "python", "MIT", f"x = {number}"), "zh") for number in range(2)]

    with serve_teacher(lambda _: say("a reply")) as server:
        asked = ask_for_tasks(wanted, open_asker(server, tmp_path, max_requests=1), AskSettings(), seed=0)

    assert [(one.id, one.source, one.licence, one.written_in, one.seed_text) for one in asked] == [
        ("d0:7 zh", "d0:7", "MIT", "zh", "x = 0"), ("d1:7 zh", "d1:7", "MIT", "zh", "x = 1"),
    ]  # fmt: skip
    assert [(one.reply, one.reason) for one in asked] == [(Reply("a reply", "stop"), None), (None, "budget-spent")]


def test_recorded_answers_are_taken_and_others_are_asked_for(tmp_path: Path) -> None:
    recorded = {"t1": (Reply("x = 2", "stop"),)}

    with serve_teacher(lambda body: say(*["x = 1"] * body["n"])) as server:
        asker = open_asker(server, tmp_path)
        found = gather_answers([make(1), make(2)], recorded, asker, AskSettings(answers=3), seed=0)
        none = gather_answers([make(1), make(2)], recorded, asker, AskSettings(answers=0), seed=0)

    assert found == [recorded["t1"], (Reply("x = 1", "stop"),) * 3]
    assert none == [recorded["t1"], ()]
    assert server.prompts == ["problem 2"], "as a user would ask"
    assert gather_answers([make(1)], {}, None, AskSettings(answers=3), seed=0) == [()]


def test_an_answer_is_right_if_it_is_finished_and_passes(sandbox: Sandbox) -> None:
    answers = [
        (Reply("Sure:\n```python\nx = 1\n```", "stop"), Reply("x = 2", "stop"), Reply("x = 1", "length")),
        (),
        (Reply("x = 1", None), Reply("", "stop")),
    ]

    assert run_answers([make(1), make(2), make(3)], answers, sandbox) == [[True, False, False], [], [True, False]]
