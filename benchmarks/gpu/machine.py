"""Speed of the machine: matrix products at the models' shapes, and copies; and whether the varlen kernel works."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.report import Report
from codeshell_hf.presets import make_config
from codeshell_hf.train.attention import VARLEN, register_attention
from codeshell_hf.train.attention_choice import try_attention

ATTENTIONS = (VARLEN, "flex_attention")
PRESETS = ("nano", "codeshell-small", "codeshell-7b", "code-34b-fsdp")
# (M, K, N): a shape that any card should do well, codeshell-small's blocks, chunks of its loss, the 7B's MLP.
SHAPES = (
    (8192, 8192, 8192),
    (16384, 2048, 3072), (16384, 2048, 8192), (16384, 8192, 2048),
    (896, 2048, 70144), (956, 2048, 70144), (1024, 2048, 70144),
    (16384, 4096, 16384),
)  # fmt: skip


def find_device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def time_call(run: Callable[[], Any], *, repeats: int = 5, warmup: int = 2) -> float:
    """The median of a call's seconds, including its work on the GPU."""
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    seconds = []
    for repeat in range(warmup + repeats):
        wait()
        started = time.perf_counter()
        run()
        wait()
        if repeat >= warmup:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure_machine(report: Report) -> None:
    """Measures products and copies, and checks the varlen kernel."""
    device = find_device()
    for rows, inner, columns in ((64, 64, 64),) if report.is_toy else SHAPES:
        a, b = (torch.randn(*of, device=device, dtype=torch.bfloat16) for of in ((rows, inner), (inner, columns)))
        seconds = time_call(lambda a=a, b=b: a @ b, repeats=10)
        name = f"matrices of {rows} x {inner} x {columns}"
        report.add(name, 2 * rows * inner * columns / seconds / 1e12, "TFLOP/s")
    count = 2**20 if report.is_toy else 2**30
    source = torch.empty(count, dtype=torch.uint8, device=device)
    target, host = torch.empty_like(source), torch.empty(count // 4, dtype=torch.uint8)
    seconds = time_call(lambda: target.copy_(source), repeats=10)
    report.add("copy on the device, read and written", 2 * count / seconds / 1e9, "GB/s")
    seconds = time_call(lambda: host.copy_(source[: len(host)]), repeats=3)
    report.add("copy to pageable memory of the host", len(host) / seconds / 1e9, "GB/s")
    for preset in PRESETS[:1] if report.is_toy else PRESETS:
        config = make_config(preset, n_positions=256) if report.is_toy else make_config(preset)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        register_attention()
        for trial in try_attention(config, device, dtype, ATTENTIONS[: 1 if report.is_toy else None]):
            what = f"{preset}, rows of {config.n_positions:,}, {trial.name}"
            if trial.milliseconds is None:
                report.fail(what, str(trial.refusal))
            else:
                report.add(what, trial.milliseconds, "ms")
