"""Speed of a training step in each precision, and the choice of `precision: auto`.

python -m benchmarks.precision [--repeats 5] [--tokens 2048] [--shapes nano wide]
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 python -m benchmarks.precision

Steps of AdamW and Muon on the same rows, float32 and bfloat16 in turn. The second command disables AVX-512 and AMX. The
benchmark stops unless the first losses in both are near the logarithm of the vocabulary size.
"""

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the stages do, before torch is imported

import torch
import torch.distributed as dist

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf.configuration_codeshell import CodeShellConfig
from codeshell_hf.precision import Precision, choose_precision
from codeshell_hf.presets import count_parameters, make_config
from codeshell_hf.processors import set_threads
from codeshell_hf.train.engine import EngineOptions, make_engine
from codeshell_hf.train.muon import orthogonalize
from codeshell_hf.train.settings import ComputeSettings, OptimizerSettings

WIDE = {"n_embd": 384, "n_inner": 1536, "n_layer": 2}
SHAPES: dict[str, dict[str, Any]] = {"nano": {}, "wide": WIDE, "toy": {"n_embd": 48, "n_inner": 96, "n_layer": 1}}
ARITHMETIC = ("float32", "bfloat16")
ROW_TOKENS = 256


def make_step(
    config: CodeShellConfig, tokens: int, arithmetic: Precision, device: torch.device
) -> Callable[[], tuple[float, float, float]]:
    """Makes a function that runs a step on the same rows: seconds, CPU seconds, and the loss per token before it."""
    muon = OptimizerSettings(name="muon", learning_rate=1e-4, matrix_learning_rate=1e-4)
    engine = make_engine(
        config, muon, EngineOptions(ComputeSettings(compiles=False), arithmetic), device=device, seed=0
    )
    rng = torch.Generator().manual_seed(0)
    rows = torch.randint(0, config.vocab_size, (tokens // ROW_TOKENS, ROW_TOKENS), generator=rng).to(device)
    labels = rows[:, 1:].numel()

    def step() -> tuple[float, float, float]:
        wall, used = time.perf_counter(), time.process_time()
        with engine.autocast():
            loss = engine.module(input_ids=rows, labels=rows) / labels
        engine.backward(loss, is_last=True)
        engine.step(1.0, lambda norm: True)
        found = float(loss.detach())  # waits for the device
        return time.perf_counter() - wall, time.process_time() - used, found

    return step


def measure(config: CodeShellConfig, options: argparse.Namespace, device: torch.device) -> dict[str, list[Any]] | None:
    """Measures each precision, in turn; `None` if the losses are not those of an untrained model."""
    steps = {
        name: make_step(config, options.tokens, Precision(name, name), device)  # type: ignore[arg-type]
        for name in ARITHMETIC
    }
    found: dict[str, list[Any]] = {name: [] for name in steps}
    for name, step in steps.items():
        warm = step()
        loss = warm[2]
        if warm[0] > options.max_seconds:  # so slow that warming up makes no difference
            found[name].append(warm)
        if abs(loss - math.log(config.vocab_size)) > 0.5:
            print(f"the loss in {name} begins at {loss:.3f}; nothing is measured", file=sys.stderr)
            return None
    for _ in range(options.repeats):
        for name, step in steps.items():
            if sum(wall for wall, *_ in found[name]) < options.max_seconds:
                found[name].append(step())
    return found


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__.split("\n\n")[0])
    parser.add_argument("--shapes", nargs="+", default=["nano", "wide"], choices=list(SHAPES))
    parser.add_argument("--tokens", type=int, default=2048, help="of a step, in rows of 256")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-seconds", type=float, default=15, help="no further repeat of what took so long")
    add_output(parser)
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = set_threads()
    if not dist.is_initialized():
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    capability = torch.backends.cpu.get_cpu_capability()
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "none")
    facts = [
        f"torch's kernels for {capability}, oneDNN limited to {limit}, {threads} threads",
        f"{options.tokens} tokens a step in rows of {ROW_TOKENS}, Muon and AdamW, up to {options.repeats} repeats",
    ]
    columns = {"shape": "34", "arithmetic": "12", "tokens/s": "11,.0f", "least": "9,.0f", "most": "9,.0f"}
    columns |= {"CPU s/step": "12.2f", "auto": "10", "probe ms": "10.0f"}
    table = Result(describe_machine("torch", "transformers"), facts, columns)
    table.start("benchmarks.precision", arguments)
    for name in options.shapes:
        config = make_config("nano", **SHAPES[name])
        found = measure(config, options, device)
        if found is None:
            return 1
        chosen = choose_precision("auto", config, device, trains=True, orthogonalize=orthogonalize)
        shape = f"{name}, {config.n_layer} x {config.n_embd}, {count_parameters(config):,}"
        for arithmetic, times in found.items():
            rates = [options.tokens / wall for wall, *_ in times]
            is_chosen = chosen.compute_dtype == arithmetic
            table.add(
                *(shape, arithmetic, statistics.median(rates), min(rates), max(rates)),
                *(statistics.median(used for _, used, _ in times), "taken" if is_chosen else ""),
                *((chosen.probe_ms,) if is_chosen else ()),
            )
        table.note(f"{name}: {chosen.describe('auto')}; Muon's iterations in {chosen.orthogonalization}")
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
