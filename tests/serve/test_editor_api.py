"""The interfaces of editors: what CodeShell's own plug-ins and llama.vscode send, and how they read the answers.

The requests are those of the sources of codeshell-vscode, codeshell-intellij and llama.vscode; the readers here do what
those sources do with an answer.
"""

import json
import re
from typing import Any

import pytest
from starlette.testclient import TestClient

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from tests.serve.conftest import FRAMED, MIDDLE, post, read_events

END_OF_TEXT = "<|endoftext|>"
STOPS = [END_OF_TEXT, "|<end>|", "|<end", "|end|", "## human"]
PARTS = {"input_prefix": "def area(r):\n    return ", "input_suffix": "\n"}
TURN = "## human:add|<end>|## assistant:"


def read_infill_in_vscode(data: str) -> str:
    content = ""
    for block in data.split("\n\n"):
        if block.startswith("data:"):
            content += json.loads(block[5:])["content"]
    return content.replace(END_OF_TEXT, "")


def read_infill_in_intellij(data: str) -> str:
    content = ""
    for line in re.findall(r"data:\s?(.*?)\n", data):
        piece = json.loads(line)["content"]
        if piece not in (END_OF_TEXT, ""):
            content += piece
    return content.replace(END_OF_TEXT, "")


def read_stream_in_vscode(data: str) -> str:
    text = ""
    for event in read_events(data):
        text += event.get("content") or ""
        if event.get("token"):
            text += event["token"]["text"]
    for stop in ("|end|", "|<end>|", END_OF_TEXT):
        text = text.replace(stop, "")
    return text


def test_vscode_with_llama_cpp_completes(client: TestClient) -> None:
    body = {**PARTS, "n_predict": 128, "temperature": 0.2, "repetition_penalty": 1.0, "top_k": 10, "top_p": 0.95}
    answer = client.post("/infill", json={**body, "stop": STOPS})

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert read_infill_in_vscode(answer.text) == MIDDLE


def test_intellij_with_llama_cpp_completes(client: TestClient) -> None:
    body = {**PARTS, "n_predict": 64, "temperature": 0.2, "repetition_penalty": 1.0, "top_k": 10, "top_p": 0.95}

    assert read_infill_in_intellij(client.post("/infill", json=body).text) == MIDDLE


def test_both_with_tgi_complete(client: TestClient) -> None:
    vscode = {
        "max_new_tokens": 128,
        "temperature": 0.2,
        "repetition_penalty": 1.01,
        "top_p": 0.99,
        "do_sample": True,
        "stop": STOPS,
    }
    for parameters in (vscode, {"max_new_tokens": 64}):
        assert post(client, "/generate", inputs=FRAMED, parameters=parameters) == {"generated_text": MIDDLE}


def test_vscode_chats_with_either(client: TestClient) -> None:
    llama = {"n_predict": 1024, "temperature": 0.01, "repetition_penalty": 1.01, "top_k": 40, "top_p": 0.95}
    tgi = {"max_new_tokens": 1024, "temperature": 0.01, "repetition_penalty": 1.01, "top_p": 0.95, "do_sample": True}

    by_llama = client.post("/completion", json={**llama, "prompt": "|<end>|" + TURN, "stream": True, "stop": STOPS})
    by_tgi = client.post("/generate_stream", json={"inputs": TURN, "parameters": {**tgi, "stop": STOPS}})

    assert read_stream_in_vscode(by_tgi.text) == " return a + b"
    assert read_stream_in_vscode(by_llama.text).strip() == "return a + b"
    assert [event["stop"] for event in read_events(by_llama.text)][-2:] == [False, True]
    last = read_events(by_tgi.text)[-1]
    assert last["generated_text"] == " return a + b"
    assert last["details"]["finish_reason"] == "stop_sequence"


def test_intellij_chats_from_its_page(client: TestClient) -> None:
    """Its page lies at http://codeshell, so that a browser asks first whether it may."""
    page = {"Origin": "http://codeshell"}
    asks = {**page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    body = {"frequency_penalty": 1.2, "n_predict": 40, "prompt": f"|<end>|{TURN}", "temperature": 0.2, "stream": True,
            "stop": ["|<end>|"]}  # fmt: skip

    allowed = client.options("/completion", headers=asks)
    answer = client.post("/completion", json=body, headers=page)

    assert allowed.status_code == 200
    for each in (allowed, answer):
        assert each.headers["access-control-allow-origin"] == "http://codeshell"
    assert "return" in read_stream_in_vscode(answer.text)


def test_llama_vscode_completes_and_warms_up(client: TestClient) -> None:
    usual = {
        "top_k": 40,
        "top_p": 0.99,
        "stream": False,
        "samplers": ["top_k", "top_p", "infill"],
        "cache_prompt": True,
    }
    split = {**PARTS, "input_prefix": "def area(r):\n", "prompt": "    return "}
    asked = {**split, "input_extra": [], "n_predict": 128, **usual, "t_max_prompt_ms": 500, "t_max_predict_ms": 1000}
    warm = {"input_prefix": "", "input_suffix": "", "prompt": "", "input_extra": [{"text": "x", "filename": "a.py"}],
            "n_predict": 0, "samplers": [], "cache_prompt": True}  # fmt: skip

    answer = post(client, "/infill", **asked, temperature=0)

    assert answer["content"] == MIDDLE, "the line up to the cursor is a part of the prefix"
    assert (answer["stop"], answer["stop_type"]) == (True, "eos")
    assert post(client, "/infill", **warm)["content"] == ""


def test_infill_answers_json_unless_events_are_asked_for(client: TestClient) -> None:
    """As llama.cpp does; only the plug-in of the original sends `repetition_penalty`, and reads events."""
    for extra, is_stream in (
        ({}, False),
        ({"stream": True}, True),
        ({"repetition_penalty": 1.2}, True),
        ({"repeat_penalty": 1.2}, False),
        ({"stream": False, "repetition_penalty": 1.2}, False),
    ):
        answer = client.post("/infill", json={**PARTS, **extra, "temperature": 0})
        assert answer.headers["content-type"].startswith("text/event-stream" if is_stream else "application/json")


def test_special_tokens_in_parts_of_an_infill_are_text(
    client: TestClient, taught: tuple[CodeShellForCausalLM, CodeShellTokenizer]
) -> None:
    _, tokenizer = taught

    answer = post(client, "/infill", input_prefix="<fim_middle>", input_suffix=END_OF_TEXT, n_predict=1)

    expected = 3 + len(tokenizer.encode_text("<fim_middle>")) + len(tokenizer.encode_text(END_OF_TEXT))
    assert answer["tokens_evaluated"] == expected


def test_long_parts_are_cut_at_their_outer_ends(client: TestClient) -> None:
    long = {"input_prefix": "# x\n" * 500 + PARTS["input_prefix"], "input_suffix": "\n" + "y = 1\n" * 500}

    answer = post(client, "/infill", **long, n_predict=8)

    assert answer["tokens_evaluated"] == 160 - 8
    assert answer["tokens_predicted"] <= 8


@pytest.mark.parametrize(
    ("extra", "kind", "word"),
    [
        ({"n_predict": 2}, "limit", ""),
        ({"stop": [" r"]}, "word", " r"),
        ({}, "eos", ""),
    ],
)
def test_llama_cpp_says_why_it_stopped(extra: dict[str, Any], kind: str, word: str, client: TestClient) -> None:
    answer = post(client, "/completion", prompt=FRAMED, temperature=0, **extra)

    assert (answer["stop_type"], answer["stopping_word"]) == (kind, word)
    assert word == "" or word not in answer["content"]
    turn = post(client, "/completion", prompt=TURN, temperature=0)
    assert (turn["stop_type"], turn["stopping_word"], turn["content"]) == ("eos", "", " return a + b")


def test_a_stream_of_tgi_has_each_token_once_and_an_end_that_clients_skip(client: TestClient) -> None:
    """Read as huggingface_hub's client does: texts of tokens that are not special, and the whole in the last event."""
    whole = post(client, "/generate", inputs=FRAMED, parameters={"details": True, "max_new_tokens": 3})
    streamed = client.post("/generate_stream", json={"inputs": FRAMED, "parameters": {"max_new_tokens": 3}})

    events = read_events(streamed.text)
    tokens = [event["token"] for event in events if not event["token"]["special"]]
    assert [token["id"] for token in tokens] == [token["id"] for token in whole["details"]["tokens"]]
    assert "".join(token["text"] for token in tokens) == whole["generated_text"]
    assert events[-1]["generated_text"] == whole["generated_text"]
    assert [event["generated_text"] for event in events[:-1]] == [None] * (len(events) - 1)


def test_details_of_tgi_and_its_cut(
    client: TestClient, taught: tuple[CodeShellForCausalLM, CodeShellTokenizer]
) -> None:
    _, tokenizer = taught
    parameters = {"details": True, "max_new_tokens": 3, "return_full_text": True}

    answer = post(client, "/generate", inputs=FRAMED, parameters=parameters)
    cut = "x = 1\n" * 400 + FRAMED
    length = len(tokenizer.encode_infilling("def area(r):\n    return ", "\n"))
    short = post(client, "/generate", inputs=cut, parameters={"truncate": length, "max_new_tokens": 40})

    assert answer["generated_text"] == FRAMED + "3.1"
    assert answer["details"]["finish_reason"] == "length"
    assert [token["text"] for token in answer["details"]["tokens"]] == ["3", ".", "1"]
    assert short["generated_text"] == MIDDLE
    assert client.get("/info").json()["max_total_tokens"] == 160
    assert client.get("/props").json()["default_generation_settings"]["n_ctx"] == 160
