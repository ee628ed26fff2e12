"""Settings with everything heavy off, and a corpus of one good file and many bad."""

from collections.abc import Mapping
from pathlib import Path

import daft
import pyarrow as pa

from codeshell_hf.curate.examination import EXAMINED_SIGNALS
from codeshell_hf.curate.languages import name_language
from codeshell_hf.curate.measured_parts import SCHEMA, measure_batch
from codeshell_hf.curate.progress import Progress
from codeshell_hf.curate.report import Outcome
from codeshell_hf.curate.settings import Measuring, Rules
from codeshell_hf.curate.sources import Document
from recipes.curate import Settings, curate

OFF: dict[str, object] = {
    name: False if isinstance(info.default, bool) else None
    for name, info in Rules.model_fields.items()
    if name not in ("by_language", "custom")
}
NO_RULES = Rules.model_validate({**OFF, "by_language": None})
FREE = {"max_line_bytes": None, "max_mean_line": None}
RULES = Rules.model_validate(
    {
        **OFF,
        "drops_generated": True,
        "max_line_bytes": 1000,
        "max_mean_line": 100,
        "min_letter_fraction": 0.25,
        "by_language": {"markdown": FREE, "json": FREE},
    }
)
SETTINGS: dict[str, object] = {
    "rules": RULES,
    "max_file_bytes": 5000,
    "lints": False,
    "redacts": False,
    "held_out_fraction": 0.0,
}
GOOD = "def area(radius):\n    return 3.14159 * radius ** 2\n"
# Each file and the reason that it is dropped for.
BAD: dict[str, tuple[str | bytes, str]] = {
    "minified.js": ("var a=1;" * 200, "long-lines"),
    "wide.py": (("# " + "word " * 30 + "\n") * 5, "long-lines"),
    "data.py": ("1, 2, 3,\n" * 50, "few-letters"),
    "made.c": ("/* automatically generated */\nint x;\n", "generated"),
    "copy.py": (GOOD, "exact-duplicate"),
    "empty.py": ("", "empty"),
    "blank.py": (" \n\t\n", "empty"),
    "big.py": ("x = 1\n" * 2000, "too-large"),
    "what.xyz": ("text", "unknown-language"),
    "bytes.py": (b"# \x81\x02\xff\x03\n", "not-text"),
    "big.c": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "lfs-pointer"),
    "nul.py": (b"x = '\0'\n", "not-text"),
}


def skip(step: str, done: int, total: int) -> None:
    """Shows no progress."""


def run(
    folder: Path,
    output: Path,
    *,
    kind: str = "folder",
    source: Mapping[str, object] = {},
    on_progress: Progress = skip,
    **changes: object,
) -> Outcome:
    """Curates one source with `SETTINGS`, changed by name."""
    sources = [{"name": "source", "kind": kind, "path": str(folder), **source}]
    settings = Settings.model_validate({**SETTINGS, **changes, "sources": sources, "output": output})
    return curate(settings, output, compute_dtype="float32", on_progress=on_progress)


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Writes files into a folder, which is made."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def measure_all(files: Mapping[str, str], *, lints: bool = False) -> daft.DataFrame:
    """Measures files, named by their paths, as a table of their signals."""
    documents = [
        ("source", Document(path, path, text.encode(), len(text), name_language(path))) for path, text in files.items()
    ]
    rows = measure_batch(documents, Measuring(lints=lints))
    return daft.from_arrow(pa.Table.from_pylist(rows, schema=pa.schema([*SCHEMA, *EXAMINED_SIGNALS.items()])))
