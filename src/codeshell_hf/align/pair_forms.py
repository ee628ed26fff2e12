"""The forms of rows with preferences: pairs, ranked answers, two answers with a verdict, and labelled answers."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import DataError
from ..text.conversation_files.findings import Findings
from ..text.conversation_files.forms import (
    ANSWERS,
    CONTEXTS,
    QUESTIONS,
    TURN_LISTS,
    Draft,
    find_turn_list,
    make_draft,
    parse_turn_list,
    read_label,
    read_side,
    read_text,
)
from ..text.conversation_files.rows import Row
from ..text.conversation_files.transcripts import is_transcript, split_transcript
from ..text.conversation_files.turns import Turn, is_given, parse_text, read_turns, show

CHOSEN = ("chosen", "chosen_response", "response_chosen", "preferred_output", "preferred", "accepted", "full_chosen")
REJECTED = (
    "rejected", "rejected_response", "response_rejected", "non_preferred_output", "dispreferred", "rejected_messages",
    "full_rejected",
)  # fmt: skip
SCORES = (
    ("chosen_score", "rejected_score"),
    ("score_chosen", "score_rejected"),
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("margin_chosen", "margin_rejected"),
)
RANKED = ("answers", "completions", "responses", "generations", "candidates")
RANKED_TEXTS = ("answer", "response", "text", "output", "completion", "content")
RANKED_SCORES = ("overall_score", "score", "rating", "fine-grained_score", "reward", "pm_score")
LISTED_SCORES = ("scores", "ratings", "rewards")
TWO_ANSWERS = (
    ("response_a", "response_b"), ("response_0", "response_1"), ("response1", "response2"), ("answer_0", "answer_1"),
    ("human_ref_A", "human_ref_B"), ("conversation_a", "conversation_b"), ("output_1", "output_2"),
    ("completion_a", "completion_b"), ("answer_a", "answer_b"),
)  # fmt: skip
EQUAL = "answers have the same score"
BELOW = "chosen has the lower score"


@dataclass(frozen=True)
class PairDraft:
    """A prompt with a better and a worse answer, as written."""

    chosen: Draft
    rejected: Draft


@dataclass(frozen=True)
class LabelledDraft:
    """An answer that is called good or bad by itself."""

    answer: Draft
    is_good: bool


def read_drafts(row: Row, place: str, findings: Findings) -> list[PairDraft | LabelledDraft]:
    """Reads a row's pairs or its labelled answer; a row without a preference is counted and has none.

    Raises:
        DataError: If it has none of the known forms, or a field of another type.
    """
    for name, is_form, read in PAIR_FORMS:
        if is_form(row):
            drafts: list[PairDraft | LabelledDraft] = list(read(row, place, findings))
            findings.forms[name] += 1
            _count_unused(row, drafts, findings)
            return drafts
    names = ", ".join(show(name).strip("'") for name in list(row)[:8]) or "nothing"
    raise DataError(
        f"{place} lacks chosen or rejected (it has {names}); write prompt, chosen and rejected, or prompt, completion "
        "and label"
    )


def _count_unused(row: Row, drafts: Sequence[PairDraft | LabelledDraft], findings: Findings) -> None:
    used = {"tests", "source"}
    for draft in drafts:
        used |= draft.answer.used if isinstance(draft, LabelledDraft) else draft.chosen.used
    for name, value in row.items():
        if drafts and name not in used and is_given(value):
            findings.unused[name] += 1


def _find(row: Row, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in row), None)


def _read_prompt(row: Row, place: str, findings: Findings) -> tuple[list[Turn], list[str]]:
    """Turns of the prompt and the fields that they come from; no turns if answers hold it themselves."""
    listed = find_turn_list(row)
    question = next((name for name in QUESTIONS if is_given(row.get(name)) and name != "chosen"), None)
    name = question or listed or next((one for one in ("context", "history", "post") if is_given(row.get(one))), None)
    if name is None:
        return [], []
    value = row[name]
    if isinstance(value, Mapping) and isinstance(value.get("full_text"), str):
        return [Turn("user", str(value["full_text"]))], [name]
    turns = read_side({name: _split_texts(value)}, name, "user", place, findings)
    context = next((one for one in CONTEXTS if one != name and is_given(row.get(one))), None)
    if context is not None and question is not None and len(turns) == 1 and isinstance(row[context], str):
        turns = [Turn("user", f"{turns[0].text}\n\n{read_text(row, context, place)}")]
        return turns, [name, context]
    return turns, [name]


def _split_texts(value: object) -> object:
    """A list of texts as turns, the user's first."""
    if isinstance(value, list) and value and all(isinstance(text, str) for text in value):
        roles = ("user", "assistant")
        return [{"role": roles[number % 2], "content": text} for number, text in enumerate(value)]
    return value


def _read_answer(row: Row, name: str, prompt: Sequence[Turn], place: str, findings: Findings) -> list[Turn]:
    """All turns up to an answer: with the prompt, unless the answer holds it itself."""
    value = _split_last(parse_turn_list(row.get(name), place))
    if isinstance(value, list | Mapping):
        turns = read_turns(value if isinstance(value, list) else [value], f"{name} of {place}", findings)
        is_whole = bool(turns) and any(turn.role == "user" for turn in turns)
        return turns if is_whole else [*prompt, *turns]
    text = read_text({name: value}, name, place)
    if not prompt and is_transcript(text):
        turns = split_transcript(text, place)
        return turns if turns and turns[-1].role == "assistant" else [*turns, Turn("assistant", "")]
    return [*prompt, Turn("assistant", text)]


def _split_last(value: object) -> object:
    """A list with one text is that text."""
    return value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str) else value


def _is_pair(row: Row) -> bool:
    return _find(row, REJECTED) is not None and (
        _find(row, CHOSEN) is not None or isinstance(row.get("messages"), list)
    )


def _read_pair(row: Row, place: str, findings: Findings) -> Iterator[PairDraft]:
    chosen, rejected = _find(row, CHOSEN), _find(row, REJECTED) or "rejected"
    scores = next((pair for pair in SCORES if all(is_given(row.get(name)) for name in pair)), None)
    if scores is not None and not _is_ordered(row[scores[0]], row[scores[1]], place, findings):
        return
    outer: Row = row
    if isinstance(row.get("input"), Mapping):  # OpenAI's form, where the conversation stands in an object
        inner = row["input"]
        assert isinstance(inner, Mapping)  # noqa: S101 - for the type checker
        outer = {**{name: value for name, value in row.items() if name != "input"}, **inner}
    if chosen is None:  # the conversation ends with the better answer
        turns = read_turns(row["messages"], place, findings)
        good, prompt, used = turns, turns[:-1], ["messages"]
    else:
        prompt, used = _read_prompt(outer, place, findings)
        start = read_text(row, "initial_reason_steps", place)
        good = _begin(_read_answer(row, chosen, prompt, place, findings), start)
        used = [*used, chosen, *(["initial_reason_steps"] if start else [])]
    bad = _read_answer(row, rejected, prompt, place, findings)
    if chosen is not None:
        bad = _begin(bad, read_text(row, "initial_reason_steps", place))
    names = [*used, rejected, *(scores or ()), *(["input"] if outer is not row else [])]
    yield PairDraft(make_draft(good, outer, place, names), make_draft(bad, outer, place, names))


def _begin(turns: list[Turn], start: str) -> list[Turn]:
    """Puts the steps that both answers begin with before the last turn's text."""
    return [*turns[:-1], Turn("assistant", f"{start}{turns[-1].text}")] if start and turns else turns


def _is_ordered(better: object, worse: object, place: str, findings: Findings) -> bool:
    first, second = (_read_number(value, place) for value in (better, worse))
    if first == second:
        findings.dropped[EQUAL] += 1
    elif first < second:
        findings.dropped[BELOW] += 1
    return first > second


def _read_number(value: object, place: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if math.isnan(number):
        raise DataError(f"{place} has a score {show(value)}; write a number")
    return number


def _is_ranked(row: Row) -> bool:
    name = _find_ranked(row)
    return name is not None and (_list_scores(row, name) is not None)


def _find_ranked(row: Row) -> str | None:
    return next((name for name in RANKED if isinstance(row.get(name), list) and row[name]), None)


def _list_scores(row: Row, name: str) -> list[object] | None:
    """Scores of a row's answers, the best highest."""
    answers = row[name]
    if not isinstance(answers, list):
        return None
    listed = next((row[key] for key in LISTED_SCORES if isinstance(row.get(key), list)), None)
    if isinstance(listed, list) and len(listed) == len(answers):
        return listed
    if not all(isinstance(answer, Mapping) for answer in answers):
        return None
    if all(isinstance(answer.get("rank"), int | float) for answer in answers):
        return [-answer["rank"] for answer in answers]
    key = next((key for key in RANKED_SCORES if all(is_given(answer.get(key)) for answer in answers)), None)
    return None if key is None else [answer[key] for answer in answers]


def _read_ranked(row: Row, place: str, findings: Findings) -> Iterator[PairDraft]:
    """The best answer against each that is worse."""
    name = _find_ranked(row) or "answers"
    answers, given = row[name], _list_scores(row, name)
    if not isinstance(answers, list) or given is None:
        return
    scores = [_read_number(score, place) for score in given]
    texts = [_read_ranked_text(answer, place) for answer in answers]
    prompt, used = _read_prompt({key: value for key, value in row.items() if key != name}, place, findings)
    best = max(range(len(scores)), key=scores.__getitem__)
    names = [*used, name, *(key for key in LISTED_SCORES if key in row)]
    drafts = [make_draft([*prompt, Turn("assistant", text)], row, place, names) for text in texts]
    worse = [index for index, score in enumerate(scores) if score < scores[best]]
    if not worse:
        findings.dropped[EQUAL] += 1
    yield from (PairDraft(drafts[best], drafts[index]) for index in worse)


def _read_ranked_text(answer: object, place: str) -> str:
    if isinstance(answer, Mapping):
        name = _find(answer, RANKED_TEXTS)
        if name is None:
            raise DataError(f"{place} has an answer {show(answer)} without a text; write answer or response")
        return read_text(answer, name, place)
    return read_text({"answer": answer}, "answer", place)


def _find_two(row: Row) -> tuple[str, str] | None:
    return next((pair for pair in TWO_ANSWERS if all(name in row for name in pair)), None)


def _read_two(row: Row, place: str, findings: Findings) -> Iterator[PairDraft]:
    names = _find_two(row) or TWO_ANSWERS[0]
    if "winner_model_a" in row:  # where texts are written as lists of them, in JSON
        row = {name: parse_text(value, place) if name != "id" else value for name, value in row.items()}
    better, fields = _read_verdict(row, names, place)
    if better is None:
        findings.dropped[EQUAL] += 1
        return
    prompt, used = _read_prompt({key: row[key] for key in row if key not in names}, place, findings)
    drafts = [
        make_draft(_read_answer(row, name, prompt, place, findings), row, place, [*used, *names, *fields])
        for name in names
    ]
    yield PairDraft(drafts[better], drafts[1 - better])


def _read_verdict(row: Row, names: tuple[str, str], place: str) -> tuple[int | None, list[str]]:
    """Which of two answers is better, `None` for neither, and the fields that say so.

    Raises:
        DataError: If no field says it.
    """
    for name in ("winner", "preference", "preferred", "choice", "better"):
        value = row.get(name)
        if isinstance(value, str):
            word = value.strip().lower()
            if word in ("a", "model_a", "response_a", "1", "first", names[0].lower()):
                return 0, [name]
            if word in ("b", "model_b", "response_b", "2", "second", names[1].lower()):
                return 1, [name]
            if "tie" in word or "both" in word or word in ("equal", "same", "neither"):
                return None, [name]
    if row.get("preference") in (1, 2) and not isinstance(row["preference"], bool):
        return (0 if row["preference"] == 1 else 1), ["preference"]
    if row.get("better_response_id") in (0, 1):
        return int(bool(row["better_response_id"])), ["better_response_id"]
    if names[0] == "human_ref_A" and row.get("labels") in (0, 1):
        return (0 if row["labels"] == 1 else 1), ["labels"]
    if is_given(row.get("overall_preference")):  # below zero for the first
        strength = _read_number(row["overall_preference"], place)
        return (None if strength == 0 else int(strength > 0)), ["overall_preference"]
    if "winner_model_a" in row and "winner_model_b" in row:
        is_first, is_second = (bool(row[f"winner_model_{letter}"]) for letter in "ab")
        return (None if is_first == is_second else int(is_second)), ["winner_model_a", "winner_model_b", "winner_tie"]
    for pair in (("score_0", "score_1"), ("score_a", "score_b"), ("score_A", "score_B"), ("score1", "score2")):
        if all(is_given(row.get(name)) for name in pair):
            first, second = (_read_number(row[name], place) for name in pair)
            return (None if first == second else int(second > first)), list(pair)
    raise DataError(f"{place} has {names[0]} and {names[1]} without a verdict; write winner: a, b or tie")


def _is_labelled(row: Row) -> bool:
    label = read_label(row, "a row")[0]
    return label is not None and (_find(row, ANSWERS) is not None or any(name in row for name in TURN_LISTS))


def _read_labelled(row: Row, place: str, findings: Findings) -> Iterator[LabelledDraft]:
    label, names = read_label(row, place)
    listed = find_turn_list(row)
    if listed is not None and _find(row, QUESTIONS) is None:
        turns, used = read_turns(row[listed], place, findings), [listed]
    else:
        prompt, used = _read_prompt(row, place, findings)
        answer = next(name for name in ANSWERS if name in row and name not in used)
        turns, used = _read_answer(row, answer, prompt, place, findings), [*used, answer]
    yield LabelledDraft(make_draft(turns, row, place, [*used, *names]), bool(label))


def _is_two_outputs(row: Row) -> bool:
    """Whether `output` is a list of two answers, the better first, as LLaMA-Factory once had it."""
    value = row.get("output")
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _read_two_outputs(row: Row, place: str, findings: Findings) -> Iterator[PairDraft]:
    outputs = row["output"]
    assert isinstance(outputs, list)  # noqa: S101 - for the type checker
    rest = {name: value for name, value in row.items() if name != "output"}
    for draft in _read_pair({**rest, "chosen": outputs[0], "rejected": outputs[1]}, place, findings):
        yield PairDraft(replace(draft.chosen, used=draft.chosen.used | {"output"}), draft.rejected)


Reader = Callable[[Row, str, Findings], Iterator[PairDraft] | Iterator[LabelledDraft]]
PAIR_FORMS: tuple[tuple[str, Callable[[Row], bool], Reader], ...] = (
    ("pairs", _is_pair, _read_pair),
    ("pairs in output", _is_two_outputs, _read_two_outputs),
    ("ranked answers", _is_ranked, _read_ranked),
    ("two answers with a verdict", lambda row: _find_two(row) is not None, _read_two),
    ("labelled answers", _is_labelled, _read_labelled),
)
