"""Which share of a device's peak a training step reaches at each length of rows, and what packing documents costs.

python -m benchmarks.utilization [--preset codeshell-small] [--rows 2048 8192] [--micro-tokens 16384]
python -m benchmarks.utilization --preset codeshell-7b --layers 8 --recompute    as many layers as fit
python -m benchmarks.utilization --profile    and the operations that take most of a step

The step is the loop's own, on made tokens: rows of one document each, and rows of many short ones, in turn. Nothing is
measured unless packed documents have the loss that they have alone.
"""

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from codeshell_hf.pack.rows import IGNORED, Batch
from codeshell_hf.presets import count_parameters, make_config
from codeshell_hf.train.optimizer import OptimizerOptions
from codeshell_hf.train.sharding import Engine, Sharding, Start, StepOptions, make_engine
from codeshell_hf.train.throughput import cost_token, find_peak_tflops
from recipes.launcher import Ranks
from recipes.pretrain import add_gradients
from recipes.pretraining import to_tensors

MEDIAN_TOKENS = 500  # of a short document, as of a file of code; less in rows that would not hold four


def make_batch(vocabulary: int, rows: int, row_tokens: int, *, is_packed: bool, seed: int) -> Batch:
    """Makes rows of one document each, or of as many short ones as fill them."""
    chance = np.random.default_rng(seed)
    ids = (chance.zipf(1.3, (rows, row_tokens)) % vocabulary).astype(np.int64)
    positions = np.tile(np.arange(row_tokens), (rows, 1))
    labels = ids.copy()
    median = math.log(min(MEDIAN_TOKENS, row_tokens / 4))
    for row in range(rows if is_packed else 0):
        start = 0
        while start < row_tokens:
            length = int(np.clip(chance.lognormal(median, 1.0), 8, row_tokens - start))
            length = length if row_tokens - start - length >= 8 else row_tokens - start
            positions[row, start : start + length] = np.arange(length)
            labels[row, start] = IGNORED
            start += length
    return Batch(ids, positions, labels)


def keeps_documents_apart(engine: Engine, batch: Batch) -> bool:
    """Whether the documents of a packed row have the loss that they have alone."""

    def measure(part: Batch) -> float:
        with torch.no_grad(), engine.evaluation():
            return float(engine.module(**to_tensors(part, engine.device)))

    one = Batch(batch.input_ids[:1], batch.position_ids[:1], batch.labels[:1])
    starts = [*np.flatnonzero(one.position_ids[0] == 0), one.input_ids.shape[1]]
    alone = 0.0
    for start, end in pairwise(starts):
        names = ("input_ids", "position_ids", "labels")
        alone += measure(Batch(*(getattr(one, name)[:, start:end] for name in names)))
    return len(starts) > 2 and math.isclose(measure(one), alone, rel_tol=2e-3)


def time_steps(engine: Engine, batches: dict[str, list[Batch]], options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each step, by kind of rows, in turn."""
    ranks = Ranks(engine.device, 0, 1)
    seconds: dict[str, list[float]] = {name: [] for name in batches}
    for _ in range(options.warmup + options.steps):
        for name, step in batches.items():
            started = time.perf_counter()
            loss = float(add_gradients(engine, step, ranks))
            engine.step(1.0, lambda norm: True)
            if engine.device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
            if not math.isfinite(loss):
                raise ArithmeticError(f"the loss of {name} is {loss}")
    return {name: values[options.warmup :] for name, values in seconds.items()}


def measure(options: argparse.Namespace, row_tokens: int, device: torch.device) -> list[dict[str, Any]] | None:
    """One length of rows: a line for whole rows, and one for packed ones."""
    changes: dict[str, Any] = {"n_positions": row_tokens}
    if options.layers:
        changes |= {"n_layer": options.layers, "layer_types": None}
    if options.vocabulary:
        changes |= {"vocab_size": options.vocabulary}
    config = make_config(options.preset, **changes)
    adamw = OptimizerOptions("adamw", (0.9, 0.95), 1e-8, 0.1, 1e-4)
    step_options = StepOptions(
        max_norm=1.0, is_bf16=options.precision == "bf16", recomputes=options.recompute, compiles=options.compile
    )
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    engine = make_engine(config, Start(0), adamw, step_options, Sharding(), device=device)
    rows = options.micro_tokens // row_tokens
    batches = {
        name: [make_batch(config.vocab_size, rows, row_tokens, is_packed=name == "packed", seed=7)]
        for name in ("whole", "packed")
    }
    if not keeps_documents_apart(engine, batches["packed"][0]):
        print("packed documents have another loss than alone; nothing is measured", file=sys.stderr)
        return None
    seconds = time_steps(engine, batches, options)
    if options.profile:
        show_profile(engine, batches["whole"])
    cost, peak = cost_token(config, row_tokens), options.peak_tflops or find_peak_tflops(device)
    found = []
    for name, values in seconds.items():
        rate = rows * row_tokens / statistics.median(values)
        found.append(
            {
                "preset": options.preset,
                "layers": config.n_layer,
                "parameters": count_parameters(config),
                "row_tokens": row_tokens,
                "rows": name,
                "tokens_per_s": rate,
                "spread": (max(values) - min(values)) / statistics.median(values),
                "mfu_causal": rate * cost.causal / (peak * 1e12) if peak else None,
                "mfu_square": rate * cost.square / (peak * 1e12) if peak else None,
                "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None,
            }
        )
    return found


def show_profile(engine: Engine, batches: list[Batch]) -> None:
    """Prints the operations that take most of a step."""
    from torch.profiler import ProfilerActivity, profile

    is_cuda = engine.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]) as profiler:
        add_gradients(engine, batches, Ranks(engine.device, 0, 1))
        engine.step(1.0, lambda norm: True)
    order = "self_cuda_time_total" if is_cuda else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=50))


def tell(line: dict[str, Any]) -> None:
    """Prints a line of the table."""
    shares = "      MFU unknown"
    if line["mfu_causal"] is not None:
        shares = f"MFU {line['mfu_causal']:6.1%} (square {line['mfu_square']:6.1%})"
    memory = f", peak {line['peak_gb']:.1f} GB" if line["peak_gb"] is not None else ""
    print(
        f"rows of {line['row_tokens']:>5}, {line['rows']:<7}{line['tokens_per_s']:>11,.0f} tokens/s  {shares}, "
        f"spread {line['spread']:.0%}{memory}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.utilization", description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", default="codeshell-small")
    parser.add_argument("--layers", type=int, help="instead of the preset's")
    parser.add_argument("--vocabulary", type=int, help="instead of the preset's")
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 8192], help="tokens of a row")
    parser.add_argument("--micro-tokens", type=int, default=16_384, help="tokens of a step")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--precision", default="bf16", choices=["bf16", "fp32"])
    parser.add_argument("--recompute", action="store_true", help="recompute activations")
    parser.add_argument("--compile", action="store_true", help="compile each block")
    parser.add_argument("--peak-tflops", type=float, help="of a device that is not known")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    if wrong := [tokens for tokens in options.rows if options.micro_tokens % tokens]:
        print(f"rows of {wrong[0]} tokens do not divide --micro-tokens {options.micro_tokens}", file=sys.stderr)
        return 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"{os.cpu_count()} cores"
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    print(
        f"{platform.machine()}, {machine}, torch {torch.__version__}, {options.precision}, {options.steps} steps each"
    )
    lines: list[dict[str, Any]] = []
    try:
        for row_tokens in options.rows:
            found = measure(options, row_tokens, device)
            if found is None:
                return 1
            if not lines:
                print(f"{options.preset}, {found[0]['layers']} layers, {found[0]['parameters']:,} parameters")
            for line in found:
                tell(line)
            ratio = found[1]["tokens_per_s"] / found[0]["tokens_per_s"]
            print(f"rows of {row_tokens:>5}: packed rows run at {ratio:.2f} of whole ones")
            lines += found
    finally:
        dist.destroy_process_group()
    if len(options.rows) > 1:
        first, last = lines[0], lines[-2]
        ratio = last["tokens_per_s"] / first["tokens_per_s"]
        print(f"rows of {last['row_tokens']} run at {ratio:.2f} of rows of {first['row_tokens']}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "torch": torch.__version__, "rows": lines}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
