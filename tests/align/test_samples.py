"""Stored answers: whose they are, what a kill leaves, and what ranks share."""

from pathlib import Path

import pytest

from codeshell_hf.align.samples import SampleStore, sample_from_server
from codeshell_hf.align.settings import SampleSettings
from codeshell_hf.errors import RunFailed
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.client import Client
from codeshell_hf.text.decode import Answer
from tests.endpoint import serve_answers

PROMPTS = [
    Conversation(({"role": "user", "content": question}, {"role": "assistant", "content": "-"}))
    for question in ("a", "b", "a", "c", "d")
]
ANSWERS = [Answer("x\u2028y", is_finished=True), Answer("", is_finished=False)]


def test_answers_are_read_again_and_those_of_another_origin_are_not(tmp_path: Path) -> None:
    SampleStore(tmp_path, ["t", 1.0], PROMPTS, rank=0).add(1, ANSWERS)

    assert SampleStore(tmp_path, ["t", 1.0], PROMPTS, rank=0).find(1) == ANSWERS
    assert SampleStore(tmp_path, ["t", 0.5], PROMPTS, rank=0).find(1) is None
    assert SampleStore(tmp_path, ["t", 1.0], PROMPTS[1:], rank=0).find(1) is None, "another prompt has this number"


def test_equal_prompts_have_answers_of_their_own(tmp_path: Path) -> None:
    store = SampleStore(tmp_path, 0, PROMPTS, rank=0)
    store.add(0, ANSWERS)

    assert store.find(2) is None


def test_ranks_share_what_is_missing_and_read_one_another(tmp_path: Path) -> None:
    first, second = (SampleStore(tmp_path, 0, PROMPTS, rank=rank) for rank in range(2))
    first.add(0, ANSWERS)
    again = [SampleStore(tmp_path, 0, PROMPTS, rank=rank) for rank in range(2)]

    shares = [store.list_missing(rank, 2) for rank, store in enumerate(again)]

    assert shares == [[1, 3], [2, 4]]
    for store, share in zip(again, shares, strict=True):
        for number in share:
            store.add(number, ANSWERS)
    assert again[0].read_all() == [ANSWERS] * 5
    assert SampleStore(tmp_path, 0, PROMPTS, rank=0).list_missing(0, 1) == []
    assert second.find(0) is None, "it was opened before"


def test_answers_that_no_rank_gave_are_an_error(tmp_path: Path) -> None:
    store = SampleStore(tmp_path, 0, PROMPTS, rank=0)
    store.add(0, ANSWERS)

    with pytest.raises(RunFailed, match="4 of 5 prompts have no answers"):
        store.read_all()


def test_a_line_that_a_kill_cut_is_asked_for_again(tmp_path: Path) -> None:
    store = SampleStore(tmp_path, 0, PROMPTS, rank=0)
    store.add(0, ANSWERS)
    store.add(1, ANSWERS)
    [path] = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-20])

    assert SampleStore(tmp_path, 0, PROMPTS, rank=0).list_missing(0, 1) == [1, 2, 3, 4]


def test_a_server_is_asked_for_each_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    found: dict[int, list[Answer]] = {}
    sample = SampleSettings(per_prompt=2, max_new_tokens=8)

    with serve_answers(lambda text: f" {text}!|<end>|more") as server:
        sample_from_server(
            Client(server.url, "m"),
            PROMPTS,
            [1, 3],
            sample,
            seed=0,
            on_answers=lambda n, given: found.update({n: given}),
        )

    assert found == {1: [Answer("b!", is_finished=True)] * 2, 3: [Answer("c!", is_finished=True)] * 2}
