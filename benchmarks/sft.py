"""Speed of fine-tuning beside TRL's own script, on the same model, conversations and settings.

python -m benchmarks.sft MODEL CONVERSATIONS [--steps 60] [--repeats 3]

MODEL is a folder with its code, such as runs/nano/pretrain/model; both run in turn, each in a process of its own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from ast import literal_eval
from pathlib import Path

import torch

from benchmarks.result import RATES, Result, add_output, describe_machine
from codeshell_hf.precision import choose_precision
from codeshell_hf.stages.precision_choice import read_config

SETTINGS: dict[str, object] = {
    "max_length": 512,
    "per_device_train_batch_size": 8,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "activation_checkpointing": False,
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def run_here(model: Path, data: Path, steps: int, folder: Path) -> dict[str, float]:
    """Runs the recipe."""
    settings = {
        "output": str(folder / "here"),
        "model": str(model),
        "conversations": [str(data / "train.jsonl")],
        "held_out_fraction": 0.005,
        "trainer": {**SETTINGS, "max_steps": steps},
    }
    (folder / "sft.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return run_command(["-m", "recipes.sft", str(folder / "sft.yaml"), "--force"])


def run_there(model: Path, data: Path, steps: int, folder: Path) -> dict[str, float]:
    """Runs TRL's script."""
    options = {
        **SETTINGS,
        "max_steps": steps,
        "model_name_or_path": model,
        "dataset_name": data,
        "assistant_only_loss": True,
        "trust_remote_code": True,
        "dtype": "float32",
        "output_dir": folder / "there",
        "use_cpu": os.environ.get("CUDA_VISIBLE_DEVICES", "") == "",
    }
    return run_command(["-m", "trl.scripts.sft", *(f"--{key}={value}" for key, value in options.items())])


def run_command(command: list[str]) -> dict[str, float]:
    """Runs Python and parses the trainer's output: tokens, seconds, and the loss of the last step."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:2])} failed:\n{done.stderr[-2000:]}")
    entries = [literal_eval(line) for line in done.stdout.splitlines() if line.startswith("{'")]
    losses = [float(entry["loss"]) for entry in entries if "loss" in entry]
    end = next(entry for entry in entries if "train_runtime" in entry)
    tokens = max(float(entry.get("num_tokens", 0)) for entry in entries)
    # The recipe first evaluates held-out conversations, which is not training.
    measured = next((float(entry["eval_runtime"]) for entry in entries if "eval_runtime" in entry), 0.0)
    seconds = float(end["train_runtime"]) - measured
    return {"tokens": tokens, "rate": tokens / seconds, "last": losses[-1]}


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sft", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("conversations", type=Path)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    add_output(parser)
    options = parser.parse_args(arguments)
    config = read_config(options.model)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = choose_precision("auto", config, device, trains=True).compute_dtype
    SETTINGS["bf16"] = dtype == "bfloat16"  # of both
    results: dict[str, list[dict[str, float]]] = {"here": [], "TRL's script": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        (folder / "data" / "train.jsonl").write_bytes(options.conversations.read_bytes())
        for _ in range(options.repeats):
            for key, run in (("here", run_here), ("TRL's script", run_there)):
                results[key].append(run(options.model.resolve(), folder / "data", options.steps, folder))
    mine, theirs = (runs[0] for runs in results.values())
    # Only the end-of-text token after each conversation and the order of conversations differ.
    if abs(mine["tokens"] / theirs["tokens"] - 1) > 0.05 or abs(mine["last"] - theirs["last"]) > 0.5:
        print(f"not the same work: {mine} and {theirs}; nothing is measured", file=sys.stderr)
        return 1
    batch = SETTINGS["per_device_train_batch_size"]
    table = Result(
        describe_machine("torch", "transformers", "trl"),
        [f"{options.steps} steps of {batch} conversations, {dtype}, {options.repeats} repeats"],
        {"tokens/s": "20", **RATES},
    ).start("benchmarks.sft", arguments)
    for name, runs in results.items():
        table.add_rates(name, [run["rate"] for run in runs])
    ratios = [a["rate"] / b["rate"] for a, b in zip(*results.values(), strict=True)]
    table.note(f"ratio, run by run: {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}")
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
