"""Preference pairs: two answers to one prompt, of which one is better."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import DataError
from ..text.chat import Message
from ..text.conversation_files import as_messages, check_turns, read_json_lines, read_text


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


@dataclass
class PairSet:
    """Pairs, and the number of lines or prompts without one, by reason."""

    pairs: list[Pair] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)

    def extend(self, other: "PairSet") -> None:
        """Adds another set's pairs and counts."""
        self.pairs += other.pairs
        self.dropped += other.dropped


def read_pairs(path: Path) -> PairSet:
    """Reads JSON Lines with `prompt`, `chosen` and `rejected`; pairs of equal answers are dropped and counted.

    Each is a text or a list of turns with role and content; without `prompt`, it is the turns that `chosen` and
    `rejected` have in common.

    Raises:
        DataError: If the file cannot be read, a line is no pair, or no pair is left.
    """
    reading = PairSet()
    for number, values in read_json_lines(path):
        pair = parse_pair(values, f"line {number} of {path}", source=str(values.get("source", path.name)))
        if pair.chosen.strip() == pair.rejected.strip():
            reading.dropped["chosen equals rejected"] += 1
        else:
            reading.pairs.append(pair)
    if not reading.pairs:
        dropped = ", ".join(f"{count} because {reason}" for reason, count in reading.dropped.items()) or "none dropped"
        raise DataError(
            f"{path} holds no pair to learn from ({dropped}); write prompt, chosen and rejected on each line"
        )
    return reading


def parse_pair(values: Mapping[str, object], place: str, *, source: str) -> Pair:
    """Parses one line's object, whose answers may be equal; `place` names the line in errors.

    Raises:
        DataError: If a key is missing, a turn is invalid, or the answers have different prompts.
    """
    if "chosen" not in values or "rejected" not in values:
        raise DataError(f"{place} lacks chosen or rejected; write prompt, chosen and rejected")
    prompt = as_messages(values["prompt"], "user") if "prompt" in values else []
    ways = [[*prompt, *as_messages(values[name], "assistant")] for name in ("chosen", "rejected")]
    chosen, rejected = (check_turns(turns, place) if turns else [] for turns in ways)
    if len(chosen) < 2 or len(rejected) < 2 or chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise DataError(f"{place} is no prompt with two answers; write a question and end both with the assistant")
    if chosen[:-1] != rejected[:-1]:
        raise DataError(
            f"{place} has answers to two different prompts; write pairs that differ only in the last answer"
        )
    return Pair(
        tuple(chosen[:-1]), chosen[-1]["content"], rejected[-1]["content"], source, read_text(values, "tests", place)
    )


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


def read_all_pairs(paths: Iterable[Path]) -> PairSet:
    """Reads several files of pairs."""
    everything = PairSet()
    for path in paths:
        everything.extend(read_pairs(path))
    return everything
