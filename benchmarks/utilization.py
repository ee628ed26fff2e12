"""MFU of a training step by row length, and the cost of packing documents.

python -m benchmarks.utilization [--preset codeshell-small] [--rows 2048 8192] [--micro-tokens 16384]
python -m benchmarks.utilization --preset codeshell-7b --layers 8 --recompute    as many layers as fit
python -m benchmarks.utilization --sharding fsdp2    the same step by FSDP2, on one rank
python -m benchmarks.utilization --profile    and the operations that take most of a step

The step is that of the training loop, on random tokens: rows of one document each, and rows of many short ones, in
turn. The benchmark stops unless packed documents have the same loss as each document alone.
"""

import argparse
import math
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf import CodeShellConfig
from codeshell_hf.pack.rows import IGNORED, Batch
from codeshell_hf.precision import choose_precision
from codeshell_hf.presets import count_parameters, make_config
from codeshell_hf.train.attention_choice import describe_trials
from codeshell_hf.train.batches import to_tensors
from codeshell_hf.train.engine import Engine, EngineOptions, make_engine
from codeshell_hf.train.muon import orthogonalize
from codeshell_hf.train.ranks import Ranks
from codeshell_hf.train.settings import AttentionName, ComputeSettings, Fp8Scaling, MomentFormat, OptimizerSettings
from codeshell_hf.train.sharding import Sharding
from codeshell_hf.train.step import accumulate_gradients
from codeshell_hf.train.throughput import cost_token, find_peak_tflops
from recipes.with_accelerate import join_ranks

MEDIAN_TOKENS = 500  # of a short document, as for files of code; less if a row would not fit four


@dataclass(frozen=True)
class Speed:
    """Measurements of steps on one kind of rows.

    Args:
        tokens_per_s: Median tokens per second.
        spread: Difference of the fastest and the slowest, relative to the median.
        causal: MFU, with only the causal half of attention counted; `None` if the peak is not known.
        square: MFU, with all of the attention matrix counted.
        peak_gb: Peak memory of a GPU, 10**9 bytes; `None` on a CPU.
        first_s: Seconds of the first step, including compilation.
        loss: Mean loss per label of the last step.
    """

    tokens_per_s: float
    spread: float
    causal: float | None
    square: float | None
    peak_gb: float | None
    first_s: float
    loss: float


def make_batch(vocabulary: int, rows: int, row_tokens: int, *, is_packed: bool, seed: int) -> Batch:
    """Makes rows of one document each, or rows packed with short ones."""
    rng = np.random.default_rng(seed)
    ids = (rng.zipf(1.3, (rows, row_tokens)) % vocabulary).astype(np.int64)
    positions = np.tile(np.arange(row_tokens), (rows, 1))
    labels = ids.copy()
    median = math.log(min(MEDIAN_TOKENS, row_tokens / 4))
    for row in range(rows if is_packed else 0):
        start = 0
        while start < row_tokens:
            length = int(np.clip(rng.lognormal(median, 1.0), 8, row_tokens - start))
            length = length if row_tokens - start - length >= 8 else row_tokens - start
            positions[row, start : start + length] = np.arange(length)
            labels[row, start] = IGNORED
            start += length
    return Batch(ids, positions, labels)


def keeps_documents_apart(engine: Engine, batch: Batch) -> bool:
    """Whether the documents of a packed row have the same loss as alone."""

    def measure(part: Batch) -> float:
        with torch.no_grad(), engine.evaluation():
            return float(engine.module(**to_tensors(part, engine.device, with_lengths=engine.takes_lengths)))

    one = Batch(batch.input_ids[:1], batch.position_ids[:1], batch.labels[:1])
    starts = [*np.flatnonzero(one.position_ids[0] == 0), one.input_ids.shape[1]]
    alone = 0.0
    for start, end in pairwise(starts):
        names = ("input_ids", "position_ids", "labels")
        alone += measure(Batch(*(getattr(one, name)[:, start:end] for name in names)))
    return len(starts) > 2 and math.isclose(measure(one), alone, rel_tol=2e-3)


def time_steps(
    engine: Engine, batches: dict[str, list[Batch]], ranks: Ranks, steps: int
) -> dict[str, list[tuple[float, float]]]:
    """Measures seconds and loss of each step, by kind of rows, in turn."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in batches}
    for _ in range(steps):
        for name, step in batches.items():
            started = time.perf_counter()
            total = accumulate_gradients(engine, step, ranks)
            engine.step(1.0, lambda norm: True)
            if engine.device.type == "cuda":
                torch.cuda.synchronize()
            seconds, loss = time.perf_counter() - started, float(total)
            found[name].append((seconds, loss))
            if not math.isfinite(loss):
                raise ArithmeticError(f"the loss of {name} is {loss}")
    return found


def shape(options: argparse.Namespace, row_tokens: int) -> CodeShellConfig:
    """The configuration for a row length."""
    changes: dict[str, Any] = {"n_positions": row_tokens}
    if options.layers:
        changes |= {"n_layer": options.layers, "layer_types": None}
    if options.vocabulary:
        changes |= {"vocab_size": options.vocabulary}
    return make_config(options.preset, **changes)


def measure(options: argparse.Namespace, row_tokens: int, ranks: Ranks) -> dict[str, Speed] | None:
    """Measures a row length, with whole and packed rows; `None` if packed documents have another loss than alone."""
    config, device = shape(options, row_tokens), ranks.device
    optimizer = OptimizerSettings(
        name=options.optimizer,
        learning_rate=1e-4,
        matrix_learning_rate=1e-3,
        moments=options.moments,
        weights=options.weights,
    )
    precision = choose_precision(
        options.precision,
        config,
        device,
        trains=True,
        orthogonalize=orthogonalize if options.optimizer == "muon" else None,
    )
    print(precision.describe(options.precision), file=sys.stderr)
    compute = ComputeSettings(
        gradient_checkpointing=options.recompute,
        compiles=options.compile,
        attention=options.attention,
        fp8=options.fp8,
    )
    engine_options = EngineOptions(compute, precision, sharding=Sharding(kind=options.sharding))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    engine = make_engine(config, optimizer, engine_options, device=device, seed=0)
    print(f"attention by {engine.attention} {describe_trials(engine.attention_trials)}", file=sys.stderr)
    rows = options.micro_tokens // row_tokens
    batches = {
        name: [
            make_batch(config.vocab_size, rows, row_tokens, is_packed=name == "packed", seed=7 + number)
            for number in range(options.micro_batches)
        ]
        for name in (("whole",) if options.whole else ("whole", "packed"))
    }
    if "packed" in batches and not keeps_documents_apart(engine, batches["packed"][0]):
        print("packed documents have another loss than alone; nothing is measured", file=sys.stderr)
        return None
    steps = time_steps(engine, batches, ranks, options.warmup + options.steps)
    if options.profile:
        show_profile(engine, batches["whole"], ranks)
    cost, peak = cost_token(config, row_tokens), options.peak_tflops or find_peak_tflops(device)
    memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
    found: dict[str, Speed] = {}
    for name, values in steps.items():
        seconds = [one for one, _ in values[options.warmup :]]
        rate = options.micro_batches * rows * row_tokens / statistics.median(seconds)
        spread = (max(seconds) - min(seconds)) / statistics.median(seconds)
        shares = [rate * operations / (peak * 1e12) if peak else None for operations in (cost.causal, cost.square)]
        first_s, loss = values[0][0], values[-1][1]
        found[name] = Speed(rate, spread, *shares, peak_gb=memory, first_s=first_s, loss=loss)
    return found


def show_profile(engine: Engine, batches: list[Batch], ranks: Ranks) -> None:
    """Prints the operations that take the most time."""
    from torch.profiler import ProfilerActivity, profile

    is_cuda = engine.device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]) as profiler:
        accumulate_gradients(engine, batches, ranks)
        engine.step(1.0, lambda norm: True)
    order = "self_cuda_time_total" if is_cuda else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=20, max_name_column_width=50))


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parses the options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.utilization", description=__doc__.split("\n\n")[0])
    parser.add_argument("--preset", default="codeshell-small")
    parser.add_argument("--layers", type=int, help="instead of the preset's")
    parser.add_argument("--vocabulary", type=int, help="instead of the preset's")
    parser.add_argument("--rows", type=int, nargs="+", default=[2048, 8192], help="tokens of a row")
    parser.add_argument("--micro-tokens", type=int, default=16_384, help="tokens of a micro-batch")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--recompute", action="store_true", help="recompute activations")
    parser.add_argument("--micro-batches", type=int, default=1, help="of a step")
    parser.add_argument(
        "--attention", default="auto", choices=get_args(AttentionName), help="instead of what the loop chooses"
    )
    parser.add_argument("--compile", action="store_true", help="compile each block")
    parser.add_argument("--optimizer", default="adamw", choices=["adamw", "muon"])
    parser.add_argument("--moments", default="float32", choices=get_args(MomentFormat))
    parser.add_argument("--weights", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--fp8", choices=get_args(Fp8Scaling), help="products of the blocks in 8 bits")
    parser.add_argument("--sharding", default="ddp", choices=["ddp", "fsdp2"])
    parser.add_argument("--whole", action="store_true", help="rows of one document alone")
    parser.add_argument("--peak-tflops", type=float, help="of a device that is not known")
    parser.add_argument("--profile", action="store_true")
    add_output(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    options = read_options(arguments)
    if wrong := [tokens for tokens in options.rows if options.micro_tokens % tokens]:
        print(f"rows of {wrong[0]} tokens do not divide --micro-tokens {options.micro_tokens}", file=sys.stderr)
        return 2
    config = shape(options, max(options.rows))
    facts = [
        f"{options.preset}, {config.n_layer} layers, {count_parameters(config):,} parameters, {options.precision}",
        f"{options.micro_batches * options.micro_tokens} tokens a step, {options.steps} steps each",
        f"attention: {options.attention}",
    ]
    notes, rates = [], []
    with join_ranks() as ranks:
        columns = {"rows": "16", "tokens/s": "12,.0f", "spread": "8.0%"}
        if options.peak_tflops or find_peak_tflops(ranks.device):
            columns |= {"MFU": "8.1%", "square": "8.1%"}
        if ranks.device.type == "cuda":
            columns |= {"peak GB": "9.1f"}
        table = Result(describe_machine("torch"), facts, columns).start("benchmarks.utilization", arguments)
        for row_tokens in options.rows:
            found = measure(options, row_tokens, ranks)
            if found is None:
                return 1
            for name, speed in found.items():
                more = [one for one in (speed.causal, speed.square, speed.peak_gb) if one is not None]
                table.add(f"{row_tokens:>5}, {name}", speed.tokens_per_s, speed.spread, *more)
            rates.append(found["whole"].tokens_per_s)
            if "packed" in found:
                share = found["packed"].tokens_per_s / rates[-1]
                notes.append(f"rows of {row_tokens}: packed ones run at {share:.2f} of whole ones")
    if len(options.rows) > 1:
        notes.append(f"rows of {options.rows[-1]} run at {rates[-1] / rates[0]:.2f} of rows of {options.rows[0]}")
    for note in notes:
        table.note(note)
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
