"""Initial weights, the same on any number of ranks."""

import hashlib
import math

import torch
from torch import Tensor

from ..configuration_codeshell import CodeShellConfig


def draw_weight(name: str, like: Tensor, config: CodeShellConfig, *, seed: int) -> Tensor:
    """Draws an initial parameter; the seed depends on its name, so the rank and the order do not matter.

    Matrices are normal with `initializer_range`, divided by sqrt(2 * layers) for those that write into the residual
    stream; biases are zero, norms one.

    Args:
        name: In the causal language model.
        like: Has the full shape, dtype and device.
        config: The architecture.
        seed: Of the run.

    Source:
        Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
    """
    if like.ndim < 2:
        return torch.full(like.shape, float(name.endswith("weight")), dtype=like.dtype, device=like.device)
    std = config.initializer_range
    if name.endswith("c_proj.weight"):
        std /= math.sqrt(2 * config.n_layer)
    number = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")
    generator = torch.Generator(like.device).manual_seed(number)
    return torch.empty(like.shape, dtype=like.dtype, device=like.device).normal_(0.0, std, generator=generator)
