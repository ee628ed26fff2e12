"""The client of OpenAI-compatible servers, against a server on loopback that fails as servers do."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from codeshell_hf.text.client import Budget, Client, PromptTooLong, RequestRefused, ServerUnavailable

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
    server = Server()
    waiting = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            server.times.append(time.monotonic())
            server.keys.append(self.headers["Authorization"])
            status, headers, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        server.url = f"http://127.0.0.1:{http.server_port}/v1"
        yield server
        http.shutdown()


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    with serve((429, {"Retry-After": "1.5"}, {}), (200, {}, GOOD)) as server:
        [reply] = Client(server.url, "m", "key").chat(TURNS, max_tokens=4)

    assert (reply.text, reply.finish_reason) == ("hello", "stop")
    assert server.times[1] - server.times[0] >= 1.4
    assert server.keys == ["Bearer key"] * 2


def test_the_hubs_own_token_goes_to_no_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-of-the-hub")

    with serve((200, {}, GOOD)) as server:
        Client(server.url, "m").chat(TURNS, max_tokens=4)

    assert server.keys == ["Bearer none"]


def test_a_request_says_all_that_was_asked() -> None:
    with serve((200, {"Content-Type": "text/plain"}, {"choices": [{"text": "b", "finish_reason": None}]})) as server:
        [reply] = Client(server.url, "m").complete(
            "a", max_tokens=4, samples=2, temperature=0.5, top_p=0.9, seed=7, stops=("\n",)
        )

    assert (reply.text, reply.finish_reason) == ("b", None)
    assert server.bodies[0] == {
        "model": "m", "prompt": "a", "max_tokens": 4, "n": 2, "temperature": 0.5, "top_p": 0.9, "seed": 7,
        "stop": ["\n"],
    }  # fmt: skip


def test_refusals_are_not_repeated_and_are_told_apart() -> None:
    for status, message, kind in (
        (400, "maximum context length is 10", PromptTooLong),
        (401, "bad key", RequestRefused),
        (404, "no such model", RequestRefused),
    ):
        with serve((status, {}, {"error": message})) as server, pytest.raises(kind, match=message):
            Client(server.url, "m").chat(TURNS, max_tokens=4)
        assert len(server.bodies) == 1


@pytest.mark.parametrize("body", [b"<html>", {}, {"choices": []}, {"choices": [{"message": None}]}, ["x"]])
def test_a_reply_that_cannot_be_read_is_named(body: object) -> None:
    with (
        serve((200, {"Content-Type": "application/json"}, body)) as server,
        pytest.raises(ServerUnavailable, match="did not answer"),
    ):
        Client(server.url, "m", tries=1).chat(TURNS, max_tokens=4)


def test_a_server_that_keeps_failing_is_given_up_after_all_tries() -> None:
    with (
        serve((503, {"Retry-After": "0.01"}, {"error": "busy"})) as server,
        pytest.raises(ServerUnavailable, match=r"after 3 tries \(503 .*busy"),
    ):
        Client(server.url, "m", tries=3).chat(TURNS, max_tokens=4)
    assert len(server.bodies) == 3


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
