"""An OpenAI-compatible endpoint on loopback that judges by a rule a test can foresee."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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
    key: str | None = None


@contextmanager
def serve_answers(answer: Callable[[str], str]) -> Iterator[Answers]:
    """Serves what a function answers until the block ends; where it raises ConnectionError, the server is busy."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prompt = body["messages"][0]["content"]
            answers.prompts.append(prompt)
            answers.key = self.headers["Authorization"]
            try:
                message = {"role": "assistant", "content": answer(prompt)}
            except ConnectionError:
                self.send_error(503)
                return
            reply = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
            data = json.dumps({**reply, "choices": [{"index": 0, "message": message}]}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        answers.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield answers
        server.shutdown()
        thread.join()


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
