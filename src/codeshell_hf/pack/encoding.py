"""Encodes documents or conversations into parts of shards, in processes; finished parts are not encoded again."""

import functools
import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import cast

from tqdm import tqdm

from ..processors import count_usable_cpus
from ..text.documents import list_parts, read_part
from ..text.shards import Header, ShardPart
from ..text.tiktoken_encoder import make_tiktoken
from ..tokenization_codeshell import CodeShellTokenizer
from .perturbation import perturb
from .settings import EncodingSettings, Perturbation
from .shard_writer import (
    EncodedDocument,
    Encoder,
    PartWriter,
    TextDocument,
    encode_all,
    find_part,
    has_record,
    name_part,
)

logger = logging.getLogger(__name__)

TRAIN = "train"
CONVERSATION = "conversation"  # the language of all of them
BYTES_PER_WORKER = 64_000_000  # of compressed Parquet


class CuratedDocument(TextDocument):
    """A document to encode, with its split."""

    split: str


@dataclass(frozen=True)
class PartTask:
    """Files that are encoded into one part of each split's shards.

    Args:
        files: Files of curated documents, or of conversations, in order.
        name: Name of the part.
        folders: Folders of the shards, by split.
        header: Header of the shards, without counts.
        tokenizer: Folder of the tokenizer.
        is_fast: Whether to encode with tiktoken.
        threads: Number of threads that encode.
        perturbation: Applied to training documents only.
        holds_conversations: Whether the files are of conversations, which all are training documents.
    """

    files: tuple[Path, ...]
    name: str
    folders: tuple[tuple[str, Path], ...]
    header: Header
    tokenizer: Path
    is_fast: bool
    threads: int
    perturbation: Perturbation | None
    holds_conversations: bool

    @property
    def stems(self) -> dict[str, Path]:
        """Path of the part without a suffix, by split."""
        return {split: folder / self.name for split, folder in self.folders}


def encode_documents(
    documents: Path | Sequence[Path],
    folders: dict[str, Path],
    header: Header,
    settings: EncodingSettings,
    *,
    is_fast: bool,
    share: tuple[int, int] = (1, 1),
) -> dict[str, list[ShardPart]]:
    """Encodes documents, reading each file once for all splits.

    Args:
        documents: The output of `curate`, or files of conversations.
        folders: Folders of the shards, by split; finished and intact parts in them are kept.
        is_fast: Whether to encode with tiktoken.
        share: The share of the parts to encode, counted from 1: (3, 16) is the third of 16.

    Returns:
        The parts of each split, in the order of documents.
    """
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    holds_conversations = not isinstance(documents, Path)
    files = list_parts(documents) if isinstance(documents, Path) else documents
    groups = group_files(files, settings.part_bytes)
    number, shares = share
    first, last = ((place * len(groups)) // shares for place in (number - 1, number))
    # By default a process for each 64 MB of Parquet: it takes seconds to start, and tiktoken may use threads.
    worth = sum(file.stat().st_size for group in groups[first:last] for file in group) // BYTES_PER_WORKER
    workers = max(1, min(settings.workers or min(count_usable_cpus(), worth), last - first))
    threads = max(1, count_usable_cpus() // workers)
    tasks = [
        PartTask(
            tuple(groups[place]), name_part(place), tuple(folders.items()), header, settings.tokenizer, is_fast,
            threads, settings.perturbation, holds_conversations,
        )
        for place in range(first, last)
    ]  # fmt: skip
    with ThreadPoolExecutor(count_usable_cpus()) as pool:
        finished = dict(zip([task.name for task in tasks], pool.map(_find_finished, tasks), strict=True))
    left = [task for task in tasks if finished[task.name] is None]
    with tqdm(total=len(tasks), initial=len(tasks) - len(left), desc="pack", unit="part") as bar:
        for name, parts in _run(left, workers):
            finished[name] = parts
            bar.update()
    return {split: [parts[split] for parts in finished.values() if parts] for split in folders}


def group_files(files: Sequence[Path], part_bytes: int) -> list[list[Path]]:
    """Groups consecutive files up to a size per group; a larger file is a group of its own."""
    groups: list[list[Path]] = []
    size = 0
    for file in files:
        own = file.stat().st_size
        if not groups or size + own > part_bytes:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += own
    return groups


def encode_part(task: PartTask) -> tuple[str, dict[str, ShardPart]]:
    """Encodes files into a part of each split, complete or absent; returns its name and parts."""
    writers = {split: PartWriter(stem, task.header) for split, stem in task.stems.items()}
    if task.holds_conversations:
        for document in _encode_conversations(task):
            writers[TRAIN].add(document)
        return task.name, {split: writer.close() for split, writer in writers.items()}
    encoder = load_encoder(task.tokenizer, is_fast=task.is_fast, threads=task.threads)
    rows, texts = tee(_read(task))
    for row, document in zip(rows, encode_all(texts, encoder), strict=True):
        writers[row["split"]].add(document)
    return task.name, {split: writer.close() for split, writer in writers.items()}


@functools.cache
def load_encoder(tokenizer: Path, *, is_fast: bool, threads: int = 1) -> Encoder:
    """Loads the encoder, once per process."""
    loaded = CodeShellTokenizer.from_pretrained(tokenizer)
    return make_tiktoken(loaded.backend_tokenizer, threads=threads) if is_fast else loaded


def _encode_conversations(task: PartTask) -> Iterator[EncodedDocument]:
    from ..text.chat import encode_conversation  # imports torch, which documents do not need
    from ..text.conversation_files import read_conversations

    tokenizer = CodeShellTokenizer.from_pretrained(task.tokenizer)
    for file in task.files:
        for number, conversation in enumerate(read_conversations(file)):
            ids = encode_conversation(tokenizer, conversation).ids[:-1]  # the writer adds the end of text
            text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            yield EncodedDocument(f"{file.name}@{number}", CONVERSATION, file.stem, len(str(text).encode("utf-8")), ids)


def _find_finished(task: PartTask) -> dict[str, ShardPart] | None:
    """The parts of a task by split, or `None` unless all are complete and intact."""
    found = {split: find_part(stem) for split, stem in task.stems.items()}
    for split, part in found.items():
        if part is None and has_record(task.stems[split]):
            logger.warning("%s is damaged and will be encoded again", task.stems[split])
    whole = {split: part for split, part in found.items() if part is not None}
    return whole if len(whole) == len(found) else None


def _run(tasks: Sequence[PartTask], workers: int) -> Iterator[tuple[str, dict[str, ShardPart]]]:
    """Encodes parts, and yields the results of `encode_part` as they finish."""
    if workers == 1:
        yield from map(encode_part, tasks)
        return
    # Spawned, since a fork would copy locks held by the threads of libraries.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(encode_part, task) for task in tasks]):
            yield done.result()


def _read(task: PartTask) -> Iterator[CuratedDocument]:
    wanted = dict(task.folders)
    for file in task.files:
        for row in read_part(file, columns=["id", "language", "source", "text", "split"]):
            document = cast(CuratedDocument, row)
            if document["split"] not in wanted:
                continue
            if task.perturbation is not None and document["split"] == TRAIN:
                document["text"] = perturb(document["text"], document["language"], document["id"], task.perturbation)
            yield document
