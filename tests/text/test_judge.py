"""The judge: asked in both orders, never twice, and given up when its server stays away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from codeshell_hf.errors import RunFailed
from codeshell_hf.text.cache import JsonLinesCache
from codeshell_hf.text.client import Client
from codeshell_hf.text.judge import Judge
from tests.endpoint import Endpoint, serve_judge


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with serve_judge() as opened:
        yield opened


PROMPT = [{"role": "user", "content": "q"}]


def test_a_judge_is_asked_in_both_orders_and_remembers(endpoint: Endpoint, tmp_path: Path) -> None:
    key = "not-a-real-one"
    judge = Judge(Client(endpoint.url, "judge", key), JsonLinesCache(tmp_path / "judge.jsonl"), 10)

    assert judge.compare(PROMPT, "x", "xx") == 1
    assert judge.compare(PROMPT, "xx", "x") == 0
    assert (endpoint.requests, endpoint.key) == (2, "Bearer not-a-real-one")
    with (tmp_path / "judge.jsonl").open("a") as file:
        file.write('{"key": "cut')
    again = Judge(Client(endpoint.url, "judge"), JsonLinesCache(tmp_path / "judge.jsonl"), 0)
    assert again.compare(PROMPT, "x", "xx") == 1
    assert endpoint.requests == 2
    assert again.compare(PROMPT, "new", "newer") is None
    assert "not-a-real-one" not in (tmp_path / "judge.jsonl").read_text()


def test_a_judge_that_favours_a_place_or_is_undecided_decides_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    judge = Judge(Client(endpoint.url, "judge"), JsonLinesCache(tmp_path / "judge.jsonl"), 10)

    for favour in ("A", "tie", "I cannot say"):
        endpoint.favours = favour
        assert judge.compare(PROMPT, f"x {favour}", "xx") is None


def test_a_judge_that_fails_is_asked_again_and_then_given_up(endpoint: Endpoint, tmp_path: Path) -> None:
    judge = Judge(Client(endpoint.url, "judge", tries=3), JsonLinesCache(tmp_path / "j.jsonl"), 10)
    endpoint.failures = 2
    assert judge.compare(PROMPT, "x", "xx") == 1

    endpoint.failures = 3
    with pytest.raises(RunFailed, match=r"did not answer after 3 tries"):
        judge.compare(PROMPT, "y", "yy")
