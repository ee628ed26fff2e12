"""Parts of a training step in isolation: the chunked loss and attention by backend, beside their peers."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy, linear, scaled_dot_product_attention

from benchmarks.gpu.correctness import find_error
from benchmarks.gpu.machine import find_device, time_call
from benchmarks.gpu.report import Report
from codeshell_hf.train.attention import attend_varlen
from codeshell_hf.train.loss import LinearCrossEntropy, count_held_positions

MICRO_TOKENS = 16_384
HEADS, GROUPS, WIDTH = 16, 4, 128  # codeshell-small's
BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cuDNN": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}


def measure_parts(report: Report) -> None:
    """Measures the loss, then attention."""
    measure_losses(report)
    measure_attention(report)


def measure_losses(report: Report) -> None:
    """Measures forward and backward of each loss, after comparing its gradients with those in float32."""
    device = find_device()
    tokens, width, vocabulary = (256, 64, 512) if report.is_toy else (MICRO_TOKENS, 2048, 70_144)
    torch.manual_seed(0)
    with device:
        hidden = torch.randn(tokens, width, dtype=torch.bfloat16, requires_grad=True)
        weight = (torch.randn(vocabulary, width) * 0.1).requires_grad_()
        labels = torch.randint(0, vocabulary, (tokens,))

    def find_gradients(run: Callable[[], Tensor]) -> list[Tensor]:
        hidden.grad = weight.grad = None
        run().backward()
        return [one.grad.float() for one in (hidden, weight) if one.grad is not None]

    expected = find_gradients(lambda: cross_entropy(linear(hidden.float(), weight), labels, reduction="sum"))
    kept = count_held_positions(vocabulary, width, device)
    chunks = sorted({kept, 956, 1024, 2048, 4096}) if not report.is_toy else [64]
    for name, run in list_losses(hidden, weight, labels, chunks):
        try:
            found = find_gradients(run)
            errors = [find_error(one, other) for one, other in zip(found, expected, strict=True)]
            del found
            report.add(f"{name}: largest error of a gradient", max(errors), limit=3e-2)
            hidden.grad = weight.grad = None
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds = time_call(lambda run=run: run().backward(), repeats=3, warmup=1)
        except (RuntimeError, ValueError) as error:  # too little memory, or a missing kernel
            report.fail(name, error)
            continue
        memory = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
        rate = 6 * tokens * width * vocabulary / seconds / 1e12
        report.add(name, seconds * 1e3, "ms", tflops=rate, peak_gb=memory)


def list_losses(
    hidden: Tensor, weight: Tensor, labels: Tensor, chunks: list[int]
) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Names and functions of the losses, all in bfloat16 with float32 weights."""
    kind = hidden.device.type

    def ours(chunk: int, *, compiles: bool = False) -> Tensor:
        with torch.autocast(kind, torch.bfloat16):
            return LinearCrossEntropy.apply(hidden, weight, labels, chunk, compiles, 0.0)

    def plain() -> Tensor:
        with torch.autocast(kind, torch.bfloat16):
            logits = linear(hidden, weight)
        return cross_entropy(logits.float(), labels, reduction="sum")

    for chunk in chunks:
        yield f"loss, {chunk:,} positions at a time", lambda chunk=chunk: ours(chunk)
        if kind == "cuda":
            yield f"loss, {chunk:,} positions at a time, compiled", lambda chunk=chunk: ours(chunk, compiles=True)
    yield "loss, all logits at once", plain
    if kind == "cuda" and find_spec("liger_kernel"):
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss(reduction="sum")
        yield "loss, Liger's", lambda: liger(weight.to(torch.bfloat16), hidden, labels)


def measure_attention(report: Report) -> None:
    """Measures forward and backward of causal attention; a backward pass counts as 2.5 forward passes."""
    device = find_device()
    tokens, lengths = (128, (64,)) if report.is_toy else (MICRO_TOKENS, (2048, 8192))
    dtype = torch.bfloat16
    for length in lengths:
        rows = tokens // length
        with device:
            query, key, value = (
                torch.randn(rows, heads, length, WIDTH, dtype=dtype, requires_grad=True)
                for heads in (HEADS, GROUPS, GROUPS)
            )
        operations = 4 * rows * HEADS * length * length / 2 * WIDTH * 3.5

        def attend(backend: SDPBackend, query: Tensor = query, key: Tensor = key, value: Tensor = value) -> None:
            with sdpa_kernel(backend):
                scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True).sum().backward()

        def varlen(query: Tensor = query, key: Tensor = key, value: Tensor = value) -> None:
            output, _ = attend_varlen(nn.Identity(), query, key, value, None, scaling=WIDTH**-0.5)
            output.sum().backward()

        ways = {name: lambda backend=backend, attend=attend: attend(backend) for name, backend in BACKENDS.items()}
        for name, run in {**ways, "varlen": varlen}.items():
            what = f"attention, rows of {length:,}, {name}"
            try:
                report.add(what, operations / time_call(run) / 1e12, "TFLOP/s")
            except RuntimeError as error:  # the backend does not support these heads
                report.skip(what, str(error).splitlines()[0])
