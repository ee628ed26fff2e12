"""Requests within a budget, and replies that are kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import RunFailed, SettingsError
from codeshell_hf.synthesize.asking import ModelRequest, ReplyStore, ask_model, ask_server, make_request
from codeshell_hf.synthesize.settings import BudgetSettings
from codeshell_hf.text.client import Client
from codeshell_hf.text.replies import Reply
from tests.synthesize.teacher import Body, Teacher, say, serve_teacher


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("codeshell_hf.text.client.time.sleep", lambda _: None)


def make(text: str, **changes: Any) -> ModelRequest:
    given = {"seed": 0, "max_new_tokens": 50, "temperature": 0.8, **changes}
    return make_request([{"role": "user", "content": text}], "m", **given)


REQUESTS = [make(f"question {number}") for number in range(6)]


def echo(body: Body) -> tuple[int, Body]:
    return say(f"re: {body['messages'][0]['content']}")


def open_store(folder: Path, **budget: Any) -> ReplyStore:
    return ReplyStore(folder, BudgetSettings(**budget))


def ask(
    server: Teacher, store: ReplyStore, requests: list[ModelRequest] = REQUESTS, *, concurrency: int = 1,
    max_failures: int = 0,
) -> None:  # fmt: skip
    client = Client(server.url, "m", concurrency=concurrency, tries=2)
    ask_server(client, requests, store, lambda: None, max_failures=max_failures)


def test_replies_are_kept_and_asked_for_once(tmp_path: Path) -> None:
    with serve_teacher(echo) as server:
        ask(server, open_store(tmp_path), concurrency=4)
        store = open_store(tmp_path)
        ask(server, store)

    assert len(server.bodies) == 6
    found = store.read_all(REQUESTS)
    assert [one.replies for one in found] == [(Reply(f"re: question {number}", "stop"),) for number in range(6)]
    assert (store.requests, store.tokens) == (6, 600)


def test_a_request_is_another_with_another_model_sampling_or_text() -> None:
    same = make("a")

    assert same.key == make("a").key
    others = [
        make("b"),
        make("a", temperature=0.1),
        make("a", max_new_tokens=9),
        make("a", seed=1),
        make("a", samples=2),
    ]
    other_model = make_request(same.messages, "n", seed=0, max_new_tokens=50, temperature=0.8)
    assert len({one.key for one in (same, *others, other_model)}) == 7


def test_the_seed_of_a_request_does_not_depend_on_others() -> None:
    assert make("a").sampling.seed == make("a").sampling.seed != make("b").sampling.seed


def test_the_budget_of_requests_is_that_of_all_runs_together(tmp_path: Path) -> None:
    with serve_teacher(echo) as server:
        ask(server, open_store(tmp_path, max_requests=2))
        assert len(server.bodies) == 2
        store = open_store(tmp_path, max_requests=4)
        ask(server, store)

    assert sorted(server.prompts) == [f"question {number}" for number in range(4)], "in order"
    reasons = [one.reason for one in store.read_all(REQUESTS)]
    assert reasons == [None] * 4 + ["budget-spent"] * 2
    assert "4 requests of 400 tokens, which is the budget" in store.describe()


def test_the_budget_of_tokens_ends_the_requests(tmp_path: Path) -> None:
    with serve_teacher(echo) as server:
        store = open_store(tmp_path, max_tokens=250)
        ask(server, store)
        ask(server, store)

    assert len(server.bodies) == 3
    assert (store.tokens, store.is_spent) == (300, True)


def test_tokens_that_a_server_does_not_count_are_estimated(tmp_path: Path) -> None:
    with serve_teacher(lambda _: say("x" * 30, tokens=None)) as server:
        store = open_store(tmp_path)
        ask(server, store, [make("y" * 60)])

    assert store.tokens == 30
    assert open_store(tmp_path).tokens == 30


def test_equal_requests_are_one(tmp_path: Path) -> None:
    with serve_teacher(echo) as server:
        store = open_store(tmp_path)
        ask(server, store, [make("a"), make("a")])

    assert len(server.bodies) == 1
    assert [one.reason for one in store.read_all([make("a"), make("a")])] == [None, None]


def test_a_failing_server_ends_the_run_and_leaves_what_it_said(tmp_path: Path) -> None:
    def fail(body: Body) -> tuple[int, Body]:
        return (500, {"error": "out of memory"}) if "question 3" in str(body) else echo(body)

    with serve_teacher(fail) as server:
        with pytest.raises(RunFailed, match="earlier answers are kept"):
            ask(server, open_store(tmp_path))
        assert len(open_store(tmp_path).read_all(REQUESTS)[2].replies) == 1
        with pytest.raises(RunFailed):
            ask(server, open_store(tmp_path))
    with serve_teacher(echo) as server:
        ask(server, open_store(tmp_path))

    assert server.prompts[0] == "question 3"
    assert set(server.prompts) <= {"question 3", "question 4", "question 5"}, "threads may begin others before the end"


def test_so_many_requests_may_stay_without_a_reply_and_are_asked_again(tmp_path: Path) -> None:
    """One prompt that a server never answers must not stop all others for ever."""

    def fail(body: Body) -> tuple[int, Body]:
        return (200, {"choices": [{"message": {"content": None}}]}) if "question 3" in str(body) else echo(body)

    with serve_teacher(fail) as server:
        store = open_store(tmp_path)
        ask(server, store, max_failures=1)
        assert [one.reason for one in store.read_all(REQUESTS)] == [None] * 3 + ["no-reply"] + [None] * 2
        assert store.requests == 5
    with serve_teacher(echo) as server:
        ask(server, open_store(tmp_path))
    assert server.prompts == ["question 3"]
    broken = 500, {"error": "down"}
    with serve_teacher(lambda _: broken) as server, pytest.raises(RunFailed):
        ask(server, open_store(tmp_path / "other"), max_failures=1)


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    busy = iter([(503, {"error": "loading"})])

    with serve_teacher(lambda body: next(busy, None) or echo(body)) as server:
        store = open_store(tmp_path)
        ask(server, store, REQUESTS[:1])

    assert len(server.bodies) == 2
    assert store.requests == 1


def test_a_wrong_key_ends_the_run(tmp_path: Path) -> None:
    refusal = 401, {"error": {"message": "no", "code": "invalid_api_key"}}

    with serve_teacher(lambda _: refusal) as server, pytest.raises(SettingsError, match="check url, model, key"):
        ask(server, open_store(tmp_path))


def test_a_refused_prompt_and_one_that_is_too_long_have_reasons(tmp_path: Path) -> None:
    def filter_some(body: Body) -> tuple[int, Body]:
        text = body["messages"][0]["content"]
        if text.endswith("1"):
            return 400, {"error": {"message": "filtered", "code": "content_filter"}}
        if text.endswith("2"):
            return 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
        return echo(body)

    with serve_teacher(filter_some) as server:
        store = open_store(tmp_path)
        ask(server, store, REQUESTS[:4])
        asked = len(server.bodies)
        ask(server, store, REQUESTS[:4])

    assert [one.reason for one in store.read_all(REQUESTS[:4])] == [None, "refused", "prompt-too-long", None]
    assert len(server.bodies) == asked, "they are not asked again"


def test_texts_of_any_kind_are_kept(tmp_path: Path) -> None:
    odd = "a\u2028b\ud800\x00"

    with serve_teacher(lambda _: say(odd)) as server:
        ask(server, open_store(tmp_path), REQUESTS[:1])

    [found] = open_store(tmp_path).read_all(REQUESTS[:1])
    assert found.replies[0].text == "a\u2028b\ufffd\x00"


def test_a_line_that_a_kill_cut_is_asked_for_again(tmp_path: Path) -> None:
    with serve_teacher(echo) as server:
        ask(server, open_store(tmp_path), REQUESTS[:2])
        path = tmp_path / "replies.jsonl"
        path.write_bytes(path.read_bytes()[:-10])
        ask(server, open_store(tmp_path), REQUESTS[:2])

    assert sorted(server.prompts) == ["question 0", "question 1", "question 1"]


def test_a_model_in_memory_is_asked(
    tmp_path: Path, tiny_model: Callable[..., CodeShellForCausalLM], tiny_tokenizer: CodeShellTokenizer
) -> None:
    """Longer requests than its context are kept as such; the same call gives the same replies."""
    model = tiny_model(vocab_size=len(tiny_tokenizer))
    requests = [make("a", max_new_tokens=4), make("b", max_new_tokens=4), make("long " * 200, max_new_tokens=4)]
    found = []
    for name in ("one", "two"):
        store = open_store(tmp_path / name)
        ask_model(model, tiny_tokenizer, requests, store, lambda: None, batch_size=2, seed=0)
        found.append(store.read_all(requests))
        assert store.requests == 3

    assert found[0] == found[1]
    assert [one.reason for one in found[0]] == [None, None, "prompt-too-long"]
    spent = open_store(tmp_path / "three", max_requests=1)
    ask_model(model, tiny_tokenizer, requests, spent, lambda: None, batch_size=2, seed=0)
    assert spent.requests == 1
