"""Chooses the fastest attention kernel on a GPU that keeps packed documents separate."""

import time
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from transformers.utils import is_flash_attn_2_available, is_flash_attn_3_available

from ..configuration_codeshell import CodeShellConfig
from ..modeling_codeshell import CodeShellModel
from .attention import VARLEN, VARLEN_FA4, has_fa4, register_attention

CHECKED_ENDS = (0, 40, 128)  # document boundaries of the compared row; FlexAttention has another kernel below 128
CHECKED_WINDOW = 8
TOLERANCE = 0.05  # rounding to bfloat16 is about 0.01; one token too many or too few is far more
TIMED_TOKENS = 8192
TIMED_REPEATS = 3
HELD_CYCLES = 50_000_000  # of a GPU: 25 ms or more, longer than the host needs for a pass


@dataclass(frozen=True)
class AttentionTrial:
    """An implementation that was tried.

    Args:
        name: Its name in transformers.
        milliseconds: Of a forward and backward pass over packed rows, on a GPU without gaps in which it waits for the
            host, since in training the host runs ahead; `None` if it was refused.
        refusal: Why it cannot be used; `None` if it can.
    """

    name: str
    milliseconds: float | None = None
    refusal: str | None = None


def describe_trials(trials: Iterable[AttentionTrial]) -> str:
    """The time of each, or why it was refused."""
    return ", ".join(
        f"{trial.name} {trial.milliseconds:.1f} ms" if trial.milliseconds else f"{trial.name} refused: {trial.refusal}"
        for trial in trials
    )


def choose_attention(config: CodeShellConfig, device: torch.device) -> list[AttentionTrial]:
    """Tries what can train in bfloat16 on a GPU; the fastest that is right comes first.

    FlexAttention is not tried: compiling a model of 24 layers with it took more than 45 seconds on an H100.
    """
    if config.attn_pdrop:  # only masked attention drops weights
        return []
    register_attention()
    installed = {
        VARLEN_FA4: has_fa4(device),
        "flash_attention_3": is_flash_attn_3_available(),
        "flash_attention_2": is_flash_attn_2_available(),
    }
    names = [name for name, is_installed in installed.items() if is_installed] + [VARLEN]
    try:
        trials = try_attention(config, device, torch.bfloat16, names)
    except Exception as error:  # masked attention itself fails; the model's own error will be clearer
        trials = [AttentionTrial(name, refusal=_shorten(error)) for name in names]
    return sorted(trials, key=lambda trial: (trial.refusal is not None, trial.milliseconds or 0.0))


def try_attention(
    config: CodeShellConfig, device: torch.device, dtype: torch.dtype, names: Iterable[str]
) -> list[AttentionTrial]:
    """Compares implementations with masked attention, outputs and gradients, and times those that agree.

    A model of the configuration's heads is used, with one layer of each of its types.
    """
    types = sorted(set(config.layer_types or ()))
    small = deepcopy(config)
    small.n_layer, small.layer_types, small.n_inner = len(types), types, 64
    small.vocab_size, small.initializer_range = 64, config.n_embd**-0.5  # so that scores differ
    small.bos_token_id = small.eos_token_id = small.pad_token_id = 0
    checked, timed = deepcopy(small), deepcopy(small)
    checked.n_positions = CHECKED_ENDS[-1]
    checked.sliding_window = CHECKED_WINDOW if "sliding_attention" in types else None
    with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.device(device):
        torch.manual_seed(0)
        right = _Probe(CodeShellModel(checked), dtype, "sdpa", CHECKED_ENDS)
        expected = right.run()
        trials = []
        for name in names:
            try:
                right.model.set_attn_implementation(name)
                found = right.run()
                if not all(_is_near(a, b) for a, b in zip(found, expected, strict=True)):
                    trials.append(AttentionTrial(name, refusal="differs from masked attention"))
                    continue
                trials.append(AttentionTrial(name, _time(timed, dtype, name)))
            except Exception as error:  # kernels and compilers each raise their own
                trials.append(AttentionTrial(name, refusal=_shorten(error)))
    return trials


def _is_near(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= TOLERANCE * expected.norm())  # false for NaN


def find_fastest(trials: Iterable[Iterable[AttentionTrial]]) -> str:
    """The first rank's fastest implementation that no rank refused, else masked attention.

    Args:
        trials: Of each rank, as `choose_attention` orders them.
    """
    first, *others = ([trial for trial in one if trial.refusal is None] for one in trials)
    usable = [{trial.name for trial in one} for one in others]
    return next((trial.name for trial in first if all(trial.name in names for names in usable)), "sdpa")


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _time(config: CodeShellConfig, dtype: torch.dtype, name: str) -> float:
    """Milliseconds of the fastest pass over rows with documents of 1/2, 1/4, 1/8 ... of the row."""
    row = config.n_positions
    ends = [0]
    for _ in range(max(1, TIMED_TOKENS // row)):
        start, length = ends[-1], row
        while length > row // 64 and length > 1:
            length //= 2
            ends.append(ends[-1] + length)
        ends.append(start + row)
    probe = _Probe(CodeShellModel(config), dtype, name, ends)
    probe.run()  # compiles
    return min(_time_on_gpu(probe) if probe.is_cuda else _time_on_cpu(probe) for _ in range(TIMED_REPEATS))


def _time_on_cpu(probe: "_Probe") -> float:
    started = time.perf_counter()
    probe.run()
    return (time.perf_counter() - started) * 1e3


def _time_on_gpu(probe: "_Probe") -> float:
    begun, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda._sleep(HELD_CYCLES)  # type: ignore[no-untyped-call]  # noqa: SLF001 - meanwhile the host queues the pass
    begun.record()
    probe.run()
    done.record()
    done.synchronize()
    return float(begun.elapsed_time(done))


class _Probe:
    """Forward and backward of a small model over one batch of packed rows."""

    def __init__(self, model: CodeShellModel, dtype: torch.dtype, name: str, ends: Iterable[int]) -> None:
        self.model = model.to(dtype).train()
        self.model.set_attn_implementation(name)
        row, ends = min(model.config.n_positions, max(ends)), list(ends)
        positions = torch.cat([torch.arange(end - start) for start, end in pairwise(ends)])
        lengths = torch.tensor(ends, dtype=torch.int32)
        self.inputs: dict[str, Tensor | int] = {
            "input_ids": torch.randint(0, model.config.vocab_size, (len(positions) // row, row)),
            "position_ids": positions.view(-1, row),
            "cu_seq_lens_q": lengths, "cu_seq_lens_k": lengths, "max_length_q": row, "max_length_k": row,
        }  # fmt: skip
        self.weights = torch.randn(model.config.n_embd)
        self.is_cuda = self.weights.is_cuda

    def run(self) -> list[Tensor]:
        """Outputs and gradients of queries, keys and values, in float32; a GPU may still be computing them."""
        self.model.zero_grad()
        output = self.model(**self.inputs, use_cache=False).last_hidden_state.float()
        (output * self.weights).sum().backward()
        gradients = [block.attn.c_attn.weight.grad.float() for block in self.model.h]
        return [output.detach(), *gradients]
