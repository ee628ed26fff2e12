"""What a token costs in arithmetic, and which share of a device's peak a run reaches."""

from dataclasses import dataclass

import torch

from ..configuration_codeshell import CodeShellConfig
from ..presets import count_parameters


@dataclass(frozen=True)
class TokenCost:
    """Floating-point operations of one token in training, forward and backward.

    Args:
        matrices: 6 for each parameter that multiplies: all, the output layer included and a lookup excluded.
        causal_attention: Scores and weighted sums, each position seeing half the row.
    """

    matrices: float
    causal_attention: float

    @property
    def causal(self) -> float:
        """All operations, causal attention counted once."""
        return self.matrices + self.causal_attention

    @property
    def square(self) -> float:
        """All operations, attention counted as the whole square, as some peers publish it."""
        return self.matrices + 2 * self.causal_attention


def cost_token(config: CodeShellConfig, row_tokens: int) -> TokenCost:
    """Counts the operations of a token in rows of so many; the forward pass is a third of them."""
    lookup = 0 if config.tie_word_embeddings else config.vocab_size * config.n_embd
    window = config.sliding_window or row_tokens
    spans = [
        min(window, row_tokens) if kind == "sliding_attention" else row_tokens for kind in config.layer_types or ()
    ]
    # A product of 2 operations, for scores and for values, at half the span, three times for forward and backward.
    attention = sum(2 * 2 * (span / 2) * config.n_embd * 3 for span in spans)
    return TokenCost(6.0 * (count_parameters(config) - lookup), attention)


@dataclass(frozen=True)
class Device:
    """A kind of GPU.

    Args:
        tflops: Peak in bfloat16 without sparsity, 10**12 operations a second.
        gigabytes: Memory, 10**9 bytes.
        mark: Part of the name that the driver gives it.
    """

    tflops: float
    gigabytes: float
    mark: str


# As the maker's data sheets say.
DEVICES = {
    "a100-40g": Device(312.0, 42.4, "A100-SXM4-40GB"),
    "a100-80g": Device(312.0, 85.0, "A100"),
    "h100-80g": Device(989.0, 85.0, "H100"),
    "h200-141g": Device(989.0, 150.0, "H200"),
    "b200-180g": Device(2250.0, 192.0, "B200"),
}


def find_peak_tflops(device: torch.device) -> float | None:
    """A device's peak in bfloat16, in 10**12 operations a second; `None` for an unknown one."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((known.tflops for known in DEVICES.values() if known.mark in name), None)
