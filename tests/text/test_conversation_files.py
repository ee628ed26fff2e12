"""Conversations: the ways they are written, and what is refused with its line."""

import json
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.conversation_files import parse_conversation, read_conversations

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "line 1 of x has no messages; write a list of turns"),
        ({"messages": []}, "has no messages"),
        ({"conversations": "hello"}, "has no messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "turn 1 .* has role 'tool'; use user or"),
        ({"messages": [{"role": "system", "content": "a"}]}, "has only a system message"),
        ({"messages": [{"role": "system", "content": ""}, *TURNS]}, "turn 1 .* is empty"),
        ({"messages": [*TURNS, {"role": "system", "content": "a"}]}, "turn 3 .* has role 'system'"),
        ({"messages": TURNS[::-1]}, "turn 1 .* is the assistant's, but turns alternate"),
        ({"messages": [TURNS[0], TURNS[0]]}, "turn 2 .* make it the assistant's"),
        ({"messages": TURNS[:1]}, "ends with the user; end with the assistant's answer"),
        ({"messages": [TURNS[0], {"role": "assistant", "content": " "}]}, "turn 2 .* is empty"),
        ({"messages": [TURNS[0], {"role": "assistant"}]}, "turn 2 .* is empty"),
        ({"conversations": [{"from": "robot", "value": "a"}]}, "is from 'robot'; use one of human, user, gpt"),
        ({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt"}]}, "turn 2 .* is empty"),
        ({"prompt": "a", "completion": ""}, "turn 2 .* is empty"),
        ({"messages": TURNS, "type": "poem"}, "has type 'poem'; use one of chat, copilot"),
        ({"messages": TURNS, "tests": 3}, "line 1 of x has tests 3; write a text, or leave it out"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_line(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_conversation(values, "line 1 of x")


@pytest.mark.parametrize(
    "values",
    [
        {"messages": TURNS},
        {"prompt": "a", "completion": "b"},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "assistant", "value": "b"}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "id": "identity_0"},
    ],
)
def test_three_ways_to_write_a_conversation_are_one(values: dict[str, object]) -> None:
    assert parse_conversation(values, "x") == Conversation(tuple(TURNS))


def test_a_system_text_is_put_before_the_first_question() -> None:
    turns = [{"role": "system", "content": "Be brief."}, *TURNS]

    assert parse_conversation({"messages": turns}, "x").messages[0]["content"] == "Be brief.\n\na"


def test_files_without_conversations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read"):
        list(read_conversations(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"holds no conversation"):
        list(read_conversations(tmp_path / "empty.jsonl"))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"is not UTF-8 text"):
        list(read_conversations(tmp_path / "binary.jsonl"))
    (tmp_path / "third.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n\n{}\n")
    with pytest.raises(DataError, match=r"line 3 of .*third.jsonl has no messages"):
        list(read_conversations(tmp_path / "third.jsonl"))
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(DataError, match=r"line 1 of .*broken.jsonl is not JSON"):
        list(read_conversations(tmp_path / "broken.jsonl"))
    (tmp_path / "list.jsonl").write_text("[]")
    with pytest.raises(DataError, match=r"line 1 of .*list.jsonl is no object"):
        list(read_conversations(tmp_path / "list.jsonl"))
