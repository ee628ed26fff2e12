"""What is made of turns: systems, tools, reasoning and weights are written or counted, and the order is mended."""

import json

import pytest

from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.conversation_files import Findings
from codeshell_hf.text.conversation_files.conversations import build_conversation
from codeshell_hf.text.conversation_files.forms import read_draft
from codeshell_hf.text.settings import Reading

QUESTION, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}
CALL = {"id": "1", "type": "function", "function": {"name": "w", "arguments": '{"c": "Paris"}'}}
TOOLS = [{"type": "function", "function": {"name": "w"}}]


def build(values: dict[str, object], **reading: object) -> tuple[Conversation | None, Findings]:
    findings = Findings()
    asked = Reading(**reading)
    draft = read_draft(values, "x", asked.format, findings)
    return build_conversation(draft, values, "x", asked, findings, needs_answer=True, thread=None), findings


def say(conversation: Conversation | None) -> tuple[str, ...]:
    assert conversation is not None
    return tuple(f"{message['role'][0]}:{message['content']}" for message in conversation.messages)


def test_a_turn_of_weight_zero_carries_no_loss() -> None:
    turns = [QUESTION, {**ANSWER, "weight": 0}, QUESTION, {**ANSWER, "weight": 1}]

    conversation, findings = build({"messages": turns})

    assert conversation is not None
    assert conversation.without_loss == (1,)
    assert findings.changed == {"conversations with answers that carry no loss": 1}


@pytest.mark.parametrize("off", [{"weight": 0.0}, {"train": False}, {"loss": False}, {"weight": None, "train": 0}])
def test_weights_are_written_in_several_ways(off: dict[str, object]) -> None:
    conversation, _ = build({"messages": [QUESTION, {**ANSWER, **off}, QUESTION, ANSWER]})
    assert conversation is not None
    assert conversation.without_loss == (1,)

    nothing, findings = build({"messages": [QUESTION, {**ANSWER, **off}]})
    assert nothing is None
    assert findings.dropped == {"conversations whose weights leave nothing to learn": 1}


def test_an_exchange_without_loss_is_context() -> None:
    parts = [{"input": "q", "output": "r", "output_with_loss": False}, {"input": "q2", "output": "r2"}]

    conversation, _ = build({"conversation": parts})

    assert conversation is not None
    assert conversation.without_loss == (1,)


def test_a_conversation_that_ends_with_the_user_loses_that_turn() -> None:
    conversation, findings = build({"messages": [QUESTION, ANSWER, QUESTION, {"role": "system", "content": "s"}]})

    assert say(conversation) == ("u:q", "a:r")
    assert findings.changed == {"conversations that ended with the user and lost that turn": 1}


@pytest.mark.parametrize(
    ("asked", "expected", "without_loss"),
    [("keep", ("a:hi", "u:q", "a:r"), (0,)), ("cut", ("u:q", "a:r"), ()), ("drop", None, ())],
)
def test_a_conversation_that_the_assistant_begins(
    asked: str, expected: tuple[str, ...] | None, without_loss: tuple[int, ...]
) -> None:
    turns = [{"role": "assistant", "content": "hi"}, QUESTION, ANSWER]

    conversation, findings = build({"messages": turns}, opening_answer=asked)

    assert findings.changed[f"conversations that the assistant begins ({asked})"] == 1
    if expected is None:
        assert conversation is None
        assert findings.dropped == {"conversations that the assistant begins": 1}
    else:
        assert say(conversation) == expected
        assert conversation is not None
        assert conversation.without_loss == without_loss


def test_an_opening_behind_a_system_text_is_an_opening_still() -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "assistant", "content": "hi"}, QUESTION, ANSWER]

    assert say(build({"messages": turns})[0]) == ("u:s", "a:hi", "u:q", "a:r")
    assert say(build({"messages": turns}, opening_answer="cut")[0]) == ("u:s\n\nq", "a:r")
    assert build({"messages": turns}, opening_answer="drop")[0] is None


def test_turns_of_one_speaker_in_a_row_are_joined() -> None:
    conversation, findings = build({"messages": [QUESTION, QUESTION, ANSWER, ANSWER]})

    assert say(conversation) == ("u:q\n\nq", "a:r\n\nr")
    assert findings.changed == {"turns joined with one of the same speaker before them": 2}


def test_answers_of_different_weight_are_not_joined() -> None:
    conversation, _ = build({"messages": [QUESTION, {**ANSWER, "weight": 0}, ANSWER]})

    assert say(conversation) == ("u:q", "a:r", "a:r")
    assert conversation is not None
    assert conversation.without_loss == (1,)


@pytest.mark.parametrize("empty", ["", " \n", None])
def test_a_conversation_with_an_empty_turn_is_dropped(empty: str | None) -> None:
    for turns in ([QUESTION, {**ANSWER, "content": empty}], [{**QUESTION, "content": empty}, ANSWER]):
        conversation, findings = build({"messages": turns})
        assert conversation is None
        assert findings.dropped == {"conversations with an empty turn": 1}


def test_an_empty_system_text_is_none() -> None:
    assert say(build({"messages": [{"role": "system", "content": ""}, QUESTION, ANSWER]})[0]) == ("u:q", "a:r")


def test_a_row_that_is_labelled_bad_is_not_learned() -> None:
    conversation, findings = build({"prompt": "q", "completion": "r", "label": False})

    assert conversation is None
    assert findings.dropped == {"rows whose label calls the answer bad": 1}


TOOL_FORMS = {
    "openai": {"tools": TOOLS, "messages": [
        QUESTION, {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": "18C"}, ANSWER]},
    "openai of before": {"functions": TOOLS, "messages": [
        QUESTION, {"role": "assistant", "function_call": CALL["function"]},
        {"role": "function", "name": "w", "content": "18C"}, ANSWER]},
    "sharegpt": {"tools": json.dumps(TOOLS), "conversations": [
        {"from": "human", "value": "q"},
        {"from": "function_call", "value": '{"name": "w", "arguments": {"c": "Paris"}}'},
        {"from": "observation", "value": "18C"}, {"from": "gpt", "value": "r"}]},
    "parts": {"tools": TOOLS, "messages": [
        QUESTION, {"role": "assistant", "content": [{"type": "tool_use", "name": "w", "input": {"c": "Paris"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "18C"}]}, ANSWER]},
}  # fmt: skip


@pytest.mark.parametrize("values", TOOL_FORMS.values(), ids=TOOL_FORMS)
def test_tools_calls_and_results_are_written_into_the_turns(values: dict[str, object]) -> None:
    conversation, findings = build(values)

    said = say(conversation)
    assert said[0].startswith("u:You may call tools.")
    assert said[0].endswith("</tool_call>\n\nq")
    assert f"<tools>\n{json.dumps(TOOLS[0])}\n</tools>" in said[0]
    assert said[1:] == (
        'a:<tool_call>\n{"name": "w", "arguments": {"c": "Paris"}}\n</tool_call>',
        "u:<tool_response>\n18C\n</tool_response>",
        "a:r",
    )
    assert findings.changed == {"conversations with tools written into their turns": 1}
    dropped, findings = build(values, tools="drop")
    assert dropped is None
    assert findings.dropped == {"conversations with tools": 1}


def test_calls_follow_what_is_said_and_several_are_several() -> None:
    said = build({"messages": [QUESTION, {**ANSWER, "tool_calls": [CALL, {"name": "v", "arguments": "x"}]}]})[0]

    assert say(said)[1] == (
        'a:r\n<tool_call>\n{"name": "w", "arguments": {"c": "Paris"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "v", "arguments": "x"}\n</tool_call>'
    )


REASONING_FORMS = {
    "harmony": {"messages": [QUESTION, {"role": "assistant", "channel": "analysis", "content": "t"},
                             {**ANSWER, "channel": "final"}]},
    "deepseek": {"messages": [QUESTION, {**ANSWER, "reasoning_content": "t"}]},
    "other name": {"messages": [QUESTION, {**ANSWER, "thinking": "t"}]},
    "part": {"messages": [QUESTION, {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"},
                                                                      {"type": "text", "text": "r"}]}]},
    "field of a row": {"input": "q", "reasoning_content": "t", "content": "r"},
}  # fmt: skip


@pytest.mark.parametrize("values", REASONING_FORMS.values(), ids=REASONING_FORMS)
def test_reasoning_is_written_before_the_answer_or_dropped_and_counted(values: dict[str, object]) -> None:
    conversation, findings = build(values)
    assert say(conversation) == ("u:q", "a:<think>\nt\n</think>\n\nr")
    assert findings.changed == {"answers with reasoning, which was written": 1}

    conversation, findings = build(values, reasoning="drop")
    assert say(conversation) == ("u:q", "a:r")
    assert findings.changed == {"answers with reasoning, which was dropped": 1}
    assert not findings.unused


def test_the_original_format_is_a_kind_of_its_own() -> None:
    row = {"conversations": [{"from": "human", "value": "q"}, {"from": "assistant", "value": "r"}]}

    assert [one.kind for one in (build(row)[0], build(row, format="codeshell-original")[0]) if one] == [
        "chat", "original"
    ]  # fmt: skip


def test_what_is_marked_already_is_not_marked_again() -> None:
    turns = [QUESTION, {**ANSWER, "content": "<think>t</think>r", "reasoning_content": "t"},
             {"role": "tool", "content": "<tool_response>\n1\n</tool_response>"}, ANSWER]  # fmt: skip

    assert say(build({"messages": turns})[0])[1:3] == (
        "a:<think>t</think>r", "u:<tool_response>\n1\n</tool_response>"
    )  # fmt: skip
