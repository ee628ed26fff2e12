"""The forms of a row that holds a conversation: how each is recognised, and how its turns are found."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ...errors import DataError
from .exports import is_chatgpt, is_moss, read_chatgpt, read_moss
from .findings import Findings
from .rows import Row
from .transcripts import is_transcript, split_transcript
from .turns import (
    REASONING_KEYS,
    SPEAKER_KEYS,
    Turn,
    check_text,
    is_given,
    parse_text,
    read_calls,
    read_turns,
    show,
    split_columns,
)

TURN_LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "contents", "data")
QUESTIONS = ("instruction", "prompt", "question", "problem", "query", "user", "human", "input", "inputs")
ANSWERS = (
    "output", "completion", "response", "generated_solution", "solution", "answer", "assistant", "target", "targets",
    "content",
)  # fmt: skip
CONTEXTS = ("input", "context")
SYSTEMS = ("system", "system_prompt", "system_message", "systemInstruction", "definition", "meta_instruction")
NAMES_OF_SYSTEMS = frozenset(SYSTEMS)
TOOLS = ("tools", "functions")
TEXTS = ("text", "chat", "conversation", "dialogue", "conversations", "plain_text")
INNER_QUESTIONS = ("input", "human", "user", "question", "prompt", "query", "q")
INNER_ANSWERS = ("output", "assistant", "gpt", "bot", "answer", "response", "a")
ONLY_ASKED = ("codeshell-original",)  # is written as another form is
PAIRS = ("chosen", "rejected", "preferred_output", "non_preferred_output", "chosen_response", "rejected_response")


@dataclass(frozen=True)
class Draft:
    """A row's turns as they are written.

    Args:
        turns: In order.
        used: Fields of the row that are read.
        system: Text of fields beside the turns.
        tools: The tools that may be called, as written.
        is_raw: Whether turns are raw code to complete.
        label: Whether a row's own label calls the answer good, if it has one.
    """

    turns: Sequence[Turn]
    used: frozenset[str]
    system: str = ""
    tools: object = None
    is_raw: bool = False
    label: bool | None = None


@dataclass(frozen=True)
class Form:
    """A form of rows.

    Args:
        name: In settings and reports.
        recognise: Whether a row has it.
        read: Reads the turns; gets the row, its place for errors, and what to count in.
    """

    name: str
    recognise: Callable[[Row], bool]
    read: Callable[[Row, str, Findings], Draft]


def read_draft(row: Row, place: str, asked: str, findings: Findings) -> Draft:
    """Reads a row in the form that is asked for, or that it has; counts the form and fields that nothing uses.

    Raises:
        DataError: If it has no known form, not the one that is asked for, or cannot be read.
    """
    form = choose_form(row, place, asked)
    draft = form.read(row, place, findings)
    findings.forms[form.name] += 1
    for name, value in row.items():
        if name not in draft.used and name not in ("language", "tests", "type") and is_given(value):
            findings.unused[name] += 1
    return draft


def choose_form(row: Row, place: str, asked: str) -> Form:
    """The form that is asked for, or the first that a row has."""
    if asked not in ("auto", "oasst"):
        form = FORMS[asked]
        if not form.recognise(row):
            raise DataError(f"{place} has {_list_keys(row)}, which is not the form {asked}; set format: auto")
        return form
    if any(name in row for name in PAIRS) and "messages" not in row:
        raise DataError(f"{place} is a pair of answers and no conversation; name the file under pairs of reward or dpo")
    if isinstance(row.get("labels"), list) and isinstance(row.get("completions"), list):
        raise DataError(f"{place} has labels of steps, which no stage learns from; write messages with one answer")
    found = next((form for form in FORMS.values() if form.name not in ONLY_ASKED and form.recognise(row)), None)
    if found is not None:
        return found
    raise DataError(
        f"{place} has {_list_keys(row)}, from which no conversation can be read; write messages with role and content, "
        "or prompt and completion"
    )


def _list_keys(row: Row) -> str:
    names = [show(name).strip("'") for name in list(row)[:8]]
    return f"no messages, but {', '.join(names)}" if names else "no messages and nothing else"


def read_text(row: Row, name: str, place: str) -> str:
    """A field's text; numbers are written out, and null, NaN and nothing are not text.

    Raises:
        DataError: If it is anything else.
    """
    value = row.get(name)
    if not is_given(value):
        return ""
    if isinstance(value, str):
        return check_text(value, place)
    is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if is_number and not isinstance(value, bool):
        return str(value)
    raise DataError(f"{place} has {name} {show(value)}; write a text")


def read_side(row: Row, name: str, role: str, place: str, findings: Findings) -> list[Turn]:
    """The turns of a field: a text of one speaker, a text with several turns, or a list of turns."""
    value = parse_turn_list(row.get(name), place)
    if isinstance(value, list | Mapping):
        return read_turns(value if isinstance(value, list) else [value], place, findings)
    text = read_text({name: value}, name, place)
    if role == "user" and is_transcript(text):
        findings.changed["prompts split at the markers of their turns"] += 1
        return split_transcript(text, place)
    return [Turn("user" if role == "user" else "assistant", text)]


def parse_turn_list(value: object, place: str) -> object:
    """A list of turns that is written as a JSON text; other texts, such as code in brackets, stay texts."""
    if isinstance(value, str) and value.startswith("[{"):
        try:
            parsed = parse_text(value, place)
        except DataError:
            return value
        return parsed if isinstance(parsed, list) and all(map(_is_any_turn, parsed)) else value
    return value


def read_system(row: Row, place: str) -> tuple[str, frozenset[str]]:
    """The system text of fields beside the turns, and their names."""
    if not row.keys() & NAMES_OF_SYSTEMS:
        return "", NAMES_OF_SYSTEMS
    texts = []
    for name in SYSTEMS:
        value = row.get(name)
        if isinstance(value, Mapping):
            turns = read_turns([{"role": "system", **value}], place, Findings())
            texts.append(turns[0].text)
        else:
            texts.append(read_text(row, name, place))
    return "\n\n".join(dict.fromkeys(filter(None, texts))), NAMES_OF_SYSTEMS


def make_draft(
    turns: Sequence[Turn], row: Row, place: str, used: Sequence[str], *, is_raw: bool = False, label: bool | None = None
) -> Draft:
    """Adds what all forms have in common: system, tools and a history of earlier turns."""
    system, names = read_system(row, place)
    tools = next((row[name] for name in TOOLS if is_given(row.get(name))), None)
    return Draft(turns, frozenset((*used, *names, *TOOLS)), system, tools, is_raw, label)


def read_label(row: Row, place: str) -> tuple[bool | None, tuple[str, ...]]:
    """A row's label of its answer, as KTO's data have it, and the name of its field."""
    for name in ("label", "kto_tag"):
        value = row.get(name)
        if isinstance(value, bool) or (isinstance(value, int) and value in (0, 1) and "completion" in row):
            return bool(value), (name,)
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true", (name,)
    return None, ()


def find_turn_list(row: Row) -> str | None:
    """The field with a row's list of turns."""
    return next((name for name in TURN_LISTS if _holds_turns(row.get(name))), None)


def _holds_turns(value: object) -> bool:
    if isinstance(value, str):
        return value.lstrip().startswith("[{")
    value = split_columns(value)
    return isinstance(value, list) and bool(value) and all(map(_is_any_turn, value))


def _is_any_turn(value: object) -> bool:
    return isinstance(value, dict) and any(key in value for key in SPEAKER_KEYS)


def _read_messages(row: Row, place: str, findings: Findings) -> Draft:
    name = find_turn_list(row) or "messages"
    label, label_names = read_label(row, place)
    turns = read_turns(row.get(name), place, findings)
    return make_draft(turns, row, place, (name, *label_names), label=label)


def _is_sharegpt(row: Row) -> bool:
    turns = row.get("conversations")
    return _holds_turns(turns) and isinstance(turns, list) and all("from" in turn for turn in turns)


def _is_codeshell(row: Row) -> bool:
    turns = row.get("conversations")
    return (
        _is_sharegpt(row)
        and isinstance(turns, list)
        and all(turn.keys() <= {"from", "value"} for turn in turns)
        and all(turn["from"] in ("human", "assistant", "copilot") for turn in turns)
    )


def _read_codeshell(row: Row, place: str, findings: Findings) -> Draft:
    draft = _read_messages(row, place, findings)
    is_raw = row.get("type") == "copilot" or any(turn.role == "copilot" for turn in draft.turns)
    return Draft(draft.turns, draft.used, draft.system, draft.tools, is_raw, draft.label)


def _is_typed_copilot(row: Row) -> bool:
    return row.get("type") == "copilot" and find_turn_list(row) is not None


def _read_typed_copilot(row: Row, place: str, findings: Findings) -> Draft:
    draft = _read_messages(row, place, findings)
    turns = [Turn("copilot", turn.text) if turn.role == "user" else turn for turn in draft.turns]
    return Draft(turns, draft.used, is_raw=True)


def _find_exchanges(row: Row) -> str | None:
    """The field with a list of questions and answers: of objects, of pairs, or of texts in turn."""
    for name in TURN_LISTS:
        value = row.get(name)
        if not isinstance(value, list) or not value:
            continue
        if all(isinstance(part, Mapping) and _find_inner(part) is not None for part in value):
            return name
        if all(isinstance(part, list) and len(part) == 2 and isinstance(part[0], str) for part in value):
            return name
        if name != "messages" and all(isinstance(part, str) for part in value):
            return name
    return None


def _find_inner(part: Row) -> tuple[str, str] | None:
    lowered = {name.lower(): name for name in part}
    question = next((lowered[name] for name in INNER_QUESTIONS if name in lowered), None)
    answer = next((lowered[name] for name in INNER_ANSWERS if name in lowered), None)
    return (question, answer) if question is not None and answer is not None else None


def _read_exchanges(row: Row, place: str, findings: Findings) -> Draft:
    name = _find_exchanges(row) or "conversation"
    parts = row.get(name)
    turns: list[Turn] = []
    for number, part in enumerate(parts if isinstance(parts, list) else [], 1):
        where = f"exchange {number} on {place}"
        if isinstance(part, str):
            turns.append(Turn("assistant" if number % 2 == 0 else "user", check_text(part, where)))
        elif isinstance(part, list):
            turns += _read_exchange(part[0], part[1], where)
        else:
            turns += _read_inner(part, where, findings)
    return make_draft(turns, row, place, (name,))


def _read_exchange(question: object, answer: object, place: str) -> list[Turn]:
    asked, answered = (read_text({"turn": value}, "turn", place) for value in (question, answer))
    return [Turn("user", asked), Turn("assistant", answered)]


def _read_inner(part: Row, place: str, findings: Findings) -> list[Turn]:
    question, answer = _find_inner(part) or ("input", "output")
    system = read_text(part, "system", place)
    asked = read_text(part, question, place)
    weight = part.get("output_with_loss", part.get("weight"))
    has_loss = bool(weight) if isinstance(weight, int) else None
    for name, value in part.items():
        if name not in (question, answer, "system", "output_with_loss", "weight") and is_given(value):
            findings.unused[f"turns: {name}"] += 1
    return [
        *([Turn("system", system)] if system else []),
        *([Turn("user", asked)] if asked else []),
        Turn("assistant", read_text(part, answer, place), has_loss),
    ]


def _find_question(row: Row) -> str | None:
    return next((name for name in QUESTIONS if is_given(row.get(name)) and name in row), None)


def _find_answer(row: Row, question: str | None) -> str | None:
    present = [name for name in ANSWERS if name in row and name != question]
    return next((name for name in present if is_given(row[name])), present[0] if present else None)


def _is_question_answer(row: Row) -> bool:
    question = _find_question(row)
    return question is not None and _find_answer(row, question) is not None and not any(name in row for name in PAIRS)


def _read_question_answer(row: Row, place: str, findings: Findings) -> Draft:
    question = _find_question(row) or "prompt"
    answer = _find_answer(row, question)
    context = next((name for name in CONTEXTS if name not in (question, answer) and is_given(row.get(name))), None)
    asked = read_side(row, question, "user", place, findings)
    if context is not None and len(asked) == 1:
        asked = [Turn("user", f"{asked[0].text}\n\n{read_text(row, context, place)}")]
    label, label_names = read_label(row, place)
    reasoning = next((name for name in REASONING_KEYS if isinstance(row.get(name), str)), "")
    answered = [] if answer is None else read_side(row, answer, "assistant", place, findings)
    if answer is None and is_given(row.get("answers")) and any(is_given(row.get(name)) for name in TOOLS):
        answer = "answers"  # calls of tools, as of xlam-function-calling
        answered = [Turn("assistant", "", calls=tuple(read_calls(row["answers"], place)))]
    if reasoning and len(answered) == 1:
        weight, text = answered[0].has_loss, answered[0].text
        answered = [Turn("assistant", text, weight, check_text(str(row[reasoning]), place))]
    history = _read_history(row.get("history"), place, findings)
    used = [question, "history", *label_names, *filter(None, (answer, context, reasoning))]
    return make_draft([*history, *asked, *answered], row, place, used, label=label)


def _read_history(value: object, place: str, findings: Findings) -> list[Turn]:
    value = parse_turn_list(value, place)
    if not is_given(value):
        return []
    if isinstance(value, list) and all(isinstance(part, list) and len(part) == 2 for part in value):
        return [turn for part in value for turn in _read_exchange(part[0], part[1], f"the history on {place}")]
    if isinstance(value, list) and all(isinstance(part, Mapping) and _find_inner(part) for part in value):
        return [turn for part in value for turn in _read_inner(part, f"the history on {place}", findings)]
    if isinstance(value, list) and all(map(_is_any_turn, value)):
        return read_turns(value, f"the history on {place}", findings)
    raise DataError(f"{place} has history {show(value)}; write a list of questions with their answers")


def _is_commit(row: Row) -> bool:
    return {"old_contents", "new_contents"} <= row.keys() and bool({"message", "subject"} & row.keys())


def _read_commit(row: Row, place: str, findings: Findings) -> Draft:
    """A commit of CommitPack: its message and the old file, and the new file."""
    message = read_text(row, "message", place) or read_text(row, "subject", place)
    language = read_text(row, "lang", place).lower().split(" ")[0]
    old, new = (read_text(row, name, place) for name in ("old_contents", "new_contents"))
    asked = f"{message}\n\n{_fence(old, language)}" if old.strip() else message
    answer = _fence(new, language) if new.strip() else ""
    turns = [Turn("user", asked), Turn("assistant", answer)]
    return make_draft(turns, row, place, ("message", "subject", "lang", "old_contents", "new_contents"))


def _fence(code: str, language: str) -> str:
    longest = max((len(line) - len(line.lstrip("`")) for line in code.split("\n")), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{code.rstrip()}\n{ticks}"


def _is_text(row: Row) -> bool:
    return any(isinstance(row.get(name), str) and is_given(row[name]) for name in TEXTS)


def _read_text_row(row: Row, place: str, findings: Findings) -> Draft:
    name = next(name for name in TEXTS if isinstance(row.get(name), str) and is_given(row[name]))
    draft = make_draft(split_transcript(str(row[name]), place), row, place, (name,))
    # As in glaive-function-calling, where the field repeats its own name.
    system = draft.system.removeprefix("SYSTEM:").strip()
    return Draft(draft.turns, draft.used, system, draft.tools)


def _read_chatgpt(row: Row, place: str, findings: Findings) -> Draft:
    turns = read_chatgpt(row, place, findings)
    return make_draft(turns, row, place, ("mapping", "current_node"))


def _read_moss(row: Row, place: str, findings: Findings) -> Draft:
    return make_draft(read_moss(row, place, findings), row, place, ("chat", "num_turns"))


FORMS = {
    form.name: form
    for form in (
        Form("chatgpt", is_chatgpt, _read_chatgpt),
        Form("moss", is_moss, _read_moss),
        Form("codeshell", lambda row: _is_codeshell(row) or _is_typed_copilot(row),
             lambda *given: (_read_typed_copilot if _is_typed_copilot(given[0]) else _read_codeshell)(*given)),
        Form("codeshell-original", _is_sharegpt, _read_codeshell),
        Form("sharegpt", _is_sharegpt, _read_messages),
        Form("messages", lambda row: find_turn_list(row) is not None, _read_messages),
        Form("input-output", lambda row: _find_exchanges(row) is not None, _read_exchanges),
        Form("commitpack", _is_commit, _read_commit),
        Form("alpaca", lambda row: "instruction" in row and _is_question_answer(row), _read_question_answer),
        Form("question-answer", _is_question_answer, _read_question_answer),
        Form("text", _is_text, _read_text_row),
        Form("prompt", lambda row: _find_question(row) is not None, _read_question_answer),
    )
}  # fmt: skip
"""By name, in the order in which a row is tried."""
