"""Preference pairs: two answers to one prompt, of which one is better."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from ..text.chat import Conversation, Message
from ..text.conversation_files.conversations import build_conversation
from ..text.conversation_files.findings import Findings, count_bad
from ..text.conversation_files.forms import Draft
from ..text.conversation_files.raw_files import find_files
from ..text.conversation_files.rows import Row, parse_row, read_raw_rows
from ..text.conversation_files.turns import is_empty
from ..text.settings import Reading
from .pair_forms import LabelledDraft, PairDraft, read_drafts


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt.

    Args:
        prompt: Turns, ending with the user's.
        source: Who judged: "tests", "judge", or a file's name.
        tests: Python that a good answer passes, if there is any.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str
    tests: str | None = None


@dataclass(frozen=True)
class LabelledAnswer:
    """An answer that is called good or bad by itself, as KTO learns from."""

    prompt: tuple[Message, ...]
    answer: str
    is_good: bool
    source: str


@dataclass
class PairSet:
    """Pairs, and the number of lines or prompts without one, by reason.

    Args:
        pairs: Pairs to learn from.
        dropped: Numbers by reason.
        labelled: All answers with a label of their own. A good and a bad one to a prompt are a pair, too.
        findings: What was found in files.
    """

    pairs: list[Pair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    labelled: list[LabelledAnswer] = field(default_factory=list)
    findings: Findings = field(default_factory=Findings)

    def extend(self, other: "PairSet") -> None:
        """Adds another set's pairs and counts."""
        self.pairs += other.pairs
        self.dropped += other.dropped
        self.labelled += other.labelled
        self.findings.extend(other.findings)


def read_pairs(place: str | Path, reading: Reading | None = None, *, bad_before: int = 0) -> PairSet:
    """Reads the pairs of a file, a folder or a repository of the Hub, in any of the forms of `pair_forms`.

    Pairs of equal answers, without an answer, or of equal scores are dropped and counted, as are those whose answers
    belong to different prompts.

    Args:
        place: What `find_files` takes.
        reading: The number of bad rows that are allowed, and what to do with tools and reasoning.
        bad_before: Bad rows of places before.

    Raises:
        DataError: If a file cannot be read, more rows are bad than allowed, or there is neither a pair nor a label.
    """
    reading = reading or Reading()
    made = PairSet()
    found = find_files(place)
    made.findings.left_out += found.left_out
    for path in found.files:
        for raw in read_raw_rows(path):
            try:
                row = parse_row(raw)
                _add_row(made, row, raw.place, str(row.get("source", path.name)), reading)
            except DataError as error:
                made.findings.refuse(error)
                made.findings.check(reading.max_bad_rows, before=bad_before)
    made.pairs += pair_labels(made.labelled, made.dropped)
    made.dropped += made.findings.dropped
    if not made.pairs and not made.labelled:
        raise DataError(
            f"{place} holds no pair to learn from {_explain(made)}; write prompt, chosen and rejected on each line"
        )
    return made


def _explain(made: PairSet) -> str:
    reasons = [f"{count} because {reason}" for reason, count in made.dropped.items()]
    bad = made.findings.bad_rows
    reasons += [f"{count_bad(bad)}, the first: {made.findings.named[0]}"] if bad else []
    return f"({'; '.join(reasons) or 'it has no rows'})"


def _add_row(made: PairSet, row: Row, place: str, source: str, reading: Reading) -> None:
    own = Findings()  # a row that is refused half-way counts as refused alone
    for draft in read_drafts(row, place, own):
        if isinstance(draft, LabelledDraft):
            built = _build(draft.answer, row, place, reading, own, made.dropped)
            if built is not None:
                answer = built.messages[-1]["content"]
                made.labelled.append(LabelledAnswer(built.messages[:-1], answer, draft.is_good, source))
            continue
        reason = _find_empty(draft)
        if reason is not None:
            made.dropped[reason] += 1
            continue
        chosen = _build(draft.chosen, row, place, reading, own, made.dropped)
        rejected = chosen and _build(draft.rejected, row, place, reading, Findings(), made.dropped)
        if not chosen or not rejected:
            continue
        pair = Pair(
            chosen.messages[:-1], chosen.messages[-1]["content"], rejected.messages[-1]["content"], source, chosen.tests
        )
        if chosen.messages[:-1] != rejected.messages[:-1]:
            made.dropped["answers belong to different prompts"] += 1
        elif pair.chosen.strip() == pair.rejected.strip():
            made.dropped["chosen equals rejected"] += 1
        else:
            made.pairs.append(pair)
    made.findings.extend(own)


def _find_empty(draft: PairDraft) -> str | None:
    for name, side in (("chosen", draft.chosen), ("rejected", draft.rejected)):
        if side.turns and side.turns[-1].role == "assistant" and is_empty(side.turns[-1]):
            return f"{name} is empty"
    return None


def _build(
    draft: Draft, row: Row, place: str, reading: Reading, findings: Findings, dropped: Counter[str]
) -> Conversation | None:
    own = Findings()
    built = build_conversation(draft, row, place, reading, own, needs_answer=True, thread=None)
    dropped += own.dropped
    findings.changed += own.changed
    return built


def pair_labels(labelled: Sequence[LabelledAnswer], dropped: Counter[str]) -> list[Pair]:
    """Pairs good answers with bad ones to the same prompt, each once; counts those that are left over."""
    by_prompt: dict[str, tuple[list[LabelledAnswer], list[LabelledAnswer]]] = {}
    for one in labelled:
        by_prompt.setdefault(json.dumps(one.prompt), ([], []))[0 if one.is_good else 1].append(one)
    pairs = []
    for good, bad in by_prompt.values():
        pairs += [Pair(one.prompt, one.answer, two.answer, one.source) for one, two in zip(good, bad, strict=False)]
        if left := abs(len(good) - len(bad)):
            dropped["a labelled answer has no opposite to its prompt"] += left
    return pairs


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Writes pairs as `read_pairs` reads them."""
    with path.open("w", encoding="utf-8") as file:
        for pair in pairs:
            values = {
                "prompt": list(pair.prompt),
                "chosen": [{"role": "assistant", "content": pair.chosen}],
                "rejected": [{"role": "assistant", "content": pair.rejected}],
                "source": pair.source,
                **({"tests": pair.tests} if pair.tests else {}),
            }
            file.write(json.dumps(values, ensure_ascii=False) + "\n")


def read_all_pairs(places: Iterable[str | Path], reading: Reading | None = None) -> PairSet:
    """Reads several files of pairs.

    Raises:
        DataError: As `read_pairs`, or if there are answers with labels and not one pair of them.
    """
    everything = PairSet()
    for place in places:
        everything.extend(read_pairs(place, reading, bad_before=everything.findings.bad_rows))
    if everything.labelled and not everything.pairs:
        raise DataError(
            f"{len(everything.labelled)} labelled answers were read, of which no good and bad one answer the same "
            "prompt; this stage needs pairs: write prompt, chosen and rejected"
        )
    return everything
