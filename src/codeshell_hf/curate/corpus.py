"""A measured corpus: its parts, a verdict for each document, and access to the texts."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..dependencies import hash_code
from ..errors import DataError
from ..extensions import find_extension_file
from ..manifest import hash_file, hash_values
from .daft_engine import map_tasks
from .examination import EXAMINED_SIGNALS, AlignTask, ExamineShared, ExamineTask, align_part, examine_part
from .existing import SignShared, SignTask, sign_part
from .measured_parts import MEASURED_BY, SIGNAL_NAMES, measure_part
from .parts import CorpusPart
from .preference_score import Measured
from .progress import Progress
from .settings import Measuring, NearDuplicates, Source
from .sources import Unit, list_units
from .verdicts import Verdicts

ROW = 0xFFFFFFFF
_ROWS = 512
# Fewer parts are aligned in this process, which is faster than starting workers.
_SMALL = 100
Task = TypeVar("Task")
Shared = TypeVar("Shared")
Answer = TypeVar("Answer")


class Drawn(Measured):
    """A sampled document: its key, language and signals."""

    key: int
    language: str


class MeasureTask(TypedDict):
    """A worker's task: the part to measure, with its units as plain values."""

    index: int
    units: list[dict[str, str | int | None]]
    path: str


class MeasureShared(TypedDict):
    """Arguments of all tasks: sources by name, and the settings that measurements depend on, as plain values."""

    sources: dict[str, dict[str, object]]
    measuring: dict[str, object]


# What compressed files unpack to, where they do not say it, in times of their size.
_UNPACKED = {
    **dict.fromkeys((".gz", ".tgz", ".zst", ".zip", ".whl", ".jar"), 4),
    **dict.fromkeys((".bz2", ".tbz2", ".xz", ".txz"), 6),
}
_MOST_UNPACKED = 200
_GZIP_SIZE_BYTES = 4


def weigh(unit: Unit) -> int:
    """About how many bytes a unit unpacks to: what a gzip file states at its end, else by its kind."""
    suffix = Path(unit.path).suffix.lower()
    estimate = unit.size * _UNPACKED.get(suffix, 1)
    if suffix not in (".gz", ".tgz") or unit.reason is not None or unit.size <= _GZIP_SIZE_BYTES:
        return estimate
    try:
        with Path(unit.path).open("rb") as file:
            file.seek(-_GZIP_SIZE_BYTES, os.SEEK_END)
            stated = int.from_bytes(file.read(), "little")
    except OSError:
        return estimate
    # It is that of the last member, modulo four gigabytes.
    return stated if unit.size <= stated <= _MOST_UNPACKED * unit.size else estimate


def split_parts(units: Sequence[Unit], *, part_bytes: int) -> list[list[Unit]]:
    """Groups units into parts by what they unpack to; a part ends with the unit that reaches `part_bytes`."""
    parts: list[list[Unit]] = [[]]
    size = 0
    for unit in units:
        if size >= part_bytes:
            parts.append([])
            size = 0
        parts[-1].append(unit)
        size += weigh(unit)
    return parts


def list_all(sources: Sequence[Source]) -> list[Unit]:
    """Lists the units of all sources, in order; a `DataError` if there are none."""
    units = [unit for source in sources for unit in list_units(source)]
    if not units:
        named = ", ".join(source.path for source in sources) or "no source"
        raise DataError(f"no file was found in {named}; name sources with documents in them")
    return units


def describe_sources(sources: Sequence[Source], *, part_bytes: int) -> list[str]:
    """Describes the size of the sources for a dry run; clones nothing, and reports missing sources."""
    lines: list[str] = []
    units: list[Unit] = []
    for source in sources:
        if source.kind == "repositories":
            lines.append(f"{source.name}: repositories in {source.path}, which a run clones")
            continue
        try:
            listed = list(list_units(source))
        except DataError as error:
            lines.append(str(error))
            continue
        units += listed
        megabytes = sum(unit.size for unit in listed) / 1e6
        lines.append(f"{source.name}: {len(listed):,} {source.kind} units, {megabytes:.1f} MB")
    parts = len(split_parts(units, part_bytes=part_bytes))
    return [*lines, f"{len(units):,} units, {sum(unit.size for unit in units) / 1e6:.1f} MB, in {parts} parts"]


class Corpus:
    """A measured corpus.

    Measured parts are cached under a name that depends on their files, the sources' settings and the measuring code, so
    that a resumed run, or one with other thresholds, measures nothing twice.

    Args:
        cache: Folder of measured parts.
        work: Folder for the intermediate files of steps.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        measuring: Measuring,
        *,
        part_bytes: int,
        cache: Path,
        work: Path,
        on_progress: Progress,
    ) -> None:
        self.work = work
        self.max_file_bytes = measuring.max_file_bytes
        self._progress = on_progress
        parts = split_parts(list_all(sources), part_bytes=part_bytes)
        work.mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        shared: MeasureShared = {
            "sources": {source.name: source.model_dump(mode="json") for source in sources},
            "measuring": measuring.model_dump(mode="json", include=MEASURED_BY),
        }
        readers = dict.fromkeys(file for source in sources if (file := find_extension_file(source.kind)))
        code = [hash_code(Path(str(sys.modules[measure_part.__module__].__file__))), *map(hash_file, readers)]
        self.measured: list[Path] = []
        tasks: list[MeasureTask] = []
        for index, units in enumerate(parts):
            key = hash_values([index, [_sign(unit) for unit in units], shared, code])
            path = cache / f"{index:05d}-{key[:16]}.parquet"
            self.measured.append(path)
            if not path.exists():
                tasks.append({"index": index, "units": [asdict(unit) for unit in units], "path": str(path)})
        # The largest first, so that no core ends long after the others.
        tasks.sort(key=lambda task: -sum(map(weigh, parts[task["index"]])))
        self._follow("measure", map_tasks(measure_task, tasks, shared), len(tasks), len(parts))
        self._examining = ExamineShared(reads_syntax=measuring.reads_syntax, lints=measuring.lints)
        code = [hash_code(Path(str(sys.modules[examine_part.__module__].__file__)))]
        self._examined_by = hash_values([self._examining, code])[:8]
        self._examined = self._list_examined(cache)
        self.verdicts = Verdicts([pq.read_metadata(path).num_rows for path in self.measured])

    def sign_existing(
        self, sources: Sequence[Source], near: NearDuplicates | None, *, part_bytes: int, cache: Path
    ) -> list[Path]:
        """Signs the documents of another corpus, in parts that are numbered on from this one's, and cached."""
        cache.mkdir(parents=True, exist_ok=True)
        shared: SignShared = {
            "sources": {source.name: source.model_dump(mode="json") for source in sources},
            "max_bytes": self.max_file_bytes,
            "near": {"bands": near.bands, "rows": near.rows} if near is not None else None,
        }
        code = hash_code(Path(str(sys.modules[sign_part.__module__].__file__)))
        paths: list[Path] = []
        tasks: list[SignTask] = []
        for index, units in enumerate(split_parts(list_all(sources), part_bytes=part_bytes), len(self.measured)):
            key = hash_values([index, [_sign(unit) for unit in units], shared, code])
            path = cache / f"{index:05d}-{key[:16]}.parquet"
            paths.append(path)
            if not path.exists():
                tasks.append({"index": index, "units": [asdict(unit) for unit in units], "path": str(path)})
        self._follow("existing", map_tasks(sign_part, tasks, shared), len(tasks), len(paths))
        return paths

    def _list_examined(self, cache: Path) -> list[list[Path]]:
        """The files of earlier runs with examined documents, of each part."""
        found: dict[str, list[Path]] = {}
        for path in sorted(cache.glob(f"*-{self._examined_by}-*.examined")):
            found.setdefault(path.name.rsplit("-", 2)[0], []).append(path)
        return [found.get(path.stem, []) for path in self.measured]

    def examine(self, keys: NDArray[np.int64]) -> None:
        """Measures syntax and standards of documents, by sorted keys; those that were examined before are not again."""
        wanted = self.work / "to-examine"
        wanted.mkdir(parents=True, exist_ok=True)
        tasks: list[ExamineTask] = []
        for part, path in enumerate(self.measured):
            mine = keys[np.searchsorted(keys, part << 32) : np.searchsorted(keys, (part + 1) << 32)]
            if len(mine) and self._examined[part]:
                known = [pq.read_table(file, columns=["key"])["key"].to_numpy() for file in self._examined[part]]
                mine = np.setdiff1d(mine, np.concatenate(known))
            if len(mine):
                np.save(wanted / f"{part:05d}.npy", mine)
                # Runs with other rules may share the cache.
                name = hashlib.md5(mine.tobytes(), usedforsecurity=False).hexdigest()[:16]
                output = path.with_name(f"{path.stem}-{self._examined_by}-{name}.examined")
                tasks.append({"measured": str(path), "wanted": str(wanted / f"{part:05d}.npy"), "output": str(output)})
                self._examined[part].append(output)
        self._follow("examine", map_tasks(examine_part, tasks, self._examining), len(tasks), len(tasks))

    def list_examined(self) -> list[str]:
        """The files of documents that have been examined, now or in earlier runs."""
        return [str(path) for paths in self._examined for path in paths]

    def align_examined(self) -> None:
        """Writes what has been examined in the rows of the measured parts, for the steps that follow."""
        folder = self.work / "examined"
        folder.mkdir(parents=True, exist_ok=True)
        tasks = [
            AlignTask(measured=str(measured), examined=[*map(str, self._examined[part])], output=str(output))
            for part, measured in enumerate(self.measured)
            if not (output := self.locate("examined", part)).exists()
        ]
        self._follow("align", map_tasks(align_part, tasks, None, is_small=len(tasks) < _SMALL), len(tasks), len(tasks))

    def _follow(self, step: str, answers: Iterator[Answer], tasks: int, total: int) -> list[Answer]:
        done = total - tasks
        self._progress(step, done, total)
        results = []
        for answer in answers:
            results.append(answer)
            self._progress(step, done + len(results), total)
        return results

    def list_parts(self, step: str, folder: Path, *, prefix: str = "") -> list[CorpusPart]:
        """Lists a step's parts with the verdicts so far; its files go to `folder`, with names after `prefix`."""
        codes = self.work / f"before-{step}"
        self.verdicts.save(codes)
        folder.mkdir(parents=True, exist_ok=True)
        return [
            CorpusPart(
                index=index,
                measured=str(measured),
                examined=str(self.locate("examined", index)),
                codes=str(codes / f"{index:05d}.npy"),
                output=str(folder / f"{prefix}{index:05d}.parquet"),
            )
            for index, measured in enumerate(self.measured)
        ]

    def map(
        self,
        step: str,
        function: Callable[[CorpusPart, Shared], None],
        shared: Shared,
        *,
        max_workers: int | None = None,
    ) -> None:
        """Runs a step, which writes one file for each part, over its unfinished parts."""
        parts = self.list_parts(step, self.work / step)
        missing = [part for part in parts if not Path(part["output"]).exists()]
        answers = map_tasks(function, missing, shared, max_workers=max_workers)
        self._follow(step, answers, len(missing), len(parts))

    def gather(
        self, step: str, function: Callable[[Task, Shared], Answer], tasks: Sequence[Task], shared: Shared
    ) -> list[Answer]:
        """Runs a step over all parts, and returns the answers in the order of completion."""
        return self._follow(step, map_tasks(function, tasks, shared), len(tasks), len(tasks))

    def locate(self, step: str, part: int) -> Path:
        """The file that a step writes for a part."""
        return self.work / step / f"{part:05d}.parquet"

    def read(self, step: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Reads a step's files, one table for each part."""
        for index in range(len(self.measured)):
            yield pq.read_table(self.locate(step, index), columns=list(columns))

    def once(self, name: str, compute: Callable[[], pa.Table]) -> pa.Table:
        """Computes a table, or reads it if an earlier try has written it."""
        path = self.work / f"{name}.parquet"
        if not path.exists():
            temporary = path.with_suffix(".tmp")
            pq.write_table(compute(), temporary)
            temporary.replace(path)
        return pq.read_table(path)

    def take(self, keys: NDArray[np.int64], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Reads columns of some documents, one table for each part with any of them.

        Args:
            keys: Sorted.
            columns: Not the text; use `read_texts`.
        """
        for part, path in enumerate(self.measured):
            mine = keys[np.searchsorted(keys, part << 32) : np.searchsorted(keys, (part + 1) << 32)]
            if len(mine):
                table = pq.read_table(path, columns=[name for name in columns if name not in EXAMINED_SIGNALS])
                if examined := [name for name in columns if name in EXAMINED_SIGNALS]:
                    found = pq.read_table(self.locate("examined", part), columns=examined)
                    for name in examined:
                        table = table.append_column(name, found[name])
                yield table.take(pa.array(mine & ROW))

    def read_texts(self, keys: Sequence[int]) -> Iterator[str]:
        """Reads the texts of documents by sorted keys."""
        wanted = np.array(keys, np.int64)
        for part, path in enumerate(self.measured):
            mine = wanted[np.searchsorted(wanted, part << 32) : np.searchsorted(wanted, (part + 1) << 32)]
            if len(mine):
                for batch in pq.ParquetFile(path).iter_batches(_ROWS, columns=["key", "text"]):
                    yield from batch.filter(pc.is_in(batch["key"], pa.array(mine)))["text"].to_pylist()

    def sample_preferred(self, sample_bytes: int) -> Iterator[str]:
        """About `sample_bytes` of text from the most preferred remaining documents, each language by its share."""
        rows: dict[str, list[tuple[float, int, int]]] = {}
        for part, path in enumerate(self.measured):
            table = pq.read_table(path, columns=["key", "language", "bytes"])
            table = table.append_column(
                "preference", pq.read_table(self.locate("examined", part), columns=["preference"])["preference"]
            )
            kept = table.filter(pa.array(self.verdicts.select(part) == 0))
            for key, language, size, preference in zip(*(column.to_pylist() for column in kept.columns), strict=True):
                rows.setdefault(language, []).append((preference, key, size))
        total = sum(size for documents in rows.values() for _, _, size in documents)
        chosen: list[int] = []
        for documents in rows.values():
            share = min(1.0, sample_bytes / max(total, 1)) * sum(size for _, _, size in documents)
            for _, key, size in sorted(documents, key=lambda row: (-row[0], row[1])):
                if share <= 0:
                    break
                chosen.append(key)
                share -= size
        yield from self.read_texts(sorted(chosen))

    def draw(self, count: int, seed: int) -> list[Drawn]:
        """Samples remaining documents, ordered by key."""
        staying = [
            (np.int64(part) << 32) + np.flatnonzero(self.verdicts.select(part) == 0)
            for part in range(len(self.measured))
        ]
        keys = np.concatenate(staying)
        if len(keys) > count:
            keys = np.sort(np.random.default_rng(seed).choice(keys, count, replace=False))
        tables = self.take(keys, ["key", "language", *SIGNAL_NAMES])
        return [cast(Drawn, row) for table in tables for row in table.to_pylist()]


def measure_task(task: MeasureTask, shared: MeasureShared) -> None:
    """Measures a part."""
    sources = {name: Source.model_validate(values) for name, values in shared["sources"].items()}
    units = [Unit(**cast(Mapping[str, object], values)) for values in task["units"]]  # type: ignore[arg-type]
    measure_part(units, sources, Measuring.model_validate(shared["measuring"]), Path(task["path"]), task["index"])


def _sign(unit: Unit) -> list[str | int | None]:
    """The values that identify a unit's version."""
    try:
        changed = Path(unit.path).stat().st_mtime_ns
    except OSError:
        changed = 0
    return [*asdict(unit).values(), changed]
