"""Repository-level documents: the files of a repository, ordered by imports and joined up to a length.

Files are partitioned by repository into groups that fit into memory, near-duplicate repositories are dropped, and each
group is written as a part, complete or absent.
"""

import hashlib
import multiprocessing
import pickle
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from ..errors import DataError
from ..processors import count_usable_cpus
from ..text.documents import list_parts, name_repository, read_part
from ..text.shards import Header, ShardPart
from .encoding import load_encoder
from .imports import Paths, find_imports
from .marks import Marks
from .ordering import order_by_imports
from .settings import RepositorySettings
from .shard_writer import EncodedDocument, Encoder, PartWriter, find_part, name_part

if TYPE_CHECKING:
    from rensa import RMinHash

SCRATCH = "scratch"  # temporary folder, deleted when all parts are finished
COLUMNS = ("repository", "path", "language", "source", "stars", "text")
# Documents that belong to a repository but are not files of it.
NOT_FILES = frozenset({"git-commits", "github-issues"})
GROUP_BYTES = 64_000_000  # of compressed Parquet, which a process has in memory at a time
# Shorter lines are common to all repositories.
MIN_LINE = 8
MINIMA, BANDS = 128, 32
SEED = 1
Task = TypeVar("Task")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class File:
    """A file of a repository."""

    path: str
    language: str
    source: str
    text: str


@dataclass
class Repository:
    """The curated files of a repository; its address is unique, its name is not."""

    address: str
    stars: int = 0
    files: list[File] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """Size of all files in UTF-8."""
        return sum(len(file.text.encode()) for file in self.files)


@dataclass(frozen=True)
class Signature:
    """The MinHash signature of a repository's lines."""

    address: str
    stars: int
    bytes: int
    minima: "RMinHash"


@dataclass(frozen=True)
class SpreadTask:
    """A file of curated documents to partition into `groups` files of a folder."""

    part: Path
    split: str
    folder: Path
    groups: int


@dataclass(frozen=True)
class GroupTask:
    """A group of repositories.

    Args:
        files: Parquet files of its documents.
        output: The file to write.
        min_files: As in `RepositorySettings`.
    """

    files: tuple[Path, ...]
    output: Path
    min_files: int


@dataclass(frozen=True)
class JoinTask(GroupTask):
    """A group to join and encode; `left_out` are near-duplicate repositories."""

    left_out: frozenset[str]
    max_tokens: int
    header: Header
    marks: Marks
    tokenizer: Path
    is_fast: bool


@dataclass(frozen=True)
class RepositoryCounts:
    """Number of repositories with enough files, and of near duplicates among them, which are dropped."""

    repositories: int
    near: int


def order_files(files: Sequence[File]) -> list[File]:
    """Orders files so that imports come first, else by path; of several files with one path, only the first is kept."""
    by_path: dict[str, File] = {}
    for file in files:
        by_path.setdefault(file.path, file)
    paths = Paths(by_path)
    imports = {
        path: [
            found for one in find_imports(file.text, file.language, path) for found in paths.resolve(one, importer=path)
        ]
        for path, file in by_path.items()
    }
    return [by_path[path] for path in order_by_imports(imports)]


def join_files(
    address: str, files: Sequence[File], encoder: Encoder, marks: Marks, *, max_tokens: int
) -> Iterator[EncodedDocument]:
    """Joins the files of a repository, in the given order, into documents that each begin with its name.

    A document ends before the file that would make it too long. A file that is longer than a document is cut, and each
    piece begins with its path.

    Args:
        address: Its last two parts are the name.
        encoder: Encodes special tokens as ordinary text.
        max_tokens: Longest document.

    Returns:
        Documents, each with the language of most of its bytes.

    Raises:
        DataError: If a name and a path leave no room for text.
    """
    lines = [_in_one_line(text) for text in (name_repository(address), *(file.path for file in files))]
    texts = [*lines, *(file.text for file in files)]
    encoded = encoder(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"]
    ids = [np.asarray(one).tolist() for one in encoded]
    head = [marks.repository, *ids[0], marks.line_break]
    document: list[int] = list(head)
    sizes: dict[str, int] = defaultdict(int)
    source = files[0].source if files else ""
    number = 0

    def close() -> EncodedDocument:
        nonlocal document, sizes, number
        language = max(sizes, key=lambda one: (sizes[one], one))
        made = EncodedDocument(f"{address}#{number}", language, source, sum(sizes.values()), document)
        document, sizes, number = list(head), defaultdict(int), number + 1
        return made

    for file, path, text in zip(files, ids[1 : len(files) + 1], ids[len(files) + 1 :], strict=True):
        start = [marks.file, *path, marks.line_break]
        room = max_tokens - len(head) - len(start)
        if room < 1:
            raise DataError(f"{address} and {file.path} alone take {len(head) + len(start)} tokens; raise row_tokens")
        if sizes and len(document) + len(start) + len(text) > max_tokens:
            yield close()
        size = len(file.text.encode())
        for begin in range(0, max(len(text), 1), room):
            piece = text[begin : begin + room]
            document += [*start, *piece]
            # Bytes of a cut file are divided in proportion to its tokens.
            sizes[file.language] += size * (begin + len(piece)) // max(len(text), 1) - size * begin // max(len(text), 1)
            if begin + room < len(text):
                yield close()
    if sizes:
        yield close()


def _in_one_line(text: str) -> str:
    return " ".join(text.split("\n"))


def join_repositories(
    documents: Path,
    split: str,
    folder: Path,
    header: Header,
    marks: Marks,
    settings: RepositorySettings,
    tokenizer: Path,
    *,
    is_fast: bool,
    workers: int | None = None,
) -> tuple[list[ShardPart], RepositoryCounts]:
    """Joins and encodes the curated documents of a split that have a repository, each group into a part.

    Args:
        documents: The output of `curate`.
        folder: Folder of the shards; finished and intact parts in it are kept.
        is_fast: Whether to encode with tiktoken.
        workers: Number of processes; `None` for one per group, up to one per core.

    Returns:
        The parts, and the counts of repositories.

    Raises:
        DataError: If no repository has enough files.
    """
    scratch = folder / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    parts = list_parts(documents)
    groups = 1 + sum(part.stat().st_size for part in parts) // GROUP_BYTES
    processes = min(workers or count_usable_cpus(), groups)
    spread = [SpreadTask(part, split, scratch / "spread" / part.stem, groups) for part in parts]
    _run(spread_part, [task for task in spread if not task.folder.exists()], processes, "find repositories")
    files = [tuple(task.folder / f"{group:05d}.parquet" for task in spread) for group in range(groups)]

    signed = [GroupTask(one, scratch / f"signed-{group:05d}", settings.min_files) for group, one in enumerate(files)]
    _run(sign_group, [task for task in signed if not task.output.exists()], processes, "sign repositories")
    signatures = [one for task in signed for one in pickle.loads(task.output.read_bytes())]  # noqa: S301 - our own file
    if not signatures:
        raise DataError(
            f"no repository in {documents} has {settings.min_files} files; curate sources that name repositories, "
            "or set repositories to null"
        )
    left_out = find_near_repositories(signatures, settings.min_jaccard) if settings.min_jaccard else frozenset()

    tasks = [
        JoinTask(
            *(one, folder / name_part(group), settings.min_files, left_out, settings.max_tokens),
            *(header, marks, tokenizer, is_fast),
        )
        for group, one in enumerate(files)
    ]
    left = [task for task in tasks if find_part(task.output) is None]
    _run(join_group, left, processes, "join repositories")
    made = [part for task in tasks if (part := find_part(task.output)) is not None]
    return made, RepositoryCounts(len(signatures), len(left_out))


def _run(function: Callable[[Task], None], tasks: Sequence[Task], workers: int, what: str) -> None:
    """Runs tasks, sequentially or in processes."""
    with tqdm(total=len(tasks), desc=f"pack: {what}", unit="part") as bar:
        if workers <= 1 or len(tasks) <= 1:
            for task in tasks:
                function(task)
                bar.update()
            return
        # Spawned, since a fork would copy locks held by the threads of libraries.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            for _ in pool.map(function, tasks):
                bar.update()


def spread_part(task: SpreadTask) -> None:
    """Writes the files of repositories among a part's documents, partitioned by group."""
    temporary = task.folder.with_name(f".{task.folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    schema = pa.schema([(name, pa.int64() if name == "stars" else pa.large_string()) for name in COLUMNS])
    writers = [pq.ParquetWriter(temporary / f"{group:05d}.parquet", schema) for group in range(task.groups)]
    rows: list[list[dict[str, object]]] = [[] for _ in writers]
    for row in read_part(task.part, split=task.split, columns=COLUMNS):
        repository = row["repository"]
        if repository is not None and row["language"] not in NOT_FILES:
            digest = hashlib.sha256(repository.encode()).digest()
            rows[int.from_bytes(digest[:8], "big") % task.groups].append(dict(row))
    for writer, mine in zip(writers, rows, strict=True):
        writer.write_table(pa.Table.from_pylist(mine, schema=schema))
        writer.close()
    temporary.rename(task.folder)


def read_group(task: GroupTask) -> list[Repository]:
    """Reads the repositories of a group that have enough files, sorted by address."""
    found: dict[str, Repository] = {}
    for path in task.files:
        for row in pq.read_table(path).to_pylist():
            repository = found.setdefault(row["repository"], Repository(row["repository"]))
            repository.stars = max(repository.stars, row["stars"] or 0)
            repository.files.append(File(row["path"], row["language"], row["source"], row["text"]))
    return [found[address] for address in sorted(found) if len(found[address].files) >= task.min_files]


def sign_group(task: GroupTask) -> None:
    """Writes the MinHash signatures of a group's repositories."""
    from rensa import RMinHash

    repositories = read_group(task)
    lines = [sorted(_list_lines(repository)) for repository in repositories]
    minima = RMinHash.from_token_sets(lines, MINIMA, SEED)
    signatures = [
        Signature(repository.address, repository.stars, repository.bytes, one)
        for repository, one in zip(repositories, minima, strict=True)
    ]
    temporary = task.output.with_suffix(".tmp")
    temporary.write_bytes(pickle.dumps(signatures))
    temporary.replace(task.output)


def _list_lines(repository: Repository) -> set[str]:
    stripped = (line.strip() for file in repository.files for line in file.text.splitlines())
    return {line for line in stripped if len(line) >= MIN_LINE}


def find_near_repositories(signatures: Sequence[Signature], min_jaccard: float) -> frozenset[str]:
    """Finds near-duplicate repositories: those similar to one that is kept.

    Repositories are visited by descending stars, then descending bytes, then address.

    Args:
        min_jaccard: Smallest Jaccard similarity of two repositories' lines, as estimated by 128 MinHashes (to within
            0.04, one standard deviation).

    Returns:
        Addresses of repositories to drop.
    """
    from rensa import RMinHashLSH

    index = RMinHashLSH(min_jaccard, MINIMA, BANDS)
    near: set[str] = set()
    ranked = sorted(signatures, key=lambda one: (-one.stars, -one.bytes, one.address))
    for place, one in enumerate(ranked):
        if any(one.minima.jaccard(ranked[other].minima) >= min_jaccard for other in index.query(one.minima)):
            near.add(one.address)
        else:
            index.insert(place, one.minima)
    return frozenset(near)


def join_group(task: JoinTask) -> None:
    """Writes a group's joined documents as a part, complete or absent."""
    encoder = load_encoder(task.tokenizer, is_fast=task.is_fast)
    writer = PartWriter(task.output, task.header)
    for document in _join_all(task, encoder):
        writer.add(document)
    writer.close()


def _join_all(task: JoinTask, encoder: Encoder) -> Iterator[EncodedDocument]:
    for repository in read_group(task):
        if repository.address not in task.left_out:
            files = order_files(repository.files)
            yield from join_files(repository.address, files, encoder, task.marks, max_tokens=task.max_tokens)
