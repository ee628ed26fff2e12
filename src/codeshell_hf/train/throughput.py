"""Floating-point operations per token, and the peaks of devices, for MFU."""

from dataclasses import dataclass

import torch

from ..configuration_codeshell import CodeShellConfig
from ..presets import count_parameters


@dataclass(frozen=True)
class TokenCost:
    """Floating-point operations of one token in training, forward and backward.

    Args:
        matrices: 6 for each parameter in a matrix product: all, except an untied embedding.
        causal_attention: Scores and weighted sums; each position sees half the row on average.
    """

    matrices: float
    causal_attention: float

    @property
    def causal(self) -> float:
        """All operations with causal attention."""
        return self.matrices + self.causal_attention

    @property
    def square(self) -> float:
        """All operations, with attention counted as the full square, as some others publish it."""
        return self.matrices + 2 * self.causal_attention


def cost_token(config: CodeShellConfig, row_tokens: int) -> TokenCost:
    """Counts the operations of a token in rows of this length; the forward pass is a third of them."""
    lookup = 0 if config.tie_word_embeddings else config.vocab_size * config.n_embd
    window = config.sliding_window or row_tokens
    spans = [
        min(window, row_tokens) if kind == "sliding_attention" else row_tokens for kind in config.layer_types or ()
    ]
    # 2 operations per product, for scores and values, over half the span, times 3 for forward and backward.
    attention = sum(2 * 2 * (span / 2) * config.n_embd * 3 for span in spans)
    return TokenCost(6.0 * (count_parameters(config) - lookup), attention)


@dataclass(frozen=True)
class Device:
    """A GPU model.

    Args:
        tflops: Dense bfloat16 peak in 10**12 operations per second.
        gigabytes: Memory in 10**9 bytes.
        mark: Part of the driver's name for it.
        memory_tb_s: Memory bandwidth in 10**12 bytes per second.
        nvlink_gb_s: To the GPUs of its node, one way, in 10**9 bytes per second.
        network_gb_s: To other nodes, as above; one adapter a GPU, as in NVIDIA's own DGX.
    """

    tflops: float
    gigabytes: float
    mark: str
    memory_tb_s: float
    nvlink_gb_s: float
    network_gb_s: float


# From the data sheets.
DEVICES = {
    "a100-40g": Device(312.0, 42.4, "A100-SXM4-40GB", 1.555, 300.0, 25.0),
    "a100-80g": Device(312.0, 85.0, "A100", 2.039, 300.0, 25.0),
    "h100-80g": Device(989.0, 85.0, "H100", 3.35, 450.0, 50.0),
    "h200-141g": Device(989.0, 150.0, "H200", 4.8, 450.0, 50.0),
    "b200-180g": Device(2250.0, 192.0, "B200", 8.0, 900.0, 50.0),
}


def find_peak_tflops(device: torch.device) -> float | None:
    """A device's bfloat16 peak in 10**12 operations per second; `None` if unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((known.tflops for known in DEVICES.values() if known.mark in name), None)
