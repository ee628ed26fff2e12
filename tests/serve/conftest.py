"""A server in process, over a model that knows two answers and one middle by heart."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.serve.app import make_app
from codeshell_hf.serve.service import Service
from codeshell_hf.serve.settings import ServeSettings

Values = dict[str, Any]
ADD = [{"role": "user", "content": "add"}]
FRAMED = "<fim_prefix>def area(r):\n    return <fim_suffix>\n<fim_middle>"
MIDDLE = "3.14 * r\n    # end"


@pytest.fixture(scope="session")
def taught(learnt_by_heart: Path) -> tuple[CodeShellForCausalLM, CodeShellTokenizer]:
    """For fixtures that outlive a test; nothing may change it."""
    model = CodeShellForCausalLM.from_pretrained(learnt_by_heart).eval()
    return model, CodeShellTokenizer.from_pretrained(learnt_by_heart)


@pytest.fixture
def make_client(
    taught: tuple[CodeShellForCausalLM, CodeShellTokenizer],
) -> Iterator[Callable[..., TestClient]]:
    """Makes clients of servers with settings of their own."""
    clients: list[TestClient] = []

    def make(**settings: object) -> TestClient:
        app = make_app(Service(*taught, "heart", ServeSettings(**settings)))
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    return make_client()


def post(client: TestClient, path: str, **body: object) -> Values:
    """The JSON of an answer that must be good."""
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    read: Values = answer.json()
    return read


def read_events(text: str) -> list[Any]:
    """The events of a stream, as a plain reader of server-sent events has them; `[DONE]` as text."""
    events = []
    for block in text.split("\n\n"):
        if block:
            assert block.startswith("data: ")
            assert "\n" not in block
            data = block.removeprefix("data: ")
            events.append(data if data == "[DONE]" else json.loads(data))
    return events
