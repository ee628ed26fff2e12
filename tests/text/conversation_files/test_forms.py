"""Rows in the forms that people have: each is read into the turns that a reader of the row would name."""

from typing import get_args

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.conversation_files import Findings, parse_conversation
from codeshell_hf.text.conversation_files.forms import FORMS, choose_form, read_draft
from codeshell_hf.text.settings import FormatName, Reading

ONE = ("u:q", "a:r")
TWO = ("u:q", "a:r", "u:q2", "a:r2")


def say(conversation: Conversation) -> tuple[str, ...]:
    """Turns as "u:text" and "a:text"."""
    return tuple(f"{message['role'][0]}:{message['content']}" for message in conversation.messages)


def read(values: object, **reading: object) -> Conversation:
    assert isinstance(values, dict)
    return parse_conversation(values, "line 1 of x", Reading(**reading))


FORMS_OF_ONE_TURN = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]},
    "messages as text": {"messages": '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}]'},
    "roles in capitals": {"messages": [{"role": "User", "content": "q"}, {"role": "Assistant", "content": "r"}]},
    "parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "r"}]},
        ]
    },
    "conversation of messages": {"conversation": [{"role": "user", "content": "q"}, {"role": "bot", "content": "r"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}]},
    "sharegpt with texts": {"conversations": [{"from": "user", "text": "q"}, {"from": "bing", "text": "r"}]},
    "sharegpt with null": {"conversations": [{"from": "user", "value": "q"}, {"from": "gpt", "value": "r"}], "x": None},
    "sharegpt with roles": {"conversations": [{"role": "user", "value": "q"}, {"role": "assistant", "value": "r"}]},
    "vertex": {"contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "r"}]}]},
    "speakers": {"dialogue": [{"speaker": "Human", "text": "q"}, {"speaker": "AI", "text": "r"}]},
    "alpaca": {"instruction": "q", "input": "", "output": "r"},
    "alpaca with nan": {"instruction": "q", "input": float("nan"), "output": "r"},
    "alpaca of llama-factory": {"instruction": "q", "input": None, "output": "r", "system": "", "history": []},
    "dolly": {"instruction": "q", "context": "", "response": "r", "category": "x"},
    "magicoder": {"problem": "q", "solution": "r", "lang": "python"},
    "gsm8k": {"question": "q", "answer": "r"},
    "query": {"query": "q", "response": "r", "history": []},
    "input and output": {"input": "q", "output": "r"},
    "prompt and response": {"prompt": "q", "response": "r"},
    "prompt and completion of turns": {
        "prompt": [{"role": "user", "content": "q"}],
        "completion": [{"role": "assistant", "content": "r"}],
    },
    "one turn in an object": {
        "prompt": {"role": "user", "content": "q"},
        "completion": {"role": "assistant", "content": "r"},
    },
    "numina": {"problem": "q", "solution": "r", "answer": "4"},
    "kto": {"prompt": "q", "completion": "r", "label": True},
    "xtuner": {"conversation": [{"input": "q", "output": "r"}]},
    "human and assistant": {"conversation": [{"human": "q", "assistant": "r"}]},
    "chatml": {"text": "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\nr<|im_end|>\n"},
    "llama-2": {"text": "<s>[INST] q [/INST] r </s>"},
    "llama-3": {
        "text": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nq<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nr<|eot_id|>"
    },
    "gemma": {"text": "<bos><start_of_turn>user\nq<end_of_turn>\n<start_of_turn>model\nr<end_of_turn>\n"},
    "zephyr": {"text": "<|user|>\nq</s>\n<|assistant|>\nr</s>\n"},
    "guanaco": {"text": "### Human: q### Assistant: r".replace("q###", "q\n### ").replace("  ", " ")},
    "alpaca as text": {"text": "### Instruction:\nq\n\n### Response:\nr"},
    "hh as text": {"text": "\n\nHuman: q\n\nAssistant: r"},
    "vicuna": {"text": "USER: q ASSISTANT: r</s>"},
    "deepseek": {"text": "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜>r<｜end▁of▁sentence｜>"},
    "codeshell as text": {"text": "## human: q|<end>|## assistant: r|<end>|"},
    "guanaco without lines": {"text": "### Human: q### Assistant: r"},
    "flan": {"inputs": "q", "targets": "r"},
    "columns of turns": {"messages": {"role": ["user", "assistant"], "content": ["q", "r"]}},
    "a text in an object": {"messages": [{"role": "user", "content": {"text": "q"}}, {"role": "bot", "content": "r"}]},
    "an empty turn at the end": {"conversations": [
        {"from": "user", "value": "q"}, {"from": "assistant", "value": "r"}, {"from": "user", "value": ""}]},
    "plain speakers": {"conversation": "User: q\nAssistant: r"},
}  # fmt: skip


@pytest.mark.parametrize("values", FORMS_OF_ONE_TURN.values(), ids=FORMS_OF_ONE_TURN)
def test_one_question_and_its_answer_are_found_in_every_form(values: object) -> None:
    assert say(read(values)) == ONE


FORMS_OF_TWO_TURNS = {
    "ultrachat": {"id": "0", "data": ["q", "r", "q2", "r2"]},
    "pairs": {"conversation": [["q", "r"], ["q2", "r2"]]},
    "xtuner": {"conversation": [{"system": "", "input": "q", "output": "r"}, {"input": "q2", "output": "r2"}]},
    "history": {"instruction": "q2", "input": "", "output": "r2", "history": [["q", "r"]]},
    "history of exchanges": {"query": "q2", "response": "r2", "history": [{"user": "q", "assistant": "r"}]},
    "history of turns": {
        "query": "q2",
        "response": "r2",
        "history": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r"}],
    },
    "a prompt with turns": {"prompt": "\n\nHuman: q\n\nAssistant: r\n\nHuman: q2\n\nAssistant:", "completion": "r2"},
    "llama-2": {"text": "<s>[INST] q [/INST] r </s><s>[INST] q2 [/INST] r2 </s>"},
}


@pytest.mark.parametrize("values", FORMS_OF_TWO_TURNS.values(), ids=FORMS_OF_TWO_TURNS)
def test_earlier_turns_are_kept_in_their_order(values: object) -> None:
    assert say(read(values)) == TWO


SYSTEMS = {
    "a definition": {"definition": "s", "inputs": "q", "targets": "r"},
    "a turn": {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                            {"role": "assistant", "content": "r"}]},
    "a developer": {"messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": "q"},
                                 {"role": "assistant", "content": "r"}]},
    "a field": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "r"}], "system": "s"},
    "both alike": {"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"},
                                {"role": "assistant", "content": "r"}], "system": "s"},
    "of an alpaca row": {"instruction": "q", "output": "r", "system": "s"},
    "openorca": {"system_prompt": "s", "question": "q", "response": "r"},
    "vertex": {"systemInstruction": {"parts": [{"text": "s"}]},
               "contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "r"}]}]},
    "xtuner": {"conversation": [{"system": "s", "input": "q", "output": "r"}]},
    "llama-2": {"text": "[INST] <<SYS>>\ns\n<</SYS>>\n\nq [/INST] r"},
    "before a transcript": {"text": "s USER: q ASSISTANT: r"},
}  # fmt: skip


@pytest.mark.parametrize("values", SYSTEMS.values(), ids=SYSTEMS)
def test_a_system_text_stands_before_the_question_wherever_it_was(values: object) -> None:
    assert say(read(values)) == ("u:s\n\nq", "a:r")


def test_an_input_follows_its_instruction() -> None:
    assert say(read({"instruction": "q", "input": "x", "output": "r"})) == ("u:q\n\nx", "a:r")
    assert say(read({"question": "q", "context": "x", "answer": "r"})) == ("u:q\n\nx", "a:r")


def test_numbers_are_answers_and_truth_values_are_none() -> None:
    assert say(read({"question": "q", "answer": 42})) == ("u:q", "a:42")
    with pytest.raises(DataError, match="has answer True; write a text"):
        read({"question": "q", "answer": True})
    with pytest.raises(DataError, match="has answer inf; write a text"):
        read({"question": "q", "answer": float("inf")})


def test_a_commit_asks_for_the_change_that_its_message_names() -> None:
    row = {"commit": "c", "message": "Add b", "old_contents": "a\n", "new_contents": "a\nb\n", "lang": "Python"}

    assert say(read(row)) == ("u:Add b\n\n```python\na\n```", "a:```python\na\nb\n```")
    assert say(read({**row, "old_contents": ""})) == ("u:Add b", "a:```python\na\nb\n```")
    assert say(read({**row, "new_contents": "```\nx\n```"}))[1] == "a:````python\n```\nx\n```\n````"


def test_code_in_brackets_is_a_text_and_no_list_of_turns() -> None:
    assert say(read({"prompt": "q", "completion": '[{"a": 1}]'})) == ("u:q", 'a:[{"a": 1}]')
    assert say(read({"prompt": "[{broken", "completion": "r"})) == ("u:[{broken", "a:r")


def test_fields_that_nothing_uses_are_counted_by_name() -> None:
    findings = Findings()
    row = {
        "messages": [{"role": "user", "content": "q", "name": "n"}, {"role": "assistant", "content": "r", "weight": 1}],
        "source": "s", "empty": None, "nothing": float("nan"), "language": "en", "tools": [],
    }  # fmt: skip

    read_draft(row, "x", "auto", findings)

    assert findings.unused == {"turns: name": 1, "source": 1}
    assert findings.forms == {"messages": 1}


REFUSED = {
    "a pair": ({"prompt": "q", "chosen": "r", "rejected": "b"}, "is a pair of answers .* under pairs of reward or dpo"),
    "steps": ({"prompt": "q", "completions": ["a"], "labels": [True]}, "has labels of steps"),
    "plain text": ({"text": "Once upon a time"}, "has a text without turns; mark them, as in <|im_start|>user"),
    "nothing": ({}, "has no messages and nothing else, from which no conversation"),
    "other keys": ({"a": 1, "b\ud800": 2}, r"has no messages, but a, b\\ud800, from which"),
    "an image": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
        "turn 1 on line 1 of x has a part of type 'image_url', which is not text; leave it or the row out",
    ),
    "a stranger": ({"conversations": [{"from": "robot", "value": "q"}]}, "'robot', which is not a known role; use"),
    "no speaker": ({"messages": [{"content": "q"}]}, "has no messages, but messages, from which"),
    "half a weight": (
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "r", "weight": 0.5}]},
        "turn 2 .* has weight 0.5; write 1 to train on it, or 0",
    ),
    "content": ({"messages": [{"role": "user", "content": 7}]}, "has content 7; write a text"),
    "a surrogate": ({"prompt": "q\udc80", "completion": "r"}, "has half a surrogate pair or bytes .* at character 1"),
    "a surrogate in a transcript": ({"text": "User: \ud83d\nAssistant: r"}, "has half a surrogate pair"),
    "history": ({"query": "q", "response": "r", "history": ["x"]}, "write a list of questions with their answers"),
    "a call": (
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "calls .*; write a tool's name"
    ),
    "broken text of turns": ({"messages": '[{"role": "user"'}, "has a text in place of a list, which is not JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_read_is_refused_with_a_reason_that_names_the_mend(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message.replace("|", r"\|")):
        read(values)


def test_a_form_that_is_asked_for_is_the_one_that_reads() -> None:
    row = {"messages": [{"role": "user", "content": "m"}, {"role": "assistant", "content": "n"}],
           "instruction": "q", "output": "r"}  # fmt: skip

    assert say(read(row)) == ("u:m", "a:n")
    assert say(read(row, format="alpaca")) == ONE
    with pytest.raises(
        DataError, match="has no messages, but messages, instruction, output, which is not the form text"
    ):
        read(row, format="text")


def test_every_format_of_the_settings_is_a_form() -> None:
    assert {"auto", "oasst", *FORMS} == set(get_args(FormatName))
    assert choose_form({"conversations": [{"from": "human", "value": "q"}]}, "x", "auto").name == "codeshell"
    assert choose_form({"conversations": [{"from": "gpt", "value": "q"}]}, "x", "auto").name == "sharegpt"


@pytest.mark.parametrize("extra", [{}, {"type": "copilot"}])
def test_released_completions_are_raw_code(extra: dict[str, str]) -> None:
    speaker = "human" if extra else "copilot"
    turns = [{"from": speaker, "value": "<fim_prefix>a<fim_suffix>b<fim_middle>"}, {"from": "assistant", "value": "c"}]

    conversation = read({"id": "1", "conversations": turns, **extra})

    assert conversation.kind == "copilot"
    assert say(conversation) == ("u:<fim_prefix>a<fim_suffix>b<fim_middle>", "a:c")


def test_in_released_completions_every_turn_but_the_copilots_is_learned() -> None:
    turns = [{"from": "copilot", "value": "a"}, {"from": "human", "value": "b"}, {"from": "assistant", "value": "c"}]

    assert say(read({"conversations": turns})) == ("u:a", "a:b", "a:c")


def test_answers_of_calls_are_calls() -> None:
    row = {"query": "q", "answers": '[{"name": "w", "arguments": {"a": 1}}]', "tools": '[{"name": "w"}]'}

    assert say(read(row))[1] == 'a:<tool_call>\n{"name": "w", "arguments": {"a": 1}}\n</tool_call>'
