"""Requests of editors and front ends: llama.vscode's, Zed's and Continue's completion as their sources write them.

Those of Aider 0.86.2 and of Continue's command line (cn 1.5.47) were recorded between them and `codeshell serve`, and
their texts shortened here. Those of Open WebUI and of Continue in an editor are written after how these clients behave.
"""

import json
from typing import Any

from starlette.testclient import TestClient

from tests.serve.conftest import FRAMED, MIDDLE, post, read_events

CHAT = "/v1/chat/completions"
SYSTEM = {"role": "system", "content": "You are an expert coder."}
QUESTION = {"role": "user", "content": "add"}


def read_deltas(client: TestClient, body: dict[str, Any], path: str = CHAT) -> str:
    """The text of a streamed chat, as all of them join it; an event without choices has the usage."""
    events = read_events(client.post(path, json=body, headers={"Authorization": "Bearer undefined"}).text)
    assert events[-1] == "[DONE]"
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events[:-1] if event.get("choices"))


def test_continue_completes_by_llama_cpp_and_chats_by_openai(client: TestClient) -> None:
    completion = {
        "n_predict": 128, "frequency_penalty": None, "presence_penalty": None, "min_p": None, "mirostat": None,
        "stop": ["<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>", "\n\n"], "top_k": None, "top_p": None,
        "temperature": 0.01, "prompt": FRAMED, "stream": True,
    }  # fmt: skip
    chat = {"messages": [{"role": "user", "content": [{"type": "text", "text": "add"}]}], "model": "codeshell",
            "max_tokens": 64, "temperature": 0, "stream": True, "stop": None, "top_p": None}  # fmt: skip

    events = read_events(
        client.post("/completion", json=completion, headers={"Authorization": "Bearer undefined"}).text
    )

    assert "".join(event["content"] for event in events) == MIDDLE
    assert read_deltas(client, chat) == "return a + b"
    legacy = {
        "prompt": FRAMED,
        "model": "codeshell",
        "max_tokens": 64,
        "temperature": 0,
        "stream": True,
        "stop": ["\n"],
    }
    lines = read_events(client.post("/v1/completions", json=legacy).text)[:-1]
    assert "".join(line["choices"][0]["text"] for line in lines) == "3.14 * r"


def test_llama_vscode_chats_and_edits(client: TestClient) -> None:
    edit = {
        "messages": [SYSTEM, QUESTION], "stream": False, "cache_prompt": True, "samplers": "edkypmxt",
        "temperature": 0.8, "dynatemp_range": 0, "dynatemp_exponent": 1, "top_k": 40, "top_p": 0.95, "min_p": 0.05,
        "typical_p": 1, "xtc_probability": 0, "xtc_threshold": 0.1, "repeat_last_n": 64, "repeat_penalty": 1,
        "presence_penalty": 0, "frequency_penalty": 0, "dry_multiplier": 0, "dry_base": 1.75, "dry_allowed_length": 2,
        "dry_penalty_last_n": -1, "max_tokens": -1, "timings_per_token": False,
    }  # fmt: skip

    assert isinstance(post(client, CHAT, **edit)["choices"][0]["message"]["content"], str)
    warm = {"messages": [SYSTEM, QUESTION], "n_predict": 0, "samplers": [], "cache_prompt": True}
    assert post(client, CHAT, **warm)["choices"][0]["message"]["content"] == ""


def test_open_webui_lists_chats_and_counts(client: TestClient) -> None:
    (model,) = client.get("/v1/models").json()["data"]
    body = {
        "stream": True, "model": model["id"], "messages": [QUESTION], "temperature": 0, "features": {},
        "stream_options": {"include_usage": True}, "metadata": {"chat_id": "x"}, "logit_bias": {}, "user": "a@b.c",
    }  # fmt: skip

    assert read_deltas(client, body) == "return a + b"
    title = {"model": model["id"], "messages": [QUESTION], "stream": False, "max_completion_tokens": 1000}
    assert post(client, CHAT, **title)["choices"][0]["message"]["role"] == "assistant"


def test_zed_chats_without_tools_and_is_told_why_with_them(client: TestClient) -> None:
    body = {
        "model": "codeshell", "messages": [{"role": "user", "content": "add"}], "stream": True, "temperature": 0.0,
        "stream_options": {"include_usage": True}, "max_completion_tokens": 100, "stop": [],
    }  # fmt: skip
    tool = {"type": "function", "function": {"name": "grep", "description": "", "parameters": {}}}

    assert read_deltas(client, body) == "return a + b"
    refused = client.post(CHAT, json=body | {"tools": [tool], "tool_choice": "auto"})
    assert refused.status_code == 400
    assert json.loads(refused.text)["error"]["param"] == "tools"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "dd"}]
    assert read_deltas(client, body | {"messages": [{"role": "user", "content": parts}]}) == "return a + b"


def test_continue_in_a_terminal_chats_and_is_told_why_not_with_tools(client: TestClient) -> None:
    """As `cn -p` asks, with `--exclude "*"`, which leaves the list of tools empty, and without."""
    body = {
        "model": "codeshell",
        "messages": [{"role": "system", "content": "You are an agent in the Continue CLI."}, QUESTION],
        "stream": True, "tools": [], "stream_options": {"include_usage": True},
    }  # fmt: skip
    tool = {"type": "function", "function": {"name": "Read", "description": "", "parameters": {"type": "object"}}}

    assert read_deltas(client, {**body, "messages": [QUESTION], "temperature": 0}) == "return a + b"
    events = read_events(client.post(CHAT, json=body).text)
    assert events[-2]["usage"]["prompt_tokens"] > 0
    refused = client.post(CHAT, json={**body, "tools": [tool]})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")
    assert "turn them off in the client" in refused.json()["error"]["message"], "what cn prints"


def test_aider_chats_with_examples_and_turns_of_its_own(client: TestClient) -> None:
    turns = [
        {"role": "user", "content": "I am not sharing the full contents of any files with you yet."},
        {"role": "assistant", "content": "Ok."},
        QUESTION,
    ]
    body = {"model": "codeshell", "messages": [SYSTEM, *turns], "stream": True, "temperature": 0}

    assert read_deltas(client, body | {"messages": [QUESTION]}) == "return a + b"
    events = read_events(client.post(CHAT, json=body).text)
    assert events[-1] == "[DONE]"
    assert events[-2]["choices"][0]["finish_reason"] in ("stop", "length")
