"""Prepares conversations once, on all cores: rows on disk, which every rank maps into memory."""

import hashlib
import json
import multiprocessing
import shutil
import time
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ..errors import DataError
from ..processors import count_usable_cpus
from ..text.chat import NO_LOSS, Conversation
from ..text.chat_encoder import ChatEncoder, EncodedArrays, split_row
from ..text.conversation_files import Findings, list_place_rows
from ..text.conversation_files.reading import PlacedThread, explain_nothing, read_row
from ..text.conversation_files.rows import RawRow
from ..text.settings import Reading
from .models import open_tokenizer
from .preview import mark_loss
from .splits import split_keys

if TYPE_CHECKING:
    from datasets import Dataset

ROWS, DONE = "rows.arrow", "done.json"
COLUMNS = {"keys": "Q", "rows": "I", "tokens": "Q", "learned": "Q", "is_long": "B"}  # by conversation
BYTES_PER_WORKER = 16_000_000  # a process takes seconds to start
CHUNK_BYTES, CHUNK_ROWS = 1_000_000, 500
SHORTEST_ORIGINAL = 17  # tokens; the released script leaves out shorter conversations
WAIT_S = 0.5
SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


@dataclass
class Chunk:
    """Encoded rows of some conversations.

    Args:
        findings: Of reading them.
        ids: All tokens of all rows, uint32.
        has_loss: Whether each is learned.
        row_tokens: Tokens of each row.
        keys: Of each conversation, equal for those that must not stand on both sides of a split.
        rows: Rows of each conversation, of which those without a token to learn have none.
        tokens: Tokens of its rows.
        learned: Those with a loss.
        is_long: Whether it was longer than a row.
    """

    findings: Findings
    ids: NDArray[np.uint32]
    has_loss: NDArray[np.bool_]
    row_tokens: list[int]
    keys: list[int]
    rows: list[int]
    tokens: list[int]
    learned: list[int]
    is_long: list[bool]


@dataclass(frozen=True)
class TuningPart:
    """Rows to train or to measure on, with the number of conversations split and of those without a token to learn."""

    rows: "Dataset"
    conversations: int
    tokens: int
    answer_tokens: int
    split: int
    without_loss: int


@dataclass(frozen=True)
class PreparedConversations:
    """Conversations on disk.

    Args:
        folder: Of their files.
        findings: Of reading them.
        shown: A row with the tokens marked that carry loss.
        table: Arrays by conversation: `keys`, `rows`, `tokens`, `learned` and `is_long`.
    """

    folder: Path
    findings: Findings
    shown: str
    table: dict[str, NDArray[np.generic]]

    def describe(self) -> list[str]:
        """Lines for the log: what was found, and the row that is shown."""
        return [*self.findings.describe(), f"a row, with its loss between ⟦ and ⟧: {self.shown}"]

    def split(self, fraction: float, seed: int, max_tokens: int | None) -> tuple[TuningPart, TuningPart]:
        """The conversations to train on, shuffled, and the held-out fraction; no conversation is on both sides.

        Raises:
            DataError: If one of the two has no conversation or no row.
        """
        train, held_out = split_keys(self.table["keys"], fraction, seed, what="conversations")
        return (
            self._take(train, "train", max_tokens),
            self._take(held_out, "measure", max_tokens),
        )

    def _take(self, chosen: NDArray[np.int64], purpose: str, max_tokens: int | None) -> TuningPart:
        from datasets import Dataset

        counts = self.table["rows"].astype(np.int64)
        starts = np.cumsum(counts) - counts
        rows = np.repeat(starts[chosen], counts[chosen]) + _count_up(counts[chosen])
        if not len(rows):
            raise DataError(
                f"none of {len(chosen)} conversations to {purpose} on has an answer within rows of {max_tokens} "
                "tokens; raise trainer.max_length"
            )
        return TuningPart(
            Dataset.from_file(str(self.folder / ROWS)).select(rows),
            len(chosen),
            int(self.table["tokens"][chosen].sum()),
            int(self.table["learned"][chosen].sum()),
            int(self.table["is_long"][chosen].sum()),
            int((counts[chosen] == 0).sum()),
        )

    def remove(self) -> None:
        """Deletes the files, and what the trainer made of them beside them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _count_up(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 to n - 1 for each n, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)


def prepare_conversations(
    places: Sequence[str],
    reading: Reading,
    tokenizer: Path,
    max_tokens: int | None,
    folder: Path,
    *,
    is_first: bool,
    workers: int | None = None,
) -> PreparedConversations:
    """Reads and encodes conversations into files, or opens the finished files of a run before.

    Args:
        places: Files, folders and names on the Hub.
        reading: How they are read.
        tokenizer: Folder of the tokenizer.
        max_tokens: Longer conversations are split into several rows.
        folder: For the files; it is this function's own.
        is_first: Whether this rank prepares; others wait for it. They poll for the file that it writes last, since
            a collective operation would run into its time limit.
        workers: Processes; `None` for one per core where there are enough data.

    Raises:
        DataError: If a file cannot be read, has no conversation, or more rows are bad than allowed.
    """
    request = json.dumps([list(map(str, places)), reading.model_dump(), str(tokenizer), max_tokens])
    while not _is_done(folder, request):
        if is_first:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            _prepare(places, reading, tokenizer, max_tokens, folder, request, workers)
        else:
            time.sleep(WAIT_S)
    values = json.loads((folder / DONE).read_text(encoding="utf-8"))
    table = {name: np.load(folder / f"{name}.npy") for name in COLUMNS}
    return PreparedConversations(folder, Findings.load(values["findings"]), values["shown"], table)


def _is_done(folder: Path, request: str) -> bool:
    try:
        return bool(json.loads((folder / DONE).read_text(encoding="utf-8"))["request"] == request)
    except (OSError, ValueError):
        return False


def _prepare(
    places: Sequence[str], reading: Reading, tokenizer: Path, max_tokens: int | None, folder: Path, request: str,
    workers: int | None,
) -> None:  # fmt: skip
    findings = Findings()
    table = {name: array(code) for name, code in COLUMNS.items()}
    shown = ""
    workers = workers or min(count_usable_cpus(), 1 + sum(map(_measure, places)) // BYTES_PER_WORKER)
    task = (reading, tokenizer, max_tokens)
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin, initargs=task
    )  # fmt: skip
    with (
        pool if workers > 1 else nullcontext() as processes,
        pa.OSFile(str(folder / ROWS), "wb") as sink,
        pa.ipc.new_stream(sink, SCHEMA) as writer,
        tqdm(desc="prepare", unit="conversation", disable=None) as bar,
    ):
        if processes is None:
            _begin(*task)
        for place in places:
            own = Findings()
            before = len(table["keys"])
            for chunk in _encode(_list_chunks(list_place_rows(place, reading, own)), processes, workers):
                own.extend(chunk.findings)
                own.check(reading.max_bad_rows, before=findings.bad_rows)
                if chunk.row_tokens:
                    shown = shown or _show(chunk, tokenizer)
                    writer.write_batch(_make_batch(chunk))
                for name, values in table.items():
                    values.extend(getattr(chunk, name))
                bar.update(len(chunk.keys))
            if len(table["keys"]) == before:
                raise DataError(explain_nothing(place, own))
            findings.extend(own)
    for name, values in table.items():
        np.save(folder / f"{name}.npy", np.asarray(values))
    done = json.dumps({"request": request, "findings": findings.dump(), "shown": shown})
    (folder / f"{DONE}.new").write_text(done, encoding="utf-8")
    (folder / f"{DONE}.new").rename(folder / DONE)


def _measure(place: str) -> int:
    path = Path(place)
    files = [path] if path.is_file() else path.rglob("*") if path.is_dir() else []
    return sum(file.stat().st_size for file in files if file.is_file())


def _list_chunks(rows: Iterable[RawRow | PlacedThread]) -> Iterator[list[RawRow | PlacedThread]]:
    chunk: list[RawRow | PlacedThread] = []
    size = 0
    for row in rows:
        chunk.append(row)
        value = row.value if isinstance(row, RawRow) else None
        size += len(value) if isinstance(value, bytes) else CHUNK_BYTES // CHUNK_ROWS
        if size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _encode(
    chunks: Iterable[list[RawRow | PlacedThread]], pool: ProcessPoolExecutor | None, workers: int
) -> Iterator[Chunk]:
    """Encodes chunks in their order; a few are on the way at a time."""
    if pool is None:
        yield from map(encode_chunk, chunks)
        return
    waiting: deque[Future[Chunk]] = deque()
    for chunk in chunks:
        waiting.append(pool.submit(encode_chunk, chunk))
        if len(waiting) > 2 * workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


_task: tuple[Reading, ChatEncoder, int | None] | None = None  # of this process


def _begin(reading: Reading, tokenizer: Path, max_tokens: int | None) -> None:
    global _task
    _task = (reading, ChatEncoder(open_tokenizer(tokenizer)), max_tokens)


def encode_chunk(rows: Sequence[RawRow | PlacedThread]) -> Chunk:
    """Reads and encodes some rows in a process that `_begin` set up."""
    assert _task is not None, "the process is not set up"  # noqa: S101 - a fault of this module
    reading, encoder, max_tokens = _task
    made = Chunk(Findings(), np.empty(0, np.uint32), np.empty(0, np.bool_), [], [], [], [], [], [])
    pieces: list[EncodedArrays] = []
    for row in rows:
        for conversation in read_row(row, reading, made.findings, needs_answer=True):
            own, is_long = _encode_one(conversation, encoder, max_tokens)
            pieces += own
            made.keys.append(hash_conversation(conversation))
            made.rows.append(len(own))
            made.tokens.append(sum(map(len, own)))
            made.learned.append(sum(int(piece.has_loss.sum()) for piece in own))
            made.is_long.append(is_long)
            made.row_tokens += map(len, own)
    if pieces:
        made.ids = np.concatenate([piece.ids for piece in pieces])
        made.has_loss = np.concatenate([piece.has_loss for piece in pieces])
    return made


def _encode_one(
    conversation: Conversation, encoder: ChatEncoder, max_tokens: int | None
) -> tuple[Sequence[EncodedArrays], bool]:
    """The rows of a conversation, and whether it is longer than one.

    As in the released script, one of kind "original" is broken off before the turn that does not fit, and left out if
    it is too short.
    """
    encoded = encoder.encode(conversation)
    is_long = max_tokens is not None and len(encoded) > max_tokens
    if conversation.kind != "original":
        return split_row(encoded, max_tokens), is_long
    count = len(conversation.messages)
    while is_long and max_tokens is not None and len(encoded) > max_tokens and count > 1:
        count -= 1
        encoded = encoder.encode(Conversation(conversation.messages[:count], kind="original"))
    if len(encoded) < SHORTEST_ORIGINAL or (max_tokens is not None and len(encoded) > max_tokens):
        return [], is_long
    return split_row(encoded, None), is_long


def hash_conversation(conversation: Conversation) -> int:
    """A number of 64 bits, equal for conversations of one thread, and for those that differ in white space alone."""
    said = [f"{message['role']} {' '.join(message['content'].split())}" for message in conversation.messages]
    text = conversation.thread or "\x1e".join(said)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _make_batch(chunk: Chunk) -> pa.RecordBatch:
    offsets = np.concatenate(([0], np.cumsum(chunk.row_tokens))).astype(np.int32)
    ids = chunk.ids.astype(np.int32)
    labels = np.where(chunk.has_loss, ids, np.int32(NO_LOSS))
    columns = [pa.ListArray.from_arrays(offsets, values) for values in (ids, labels)]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _show(chunk: Chunk, tokenizer: Path) -> str:
    tokens = chunk.row_tokens[0]
    return mark_loss(open_tokenizer(tokenizer), EncodedArrays(chunk.ids[:tokens], chunk.has_loss[:tokens]))
