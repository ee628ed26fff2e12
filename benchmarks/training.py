"""Trains models of nano's shape for benchmarks, with its recipe; stages that are up to date are skipped."""

import argparse
import contextlib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.stages.stage import main

ROOT = Path(__file__).parents[1]
NANO = ROOT / "recipes" / "nano"


def add_training(parser: argparse.ArgumentParser, *, tokens: int, step_tokens: int) -> None:
    """Adds the options of training to a benchmark."""
    parser.add_argument("--tokens", type=int, default=tokens, help="to train each model on")
    parser.add_argument("--step-tokens", type=int, default=step_tokens, help="of a step; a GPU wants 32768")
    parser.add_argument("--seeds", type=int, default=1, help="models of each kind, with seeds from 0")
    parser.add_argument(
        "--change", nargs="*", default=[], help="of recipes/nano/pretrain.yaml: model.changes.n_layer=2"
    )


def list_pretraining(options: argparse.Namespace, output: Path, *, seed: int, tokens: int | None = None) -> list[str]:
    """Settings of pretraining that differ from nano's, except shards and tokenizer."""
    total = tokens or options.tokens
    return [
        f"output={output}", f"seed={seed}", f"schedule.total_tokens={total}", f"schedule.warmup_tokens={total // 20}",
        f"batch={{global_tokens: {options.step_tokens}, micro_tokens: {options.step_tokens}}}",
        "checkpoint={every_steps: 1000, keep: 1}", "evaluation.every_steps=null",
        "evaluation.max_bytes_per_language=1000000", *options.change,
    ]  # fmt: skip


def run_stage(name: str, overrides: Sequence[str]) -> None:
    """Runs a stage of nano's recipe; its output goes to stderr.

    Raises:
        SystemExit: If it fails.
    """
    stage = importlib.import_module(f"recipes.{name}").STAGE
    with contextlib.redirect_stdout(sys.stderr):
        code = main(stage, [str(NANO / f"{name}.yaml"), *overrides])
    if code:
        raise SystemExit(f"{name} failed, and nothing is measured")


def load(folder: Path) -> CodeShellForCausalLM:
    """Loads a model in float32, on the GPU if there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: CodeShellForCausalLM = CodeShellForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().to(device)
    return model


def pad(rows: Sequence[Sequence[int]], device: torch.device) -> torch.Tensor:
    """Pads rows of ids with zeros on the right, which causal attention ignores: shape (rows, longest), int64."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=device)
