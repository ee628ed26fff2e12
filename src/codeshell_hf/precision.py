"""Chooses the compute dtype that is fast on a device, by measuring it.

CPUs without bfloat16 instructions multiply it in a plain loop, ten to a hundred times slower than float32.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from .errors import CheckpointError
from .manifest import write_text
from .processors import one_thread

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)

ComputeDtype = Literal["float32", "bfloat16"]
RequestedPrecision = Literal["auto", "float32", "bfloat16"]
MIN_SPEEDUP = 1.2  # below it, float32's accuracy is worth more
SIZES = {"cpu": (64, 1 << 18), "cuda": (2048, 1 << 24)}  # tokens, and largest size of a matrix
# Smallest side of a matrix. A GPU takes longer to start a smaller product than to compute it, so that the times of two
# dtypes say nothing, above all while another process uses the GPU.
MIN_SIDE = {"cpu": 1, "cuda": 1024}
MAX_SIDE = {"cpu": 256, "cuda": 4096}  # of a matrix to orthogonalise
PROBE_RUNS = 3
MAX_SLOWDOWN = 4  # a bfloat16 measurement is stopped after so many times float32's duration
RECORD = "precision.json"


class Shape(Protocol):
    """The fields that are read of a configuration, which may be another model's."""

    hidden_size: int
    vocab_size: int
    num_hidden_layers: int


@dataclass(frozen=True)
class Precision:
    """The precision of a run, and its reason.

    Args:
        compute_dtype: Of matrix products; training weights and optimiser states have dtypes of their own.
        orthogonalization: Of Muon's iterations.
        speedup: Speed of the model's products in bfloat16 relative to float32 on the device that was measured; below
            1 / `MAX_SLOWDOWN` an upper bound; `None` if nothing was measured.
        probe_ms: Duration of the measurement; on a CPU, CPU time.
    """

    compute_dtype: ComputeDtype
    orthogonalization: ComputeDtype = "float32"
    speedup: float | None = None
    probe_ms: float = 0.0

    @property
    def is_bf16(self) -> bool:
        """Whether matrix products are in bfloat16."""
        return self.compute_dtype == "bfloat16"

    @property
    def dtype(self) -> "torch.dtype":
        """The compute dtype as torch's."""
        import torch

        return torch.bfloat16 if self.is_bf16 else torch.float32

    def describe(self, requested: RequestedPrecision, *, is_resumed: bool = False) -> str:
        """Describes the choice and its reason in one line."""
        line = f"arithmetic in {self.compute_dtype}"
        if is_resumed:
            return f"{line}, as the run started"
        if requested != "auto":
            return f"{line}, as requested"
        if self.speedup is None:
            return line
        ratio = f"products in bfloat16 are {_format_ratio(self.speedup)} as fast as in float32 here"
        return f"{line}: {ratio}, probed in {self.probe_ms:.0f} ms"


def _format_ratio(speedup: float) -> str:
    return f"{speedup:.1f} times" if speedup >= 1 / MAX_SLOWDOWN else f"less than {max(speedup, 0.01):.2f} times"


def choose_precision(
    requested: RequestedPrecision,
    config: "Shape | None",
    device: "torch.device",
    *,
    trains: bool,
    orthogonalize: "Callable[[torch.Tensor, torch.dtype], object] | None" = None,
    advice: str = "set it to auto",
) -> Precision:
    """Chooses the compute dtype from the speed of a block's matrix products.

    Args:
        requested: "auto" takes bfloat16 from `MIN_SPEEDUP` on. "bfloat16" is taken in any case, with a warning where it
            is slower than float32.
        config: Of the model; may be `None` for float32, for which nothing is measured.
        device: Where it runs.
        trains: Whether backward passes are measured too.
        orthogonalize: Muon's iterations on a matrix in a dtype; `None` without Muon.
        advice: End of the warning, which says how to avoid it.
    """
    if requested == "float32" or not can_compute(device):
        if requested == "bfloat16":
            logger.warning("precision is bfloat16, which this %s has no instructions for; %s", device.type, advice)
        return Precision("bfloat16" if requested == "bfloat16" else "float32")
    if config is None:
        raise ValueError("precision is to be measured, but config is None; pass the model's")
    started = _now(device)
    iterations: ComputeDtype = "float32"
    with one_thread():
        speedup = measure_speedup(probe_products(config, device, trains=trains), device)
        is_bf16 = requested == "bfloat16" or speedup >= MIN_SPEEDUP
        if orthogonalize is not None and is_bf16:
            is_faster = measure_speedup(probe_matrix(config, device, orthogonalize), device) >= MIN_SPEEDUP
            iterations = "bfloat16" if is_faster else "float32"
    chosen: ComputeDtype = "bfloat16" if is_bf16 else "float32"
    probe_ms = round(1000 * (_now(device) - started), 1)
    precision = Precision(chosen, iterations, round(speedup, 3), probe_ms)
    if requested == "bfloat16":
        warn_if_slow(precision, device, advice=advice)
    return precision


def warn_if_slow(precision: Precision, device: "torch.device", *, advice: str) -> None:
    """Warns if the precision is bfloat16 but float32 was measured to be faster; `advice` ends the message."""
    if precision.is_bf16 and precision.speedup is not None and precision.speedup < 1:
        logger.warning(
            "precision is bfloat16, which is %s as fast as float32 on this %s; %s",
            *(_format_ratio(precision.speedup), device.type, advice),
        )


def can_compute(device: "torch.device") -> bool:
    """Whether a device supports bfloat16 without emulation; a CPU always does, fast or slowly."""
    import torch

    return device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)


Work = Callable[["torch.dtype"], Iterator[None]]  # yields where it may be stopped


def measure_speedup(work: Work, device: "torch.device") -> float:
    """Times work in float32 and in bfloat16; on a CPU by this thread's CPU time, whatever else runs.

    Returns:
        The time in float32 divided by that in bfloat16, each the best of `PROBE_RUNS` after a warm-up. If bfloat16
        takes more than `MAX_SLOWDOWN` times as long on a CPU, it is stopped, and the true ratio is smaller.
    """
    import torch

    def run(dtype: torch.dtype, limit_s: float) -> float:
        started = _now(device)
        for _ in work(dtype):
            if _now(device) - started > limit_s:
                break
        return _now(device) - started

    exact = min([run(torch.float32, float("inf")) for _ in range(PROBE_RUNS + 1)][1:])
    # The first run includes the warm-up, and each may be delayed by what else the machine does.
    limit_s = MAX_SLOWDOWN * exact if device.type == "cpu" else float("inf")
    rounded = min(run(torch.bfloat16, limit_s) for _ in range(PROBE_RUNS + 1))
    return exact / max(rounded, 1e-9)


def _now(device: "torch.device") -> float:
    if device.type == "cpu":
        return time.thread_time()
    import torch

    torch.cuda.synchronize(device)
    return time.perf_counter()


def probe_products(config: Shape, device: "torch.device", *, trains: bool) -> Work:
    """Makes a function to time: the matrix products of a block, and of its share of the output layer.

    Sizes are the model's, reduced to what takes a moment even in a plain loop, and on a GPU at least `MIN_SIDE`.
    """
    import torch

    kind = "cuda" if device.type == "cuda" else "cpu"
    tokens, most = SIZES[kind]
    width = config.hidden_size
    inner = getattr(config, "intermediate_size", None) or 4 * width
    share = max(64, config.vocab_size // max(1, config.num_hidden_layers))
    operands: dict[torch.dtype, list[tuple[torch.Tensor, ...]]] = {torch.float32: [], torch.bfloat16: []}
    for inputs, outputs in ((width, width), (width, inner), (inner, width), (width, share)):
        cut = min(1.0, (most / (inputs * outputs)) ** 0.5)
        n, m = (max(MIN_SIDE[kind], int(side * cut)) for side in (inputs, outputs))
        made = [torch.full(size, 0.5, device=device) for size in ((m, n), (tokens, n), (tokens, m))]
        for dtype, some in operands.items():
            # Weights are converted once per step; in training, activations are float32 between products.
            weight, *flowing = made
            some.append((weight.to(dtype), *(flowing if trains else [one.to(dtype) for one in flowing])))

    def work(dtype: torch.dtype) -> Iterator[None]:
        for weight, values, gradient in operands[dtype]:
            given = values.to(dtype)
            given @ weight.T
            yield
            if trains:
                back = gradient.to(dtype)
                back @ weight
                yield
                back.T @ given
                yield

    return work


def probe_matrix(
    config: Shape, device: "torch.device", orthogonalize: "Callable[[torch.Tensor, torch.dtype], object]"
) -> Work:
    """Makes a function to time: the orthogonalisation of one matrix of a block."""
    import torch

    kind = "cuda" if device.type == "cuda" else "cpu"
    side = max(MIN_SIDE[kind], min(config.hidden_size, MAX_SIDE[kind]))
    matrix = torch.full((side, side), 0.5, device=device)

    def work(dtype: torch.dtype) -> Iterator[None]:
        orthogonalize(matrix, dtype)
        yield

    return work


def read_precision(folder: Path) -> Precision | None:
    """Reads what `write_precision` wrote; `None` where there is no record.

    Raises:
        CheckpointError: If it cannot be read.
    """
    path = folder / RECORD
    try:
        return Precision(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}), so the run's precision is unknown; restore it, or remove {folder} "
            "to start over"
        ) from error


def write_precision(folder: Path, precision: Precision) -> None:
    """Writes a run's precision beside its checkpoints; creates the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / RECORD, json.dumps(asdict(precision), indent=1) + "\n")
