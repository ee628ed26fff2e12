"""A tiny model that was tuned on right and wrong answers alike, and settings of the stages that go on from it."""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from accelerate.state import AcceleratorState

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.manifest import Manifest, read_manifest
from codeshell_hf.presets import make_config
from codeshell_hf.stages.stage import Stage, StageSettings, main
from tests.backends import BACKEND

# A model this small learns this by heart, and gives either answer.
QUESTIONS = {"make x one": ("x = 1", "x = 2"), "make y big": ("y = 100", "y = 1"), "say z": ("z = 'z'", "z = 'a'")}
TESTS = {"make x one": "assert x == 1", "make y big": "assert y == 100", "say z": "assert z == 'z'"}


def get_stage(name: str) -> Stage[StageSettings]:
    stage: Stage[StageSettings] = importlib.import_module(f"recipes.{name}").STAGE
    return stage


def read_output(folder: Path) -> Manifest:
    """The manifest of a finished stage."""
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def write_lines(path: Path, lines: Sequence[Mapping[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def run(stage: str, settings: Mapping[str, object], folder: Path, *more: str) -> int:
    """Runs a stage in this process, as its command line does; accelerate forgets the stage before."""
    AcceleratorState._reset_state(reset_partial_state=True)
    path = folder / f"{stage}.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return main(get_stage(stage), [str(path), *more])


def trainer(**changes: object) -> dict[str, object]:
    return {
        "per_device_train_batch_size": 8,
        "learning_rate": 3e-3,
        "logging_steps": 1,
        "report_to": "none",
        "bf16": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        **changes,
    }


def sft_settings(home: Path, output: Path, **changes: object) -> dict[str, object]:
    return {
        "output": str(output),
        "model": str(home / "base"),
        "conversations": [str(home / "conversations.jsonl")],
        "trainer": trainer(**{"max_length": 128, "max_steps": 2, **changes}),
    }


def preferences_settings(home: Path, output: Path) -> dict[str, object]:
    return {
        "output": str(output),
        "model": str(home / "sft" / "model"),
        "prompts": [str(home / "prompts.jsonl")],
        "sample": {"per_prompt": 24, "max_new_tokens": 24},
        "sandbox": BACKEND,
    }


def pair_settings(home: Path, output: Path, **changes: object) -> dict[str, object]:
    """Of the stages that learn from pairs."""
    return {
        "output": str(output),
        "model": str(home / "sft" / "model"),
        "pairs": [str(home / "pairs.jsonl")],
        "held_out_fraction": 0.34,
        "trainer": trainer(**{"max_length": 128, "max_steps": 2, **changes}),
    }


def rlhf_settings(home: Path, output: Path, **changes: object) -> dict[str, object]:
    options = {"num_generations": 8, "per_device_train_batch_size": 24, "max_completion_length": 24}
    return {
        "output": str(output),
        "model": str(home / "sft" / "model"),
        "prompts": [str(home / "prompts.jsonl")],
        "rewards": [{"kind": "tests", "weight": 1.0}, {"kind": "format", "weight": 0.0}],
        "sandbox": BACKEND,
        "measure": {"prompts": [str(home / "prompts.jsonl")], "per_prompt": 32, "max_new_tokens": 24},
        "trainer": trainer(**{"max_steps": 2, "learning_rate": 2e-3, "beta": 0.01, **options, **changes}),
    }


def make_home(home: Path, tokenizer: CodeShellTokenizer) -> Path:
    """Runs sft, preferences and reward."""
    torch.manual_seed(0)
    config = make_config(
        "nano", vocab_size=len(tokenizer), n_positions=4096, n_embd=64, n_head=4, n_layer=2, n_inner=128
    )
    config.eos_token_id = config.bos_token_id = config.pad_token_id = tokenizer.eos_token_id
    CodeShellForCausalLM(config).save_pretrained(home / "base")
    tokenizer.save_pretrained(home / "base")
    lines = [{"prompt": q, "completion": a, "tests": TESTS[q]} for q, answers in QUESTIONS.items() for a in answers]
    write_lines(home / "conversations.jsonl", lines * 8)
    write_lines(home / "prompts.jsonl", lines[::2])
    write_lines(
        home / "pairs.jsonl", [{"prompt": q, "chosen": a, "rejected": b} for q, (a, b) in QUESTIONS.items()] * 4
    )
    tuning = sft_settings(home, home / "sft", max_steps=90, learning_rate=1e-2, warmup_steps=5)
    assert run("sft", tuning, home) == 0
    assert run("preferences", preferences_settings(home, home / "preferences"), home) == 0
    both = [str(home / "preferences" / "pairs.jsonl"), str(home / "pairs.jsonl")]
    assert run("reward", {**pair_settings(home, home / "reward", max_steps=20), "pairs": both}, home) == 0
    return home


def hold_no_training_state(folder: Path) -> None:
    """Asserts that a saved model uses its cache, says nothing of this machine, and lets all read all files alike."""
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    (folder / "opened").touch()
    granted = (folder / "opened").stat().st_mode & 0o777
    (folder / "opened").unlink()

    assert config["use_cache"] is True
    assert not {"is_local", "local_files_only"} & (tokenizer.keys() | config.keys())
    assert set(modes.values()) == {granted}, modes
