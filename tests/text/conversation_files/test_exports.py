"""What single products write: ChatGPT's export, with branches and what nobody sees, and the files of MOSS."""

import json
from pathlib import Path
from typing import Any

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text.conversation_files import read_conversation_set
from codeshell_hf.text.conversation_files.reading import ConversationSet
from codeshell_hf.text.settings import Reading


def read(tmp_path: Path, *rows: dict[str, Any], **reading: Any) -> ConversationSet:
    """An export is one array."""
    (tmp_path / "conversations.json").write_text(json.dumps(rows))
    return read_conversation_set([tmp_path / "conversations.json"], Reading(**reading))


def say(found: ConversationSet) -> list[list[str]]:
    return [[f"{turn['role'][0]}:{turn['content']}" for turn in one.messages] for one in found.conversations]


def node(name: str, parent: str | None, role: str, *parts: Any, **more: Any) -> dict[str, Any]:
    kind = more.pop("kind", "text")
    content = {"content_type": kind, **({"text": parts[0]} if kind == "code" else {"parts": list(parts)})}
    message = {
        "id": name, "author": {"role": role, "name": None, "metadata": {}}, "content": content, "weight": 1.0,
        "status": "finished_successfully", "metadata": {}, "recipient": "all", **more,
    }  # fmt: skip
    return {"id": name, "message": message, "parent": parent, "children": []}


def export(*nodes: dict[str, Any], last: str | None) -> dict[str, Any]:
    root: dict[str, Any] = {"id": "root", "message": None, "parent": None, "children": []}
    mapping = {one["id"]: one for one in (root, *nodes)}
    return {"title": "t", "create_time": 1.5, "mapping": mapping, "current_node": last}


BRANCHES = (
    node("s", "root", "system", "", metadata={"is_visually_hidden_from_conversation": True}),
    node("about", "s", "user", kind="user_editable_context"),
    node("q", "about", "user", "first", "and more"),
    node("bad", "q", "assistant", "worse answer"),
    node("good", "q", "assistant", "kept answer"),
    node("q2", "good", "user", "second"),
    node("a2", "q2", "assistant", "last answer"),
)


def test_the_branch_that_was_shown_last_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, export(*BRANCHES, last="a2"))

    assert say(found) == [["u:first\nand more", "a:kept answer", "u:second", "a:last answer"]]
    assert found.findings.forms == {"chatgpt": 1}
    assert found.findings.changed == {
        "answers of ChatGPT that were asked for again, and are left out": 1,
        "messages of ChatGPT that nobody saw, and are left out": 2,
    }
    assert found.findings.unused == {"title": 1, "create_time": 1}


def test_an_earlier_branch_is_read_if_it_was_shown(tmp_path: Path) -> None:
    assert say(read(tmp_path, export(*BRANCHES, last="bad"))) == [["u:first\nand more", "a:worse answer"]]


def test_thoughts_calls_and_results_are_turns(tmp_path: Path) -> None:
    thoughts = node("t", "q", "assistant")
    thoughts["message"]["content"] = {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "add them"}]}
    result = node("r", "c", "tool")
    result["message"]["content"] = {"content_type": "execution_output", "text": "3"}
    row = export(
        node("q", "root", "user", "1 + 2?"), thoughts,
        node("c", "t", "assistant", "print(1 + 2)", kind="code", recipient="python"),
        result, node("a", "r", "assistant", "It is 3."), last="a",
    )  # fmt: skip

    (turns,) = say(read(tmp_path, row))

    assert turns[0] == "u:1 + 2?"
    assert turns[1] == (
        'a:<think>\nadd them\n</think>\n\n<tool_call>\n{"name": "python", "arguments": "print(1 + 2)"}\n</tool_call>'
    )
    assert turns[2:] == ["u:<tool_response>\n3\n</tool_response>", "a:It is 3."]


def test_images_circles_and_unknown_ends_are_refused_for_their_row(tmp_path: Path) -> None:
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://x"}
    rows = {
        "'image_asset_pointer', which is not text": export(
            node("q", "root", "user", image, "what is it?", kind="multimodal_text"), last="q"
        ),
        "their own parents": export(node("q", "q2", "user", "q"), node("q2", "q", "assistant", "a"), last="q2"),
        "2 last messages and the current_node None; name": export(
            node("q", "root", "user", "q"),
            node("a", "q", "assistant", "a"),
            node("b", "q", "assistant", "b"),
            last=None,
        ),
        "is from 'robot'": export(node("q", "root", "robot", "q"), last="q"),
        "a message whose parent [] is not there": export({**node("q", "root", "user", "q"), "parent": []}, last="q"),
        "2 last messages and the current_node 1; name": export(
            {**node("q", "root", "user", "q"), "parent": {}}, last=1
        ),
        "a message whose parent 'lost' is not there": export(
            node("q", "root", "user", "q"), node("a", "lost", "assistant", "a"), last="a"
        ),
    }

    found = read(tmp_path, *rows.values(), export(*BRANCHES, last="a2"), max_bad_rows=len(rows))

    assert found.findings.bad_rows == len(rows)
    for part, line in zip(rows, found.findings.named, strict=False):
        assert part in line
    assert len(found.conversations) == 1


MOSS = {
    "conversation_id": "1",
    "meta_instruction": "You are MOSS.\n",
    "num_turns": 2,
    "chat": {
        "turn_10": {
            "Human": "<|Human|>: 谢谢<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: None<eot>\n",
            "Commands": "<|Commands|>: None<eoc>\n", "Tool Responses": "<|Results|>: None<eor>\n",
            "MOSS": "<|MOSS|>: 不客气<eom>\n",
        },
        "turn_2": {
            "Human": "<|Human|>: 1+2?<eoh>\n", "Inner Thoughts": "<|Inner Thoughts|>: calculate<eot>\n",
            "Commands": '<|Commands|>: Calculate("1+2"), Search("a \\"b\\"")<eoc>\n',
            "Tool Responses": '<|Results|>: Calculate("1+2") => 3<eor>\n', "MOSS": "<|MOSS|>: 3<eom>\n",
        },
    },
}  # fmt: skip


def test_moss_has_thoughts_commands_and_results_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    found = read(tmp_path, MOSS)

    (turns,) = say(found)
    assert turns[0] == "u:You are MOSS.\n\n\n1+2?"
    assert turns[1].startswith("a:<think>\ncalculate\n</think>\n\n<tool_call>\n")
    assert '{"name": "Calculate", "arguments": "1+2"}' in turns[1]
    assert turns[1].count("<tool_call>") == 2
    assert turns[2:] == [
        'u:<tool_response>\nCalculate("1+2") => 3\n</tool_response>', "a:3", "u:谢谢", "a:不客气"
    ]  # fmt: skip
    assert (found.findings.forms, found.findings.unused) == ({"moss": 1}, {"conversation_id": 1})


def test_older_files_of_moss_are_transcripts(tmp_path: Path) -> None:
    row = {"plain_text": "[Human]: q<eoh> [MOSS]: a<eoa> [Human]: q2<eoh> [MOSS]: a2<eoa>"}

    assert say(read(tmp_path, row)) == [["u:q", "a:a", "u:q2", "a:a2"]]


@pytest.mark.parametrize("name", ["last", "turn_" + "1" * 5000, "turn_\u00b2"])
def test_a_turn_of_moss_without_a_number_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"has a turn .*; number turns, as in turn_1"):
        read(tmp_path, {"chat": {name: {"Human": "q", "MOSS": "a"}}}, max_bad_rows=0)


def test_only_marks_of_moss_are_taken_from_its_texts(tmp_path: Path) -> None:
    parts = {"Human": "[WARN]: disk full", "MOSS": "[MOSS]: <|INFO|>: clean it"}

    assert say(read(tmp_path, {"chat": {"turn_1": parts}})) == [["u:[WARN]: disk full", "a:<|INFO|>: clean it"]]
