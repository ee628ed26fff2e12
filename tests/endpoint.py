"""An OpenAI-compatible endpoint on loopback that judges by a rule a test can foresee."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.servers import QuietHandler, serve_on_loopback


@dataclass
class Endpoint:
    """What it is asked and how it answers: it prefers the answer with more x, unless told otherwise."""

    url: str = ""
    requests: int = 0
    failures: int = 0
    favours: str | None = None
    server: "Answers | None" = None

    @property
    def key(self) -> str | None:
        """What it was given to let somebody in."""
        return self.server.key if self.server else None

    @property
    def prompts(self) -> list[str]:
        """What it was asked."""
        return self.server.prompts if self.server else []

    def answer(self, text: str) -> str:
        if self.favours:
            return self.favours
        first, second = re.findall(r"\[Answer [AB]\] <\w+>\n(.*?)\n\n", text, flags=re.DOTALL)
        return "A" if first.count("x") > second.count("x") else "B"


@dataclass
class Answers:
    """What a server was asked, in the order in which it came."""

    url: str = ""
    prompts: list[str] = field(default_factory=list)
    bodies: list[dict] = field(default_factory=list)
    key: str | None = None


class Refusal(Exception):
    """An answer with another status."""

    def __init__(self, status: int) -> None:
        self.status = status


@contextmanager
def serve_answers(answer: Callable[[str], str]) -> Iterator[Answers]:
    """Serves what a function answers until the block ends; where it raises ConnectionError, the server is busy.

    The function gets the first message of each request; `bodies` has all.
    """
    answers = Answers()

    class Handler(QuietHandler):
        def answer(self, body: Any) -> None:
            prompt = body["messages"][0]["content"]
            answers.prompts.append(prompt)
            answers.bodies.append(body)
            answers.key = self.headers["Authorization"]
            try:
                message = {"role": "assistant", "content": answer(prompt)}
            except ConnectionError:
                self.send_error(503)
                return
            except Refusal as refusal:
                self.send_error(refusal.status)
                return
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
            data = json.dumps({**reply, "choices": [{"index": 0, "message": message}]}).encode()
            self.reply(200, data, {"Content-Type": "application/json"})

    with serve_on_loopback(Handler) as address:
        answers.url = f"{address}/v1"
        yield answers


@contextmanager
def serve_judge() -> Iterator[Endpoint]:
    """Serves a judge until the block ends."""
    endpoint = Endpoint()

    def answer(text: str) -> str:
        endpoint.requests += 1
        if endpoint.failures:
            endpoint.failures -= 1
            raise ConnectionError("busy")
        return endpoint.answer(text)

    with serve_answers(answer) as server:
        endpoint.url = server.url
        endpoint.server = server
        yield endpoint
