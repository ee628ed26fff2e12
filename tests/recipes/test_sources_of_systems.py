"""A good document of every source goes through every committed curate.yaml."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from codeshell_hf.settings import read_yaml
from recipes.curate import Settings, curate
from tests.curate.sources.reading import needs_git
from tests.curate.toy_corpus import skip
from tests.recipes.good_documents import CORPORA, PROGRAMS, write_source
from tests.recipes.toy_systems import write_benchmarks

ROOT = Path(__file__).parents[2]
SYSTEMS = sorted(path.parent.name for path in (ROOT / "recipes").glob("*/curate.yaml"))
# What may drop a good document: the same text in another source, and cuts by shares and selection.
EXPECTED = {"exact-duplicate", "near-duplicate", "high-perplexity", "repeated-text", "not-selected"}


def run_toy(system: str, home: Path) -> tuple[dict[str, set[str]], dict[str, int]]:
    """Languages kept of each source, and the reasons of drops; the rules and rights are as committed."""
    values: dict[str, Any] = read_yaml(ROOT / "recipes" / system / "curate.yaml")
    (home / "data").mkdir()
    write_benchmarks(home / "data")
    for source in values["sources"]:
        place = home / "in" / source["name"]
        write_source(source, place)
        source["path"] = str(place)
        source.pop("exclude", None)
    (home / "opt-out.txt").write_text("nobody/nothing\n")
    if "opt_out" in values.get("rights", {}):
        values["rights"]["opt_out"] = str(home / "opt-out.txt")
    for benchmark in values.get("benchmarks", []):
        benchmark["path"] = str(home / "data" / "benchmarks" / "humaneval")
    values |= {"output": str(home / "out"), "engine": {}, "min_language_bytes": 0, "tokenizer": None, "lints": False}
    values["cache"] = str(home / "cache")
    if "quality" in values:  # no server, and no model to train
        values["quality"] = {"model": "static", "min_score": 0.0}
    if "perplexity" in values:  # a share of one or two documents is all or nothing
        values["perplexity"]["keep_fraction"] = 1.0
    settings = Settings.model_validate(values)

    outcome = curate(settings, home / "out", compute_dtype="float32", on_progress=skip)

    kept: dict[str, set[str]] = {source["name"]: set() for source in values["sources"]}
    for row in pq.read_table(home / "out" / "documents", columns=["source", "language"]).to_pylist():
        kept[row["source"]].add(row["language"])
    return kept, dict(outcome.funnel.reasons())


@needs_git
def test_each_corpus_of_the_reports_table_keeps_some(tmp_path: Path) -> None:
    kept, reasons = run_toy("codeshell-7b", tmp_path)

    assert all(kept.values()), kept
    languages = set().union(*kept.values())
    assert languages >= {*PROGRAMS, *CORPORA, "stack-exchange", "web-text"}
    assert reasons.keys() <= EXPECTED | {"unknown-language"}
    assert reasons.get("unknown-language", 0) <= 1, "git's own files at most"


@needs_git
@pytest.mark.slow
@pytest.mark.parametrize("system", [name for name in SYSTEMS if name != "codeshell-7b"])
def test_each_source_of_a_system_keeps_some(system: str, tmp_path: Path) -> None:
    kept, reasons = run_toy(system, tmp_path)

    # All folders of nano and tiny have the same files here.
    assert (any if system.startswith(("nano", "tiny")) else all)(kept.values()), (kept, reasons)
    assert reasons.keys() <= EXPECTED
