"""What the tests of curation share: options with everything heavy off, and a corpus of one good file and many bad."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codeshell_hf.curate.duplicates import NearDuplicates
from codeshell_hf.curate.funnel import curate
from codeshell_hf.curate.measurement import Measuring
from codeshell_hf.curate.options import Curation, Outcome
from codeshell_hf.curate.rules import Rules, Thresholds
from codeshell_hf.curate.sources import Source

THRESHOLDS = Thresholds(drops_generated=True, max_line_bytes=1000, max_mean_line=100, min_letter_fraction=0.25)
FREE = {"max_line_bytes": None, "max_mean_line": None}
RULES = Rules(THRESHOLDS, {"markdown": FREE, "json": FREE})
MEASURING = Measuring(
    max_file_bytes=5000, bands=22, rows=5, pieces=None, min_piece_bytes=0, reads_syntax=True, lints=False
)
OPTIONS = Curation(
    measuring=MEASURING,
    rules=RULES,
    min_language_bytes=0,
    near=NearDuplicates(0.7, 22, 5),
    pieces=None,
    perplexity=None,
    quality=None,
    benchmarks=[],
    min_benchmark_hits=1,
    redacts=False,
    selection=None,
    tokenizer=None,
    held_out_fraction=0.0,
)
GOOD = "def area(radius):\n    return 3.14159 * radius ** 2\n"


def run(folder: Path, output: Path, *, kind: str = "folder", source: Mapping[str, Any] = {}, **changes: Any) -> Outcome:
    """Curates one source with `OPTIONS`, changed by name; `measuring` and `rules` may be given in part."""
    for name, base in (("measuring", MEASURING), ("rules", RULES)):
        if isinstance(changes.get(name), dict):
            changes[name] = dataclasses.replace(base, **changes[name])
    on_progress = changes.pop("on_progress", lambda step, done, total: None)
    sources = [Source("source", kind, str(folder), **source)]  # type: ignore[arg-type]
    cache = output.with_name(f"{output.name}.measured")
    part_bytes = changes.pop("part_bytes", 32_000_000)
    options = dataclasses.replace(OPTIONS, **changes)
    return curate(sources, options, output, cache, part_bytes=part_bytes, on_progress=on_progress)


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes files into a folder, which is made."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
