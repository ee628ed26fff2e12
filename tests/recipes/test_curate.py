"""The stage, as users start it."""

import json
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from codeshell_hf.curate import daft_engine
from codeshell_hf.stages.stage import main
from codeshell_hf.text.documents import read_documents
from recipes.curate import STAGE, Settings
from tests.curate.toy_corpus import GOOD, write_files

ROOT = Path(__file__).parents[2]


def write_settings(home: Path) -> str:
    path = home / "curate.yaml"
    path.write_text(f"output: {home}/out\nsources: [{{name: here, path: {home}/in}}]\nlints: false\n")
    return str(path)


def start_recipe(home: Path, *options: str, prepare: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "recipes.curate", write_settings(home), *options]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - it sets a limit
    )


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_nothing_broken(tmp_path: Path) -> None:
    files = {f"f{n:03d}.py": make_program(n) for n in range(30)}
    write_files(tmp_path / "in", files)
    options = ("engine.part_bytes=20000",)
    started = time.monotonic()
    whole = start_recipe(tmp_path, *options, f"output={tmp_path}/whole")
    _, errors = whole.communicate(timeout=200)
    assert whole.returncode == 0, errors
    seconds = time.monotonic() - started
    killed = 0
    for wait_s in (0.5 * seconds, 0.75 * seconds):
        process = start_recipe(tmp_path, *options)
        try:
            process.wait(wait_s)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
        process.communicate()

    last = start_recipe(tmp_path, *options)
    _, errors = last.communicate(timeout=200)

    assert last.returncode == 0, errors
    assert killed >= 1
    for path in sorted((tmp_path / "whole").rglob("*.parquet")):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes()


def make_program(seed: int) -> str:
    """A program like no other."""
    rng = random.Random(seed)
    names = ["".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(40)]
    return f"def run_{names[0]}(path):\n" + "".join(f"    {a} = open(path).{b}()\n" for a, b in pairwise(names))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    write_files(tmp_path / "in", {f"f{n}.py": make_program(n) for n in range(90)})

    def fill_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000))

    full = start_recipe(tmp_path, prepare=fill_disk)
    _, errors = full.communicate(timeout=120)
    again = start_recipe(tmp_path)
    _, more = again.communicate(timeout=120)

    assert full.returncode == 1
    line = errors.replace("\r", "\n").strip().splitlines()[-1]
    assert line.startswith("curate: error: ")
    assert "run the same command again" in line
    assert "Traceback" not in errors
    assert not (tmp_path / "out").exists() or again.returncode == 0
    assert again.returncode == 0, more


def test_the_stage_writes_documents_and_reports_and_then_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path / "in", {"area.py": GOOD, "copy.py": GOOD, "empty.py": ""})
    path = write_settings(tmp_path)

    assert main(STAGE, [path, "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert main(STAGE, [path, "redacts=false"]) == 0
    first = capsys.readouterr().out
    assert main(STAGE, [path, "redacts=false"]) == 0

    assert f"here: 3 folder units, {2 * len(GOOD) / 1e6:.1f} MB" in plan
    assert "3 units, 0.0 MB, in 1 parts" in plan
    assert "kept 1 of 3 | empty 1 | exact-duplicate 1" in first
    assert "nothing to do" in capsys.readouterr().out
    assert [row["text"] for row in read_documents(tmp_path / "out", columns=["text"])] == [GOOD]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["counts"] == json.loads((tmp_path / "out" / "funnel.json").read_text())
    assert manifest["measures"]["steps"]["exact duplicates"] == 1
    assert (tmp_path / "out" / "report.html").exists()
    assert not (tmp_path / "out" / "work").exists()


def test_a_cluster_that_is_not_there_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daft_engine, "_started", None)
    write_files(tmp_path / "in", {"area.py": GOOD})

    code = main(STAGE, [write_settings(tmp_path), "engine.runner=ray", "engine.address=127.0.0.1:9"])

    assert code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no Ray cluster answers at 127.0.0.1:9" in line or "ray, which is not installed" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["sources=[{name: a, path: nowhere}]"], "nowhere"),
        (["sources=[{name: a, kind: parquet, path: HOME/in}]"], "which has no file that ends in .parquet"),
        (["sources=[{name: a, path: HOME/in}, {name: a, path: HOME/in}]"], "sources has the name 'a' twice"),
        (["rules.by_language={python: {max_lin: 3}}"], "has the unknown rule 'max_lin'"),
        (["rights.by_source={there: {licences: null}}"], "rights.by_source has 'there', which is not a source; name"),
        (["selection={max_tokens: 5, by: quality}"], "selection.by is quality, but quality is null"),
        (["rights.opt_out=HOME/none.txt"], "none.txt does not exist"),
        (["benchmarks=[{name: b, path: HOME/in}]"], "has none of the fields"),
        (["perplexity={model: HOME/none.arpa}"], "none.arpa does not exist"),
        (["perplexity={model: HOME/in}"], "which is not a file; name one, or null to train"),
        (["perplexity={words: HOME/in}"], "cannot be read as a tokenizer"),
        (["quality={model: HOME/in}"], "cannot be loaded as an encoder"),
        (["quality={endpoint: {model: m, token_variable: NO_SUCH}}"], "NO_SUCH, which is not set"),
        (["near_duplicates.min_jaccard=2"], "near_duplicates.min_jaccard is 2"),
    ],
)  # fmt: skip
def test_wrong_calls_are_one_line_and_exit_2(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files(tmp_path / "in", {"area.py": GOOD, "b.py": "def b():\n    return 'another'\n"})
    settings_file = tmp_path / "curate.yaml"
    settings_file.write_text(f"output: {tmp_path}/out\nsources: [{{name: here, path: {tmp_path}/in}}]\n")

    code = main(STAGE, [str(settings_file), *(option.replace("HOME", str(tmp_path)) for option in options)])

    errors = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert code == 2, errors
    assert re.search(message, errors[-1]), errors[-1]
    assert not (tmp_path / "out").exists()


def test_models_on_the_hub_and_built_in_ones_are_no_inputs(tmp_path: Path) -> None:
    given = {"sources": [{"name": "own", "path": str(tmp_path)}], "output": str(tmp_path / "out")}
    built_in = Settings.model_validate({**given, "perplexity": {"words": "code"}, "quality": {"model": "static"}})
    on_the_hub = Settings.model_validate({**given, "quality": {"model": "owner/regressor"}})
    local = Settings.model_validate({**given, "quality": {"model": "runs/nano/curate/quality"}})

    assert set(STAGE.inputs(built_in)) == set(STAGE.inputs(on_the_hub)) == {"sources.own"}
    assert STAGE.inputs(local)["quality.model"] == Path("runs/nano/curate/quality")
