"""Encodes curated documents into parts of shards, a process a core; finished parts are not encoded again."""

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
from ..tokenization_codeshell import CodeShellTokenizer
from .encoder import make_tiktoken
from .perturbation import perturb
from .settings import Perturbation
from .shards import Encoder, PartWriter, TextDocument, encode_all, find_part, is_begun, name_part

logger = logging.getLogger(__name__)

TRAIN = "train"
WORTH_A_WORKER = 64_000_000  # bytes of compressed Parquet


class CuratedDocument(TextDocument):
    """A document to encode, with its split."""

    split: str


@dataclass(frozen=True)
class PartTask:
    """Files of curated documents that become one part of each split's shards.

    Args:
        files: Of curated documents, in order.
        name: Of the part.
        folders: Of the shards, by split.
        header: Of the shards, without counts.
        tokenizer: Its folder.
        is_fast: Whether tiktoken encodes.
        threads: That encode side by side.
        perturbation: Of training documents; held-out ones are never changed.
    """

    files: tuple[Path, ...]
    name: str
    folders: tuple[tuple[str, Path], ...]
    header: Header
    tokenizer: Path
    is_fast: bool
    threads: int
    perturbation: Perturbation | None

    @property
    def stems(self) -> dict[str, Path]:
        """Folder and name of the part, by split."""
        return {split: folder / self.name for split, folder in self.folders}


def encode_documents(
    documents: Path,
    folders: dict[str, Path],
    header: Header,
    tokenizer: Path,
    *,
    part_bytes: int,
    is_fast: bool,
    perturbation: Perturbation | None = None,
    workers: int | None = None,
    share: tuple[int, int] = (1, 1),
) -> dict[str, list[ShardPart]]:
    """Encodes curated documents, each of their files read once for all splits.

    Args:
        documents: The output of `curate`.
        folders: Of the shards, by split; parts in them that are finished and not broken stay.
        part_bytes: Bytes of compressed Parquet that become one part.
        is_fast: Whether tiktoken encodes.
        workers: Processes; `None` for one each 64 MB of Parquet, up to one a core.
        share: Which of how many shares of the parts to encode, as (3, 16), counted from 1.

    Returns:
        The parts of each split, in the order of their documents.
    """
    groups = group_files(list_parts(documents), part_bytes)
    number, shares = share
    first, last = ((place * len(groups)) // shares for place in (number - 1, number))
    # A process takes seconds to start, and tiktoken may use threads.
    worth = sum(file.stat().st_size for group in groups[first:last] for file in group) // WORTH_A_WORKER
    workers = max(1, min(workers or min(count_usable_cpus(), worth), last - first))
    threads = max(1, count_usable_cpus() // workers)
    tasks = [
        PartTask(
            tuple(groups[place]), name_part(place), tuple(folders.items()), header, tokenizer, is_fast, threads,
            perturbation,
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
    """Groups files that follow each other, up to a size each; one that is larger is a group."""
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
    """Encodes files of curated documents into a part of each split, which is whole or absent; gives name and parts."""
    encoder = load_encoder(task.tokenizer, is_fast=task.is_fast, threads=task.threads)
    writers = {split: PartWriter(stem, task.header) for split, stem in task.stems.items()}
    rows, texts = tee(_read(task))
    for row, document in zip(rows, encode_all(texts, encoder), strict=True):
        writers[row["split"]].add(document)
    return task.name, {split: writer.close() for split, writer in writers.items()}


@functools.cache
def load_encoder(tokenizer: Path, *, is_fast: bool, threads: int = 1) -> Encoder:
    """Loads what encodes, once a process."""
    loaded = CodeShellTokenizer.from_pretrained(tokenizer)
    return make_tiktoken(loaded.backend_tokenizer, threads=threads) if is_fast else loaded


def _find_finished(task: PartTask) -> dict[str, ShardPart] | None:
    """The parts of a task by split, or `None` unless all are whole and as they were written."""
    found = {split: find_part(stem) for split, stem in task.stems.items()}
    for split, part in found.items():
        if part is None and is_begun(task.stems[split]):
            logger.warning("%s is not as it was written and is encoded again", task.stems[split])
    whole = {split: part for split, part in found.items() if part is not None}
    return whole if len(whole) == len(found) else None


def _run(tasks: Sequence[PartTask], workers: int) -> Iterator[tuple[str, dict[str, ShardPart]]]:
    """Encodes parts and yields what `encode_part` returns as they are finished."""
    if workers == 1:
        yield from map(encode_part, tasks)
        return
    # Spawned: a forked process would share the locks of libraries that are already running threads.
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
