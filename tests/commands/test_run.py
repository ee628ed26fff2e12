"""Running all stages of a system in one process: order, overrides, where it stops, and what it says at the end."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from codeshell_hf.commands import run
from codeshell_hf.commands.summary import summarize
from codeshell_hf.manifest import Manifest
from codeshell_hf.stages.stage import Stage, StageSettings

ROOT = Path(__file__).parents[2]
Calls = list[tuple[str, list[str]]]


def make_manifest(
    stage: str,
    wall_s: float,
    *,
    settings: Mapping[str, object] | None = None,
    measures: Mapping[str, object] | None = None,
) -> Manifest:
    return Manifest(stage, "", {}, dict(settings or {}), "", measures=dict(measures or {}), wall_s=wall_s)


def write_settings(home: Path, system: str, stem: str, **values: object) -> None:
    """Settings of a stage that writes to `runs/SYSTEM/STEM`."""
    path = home / "recipes" / system / f"{stem}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"output": f"runs/{system}/{stem}", **values}), encoding="utf-8")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Calls:
    """A system of three stages, and what each is called with; the seed 75 stops one."""
    write_settings(
        tmp_path, "toy", "publish", model="runs/toy/rlhf/model", stages={}, card={"name": "t", "published": "a"}
    )
    write_settings(tmp_path, "toy", "curate", sources=[{"name": "own", "path": "data/own"}])
    reward = {"kind": "format", "weight": 1.0}
    write_settings(tmp_path, "toy", "rlhf", model="data/model", method="rloo", prompts=["data/x"], rewards=[reward])
    calls: Calls = []

    def call(stage: Stage[StageSettings], options: argparse.Namespace) -> int:
        calls.append((stage.name, [str(options.settings), *options.overrides]))
        return 75 if "seed=75" in options.overrides else 0

    monkeypatch.setattr(run, "run_or_launch", call)
    monkeypatch.delenv("SANDBOX", raising=False)
    monkeypatch.chdir(tmp_path)
    return calls


def test_stages_run_in_the_order_of_the_chain_with_their_own_overrides(called: Calls) -> None:
    assert run.main(["toy", "rlhf.trainer.max_steps=3", "curate.max_file_bytes=9"]) == 0

    assert called == [
        ("curate", ["recipes/toy/curate.yaml", "max_file_bytes=9"]),
        ("rlhf", ["recipes/toy/rlhf.yaml", "trainer.max_steps=3"]),
        ("publish", ["recipes/toy/publish.yaml"]),
    ]


def test_a_sandbox_is_chosen_for_the_stages_that_run_programs(called: Calls) -> None:
    assert run.main(["toy", "--sandbox", "none"]) == 0

    assert [more for _, (_, *more) in called] == [[], ["sandbox=none"], []]


def test_a_stage_for_more_gpus_than_there_are_says_where_to_start_it(
    called: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = {"rlhf": {"accelerate": "zero3.yaml", "ranks": 128}}
    (tmp_path / "recipes" / "toy" / "launch.yaml").write_text(yaml.safe_dump(launch))
    monkeypatch.setattr(run, "count_gpus", lambda: 127)

    assert run.main(["toy"]) == 2

    error = capsys.readouterr().err
    assert "rlhf: error: it takes 128 GPUs, and this machine has 127; start it where they are" in error
    assert (
        "accelerate launch --config_file zero3.yaml --num_processes 128 -m recipes.rlhf recipes/toy/rlhf.yaml" in error
    )
    assert [name for name, _ in called] == ["curate"]
    monkeypatch.setattr(run, "count_gpus", lambda: 128)
    assert run.main(["toy"]) == 0


def test_what_is_not_run_is_said(called: Calls, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(tmp_path / "recipes" / "toy" / "curate.yaml", tmp_path / "recipes" / "toy" / "curate-more.yaml")

    assert run.main(["toy"]) == 0

    printed = capsys.readouterr().out
    assert (
        "not run, without settings in recipes/toy: tokenizer, pack, pretrain, synthesize, sft, preferences, reward, dpo"
        in printed
    )
    assert "recipes/toy/curate-more.yaml (codeshell curate recipes/toy/curate-more.yaml runs it)" in printed
    assert [name for name, _ in called] == ["curate", "rlhf", "publish"]


def test_it_stops_where_a_stage_stops_with_its_code(called: Calls, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["toy", "rlhf.seed=75"]) == 75

    assert [name for name, _ in called] == ["curate", "rlhf"]
    assert "stopped at rlhf; run the same command again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["tyo"], "recipes/tyo has no settings of a stage; did you mean 'toy'?"),
        (["toy", "max_steps=3"], "max_steps=3 sets nothing; write stage.key=value with a stage among curate, rlhf"),
        (["toy", "rlhf.max_steps"], "rlhf.max_steps sets nothing"),
        (["toy", "rlfh.max_steps=3"], "did you mean 'rlhf'?"),
        (["toy", "rlhf.model=runs/toy/sft/model"], "rlhf reads runs/toy/sft/model, which no stage makes; add the"),
        (
            ["toy", "--dry-run", "rlhf.model=runs/none/sft/model"],
            "rlhf reads runs/none/sft/model, which no stage makes",
        ),
        (["toy", "rlhf.modle=x"], "unknown key 'modle' on the command line"),
    ],
)
def test_wrong_calls_are_one_line_and_run_nothing(
    called: Calls, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(given) == 2

    error = capsys.readouterr().err
    assert said in error
    assert len([line for line in error.splitlines() if not line.startswith("codeshell: using the recipes")]) == 1
    assert called == []


def test_the_summary_shows_what_the_manifests_hold(tmp_path: Path) -> None:
    change = {"before": 0.43, "after": 0.56, "low": 0.076, "high": 0.186, "prompts": 96}
    copied = {"before": 0.02, "after": 0.56, "low": 0.48, "high": 0.6, "prompts": 96}
    tuned = {"measured": {"tests": change, "tokens": change}, "against_copies": {"tests": copied, "weighted": copied}}
    bits = {"bits_per_byte_before": {"all": 4.28}, "bits_per_byte_after": {"all": 2.016}}
    samples = [{"kind": "completion", "prompt": "def is_even(n):\n    return"}]
    finished = {
        "pretrain": make_manifest("pretrain", 90, measures=bits),
        "sft": make_manifest("sft", 30, measures={"held_out_loss_before": 4.337, "held_out_loss_after": 1.486}),
        "reward": make_manifest("reward", 10, measures={"held_out_accuracy": 0.849}),
        "rlhf": make_manifest("rlhf", 20, measures=tuned),
        "evaluate": make_manifest("evaluate", 25, measures={"byte_trigram_bits_per_byte": 3.004}),
        "publish": make_manifest("publish", 5, settings={"samples": samples}, measures={"texts": [" n % 2 == 0"]}),
    }

    lines = summarize({stage: (tmp_path / stage, manifest) for stage, manifest in finished.items()})

    text = "\n".join(lines)
    seconds = {line.split()[0]: int(line.split()[1]) for line in lines[1:8]}
    assert seconds == {"pretrain": 90, "sft": 30, "reward": 10, "rlhf": 20, "evaluate": 25, "publish": 5, "all": 180}
    for words in (
        "4.280 -> 2.016   (a byte trigram: 3.004)",
        "4.337 -> 1.486",
        "84.9%   (by chance: 50%)",
        "0.430 -> 0.560   (+0.130 [+0.076, +0.186])",
        "copied answers pass -> its own 0.020 -> 0.560   (+0.540 [+0.480, +0.600])",
        "  | def is_even(n):\n  |     return n % 2 == 0",
        str(tmp_path / "publish" / "index.html"),
    ):
        assert words in text
    samples.append({"kind": "chat", "prompt": "Write f."})
    finished["publish"] = make_manifest(
        "publish", 5, settings={"samples": samples}, measures={"texts": ["", "f|<end>|"]}
    )
    lines = summarize({stage: (tmp_path / stage, manifest) for stage, manifest in finished.items()})
    assert "\n".join(lines).count("the published model, asked: Write f.\n  | f\n") == 1
    assert text.count("0.430") == 1  # of what is measured besides, nothing


def test_the_shell_script_calls_the_same(tmp_path: Path) -> None:
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "codeshell").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m codeshell_hf "$@"\n')
    (shim / "codeshell").chmod(0o755)

    done = subprocess.run(
        ["sh", str(ROOT / "recipes" / "run.sh"), "nan"], cwd="/", capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{shim}:{os.environ['PATH']}"},
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (
        2,
        "run: error: recipes/nan has no settings of a stage; did you mean 'nano'?\n",
    )
