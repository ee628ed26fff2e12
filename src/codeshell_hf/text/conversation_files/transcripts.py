"""Splits one text that holds a whole conversation, by the markers of common chat formats."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ...errors import DataError
from .turns import SPEAKERS, Role, Turn, check_text

MARKED_SPEAKERS: Mapping[str, Role] = {
    **SPEAKERS,
    "instruction": "user",
    "input": "user",
    "response": "assistant",
    "function response": "tool",
    "[inst]": "user",
    "[/inst]": "assistant",
    "moss": "assistant",
}


@dataclass(frozen=True)
class Dialect:
    """A chat format as text.

    Args:
        name: As its users call it.
        marker: Begins a turn; its only group is the speaker.
        ends: Texts that end a turn and are not part of it.
        is_anywhere: Whether text may stand before the first marker; it is the system's.
    """

    name: str
    marker: re.Pattern[str]
    ends: tuple[str, ...] = ()
    is_anywhere: bool = True


DIALECTS = (
    Dialect("chatml", re.compile(r"<\|im_start\|>(\w+)[ \t]*\n?"), ("<|im_end|>", "<|endoftext|>")),
    Dialect(
        "llama-3", re.compile(r"<\|start_header_id\|>(\w+)<\|end_header_id\|>\s*"),
        ("<|eot_id|>", "<|end_of_text|>", "<|begin_of_text|>"),
    ),
    Dialect("gemma", re.compile(r"<start_of_turn>(\w+)[ \t]*\n?"), ("<end_of_turn>", "<bos>", "<eos>")),
    Dialect(
        "zephyr", re.compile(r"<\|(system|user|prompter|assistant)\|>[ \t]*\n?"), ("</s>", "<|end|>", "<|endoftext|>")
    ),
    Dialect("deepseek", re.compile(r"<｜(User|Assistant)｜>"), ("<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>")),
    Dialect("llama-2", re.compile(r"(\[/?INST\])"), ("<s>", "</s>")),
    Dialect("moss", re.compile(r"(?:\[|<\|)(Human|MOSS)(?:\]|\|>): ?"), ("<eoh>", "<eoa>", "<eom>")),
    Dialect("codeshell", re.compile(r"## (human|assistant): ?"), ("|<end>|", "<|endoftext|>"), is_anywhere=False),
    Dialect("alpaca", re.compile(r"(?:\A|\n)### (Instruction|Input|Response): ?\n?"), ("</s>", "<|endoftext|>")),
    Dialect("guanaco", re.compile(r"### (Human|Assistant): ?"), ("</s>",), is_anywhere=False),
    Dialect("hh", re.compile(r"(?:\A|\n\n)(Human|Assistant): ?"), is_anywhere=False),
    Dialect(
        "vicuna", re.compile(r"(?:\A|\s)(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE): ?"), ("</s>", "<|endoftext|>")
    ),
    Dialect("plain", re.compile(r"(?:\A|\n)(System|User|Human|Assistant|AI|Bot): ?"), is_anywhere=False),
)  # fmt: skip
SYSTEM_OF_LLAMA = re.compile(r"\A\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)


def split_transcript(text: str, place: str) -> list[Turn]:
    """Splits a text at its markers; an empty answer at its end, as prompts have, is left out.

    Raises:
        DataError: If it has no marker that begins a turn.
    """
    dialect = find_dialect(text)
    if dialect is None:
        raise DataError(
            f"{place} has a text without turns; mark them, as in <|im_start|>user, or write messages. Plain text is "
            "for the stage pack"
        )
    check_text(text, place)
    turns: list[Turn] = []
    parts = dialect.marker.split(text.strip())
    if before := _strip(parts[0], dialect):
        turns.append(Turn("system", before))
    for speaker, said in zip(parts[1::2], parts[2::2], strict=True):
        role = MARKED_SPEAKERS.get(speaker.lower())
        if role is None:
            raise DataError(f"{place} has a turn of {speaker!r}, not a known role; use system, user, assistant")
        text = _strip(said, dialect)
        if found := SYSTEM_OF_LLAMA.match(text):
            turns.append(Turn("system", found[1].strip()))
            text = text[found.end() :].strip()
        turns.append(Turn(role, text))
    return turns[:-1] if turns[-1].role == "assistant" and not turns[-1].text else turns


def find_dialect(text: str) -> Dialect | None:
    """The format whose marker comes first; `None` if there is none."""
    text = text.strip()
    found = [(match.start(), dialect) for dialect in DIALECTS if (match := dialect.marker.search(text))]
    allowed = [(start, dialect) for start, dialect in found if start == 0 or dialect.is_anywhere]
    return min(allowed, key=lambda pair: pair[0])[1] if allowed else None


def is_transcript(text: str) -> bool:
    """Whether a text begins with a turn's marker, as prompts do that hold a conversation."""
    text = text.strip()
    return any(dialect.marker.match(text) for dialect in DIALECTS if dialect.name not in ("plain", "vicuna"))


def _strip(text: str, dialect: Dialect) -> str:
    """Takes the tokens off that end a turn; within a text they stay."""
    text = text.strip()
    while found := next((end for end in dialect.ends if text.endswith(end) or text.startswith(end)), None):
        text = text.removesuffix(found).removeprefix(found).strip()
    return text
