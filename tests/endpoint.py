"""An OpenAI-compatible endpoint on loopback that judges by a rule a test can foresee."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Endpoint:
    """What it is asked and how it answers: it prefers the answer with more x, unless told otherwise."""

    url: str = ""
    requests: int = 0
    failures: int = 0
    favours: str | None = None
    key: str | None = None

    def answer(self, text: str) -> str:
        first, second = re.findall(r"\[Answer [AB]\]\n(.*?)\n\n", text, flags=re.DOTALL)
        return self.favours or ("A" if first.count("x") > second.count("x") else "B")


@contextmanager
def serve_judge() -> Iterator[Endpoint]:
    """Serves until the block ends."""
    endpoint = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint.requests += 1
            endpoint.key = self.headers["Authorization"]
            if endpoint.failures:
                endpoint.failures -= 1
                self.send_error(503)
                return
            message = {"role": "assistant", "content": endpoint.answer(body["messages"][0]["content"])}
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
        endpoint.url = f"http://127.0.0.1:{server.server_port}/v1"
        yield endpoint
        server.shutdown()
        thread.join()
