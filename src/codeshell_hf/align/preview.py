"""Shows what data become before anything is trained: counts of the first rows, and one with its loss marked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import CheckpointError
from ..text.chat import Conversation
from ..text.chat_encoder import ChatEncoder, EncodedArrays
from ..text.conversation_files import Findings, list_place_rows
from ..text.conversation_files.raw_files import HUB_PREFIX
from ..text.conversation_files.reading import read_row
from ..text.settings import Reading
from ..tokenization_codeshell import CodeShellTokenizer
from .models import open_tokenizer
from .preferences import read_pairs

PREVIEWED_ROWS = 1000  # of each place


def mark_loss(tokenizer: CodeShellTokenizer, row: EncodedArrays) -> str:
    """The text of a row, with the tokens that carry a loss between ⟦ and ⟧."""
    borders = np.flatnonzero(np.diff(row.has_loss.astype(np.int8))) + 1
    text = ""
    for ids, has_loss in zip(np.split(row.ids, borders), np.split(row.has_loss, borders), strict=True):
        said = str(tokenizer.decode(ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False))
        text += f"⟦{said}⟧" if len(has_loss) and has_loss[0] else said
    return text


def preview_places(places: Sequence[str], reading: Reading, model: Path) -> list[str]:
    """Lines on the first rows of each place: what is in them, and one with its loss marked.

    Args:
        places: Files, folders and names on the Hub, which are not downloaded for it.
        reading: How they are read.
        model: A folder with a tokenizer; without one, as before a model is there, the row is shown by its turns.

    Raises:
        DataError: If a file cannot be read, or more rows are bad than allowed.
    """
    try:
        tokenizer = open_tokenizer(model)
    except CheckpointError:
        tokenizer = None
    lines: list[str] = []
    for place in places:
        if str(place).startswith(HUB_PREFIX):
            lines.append(f"{place} is downloaded when the stage runs")
        elif Path(place).exists():
            lines += _preview(place, reading, tokenizer)
    return lines


def preview_pairs(places: Sequence[str], reading: Reading) -> list[str]:
    """Lines on the pairs of each place that is here: what was found, and the first pair.

    Raises:
        DataError: If a file cannot be read, or more rows are bad than allowed.
    """
    lines: list[str] = []
    for place in places:
        if str(place).startswith(HUB_PREFIX):
            lines.append(f"{place} is downloaded when the stage runs")
        elif Path(place).exists():
            made = read_pairs(place, reading)
            lines += [f"{place}: {line}" for line in made.findings.describe()]
            lines += [f"{place}: {count} without a pair because {reason}" for reason, count in made.dropped.items()]
            if made.pairs:
                first = made.pairs[0]
                asked = " ".join(f"{message['role']}: {message['content']}" for message in first.prompt)
                lines.append(f"{place}: a pair: {asked} chosen: ⟦{first.chosen}⟧ rejected: ⟦{first.rejected}⟧")
    return lines


def _preview(place: str, reading: Reading, tokenizer: CodeShellTokenizer | None) -> list[str]:
    findings = Findings()
    shown = ""
    is_all = True
    for number, row in enumerate(list_place_rows(place, reading, findings)):
        if number == PREVIEWED_ROWS:
            is_all = False
            break
        for conversation in read_row(row, reading, findings, needs_answer=True):
            shown = shown or _show(conversation, tokenizer)
        findings.check(reading.max_bad_rows)
    part = "" if is_all else f" (its first {PREVIEWED_ROWS:,} rows)"
    lines = [f"{place}{part}: {line}" for line in findings.describe()]
    return [*lines, f"{place}: a row, with its loss between ⟦ and ⟧: {shown or 'there is none'}"]


def _show(conversation: Conversation, tokenizer: CodeShellTokenizer | None) -> str:
    if tokenizer is not None:
        return mark_loss(tokenizer, ChatEncoder(tokenizer).encode(conversation))
    said = []
    for number, message in enumerate(conversation.messages):
        is_learned = message["role"] == "assistant" and number not in conversation.without_loss
        said.append(f"{message['role']}: " + (f"⟦{message['content']}⟧" if is_learned else message["content"]))
    return " ".join(said)
