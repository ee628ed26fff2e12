"""Every system is complete: each input is made before, and all of its stages run from raw files, at a toy size."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.commands import run
from codeshell_hf.commands.chain import make_chain
from codeshell_hf.manifest import read_manifest
from codeshell_hf.settings import read_yaml
from tests.backends import BACKEND
from tests.endpoint import serve_judge
from tests.recipes.toy_systems import write_outside, write_toys

ROOT = Path(__file__).parents[2]
LARGE = "curate tokenizer pack pretrain sft reward rlhf evaluate"
NANO = "curate tokenizer pack pretrain sft preferences reward rlhf dpo evaluate publish"
STEPS = {
    "codeshell-7b": ("curate tokenizer pack pretrain synthesize sft sft-checked preferences reward rlhf dpo evaluate"),
    "codeshell-small": "codeshell-7b/curate codeshell-7b/tokenizer curate pack pretrain evaluate",
    "code-34b-fsdp": "curate tokenizer pack pack-conversations pack-instructions pretrain sft evaluate",
    "code-34b-zero3": "curate tokenizer pack pretrain evaluate publish",
    "general-65b-zero3": LARGE,
    "instruct-65b-fsdp": LARGE,
    "nano": NANO,
    "nano-full": NANO.replace(" sft", " synthesize sft"),
    "tiny": "curate tokenizer pack pretrain sft evaluate publish",
}
ON_TWO_CORES = ("nano", "nano-full", "tiny")  # these have no launch.yaml, and their chain is run by other tests
PATH = re.compile(r"(?<![\w./-])(?:runs|data|recipes|tokenizer)/[\w./-]*\w")


def test_all_systems_are_listed() -> None:
    assert STEPS.keys() == {path.parent.name for path in (ROOT / "recipes").glob("*/pretrain.yaml")}


@pytest.fixture
def without_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recipes of the checkout and without its runs."""
    for name in ("recipes", "tokenizer"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("system", STEPS)
def test_every_input_of_a_system_is_made_before_or_comes_from_outside(system: str, without_runs: Path) -> None:
    """By all paths in the texts of the settings, not by the inputs that the stages list."""
    chain = make_chain(system, [without_runs], {}, sandbox=None)

    assert [step.name for step in chain.steps] == STEPS[system].split()
    made: list[str] = []
    for step in chain.steps:
        output = read_yaml(step.file)["output"]
        lines = [line.partition("# ")[0] for line in step.file.read_text(encoding="utf-8").splitlines()]
        for path in PATH.findall("\n".join(lines)):
            if path.startswith("runs/") and path != output:
                assert any(path == one or path.startswith(f"{one}/") for one in made), f"{step.name} reads {path}"
            elif path.startswith(("recipes/", "tokenizer/")):
                assert (ROOT / path).exists(), f"{step.name} reads {path}"
        made.append(output)


@pytest.mark.parametrize("system", STEPS)
@pytest.mark.usefixtures("without_runs")
def test_a_dry_run_of_a_system_is_complete(system: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([system, "--dry-run"]) == 0

    printed = capsys.readouterr().out
    steps = STEPS[system].split()
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("== ")] == steps
    for start in ("  writes runs/", "  launch: "):
        assert len([line for line in printed.splitlines() if line.startswith(start)]) == len(steps)
    for stage in set(NANO.split()) - {step.rpartition("/")[2] for step in steps}:
        assert re.search(rf"^not run, without settings in recipes/{system}: .*\b{stage}\b", printed, re.MULTILINE)


@pytest.mark.parametrize("system", [name for name in STEPS if name not in ON_TWO_CORES])
def test_the_ranks_of_a_system_are_those_of_its_page(system: str) -> None:
    page = (ROOT / "recipes" / system / "README.md").read_text(encoding="utf-8")
    launches = read_yaml(ROOT / "recipes" / system / "launch.yaml")
    commands = re.findall(
        r"^accelerate launch --config_file (\S+)(?: --num_processes (\d+))? -m recipes\.(\w+)", page, re.MULTILINE
    )
    assert commands or system == "codeshell-small"
    for file, ranks, stage in commands:
        assert launches[stage] == {"accelerate": file, "ranks": int(ranks or 8)}, stage


@pytest.mark.slow
@pytest.mark.parametrize("system", [name for name in STEPS if name not in ON_TWO_CORES])
def test_a_system_runs_from_raw_files_to_its_last_stage(
    system: str, tmp_path: Path, shared_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write_outside(tmp_path, system, shared_tokenizer)
    write_toys(tmp_path, system)
    monkeypatch.chdir(tmp_path)

    with serve_judge() as judge:
        more = (
            [f"evaluate.judge.url={judge.url}"] if "judge" in read_yaml(Path(f"recipes/{system}/evaluate.yaml")) else []
        )
        assert run.main([system, "--sandbox", BACKEND, *more]) == 0, capsys.readouterr().err[-3000:]

    printed = capsys.readouterr().out
    if system == "code-34b-zero3":
        log = map(json.loads, Path(f"runs/{system}/pretrain/log.jsonl").read_text(encoding="utf-8").splitlines())
        (scores,) = [entry["benchmarks"] for entry in log if "benchmarks" in entry]
        measured = {"lines: exact match", "lines: bleu"}
        assert measured <= scores.keys()
        titles = {name.partition(" (")[0]: name.rpartition(": ")[2] for name in scores}
        assert titles["functions"] == titles["fixing"] == "pass@1"
        assert titles["test generation"] == "faults found"
    for name in STEPS[system].split():
        owner, _, stem = name.rpartition("/")
        manifest = read_manifest(Path("runs") / (owner or system) / stem)
        assert manifest is not None, name
        assert manifest.counts or stem == "evaluate", name
    assert "not run, without settings in" in printed
    table = pq.read_table(Path("runs") / system / "curate" / "documents", columns=["source"])
    given = {source["name"] for source in read_yaml(Path("recipes") / system / "curate.yaml")["sources"]}
    assert set(table["source"].to_pylist()) == given, "documents of every source are left"
    counts = read_manifest(Path("runs") / system / "pretrain")
    assert counts is not None
    assert counts.counts["steps"] == 2
