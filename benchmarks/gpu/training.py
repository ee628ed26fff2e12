"""A training step of 16,384 tokens on one rank: ours with `benchmarks.utilization`, and stock Starcoder2's."""

import gc
import time
from typing import Any

import torch
from transformers import Starcoder2ForCausalLM

from benchmarks import utilization
from benchmarks.gpu.machine import find_device, time_call
from benchmarks.gpu.report import Report
from benchmarks.pretraining import shape_peer
from codeshell_hf.errors import SettingsError
from codeshell_hf.train.memory import Layout, estimate_memory
from codeshell_hf.train.throughput import cost_token, find_peak_tflops
from recipes.with_accelerate import join_ranks

ROWS = ("--rows", "2048", "--compile", "--whole", "--warmup", "2", "--attention", "varlen")
SMALL = ("--preset", "codeshell-small", *ROWS, "--micro-batches", "4", "--steps", "4")
SEVEN = ("--preset", "codeshell-7b", "--layers", "8", *ROWS, "--steps", "5")
COMPACT = ("--moments", "8bit", "--weights", "bfloat16", "--precision", "bfloat16")
# Optimisers and arithmetic beside the plain step of the same model.
VARIANTS = (
    SMALL,
    (*SMALL, "--optimizer", "muon"),
    (*SMALL, "--moments", "bfloat16"),
    (*SMALL, "--moments", "8bit"),
    (*SMALL, *COMPACT),
    (*SMALL, "--fp8", "tensorwise"),
    (*SMALL, "--fp8", "rowwise"),
    SEVEN,
    (*SEVEN, "--fp8", "tensorwise"),
    (*SEVEN, "--fp8", "rowwise"),
)
TOY = (
    "--preset", "nano", "--layers", "1", "--vocabulary", "512", "--rows", "64", "128", "--micro-tokens", "512",
    "--steps", "2", "--warmup", "1", "--peak-tflops", "1",
)  # fmt: skip


def read_options(report: Report, given: tuple[str, ...]) -> Any:
    """Options of `benchmarks.utilization`, with tiny shapes for a toy."""
    options = utilization.read_options([*given, *(TOY if report.is_toy else ())])
    options.compile = options.compile and not report.is_toy
    return options


def measure_steps(report: Report, *given: str) -> None:
    """Measures MFU, tokens per second and memory at each row length, beside the estimated memory."""
    options = read_options(report, given)
    name = name_step(options)
    with join_ranks() as ranks:
        for row_tokens in options.rows:
            started = time.perf_counter()
            speeds = utilization.measure(options, row_tokens, ranks)
            if speeds is None:
                report.fail(f"{name}, rows of {row_tokens:,}", "packed documents have another loss than alone")
                continue
            layout = Layout(
                options.sharding, 3, 1, options.micro_tokens, recomputes=options.recompute,
                optimizer=options.optimizer, moments=options.moments, weights=options.weights,
            )  # fmt: skip
            planned = estimate_memory(utilization.shape(options, row_tokens), layout).total / 1e9
            for kind, speed in speeds.items():
                what = f"{name}, rows of {row_tokens:,}, {kind}"
                if speed.causal is None:
                    report.add(what, speed.tokens_per_s, "tokens/s")
                    continue
                report.add(
                    what,
                    speed.causal,
                    "MFU",
                    square=speed.square,
                    tokens_per_s=speed.tokens_per_s,
                    spread=speed.spread,
                    peak_gb=speed.peak_gb,
                    plan_gb=planned,
                    first_s=speed.first_s,
                    loss=speed.loss,
                    all_s=time.perf_counter() - started,
                )
            if ranks.device.type == "cuda":
                torch.cuda.empty_cache()


def measure_variants(report: Report) -> None:
    """Measures the steps of `VARIANTS`, one after another on the same GPU."""
    for given in VARIANTS:
        gc.collect()  # the model before
        try:
            measure_steps(report, *given)
        except (torch.OutOfMemoryError, SettingsError) as error:  # the others can still be measured
            report.fail(" ".join(given), error)


def name_step(options: Any) -> str:
    """Preset, layers, and what is not the default of optimiser and arithmetic."""
    others = [
        f"{options.layers} layers" if options.layers else "",
        options.optimizer if options.optimizer != "adamw" else "",
        f"moments in {options.moments}" if options.moments != "float32" else "",
        f"weights in {options.weights}" if options.weights != "float32" else "",
        f"fp8 {options.fp8}" if options.fp8 else "",
    ]
    return ", ".join([options.preset, *filter(None, others)])


def measure_peer(report: Report, *given: str) -> None:
    """Measures the same step with stock Starcoder2 of the same shape: autocast, fused AdamW and clipping only."""
    options, device = read_options(report, given), find_device()
    peak = options.peak_tflops or find_peak_tflops(device)
    for row_tokens in options.rows:
        config = utilization.shape(options, row_tokens)
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        what = f"stock Starcoder2, rows of {row_tokens:,}, whole"
        try:
            seconds = time_peer(config, options, device)
        except torch.OutOfMemoryError as error:  # expected with long rows, since it computes all logits at once
            report.fail(what, error)
            continue
        rate = options.micro_tokens / seconds
        memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
        if peak:
            share = rate * cost_token(config, row_tokens).causal / (peak * 1e12)
            report.add(what, share, "MFU", tokens_per_s=rate, peak_gb=memory)
        else:
            report.add(what, rate, "tokens/s", peak_gb=memory)


def time_peer(config: Any, options: Any, device: torch.device) -> float:
    """Median seconds of the peer's step."""
    row_tokens = config.n_positions
    with device:
        model = Starcoder2ForCausalLM(shape_peer(config)).train()
        ids = torch.randint(0, config.vocab_size, (options.micro_tokens // row_tokens, row_tokens))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=True)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        optimizer.step()
        optimizer.zero_grad()

    return time_call(step, repeats=options.steps, warmup=options.warmup)
