"""Who is answered, and how: odd requests, keys, pages of strangers, clients that leave, many at once."""

import asyncio
import copy
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.serve.app import make_app
from codeshell_hf.serve.service import Service
from codeshell_hf.serve.settings import ServeSettings
from tests.serve.conftest import ADD, FRAMED, post

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PARTS = {"input_prefix": "a", "input_suffix": "b"}
DEEP = "[" * 100_000
ODD: dict[str, tuple[str, Any, str]] = {
    # name: path, body (bytes as they are), what the message says
    "no JSON": (CHAT, b"hello", "not JSON"),
    "nothing": (CHAT, b"", "not JSON"),
    "half of JSON": (CHAT, b'{"messages": [', "not JSON"),
    "a list": (CHAT, b"[]", "JSON array"),
    "null": (COMPLETIONS, b"null", "JSON null"),
    "not a number": (COMPLETIONS, b'{"prompt": "a", "temperature": NaN}', "NaN is not JSON"),
    "an infinite number": (COMPLETIONS, b'{"prompt": "a", "temperature": 1e999}', "finite"),
    "a number of thousands of digits": (COMPLETIONS, b'{"prompt": "a", "seed": ' + b"9" * 5000 + b"}", "not JSON"),
    "another encoding": (CHAT, json.dumps({"messages": ADD}).encode("utf-16"), "not UTF-8"),
    "a byte that is no text": (COMPLETIONS, b'{"prompt": "\xff"}', "not UTF-8"),
    "half of a surrogate pair": (COMPLETIONS, b'{"prompt": "\\ud800"}', "surrogate"),
    "half of one as a name": (COMPLETIONS, b'{"prompt": "a", "\\udfff": 1}', "surrogate"),
    "nested deeply": (COMPLETIONS, b'{"prompt": ' + DEEP.encode() + b"}", "nested too deeply"),
    "no messages": (CHAT, {}, "messages is missing"),
    "messages of null": (CHAT, {"messages": None}, "messages is missing"),
    "messages of text": (CHAT, {"messages": "hi"}, "messages is"),
    "an empty conversation": (CHAT, {"messages": []}, "messages is"),
    "a turn that is text": (CHAT, {"messages": ["hi"]}, "messages.0 is"),
    "a turn without a role": (CHAT, {"messages": [{"content": "hi"}]}, "messages.0.role is missing"),
    "a role that is a number": (CHAT, {"messages": [{"role": 1, "content": "hi"}]}, "messages.0.role is 1"),
    "an unknown role": (CHAT, {"messages": [{"role": "wizard", "content": "hi"}, *ADD]}, "role is wizard"),
    "a system turn alone": (CHAT, {"messages": [{"role": "system", "content": "hi"}]}, "have no question"),
    "a system turn at the end": (CHAT, {"messages": [*ADD, {"role": "system", "content": "hi"}]}, "system text"),
    "a question of null": (CHAT, {"messages": [{"role": "user", "content": None}]}, "messages.0.content is missing"),
    "an empty question": (CHAT, {"messages": [{"role": "user", "content": "  "}]}, "have no question"),
    "no parts": (CHAT, {"messages": [{"role": "user", "content": []}]}, "have no question"),
    "content of a number": (CHAT, {"messages": [{"role": "user", "content": 3}]}, "messages.0.content is 3"),
    "a picture": (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
                  "'image_url'"),
    "a part without text": (CHAT, {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "has no text"),
    "a part of a number": (CHAT, {"messages": [{"role": "user", "content": [4]}]}, "messages.0.content"),
    "tools": (CHAT, {"messages": ADD, "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools is not"),
    "a form of answer": (CHAT, {"messages": ADD, "response_format": {"type": "json_object"}}, "response_format"),
    "text as temperature": (CHAT, {"messages": ADD, "temperature": "hot"}, "temperature is"),
    "a temperature of true": (CHAT, {"messages": ADD, "temperature": True}, "temperature is true"),
    "a cold temperature": (CHAT, {"messages": ADD, "temperature": -1}, "temperature is -1"),
    "a hot temperature": (CHAT, {"messages": ADD, "temperature": 2.1}, "temperature is 2.1"),
    "too much mass": (CHAT, {"messages": ADD, "top_p": 1.5}, "top_p is 1.5"),
    "no choices": (CHAT, {"messages": ADD, "n": 0}, "n is 0"),
    "a huge n": (CHAT, {"messages": ADD, "n": 10**12}, "more than 16 outputs"),
    "n of text": (CHAT, {"messages": ADD, "n": "2"}, "n is"),
    "half a choice": (CHAT, {"messages": ADD, "n": 1.5}, "n is 1.5"),
    "no tokens": (CHAT, {"messages": ADD, "max_tokens": 0}, "max_tokens is 0"),
    "fewer than none": (COMPLETIONS, {"prompt": "a", "max_tokens": -7}, "max_tokens is -7"),
    "tokens of text": (COMPLETIONS, {"prompt": "a", "max_tokens": "many"}, "max_tokens is"),
    "a stop of a number": (CHAT, {"messages": ADD, "stop": 5}, "stop is 5"),
    "a stop in a list": (CHAT, {"messages": ADD, "stop": [["a"]]}, "stop is"),
    "many stops": (CHAT, {"messages": ADD, "stop": ["a"] * 1000}, "up to 64"),
    "a seed of text": (CHAT, {"messages": ADD, "seed": "x"}, "seed is"),
    "a stream of text": (CHAT, {"messages": ADD, "stream": "yes"}, "stream is"),
    "options of text": (CHAT, {"messages": ADD, "stream_options": "all"}, "stream_options"),
    "many alternatives": (CHAT, {"messages": ADD, "logprobs": True, "top_logprobs": 21}, "top_logprobs is 21"),
    "a bias for a word": (CHAT, {"messages": ADD, "logit_bias": {"cat": 1}}, "logit_bias is"),
    "a bias for no token": (CHAT, {"messages": ADD, "logit_bias": {"99999": 1}}, "has token 99999"),
    "a bias of lists": (CHAT, {"messages": ADD, "logit_bias": [[1, 2]]}, "logit_bias is"),
    "a model of a number": (CHAT, {"messages": ADD, "model": 4}, "model is 4"),
    "a long conversation": (CHAT, {"messages": [{"role": "user", "content": "x = 1\n" * 99}]}, "the context 160"),
    "no prompt": (COMPLETIONS, {"max_tokens": 3}, "prompt is missing"),
    "an empty prompt": (COMPLETIONS, {"prompt": ""}, "prompt is empty"),
    "empty prompts": (COMPLETIONS, {"prompt": ["a", ""]}, "prompt is empty"),
    "a list of no prompts": (COMPLETIONS, {"prompt": []}, "prompt is empty"),
    "a prompt of no tokens": (COMPLETIONS, {"prompt": [[]]}, "prompt is empty"),
    "a prompt of a number": (COMPLETIONS, {"prompt": 5}, "prompt is 5"),
    "prompts of both kinds": (COMPLETIONS, {"prompt": ["a", 5]}, "prompt is"),
    "tokens beyond the vocabulary": (COMPLETIONS, {"prompt": [1, 320]}, "has token 320"),
    "huge tokens": (COMPLETIONS, {"prompt": [10**30]}, "has token"),
    "negative tokens": (COMPLETIONS, {"prompt": [-1]}, "prompt"),
    "many prompts": (COMPLETIONS, {"prompt": ["a"] * 100}, "more than 16 outputs"),
    "a suffix of a number": (COMPLETIONS, {"prompt": "a", "suffix": 1}, "suffix is 1"),
    "a suffix to tokens": (COMPLETIONS, {"prompt": [1], "suffix": "b"}, "suffix needs"),
    "the best of several": (COMPLETIONS, {"prompt": "a", "best_of": 3}, "best_of is 3"),
    "an echo's probabilities": (COMPLETIONS, {"prompt": "a", "echo": True, "logprobs": 1}, "echo has"),
    "no prefix": ("/infill", {"input_suffix": "b"}, "input_prefix is missing"),
    "a prefix of null": ("/infill", {"input_prefix": None, "input_suffix": "b"}, "input_prefix is missing"),
    "other files of text": ("/infill", {**PARTS, "input_extra": "x"}, "input_extra is"),
    "other files without text": ("/infill", {**PARTS, "input_extra": [{"filename": "a"}]}, "input_extra.0.text"),
    "a penalty of 0": ("/infill", {**PARTS, "repetition_penalty": 0}, "repetition_penalty is 0"),
    "a grammar": ("/completion", {"prompt": "a", "grammar": "root ::= x"}, "grammar is not"),
    "several streams": ("/completion", {"prompt": ["a", "b"], "stream": True}, "without stream"),
    "a prompt that is an object": ("/completion", {"prompt": {"prompt_string": "a"}}, "prompt is"),
    "no inputs": ("/generate", {"parameters": {}}, "inputs is missing"),
    "empty inputs": ("/generate", {"inputs": ""}, "inputs is empty"),
    "inputs of a list": ("/generate", {"inputs": ["a"]}, "inputs is"),
    "parameters of text": ("/generate_stream", {"inputs": "a", "parameters": "x"}, "parameters is"),
    "a wrong parameter": ("/generate_stream", {"inputs": "a", "parameters": {"top_k": "x"}}, "parameters.top_k is"),
    "a constraint": ("/generate", {"inputs": "a", "parameters": {"grammar": {"type": "json"}}}, "grammar is not"),
    "the best of TGI": ("/generate", {"inputs": "a", "parameters": {"best_of": 4}}, "best_of is not"),
}  # fmt: skip


def test_odd_requests_are_refused_in_one_form_and_the_server_goes_on(make_client: Callable[..., TestClient]) -> None:
    client = make_client()
    for name, (path, body, message) in ODD.items():
        answer = client.post(path, content=body if isinstance(body, bytes) else json.dumps(body).encode())
        assert answer.status_code == 400, (name, answer.status_code, answer.text)
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}, name
        assert message in error["message"], (name, error["message"])
        assert error["type"] == "invalid_request_error"
        assert len(error["message"]) < 400, name
        assert "\n" not in error["message"], name

    assert client.get("/health").json() == {"status": "ok", "active": 0, "waiting": 0}
    assert post(client, CHAT, messages=ADD, temperature=0)["choices"][0]["message"]["content"] == "return a + b"


BASES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": ADD, "max_tokens": 2, "temperature": 0.5, "n": 1, "stop": ["x"], "stream": False, "seed": 1,
           "logprobs": True, "top_logprobs": 1, "logit_bias": {"3": 1}, "stream_options": {"include_usage": True},
           "presence_penalty": 1, "frequency_penalty": 1, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.1,
           "model": "m", "tools": [], "generation_config": "{}", "response_format": {"type": "text"}},
    COMPLETIONS: {"prompt": "a", "suffix": "b", "max_tokens": 2, "n": 1, "logprobs": 1, "echo": False, "best_of": 1},
    "/completion": {"prompt": "a", "n_predict": 2, "stream": False, "stop": ["x"], "n_probs": 1, "seed": -1,
                    "temperature": 0.5, "top_k": 3, "top_p": 0.5, "repeat_penalty": 1.1},
    "/infill": {**PARTS, "prompt": "c", "n_predict": 2, "input_extra": [{"text": "d", "filename": "e"}]},
    "/generate": {"inputs": "a", "stream": False, "parameters": {"max_new_tokens": 2, "do_sample": True, "stop": ["x"],
                  "top_p": 0.5, "top_k": 2, "truncate": 5, "details": True, "seed": 1, "typical_p": 0.9}},
    "/generate_stream": {"inputs": "a", "parameters": {"max_new_tokens": 2}},
    "/load_model": {"model": "x"},
}  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, -(2**63), 10**40, 0.5, -0.5, 1e308, 5e-324, "", "a", "1", "\x00", "\u2028",
    "<|endoftext|>", "|<end>|", "a" * 3000, [], {}, [[]], [{}], [None], ["a"], ["a", "b"], [1, 2], [1, "a"], [[1], [2]],
    {"a": 1}, {"1": 1}, {"role": "user", "content": "x"}, [{"role": "user", "content": "x"}], [True], [0.5], {"": ""},
]  # fmt: skip


def test_no_body_makes_the_server_fail(make_client: Callable[..., TestClient]) -> None:
    """Good bodies in which one or two values, at any depth, are replaced by odd ones."""
    client, rng = make_client(max_new_tokens=3), random.Random(0)
    seen: Counter[int] = Counter()
    for path, base in BASES.items():
        for _ in range(80):
            body = copy.deepcopy(base)
            for _ in range(rng.choice((1, 1, 2))):
                place: Any = body
                key: Any = rng.choice(list(place))
                while isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.5:
                    place = place[key]
                    key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
                place[key] = copy.deepcopy(rng.choice(VALUES))
            answer = client.post(path, json=body)
            seen[answer.status_code] += 1
            assert answer.status_code in (200, 400), (path, body, answer.status_code, answer.text)
            assert answer.status_code == 200 or set(answer.json()["error"]) == {"message", "type", "param", "code"}
            assert "model_failed" not in answer.text, (path, body)
    assert seen[200] > 100
    assert seen[400] > 100
    assert client.get("/health").json() == {"status": "ok", "active": 0, "waiting": 0}


def test_harmless_parameters_are_ignored(client: TestClient) -> None:
    """What clients send without asking for anything that the server lacks."""
    extra = {
        "user": "x", "store": False, "metadata": {}, "tools": [], "tool_choice": "auto", "parallel_tool_calls": True,
        "response_format": {"type": "text"}, "service_tier": "auto", "reasoning_effort": None, "temperature": None,
        "stop": None, "stream_options": None, "max_tokens": -1, "keep_alive": "5m", "options": {"num_ctx": 1},
    }  # fmt: skip

    answer = post(client, CHAT, model="any", messages=[*ADD], **extra)

    assert answer["choices"]


def test_paths_and_methods_that_do_not_exist_are_refused_in_the_same_form(client: TestClient) -> None:
    for method, path, status in (("GET", "/v2", 404), ("GET", CHAT, 405), ("DELETE", "/v1/models", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_long_bodies_are_refused_unread(make_client: Callable[..., TestClient]) -> None:
    client = make_client(max_body_bytes=1000)

    declared = client.post(COMPLETIONS, json={"prompt": "x" * 1000})
    streamed = client.post(COMPLETIONS, content=(b"x" * 100 for _ in range(11)))

    for answer in (declared, streamed):
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"
    assert client.post(COMPLETIONS, json={"prompt": "x", "max_tokens": 1}).status_code == 200


def test_a_key_is_asked_for_everywhere_but_on_the_page(make_client: Callable[..., TestClient]) -> None:
    client = make_client(key="secret")
    good = ({"Authorization": "Bearer secret"}, {"authorization": "bearer  secret"}, {"X-Api-Key": "secret"})
    bad: tuple[dict[str, str], ...] = (
        {},
        {"Authorization": "Bearer secre"},
        {"Authorization": "secret"},
        {"Authorization": "Basic secret"},
        {"Authorization": "Bearer geheimnis\xe9"},
        {"X-Api-Key": ""},
    )

    for headers in bad:
        for path in ("/v1/models", "/props", "/info"):
            answer = client.get(path, headers={name: value.encode("latin-1") for name, value in headers.items()})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert client.post("/infill", json=PARTS, headers={}).status_code == 401
    for headers in good:
        assert client.get("/v1/models", headers=headers).status_code == 200
    for path in ("/", "/health", "/v1/health"):
        assert client.get(path).status_code == 200


def test_pages_of_strangers_and_other_names_are_refused(make_client: Callable[..., TestClient]) -> None:
    client = make_client(allowed_hosts=("localhost", "127.0.0.1", "::1", "testserver"))

    def ask(**headers: str) -> int:
        return client.post(COMPLETIONS, json={"prompt": "x", "max_tokens": 1}, headers=headers).status_code

    for origin in ("http://testserver", "http://localhost:3000", "http://127.0.0.1", "vscode-webview://a1-b2"):
        assert ask(origin=origin) == 200, origin
    for origin in ("https://evil.example", "http://codeshell.evil.example", "http://localhost.evil.example", "null"):
        assert ask(origin=origin) == 403, origin
    for host in ("evil.example:8000", "127.0.0.1.evil.example", ""):
        assert ask(host=host) == 403, host
    for host in ("localhost:8000", "[::1]:8000", "LOCALHOST"):
        assert ask(host=host) == 200, host
    named = make_client(allowed_origins=("https://chat.example",))
    answer = named.get("/v1/models", headers={"origin": "https://chat.example"})
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    assert make_client(allowed_origins=("*",)).get("/v1/models", headers={"origin": "https://a.example"}).is_success


def test_more_than_may_wait_are_told_to_come_again(
    make_client: Callable[..., TestClient], taught: tuple[CodeShellForCausalLM, CodeShellTokenizer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, _ = taught
    go, forward = threading.Event(), model.forward

    def wait(**given: Any) -> Any:
        assert go.wait(20)
        return forward(**given)

    monkeypatch.setattr(model, "forward", wait)
    client = make_client(max_rows=1, max_waiting=1)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.post, COMPLETIONS, json={"prompt": "x", "max_tokens": 1}) for _ in range(4)]
        while sum(each.done() for each in asked) < 2:
            time.sleep(0.01)
        go.set()
        answers = [each.result() for each in asked]

    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429]
    (busy, _) = [answer for answer in answers if answer.status_code == 429]
    assert busy.headers["retry-after"] == "1"
    assert busy.json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_frees_its_places(
    is_stream: bool, taught: tuple[CodeShellForCausalLM, CodeShellTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the level of ASGI: the client sends a request, reads one piece or nothing, and is gone."""
    model, _ = taught
    forward = model.forward
    steps = 0

    def slow(**given: Any) -> Any:
        nonlocal steps
        steps += 1
        time.sleep(0.05)
        return forward(**given)

    monkeypatch.setattr(model, "forward", slow)
    service = Service(*taught, "heart", ServeSettings())
    app = make_app(service)
    body = {"prompt": [5] * 20, "max_tokens": 120, "n": 2, "stream": is_stream, "logit_bias": {"300": -100}}
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST",
        "path": COMPLETIONS, "raw_path": COMPLETIONS.encode(), "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2),
    }  # fmt: skip

    async def visit() -> tuple[int, int]:
        gone = asyncio.Event()
        messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                gone.set()

        async with app.router.lifespan_context(app):
            task = asyncio.create_task(app(scope, receive, send))
            while not steps:
                await asyncio.sleep(0.01)
            if not is_stream:
                gone.set()
            await asyncio.wait_for(task, 20)
            for _ in range(200):
                if service.batching.places == (0, 0):
                    break
                await asyncio.sleep(0.01)
            return service.batching.places

    assert asyncio.run(visit()) == (0, 0)
    assert steps < 20, "left alone, its outputs end after 28 steps or more"


def test_many_clients_at_once_get_what_each_asked_for(make_client: Callable[..., TestClient]) -> None:
    """32 clients with two questions, a middle and drawn texts with seeds of their own; some stream."""
    client = make_client(max_rows=8)
    seeds = {seed: post(client, COMPLETIONS, prompt="x", max_tokens=9, seed=seed)["choices"][0] for seed in range(4)}

    def visit(number: int) -> None:
        kind = number % 4
        if kind == 3:
            seed = number // 4 % 4
            assert post(client, COMPLETIONS, prompt="x", max_tokens=9, seed=seed)["choices"][0] == seeds[seed]
        elif kind == 2:
            assert post(client, "/generate", inputs=FRAMED)["generated_text"].startswith("3.14 * r")
        else:
            question, text = (("add", "return a + b"), ("面积", "返回 r"))[kind]
            body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "stream": number % 8 > 3}
            answer = client.post(CHAT, json=body)
            assert answer.status_code == 200
            if body["stream"]:
                events = [json.loads(line[6:]) for line in answer.text.split("\n\n")[:-2]]
                assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == text
            else:
                assert answer.json()["choices"][0]["message"]["content"] == text

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(visit, range(64)))
    assert client.get("/health").json()["active"] == 0


def test_a_failure_of_the_model_is_an_error_in_the_same_form(
    client: TestClient, taught: tuple[CodeShellForCausalLM, CodeShellTokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**given: Any) -> Any:
        raise RuntimeError("secret path")

    monkeypatch.setattr(taught[0], "forward", fail)
    answer = client.post(CHAT, json={"messages": ADD})
    streamed = client.post(CHAT, json={"messages": ADD, "stream": True})

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "model_failed"
    assert "secret" not in answer.text
    assert '"code":"model_failed"' in streamed.text
