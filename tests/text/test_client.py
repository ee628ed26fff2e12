"""The client of OpenAI-compatible servers, against a server on loopback that fails as servers do."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest

from codeshell_hf.text.client import Budget, Client
from codeshell_hf.text.failures import AccessRefused, ContentRefused, PromptTooLong, RequestRefused, ServerUnavailable
from codeshell_hf.text.sampling import Sampling
from tests.servers import QuietHandler, serve_on_loopback

Body = dict[str, object]
GOOD: Body = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}
TURNS = [{"role": "user", "content": "hi"}]


@dataclass
class Server:
    """What was asked, when and with which key."""

    url: str = ""
    bodies: list[Body] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


@contextmanager
def serve(*replies: tuple[int, dict[str, str], object]) -> Iterator[Server]:
    """Gives replies one after another, and the last one for good: status, headers, body."""
    waiting = list(replies)
    with _serve(lambda _: waiting.pop(0) if len(waiting) > 1 else waiting[0], None) as server:
        yield server


@contextmanager
def serve_by(answer: "Answer", context: int | None = None) -> Iterator[Server]:
    """Gives what a function of the body says, and lists a model with a context where there is one."""

    def reply(body: Body) -> tuple[int, dict[str, str], object]:
        status, said = answer(body)
        return status, {}, said

    with _serve(reply, context) as server:
        yield server


@contextmanager
def _serve(reply: Callable[[Body], tuple[int, dict[str, str], object]], context: int | None) -> Iterator[Server]:
    server = Server()

    class Handler(QuietHandler):
        def answer(self, body: Any) -> None:
            if body is None:
                listed = {"data": [{"id": "m", "max_model_len": context}]}
                self.send(*((404, {}, {}) if context is None else (200, {}, listed)))
                return
            server.bodies.append(body)
            server.times.append(time.monotonic())
            server.keys.append(self.headers["Authorization"])
            self.send(*reply(server.bodies[-1]))

        def send(self, status: int, headers: dict[str, str], body: object) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.reply(status, data, headers)

    with serve_on_loopback(Handler) as address:
        server.url = f"{address}/v1"
        yield server


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    with serve((429, {"Retry-After": "1.5"}, {}), (200, {}, GOOD)) as server:
        [reply] = Client(server.url, "m", "key").chat(TURNS, Sampling(4))

    assert (reply.text, reply.finish_reason) == ("hello", "stop")
    assert server.times[1] - server.times[0] >= 1.4
    assert server.keys == ["Bearer key"] * 2


def test_the_hubs_own_token_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-of-the-hub")

    with serve((200, {}, GOOD)) as server:
        Client(server.url, "m").chat(TURNS, Sampling(4))

    assert server.keys == ["Bearer none"]


def test_a_request_says_all_that_was_asked() -> None:
    choice = {"text": "b", "finish_reason": None}
    with serve((200, {"Content-Type": "text/plain"}, {"choices": [choice, choice]})) as server:
        [reply, _] = Client(server.url, "m").complete("a", Sampling(4, 0.5, 0.9, 7, 2, ("\n",)))

    assert (reply.text, reply.finish_reason) == ("b", None)
    assert server.bodies == [{
        "model": "m", "prompt": "a", "max_tokens": 4, "n": 2, "temperature": 0.5, "top_p": 0.9, "seed": 7,
        "stop": ["\n"],
    }]  # fmt: skip


# What servers do, as their documentation and their users' reports say. Each is a function of the body that was sent.

Answer = Callable[[Body], tuple[int, object]]
WORDS = 12  # of the prompt below


def text_of(body: Body) -> str:
    messages = body.get("messages")
    return str(messages[-1]["content"]) if isinstance(messages, list) else str(body["prompt"])


def choices(*texts: str | None, reason: str = "stop", prompt_tokens: int | None = None) -> Body:
    said: Body = {"choices": [{"message": {"content": text}, "text": text, "finish_reason": reason} for text in texts]}
    return said | ({} if prompt_tokens is None else {"usage": {"prompt_tokens": prompt_tokens}})


def context_of(tokens: int, error: Callable[[], tuple[int, object]], *, says_usage: bool = True) -> Answer:
    """A server with a context of so many words, which refuses what does not fit."""

    def answer(body: Body) -> tuple[int, object]:
        used = len(text_of(body).split())
        if used + int(str(body["max_tokens"])) > tokens:
            return error()
        made = ["x"] * int(str(body["n"]))
        return 200, choices(*made, reason="length", prompt_tokens=used if says_usage else None)

    return answer


def vllm_length() -> tuple[int, object]:
    words = "This model's maximum context length is 20 tokens."
    return 400, {"error": {"message": words, "type": "BadRequestError", "param": None, "code": 400}}


def openai_length() -> tuple[int, object]:
    return 400, {"error": {"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"}}


def llama_cpp_length() -> tuple[int, object]:
    return 400, {"error": {"code": 400, "message": "m", "type": "exceed_context_size_error", "n_ctx": 20}}


def tgi_length() -> tuple[int, object]:
    return 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens`", "error_type": "validation"}


def sglang_length() -> tuple[int, object]:
    return 400, {"object": "error", "message": "longer than the model's context length", "code": 400}


def most_stops(body: Body) -> tuple[int, object]:
    stops = body.get("stop", [])
    if isinstance(stops, list) and len(stops) > 4:
        return 400, {"error": {"message": "at most 4 stop sequences", "code": None}}
    return 200, choices("a b#c", reason="length")


def one_only(body: Body) -> tuple[int, object]:
    return (200, choices("x")) if body["n"] == 1 else (400, {"error": {"message": "n must be 1 when using greedy"}})


def renamed(body: Body) -> tuple[int, object]:
    if "max_tokens" in body:
        error = {"message": "m", "code": "unsupported_parameter", "param": "max_tokens"}
        return 400, {"error": error}
    return 200, choices("x" if body["max_completion_tokens"] == 9 else "other")


HABITS: dict[str, tuple[Answer, list[str] | type[Exception]]] = {
    # refusals that are final
    "a bad key": (
        lambda _: (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}), RequestRefused,
    ),
    "a budget, and the word context": (
        lambda _: (403, {"error": "exceeded your budget for long context"}), RequestRefused,
    ),
    "no such model, and the word context": (lambda _: (404, {"error": "no model with this context"}), RequestRefused),
    "payment": (lambda _: (402, {"error": "too long without credits, maximum reached"}), RequestRefused),
    "a quota": (lambda _: (429, {"error": {"message": "m", "code": "insufficient_quota"}}), RequestRefused),
    "a filter of Azure's": (
        lambda _: (400, {"error": {"message": "m", "code": "content_filter"}}), ContentRefused,
    ),
    "a parameter that it does not know": (
        lambda _: (400, {"error": {"message": "top_p: maximum is 0.5"}}), RequestRefused,
    ),
    "a body that FastAPI refuses": (
        lambda _: (422, {"detail": [{"loc": ["body", "n"], "msg": "too long"}]}), RequestRefused,
    ),
    "a redirection": (lambda _: (301, {}), RequestRefused),
    # length, with and without a code; WORDS + 9 > 20
    "vLLM's context": (context_of(20, vllm_length), ["x", "x"]),
    "OpenAI's context": (context_of(20, openai_length), ["x", "x"]),
    "llama.cpp's context": (context_of(20, llama_cpp_length), ["x", "x"]),
    "TGI's context, without usage": (context_of(20, tgi_length, says_usage=False), ["x", "x"]),
    "SGLang's context": (context_of(20, sglang_length), ["x", "x"]),
    "vLLM, whom the prompt does not fit": (context_of(8, vllm_length), PromptTooLong),
    "TGI, whom the prompt does not fit": (context_of(8, tgi_length), PromptTooLong),
    "llama.cpp, whom the prompt does not fit": (context_of(8, llama_cpp_length), PromptTooLong),
    "a body that is too large": (
        lambda body: (413, "too large") if len(text_of(body)) > 20 else (200, choices("x")), PromptTooLong,
    ),
    # fewer, other or more choices than asked for
    "one choice, whatever n is": (lambda _: (200, choices("x")), ["x", "x"]),
    "n refused under greedy decoding": (one_only, ["x", "x"]),
    "three choices of two": (lambda _: (200, choices("x", "y", "z")), ["x", "y"]),
    "no choice": (lambda _: (200, {"choices": []}), ServerUnavailable),
    "choices null": (lambda _: (200, {"choices": None}), ServerUnavailable),
    "a choice without content": (lambda _: (200, choices(None, None)), ServerUnavailable),
    "reasoning that took all tokens": (lambda _: (200, choices(None, None, reason="length")), ["", ""]),
    "content in parts": (
        lambda _: (200, {"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}] * 2}),
        ["ab", "ab"],
    ),
    "a choice that failed": (lambda _: (200, choices("half", "half", reason="error")), ServerUnavailable),
    # replies that are none
    "a cut body": (lambda _: (200, b'{"choices": [{"mess'), ServerUnavailable),
    "a page": (lambda _: (200, b"<html>sign in</html>"), ServerUnavailable),
    "a list": (lambda _: (200, ["x"]), ServerUnavailable),
    "a stream that was not asked for": (
        lambda _: (200, b'data: {"choices": [{"delta": {"content": "x"}}]}\n\ndata: [DONE]\n\n'), ServerUnavailable,
    ),
    "a 200 that holds an error": (lambda _: (200, {"error": {"message": "m", "code": 502}}), ServerUnavailable),
    "a 200 that holds a refusal": (lambda _: (200, {"error": {"message": "m", "code": 401}}), RequestRefused),
    "a server that is down": (lambda _: (503, "upstream"), ServerUnavailable),
    # texts
    "at most four stops": (most_stops, ["a b", "a b"]),
    "a stop that is given back": (lambda _: (200, choices("a#b", "c\u2028d")), ["a", "c\u2028d"]),
    "a lone surrogate": (
        lambda _: (200, b'{"choices": [{"text": "a\\ud800b", "message": {"content": "a\\ud800b"}}]}'),
        ["a\ufffdb"] * 2,
    ),
    "bytes that are not UTF-8": (
        lambda _: (200, b'{"choices": [{"text": "\xff", "message": {"content": "\xff"}}]}'), ["\ufffd"] * 2,
    ),
    "another name for max_tokens": (renamed, ["x", "x"]),
}  # fmt: skip


COMPLETED = ["vLLM's context", "TGI, whom the prompt does not fit", "one choice, whatever n is", "at most four stops"]


@pytest.mark.parametrize(("name", "is_chat"), [(name, True) for name in HABITS] + [(name, False) for name in COMPLETED])
def test_habits_of_servers_end_in_answers_or_in_one_clear_error(
    name: str, is_chat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("codeshell_hf.text.client.time.sleep", lambda _: None)
    habit, expected = HABITS[name]
    prompt = " ".join(["word"] * WORDS)
    stops = ("never", "not", "no", "nor", "#")
    with serve_by(habit) as server:
        client = Client(server.url, "m", tries=3)

        def ask() -> list[str]:
            sampling = Sampling(9, seed=5, samples=2, stops=stops)
            if is_chat:
                replies = client.chat([{"role": "user", "content": prompt}], sampling)
            else:
                replies = client.complete(prompt, sampling)
            return [reply.text for reply in replies]

        if isinstance(expected, list):
            assert ask() == expected
        else:
            with pytest.raises(expected) as caught:
                ask()
            kind = type(caught.value)
            assert (RequestRefused if kind is AccessRefused else kind) is expected
            assert "\n" not in str(caught.value)
            assert "; " in str(caught.value)  # what to do
    assert len(server.bodies) <= 12


def test_tokens_are_cut_to_what_fits_the_context() -> None:
    prompt = " ".join(["word"] * WORDS)
    for error, says_usage in ((llama_cpp_length, True), (vllm_length, True), (tgi_length, False)):
        with serve_by(context_of(100, error, says_usage=says_usage), context=100) as server:
            [reply] = Client(server.url, "m").complete(prompt, Sampling(400))
            accepted = server.bodies[-1]["max_tokens"]

        assert reply.finish_reason == "length"
        # llama.cpp says its context (20 here, whatever it is), vLLM lists it, TGI is asked for 200, 100 and 50.
        assert accepted == {llama_cpp_length: 8, vllm_length: 88, tgi_length: 50}[error]


def test_further_samples_have_seeds_of_their_own() -> None:
    with serve_by(lambda _: (200, choices("x"))) as server:
        Client(server.url, "m").complete("a", Sampling(4, 1.0, seed=5, samples=3))

    assert [(body["seed"], body["n"]) for body in server.bodies] == [(5, 3), (6, 2), (7, 1)]


def test_refusals_are_not_repeated() -> None:
    with serve((401, {}, {"error": "bad key"})) as server, pytest.raises(RequestRefused, match="bad key"):
        Client(server.url, "m").chat(TURNS, Sampling(4))

    assert len(server.bodies) == 1


def test_a_server_that_keeps_failing_is_given_up_after_all_tries() -> None:
    with (
        serve((503, {"Retry-After": "0.01"}, {"error": "busy"})) as server,
        pytest.raises(ServerUnavailable, match=r"after 3 tries \(503 .*busy"),
    ):
        Client(server.url, "m", tries=3).chat(TURNS, Sampling(4))
    assert len(server.bodies) == 3


def test_waits_are_as_long_as_the_server_says(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("codeshell_hf.text.client.time.sleep", waits.append)
    date = formatdate(time.time() + 90, usegmt=True)
    headers = [{"Retry-After": "120"}, {"Retry-After": date}, {"Retry-After-Ms": "250"}]
    replies: list[tuple[int, dict[str, str], object]] = [(429, header, {}) for header in headers]
    with serve(*replies, (200, {}, GOOD)) as server:
        Client(server.url, "m").chat(TURNS, Sampling(4))

    assert waits == [120, pytest.approx(90, abs=3), 0.25]
    with serve((429, {"Retry-After": "86400"}, {})) as server, pytest.raises(ServerUnavailable, match="wait 86400 s"):
        Client(server.url, "m").chat(TURNS, Sampling(4))
    assert len(server.bodies) == 1


def test_a_prompt_with_a_lone_surrogate_is_sent() -> None:
    with serve((200, {}, GOOD)) as server:
        Client(server.url, "m").chat([{"role": "user", "content": "a\ud83d\ude00\udc00"}], Sampling(4))

    assert text_of(server.bodies[0]) == "a\U0001f600\ufffd"


def test_the_first_error_cancels_what_has_not_begun() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise ValueError("first")
        time.sleep(0.02)
        return number

    with pytest.raises(ValueError, match="first"):
        list(Client(None, "m", concurrency=2).map(work, range(200)))

    assert len(begun) < 100
    assert dict(Client(None, "m", concurrency=3).map(str, range(5))) == {number: str(number) for number in range(5)}


def test_a_budget_is_never_overdrawn_by_threads() -> None:
    budget = Budget(50)
    taken: list[bool] = []
    threads = [threading.Thread(target=lambda: taken.extend(budget.take() for _ in range(20))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(taken) == budget.used == 50
    budget.refund()
    assert (budget.take(), budget.take()) == (True, False)
