"""An OpenAI-compatible server on loopback, which answers by a function of the request's body."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.servers import QuietHandler, serve_on_loopback

Body = dict[str, Any]


@dataclass
class Teacher:
    """What it was asked, and where it is."""

    url: str = ""
    bodies: list[Body] = field(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]


def say(*texts: str, finish_reason: str = "stop", tokens: int | None = 100) -> tuple[int, Body]:
    """A reply with choices."""
    choices = [
        {"index": place, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
        for place, text in enumerate(texts)
    ]
    usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    return 200, {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, **usage}


@contextmanager
def serve_teacher(answer: Callable[[Body], tuple[int, Body]]) -> Iterator[Teacher]:
    """Serves until the block ends; `answer` gives a status and a body."""
    teacher = Teacher()
    lock = threading.Lock()

    class Handler(QuietHandler):
        def answer(self, body: Any) -> None:
            if body is None:  # the list of models
                self.reply(404, b"{}")
                return
            with lock:
                teacher.bodies.append(body)
            status, said = answer(body)
            self.reply(status, json.dumps(said).encode(), {"Content-Type": "application/json"})

    with serve_on_loopback(Handler) as address:
        teacher.url = f"{address}/v1"
        yield teacher
