"""A corpus that has been measured: its parts, what was decided of each document, and how to reach its texts."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..dependencies import hash_code
from ..errors import DataError
from ..manifest import hash_values
from .engine import map_tasks
from .measurement import SIGNAL_NAMES, Measuring, measure_part
from .parts import Part
from .sources import Source, Unit, list_units
from .verdicts import Verdicts

ROW = 0xFFFFFFFF
_ROWS = 512
Progress = Callable[[str, int, int], None]


def split_parts(units: Sequence[Unit], *, part_bytes: int) -> list[list[Unit]]:
    """Cuts a list of units into parts of about one size, each at least one unit.

    Args:
        units: In order.
        part_bytes: A part is closed when it holds this many bytes.

    Returns:
        The parts, in order.
    """
    parts: list[list[Unit]] = [[]]
    held = 0
    for unit in units:
        if held >= part_bytes:
            parts.append([])
            held = 0
        parts[-1].append(unit)
        held += unit.size
    return parts


def list_all(sources: Sequence[Source]) -> list[Unit]:
    """Finds what all sources hold.

    Args:
        sources: In order.

    Returns:
        Units in their order.

    Raises:
        DataError: If there is nothing at all.
    """
    units = [unit for source in sources for unit in list_units(source)]
    if not units:
        named = ", ".join(source.path for source in sources) or "no source"
        raise DataError(f"no file was found in {named}; name sources with documents in them")
    return units


class Corpus:
    """A measured corpus.

    What is measured of a part is kept under a name that depends on its files, the sources' settings and the code that
    measures: a run that was killed, or is run again with other thresholds, measures nothing twice.

    Args:
        sources: Where documents come from.
        parts: What there is to read.
        options: What to measure.
        cache: Where measured parts are kept.
        work: Where steps leave what the next ones need.
        on_progress: Called with the step, parts done and parts in all.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        parts: Sequence[Sequence[Unit]],
        options: Measuring,
        cache: Path,
        work: Path,
        on_progress: Progress,
    ) -> None:
        self.work = work
        self._progress = on_progress
        cache.mkdir(parents=True, exist_ok=True)
        shared = {"sources": {source.name: asdict(source) for source in sources}, "options": asdict(options)}
        code = hash_code(Path(str(sys.modules[measure_part.__module__].__file__)))
        self.measured: list[Path] = []
        tasks = []
        for index, units in enumerate(parts):
            key = hash_values([index, [_sign(unit) for unit in units], shared, code])
            path = cache / f"{index:05d}-{key[:16]}.parquet"
            self.measured.append(path)
            if not path.exists():
                tasks.append({"index": index, "units": [asdict(unit) for unit in units], "path": str(path)})
        self._follow("measure", measure_task, tasks, shared, len(parts))
        self.verdicts = Verdicts([pq.read_metadata(path).num_rows for path in self.measured])

    def _follow(
        self, step: str, function: Callable[[Any, Any], Any], tasks: list[Any], shared: Any, total: int, **options: Any
    ) -> list[Any]:
        done = total - len(tasks)
        self._progress(step, done, total)
        results = []
        for result in map_tasks(function, tasks, shared, **options):
            results.append(result)
            self._progress(step, done + len(results), total)
        return results

    def list_parts(self, step: str, folder: Path, *, prefix: str = "") -> list[dict[str, Any]]:
        """Parts as a step's workers need them, with the verdicts of now.

        Args:
            step: Its name.
            folder: Where its files go.
            prefix: Of their names.

        Returns:
            One `Part` each, as plain values.
        """
        codes = self.work / f"before-{step}"
        self.verdicts.save(codes)
        folder.mkdir(parents=True, exist_ok=True)
        return [
            asdict(
                Part(
                    index=index,
                    measured=str(measured),
                    codes=str(codes / f"{index:05d}.npy"),
                    output=str(folder / f"{prefix}{index:05d}.parquet"),
                )
            )
            for index, measured in enumerate(self.measured)
        ]

    def map(self, step: str, function: Callable[[Any, Any], Any], shared: Any, **options: Any) -> None:
        """Runs a step over the parts that it has not finished.

        Args:
            step: Its name, and that of the folder its files go to.
            function: What works on a part and writes its file.
            shared: What all need.
            options: As of `map_tasks`.
        """
        tasks = self.list_parts(step, self.work / step)
        missing = [task for task in tasks if not Path(task["output"]).exists()]
        self._follow(step, function, missing, shared, len(tasks), **options)

    def gather(self, step: str, function: Callable[[Any, Any], Any], tasks: list[Any], shared: Any) -> list[Any]:
        """Runs a step over all parts and takes what its workers answer.

        Args:
            step: Its name.
            function: What works on a part.
            tasks: Of `list_parts`, with what else they need.
            shared: What all need.

        Returns:
            Answers, in the order in which they come.
        """
        return self._follow(step, function, tasks, shared, len(tasks))

    def read(self, step: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Reads what a step has written, part by part.

        Args:
            step: Its name.
            columns: What to read.

        Yields:
            One table a part.
        """
        for index in range(len(self.measured)):
            yield pq.read_table(self.work / step / f"{index:05d}.parquet", columns=list(columns))

    def once(self, name: str, compute: Callable[[], pa.Table]) -> pa.Table:
        """What an earlier try has worked out, or now.

        Args:
            name: Of the file.
            compute: Works it out.

        Returns:
            The table.
        """
        path = self.work / f"{name}.parquet"
        if not path.exists():
            aside = path.with_suffix(".tmp")
            pq.write_table(compute(), aside)
            aside.replace(path)
        return pq.read_table(path)

    def take(self, keys: NDArray[np.int64], columns: Sequence[str]) -> Iterator[pa.Table]:
        """Reads columns of some documents.

        Args:
            keys: Which, in order.
            columns: What to read; not the text, which `read_texts` reads in batches.

        Yields:
            One table a part that has any.
        """
        for part, path in enumerate(self.measured):
            mine = keys[np.searchsorted(keys, part << 32) : np.searchsorted(keys, (part + 1) << 32)]
            if len(mine):
                yield pq.read_table(path, columns=list(columns)).take(pa.array(mine & ROW))

    def read_texts(self, keys: Sequence[int]) -> Iterator[str]:
        """Reads the texts of some documents.

        Args:
            keys: Which, in order.

        Yields:
            Texts, in that order.
        """
        wanted = np.array(keys, np.int64)
        for part, path in enumerate(self.measured):
            mine = wanted[np.searchsorted(wanted, part << 32) : np.searchsorted(wanted, (part + 1) << 32)]
            if len(mine):
                for batch in pq.ParquetFile(path).iter_batches(_ROWS, columns=["key", "text"]):
                    yield from batch.filter(pc.is_in(batch["key"], pa.array(mine)))["text"].to_pylist()

    def prefer(self, sample_bytes: int) -> Iterator[str]:
        """Texts of the most preferred documents still in, every language by its share.

        Args:
            sample_bytes: About how much.

        Yields:
            Texts, in the order of the corpus.
        """
        rows: dict[str, list[tuple[float, int, int]]] = {}
        for part, path in enumerate(self.measured):
            table = pq.read_table(path, columns=["key", "language", "bytes", "preference"])
            kept = table.filter(pa.array(self.verdicts.select(part) == 0))
            for key, language, size, preference in zip(*(column.to_pylist() for column in kept.columns), strict=True):
                rows.setdefault(language, []).append((preference, key, size))
        total = sum(size for found in rows.values() for _, _, size in found)
        chosen: list[int] = []
        for found in rows.values():
            share = min(1.0, sample_bytes / max(total, 1)) * sum(size for _, _, size in found)
            for _, key, size in sorted(found, key=lambda row: (-row[0], row[1])):
                if share <= 0:
                    break
                chosen.append(key)
                share -= size
        yield from self.read_texts(sorted(chosen))

    def draw(self, count: int, seed: int) -> list[dict[str, Any]]:
        """Draws documents that are still in.

        Args:
            count: How many.
            seed: Of the draw.

        Returns:
            Key, language and signals of each, by key.
        """
        staying = [
            (np.int64(part) << 32) + np.flatnonzero(self.verdicts.select(part) == 0)
            for part in range(len(self.measured))
        ]
        keys = np.concatenate(staying)
        if len(keys) > count:
            keys = np.sort(np.random.default_rng(seed).choice(keys, count, replace=False))
        return [row for table in self.take(keys, ["key", "language", *SIGNAL_NAMES]) for row in table.to_pylist()]


def measure_task(task: dict[str, Any], shared: dict[str, Any]) -> None:
    """Measures a part.

    Args:
        task: `index`, `units` and `path`.
        shared: `sources` by name and `options`, as plain values.
    """
    sources = {
        name: Source(**{**values, "exclude": tuple(values["exclude"])}) for name, values in shared["sources"].items()
    }
    units = [Unit(**values) for values in task["units"]]
    measure_part(units, sources, Measuring(**shared["options"]), Path(task["path"]), task["index"])


def _sign(unit: Unit) -> list[Any]:
    """What tells whether a unit has changed."""
    try:
        changed = Path(unit.path).stat().st_mtime_ns
    except OSError:
        changed = 0
    return [*asdict(unit).values(), changed]
