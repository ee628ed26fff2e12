"""Makes a conversation of a row's turns: writes system, tools and reasoning into them, and mends their order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from ..chat import Conversation, Kind, Message
from ..settings import Reading
from .findings import Findings
from .forms import Draft, read_text
from .rows import Row
from .turns import Turn, check_text, is_empty, is_given, parse_text

NO_ANSWER = "conversations hold no answer"
BREAK = "\n\n"
END_OF_REASONING = "\n</think>\n\n"
EMPTY = "conversations with an empty turn"


@dataclass
class _RenderedTurn:
    """What stands in the chat format as one turn."""

    role: str
    text: str
    has_loss: bool | None
    is_written: bool = False  # a system text or a tool's result


def build_conversation(
    draft: Draft, row: Row, place: str, reading: Reading, findings: Findings, *, needs_answer: bool, thread: str | None
) -> Conversation | None:
    """Builds the conversation, or counts why there is none and returns `None`.

    Args:
        draft: The turns as written.
        row: For its `language` and `tests`.
        place: For errors.
        reading: What to do with tools, reasoning and an opening answer.
        findings: Counts what is dropped and changed.
        needs_answer: Whether the last turn has to be an answer to learn from; otherwise all turns are a prompt, and
            the last answer is empty if there is none.
        thread: Conversations of one thread stay on one side of a split.

    Raises:
        DataError: If `language` or `tests` is not text.
    """
    said = _list_said(draft, place, reading, findings, needs_answer=needs_answer)
    if isinstance(said, str):
        findings.dropped[said] += 1
        return None
    if any(turn.has_loss is False for turn in said):
        findings.changed["conversations with answers that carry no loss"] += 1
    return Conversation(
        tuple(_as_message(turn) for turn in said),
        read_text(row, "language", place) or None,
        _read_tests(row, place),
        _choose_kind(draft, reading),
        tuple(number for number, turn in enumerate(said) if turn.role == "assistant" and turn.has_loss is False),
        thread,
    )


def _list_said(
    draft: Draft, place: str, reading: Reading, findings: Findings, *, needs_answer: bool
) -> list[_RenderedTurn] | str:
    """The turns of the chat format, or why the row is dropped."""
    if draft.label is False and needs_answer:
        return "rows whose label calls the answer bad"
    if has_tools(draft) and reading.tools == "drop":
        return "conversations with tools"
    said = _write_raw(draft.turns) if draft.is_raw else write_turns(draft, place, reading, findings)
    if needs_answer:
        said = _end_with_answer(said, findings, needs_answer=True)
    if any(not turn.text.strip() for turn in said):
        return EMPTY
    if not draft.is_raw:
        begins = next((turn for turn in said if not turn.is_written), None)
        if begins is not None and begins.role == "assistant":
            findings.changed[f"conversations that the assistant begins ({reading.opening_answer})"] += 1
            if reading.opening_answer == "drop":
                return "conversations that the assistant begins"
            if reading.opening_answer == "cut":
                said.remove(begins)
            begins.has_loss = False
        said = _join(said, findings)
    said = _end_with_answer(said, findings, needs_answer=needs_answer)
    answers = [turn for turn in said if turn.role == "assistant"]
    if not answers or (needs_answer and len(said) < 2):
        return NO_ANSWER
    if needs_answer and all(turn.has_loss is False for turn in answers):
        return "conversations whose weights leave nothing to learn"
    return said


def _choose_kind(draft: Draft, reading: Reading) -> Kind:
    if draft.is_raw:
        return "copilot"
    return "original" if reading.format == "codeshell-original" else "chat"


def _as_message(turn: _RenderedTurn) -> Message:
    return {"role": turn.role, "content": turn.text}


def _read_tests(row: Row, place: str) -> str | None:
    tests = row.get("tests")
    if isinstance(tests, list) and all(isinstance(line, str) for line in tests):
        return check_text("\n".join(tests), place) or None
    return read_text(row, "tests", place) or None


def has_tools(draft: Draft) -> bool:
    """Whether tools are offered or used."""
    return is_given(draft.tools) or any(turn.calls or turn.role == "tool" for turn in draft.turns)


def _write_raw(turns: Sequence[Turn]) -> list[_RenderedTurn]:
    """As in the released script: in raw code all turns but those of "copilot" carry a loss."""
    return [
        _RenderedTurn("user" if turn.role == "copilot" else "assistant", turn.text, turn.has_loss) for turn in turns
    ]


def write_turns(draft: Draft, place: str, reading: Reading, findings: Findings) -> list[_RenderedTurn]:
    """Turns of user and assistant alone: the chat format has no other."""
    said: list[_RenderedTurn] = []
    own = {turn.text for turn in draft.turns if turn.role == "system"}
    systems = [draft.system] if draft.system and draft.system not in own else []
    if is_given(draft.tools):
        systems.append(_write_tools(draft.tools, place))
        findings.changed["conversations with tools written into their turns"] += 1
    elif has_tools(draft):
        findings.changed["conversations with tools written into their turns"] += 1
    said += [_RenderedTurn("user", text, None, is_written=True) for text in systems]
    for turn in draft.turns:
        if turn.role == "system":
            if turn.text.strip():
                said.append(_RenderedTurn("user", turn.text, None, is_written=True))
        elif turn.role == "tool":
            is_marked = turn.text.lstrip().startswith("<tool_response>")
            result = turn.text if is_marked else f"<tool_response>\n{turn.text}\n</tool_response>"
            said.append(_RenderedTurn("user", result, None, is_written=True))
        elif turn.role == "assistant" and turn.reasoning and is_empty(turn) and reading.reasoning == "drop":
            findings.changed["answers with reasoning, which was dropped"] += 1
        elif turn.role == "assistant":
            said.append(_RenderedTurn("assistant", _write_answer(turn, reading, findings), turn.has_loss))
        else:
            said.append(_RenderedTurn("user", turn.text, None))
    return said


def _write_answer(turn: Turn, reading: Reading, findings: Findings) -> str:
    parts = [turn.text] if turn.text.strip() else []
    if turn.reasoning.strip() and not turn.text.lstrip().startswith("<think>"):
        is_written = reading.reasoning == "write"
        findings.changed[f"answers with reasoning, which was {'written' if is_written else 'dropped'}"] += 1
        parts = [f"<think>\n{turn.reasoning.strip()}{END_OF_REASONING}{turn.text}"] if is_written else parts
    parts += [f"<tool_call>\n{call}\n</tool_call>" for call in turn.calls]
    return "\n".join(parts)


def _write_tools(tools: object, place: str) -> str:
    tools = parse_text(tools, place)
    listed = tools if isinstance(tools, list) else [tools]
    lines = "\n".join(tool if isinstance(tool, str) else json.dumps(tool, ensure_ascii=False) for tool in listed)
    return check_text(
        f"You may call tools. These are known, one a line:\n<tools>\n{lines}\n</tools>\nA call is written as\n"
        '<tool_call>\n{"name": "NAME", "arguments": {}}\n</tool_call>',
        place,
    )


def _join(said: Sequence[_RenderedTurn], findings: Findings) -> list[_RenderedTurn]:
    """Joins turns of one speaker in a row, so that speakers alternate; answers of different weight stay apart."""
    joined: list[_RenderedTurn] = []
    for turn in said:
        last = joined[-1] if joined else None
        if last is None or last.role != turn.role or (turn.role == "assistant" and last.has_loss != turn.has_loss):
            joined.append(turn)
            continue
        follows_reasoning = last.text.endswith(END_OF_REASONING)
        if not last.is_written and not turn.is_written and not follows_reasoning:
            findings.changed["turns joined with one of the same speaker before them"] += 1
        joined[-1] = _RenderedTurn(
            last.role,
            f"{last.text}{'' if follows_reasoning else BREAK}{turn.text}",
            last.has_loss,
            is_written=last.is_written and turn.is_written,
        )
    return joined


def _end_with_answer(said: list[_RenderedTurn], findings: Findings, *, needs_answer: bool) -> list[_RenderedTurn]:
    if said and said[-1].role == "assistant":
        return said
    if not needs_answer and said:
        return [*said, _RenderedTurn("assistant", "", None)]
    last = max((number for number, turn in enumerate(said) if turn.role == "assistant"), default=-1)
    if said and last >= 0:
        findings.changed["conversations that ended with the user and lost that turn"] += 1
    return said[: last + 1]
