"""Runs the pretrain command: packs a toy corpus, trains, kills, resumes, and trains with FSDP2 under torchrun."""

import json
import re
import subprocess
import sys
import sysconfig
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.gpu.processes import ROOT
from benchmarks.gpu.report import Report, read_lines
from codeshell_hf.pack.shard_writer import make_header, write_shards
from tokenizer.bpe import train_bpe

STEPS, SAVED_EVERY, KILLED_AT = 20, 5, 12


def kill_and_resume(report: Report) -> None:
    """Checks that a killed run resumes from its last complete checkpoint and repeats the losses after it."""
    row, step = (128, 512) if report.is_toy else (2048, 65_536)
    with TemporaryDirectory() as folder:
        home = Path(folder)
        pack_library(home, vocabulary=512 if report.is_toy else 4096, held_out=8)
        recipe = {
            "shards": str(home / "pack"),
            "tokenizer": str(home / "tokenizer"),
            "model": {
                "preset": "nano" if report.is_toy else "codeshell-small",
                "changes": {"n_layer": 2, "n_positions": row, "vocab_size": 512 if report.is_toy else 4096},
            },
            "batch": {"global_tokens": step, "micro_tokens": step // 4},
            "schedule": {
                "total_tokens": step * STEPS,
                "warmup_tokens": step * 2,
                "phases": [{"until_fraction": 1.0, "row_tokens": row}],
            },
            "optimizer": {"name": "adamw", "learning_rate": 3e-4},
            "infilling": {"rate": 0.5, "spm_rate": 0.5},
            "checkpoint": {"every_steps": SAVED_EVERY, "keep": 2},
            "evaluation": {"max_bytes_per_language": 3000 if report.is_toy else 200_000},
            "log_every_steps": 1,
        }
        (home / "pretrain.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is also YAML
        first = train_and_kill(home)
        going_on = train(home, "run")
        second = read_steps(home / "run" / "log.jsonl")
        resumed = int(re.search(r"resumes at step (\d+)", going_on)[1])  # type: ignore[index]
        report.add("step that the run goes on at", resumed, "step", killed_at=max(first))
        # GPU kernels of the backward pass sum in no fixed order.
        limit = 1e-3 if torch.cuda.is_available() else 1e-6
        twice = {number: (first[number]["loss"], second[number]["loss"]) for number in first if number > resumed}
        gap = max((abs(one - other) for one, other in twice.values()), default=float("nan"))
        report.add("largest gap of a loss that was reached twice", gap, limit=limit, losses=twice)
        # The first step after resuming compiles.
        after = [step for number, step in second.items() if number > resumed]
        seconds = [later["elapsed_s"] - sooner["elapsed_s"] for sooner, later in pairwise(after)]
        report.add("seconds that saving holds a step", max(seconds) - sorted(seconds)[len(seconds) // 2], "s")
        train(home, "sharded", f"accelerate={ROOT / 'recipes' / 'accelerate' / 'fsdp2.yaml'}")
        sharded = read_steps(home / "sharded" / "log.jsonl")
        # Same weights; FSDP2 computes some operations in bfloat16 that autocast keeps in float32.
        gap = abs(sharded[1]["loss"] - second[1]["loss"])
        report.add("gap of the first loss by FSDP2 under torchrun", gap, limit=2e-2)
        report.add("last loss by FSDP2", sharded[STEPS]["loss"], "nats", other=second[STEPS]["loss"])


def pack_library(home: Path, *, vocabulary: int, held_out: int) -> None:
    """Packs the modules of Python's standard library with a tokenizer trained on some of them."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    texts = [path.read_text(encoding="utf-8", errors="ignore") for path in files]
    tokenizer = train_bpe(iter(texts[:60]), vocab_size=vocabulary)
    tokenizer.save_pretrained(home / "tokenizer")
    header = make_header(tokenizer, home / "tokenizer")
    for split, part in (("train", texts[held_out:]), ("held-out", texts[:held_out])):
        folder = home / "pack" / split
        folder.mkdir(parents=True)
        rows = ({"id": str(n), "language": "python", "source": "stdlib", "text": text} for n, text in enumerate(part))
        write_shards(rows, tokenizer, header, folder)


def start(home: Path, output: str, *more: str) -> subprocess.Popen[bytes]:
    """Starts the recipe, under torchrun if given more settings; output goes to `printed.txt`."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"] if more else []
    given = [str(home / "pretrain.yaml"), f"output={home / output}", *more]
    command = [sys.executable, *torchrun, "-m", "recipes.pretrain", *given]
    with (home / "printed.txt").open("wb") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT)


def train(home: Path, output: str, *more: str) -> str:
    """Runs the recipe to its end, and returns its output."""
    code = start(home, output, *more).wait()
    printed = (home / "printed.txt").read_text(encoding="utf-8", errors="replace")
    print(printed)
    if code:
        raise ChildProcessError(f"recipes.pretrain ended with {code}")
    return printed


def train_and_kill(home: Path) -> dict[int, dict[str, Any]]:
    """Kills a run after `KILLED_AT` steps, and returns the log of its steps."""
    process = start(home, "run")
    log = home / "run.partial" / "log.jsonl"
    while max(steps := read_steps(log), default=0) < KILLED_AT:
        if process.poll() is not None:
            print((home / "printed.txt").read_text(encoding="utf-8", errors="replace"))
            raise ChildProcessError(f"recipes.pretrain ended at step {max(steps, default=0)}, before it was killed")
        time.sleep(0.02)
    process.kill()
    process.wait()
    return read_steps(log)


def read_steps(log: Path) -> dict[int, dict[str, Any]]:
    """The steps in a run's log, by number."""
    return {line["step"]: line for line in read_lines(log) if "loss" in line and "tokens" in line}
