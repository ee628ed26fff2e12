"""New weights, the same on any number of ranks."""

import hashlib
import math

import torch
from torch import Tensor

from ..configuration_codeshell import CodeShellConfig


def draw_weight(name: str, like: Tensor, config: CodeShellConfig, *, seed: int) -> Tensor:
    """Draws one new parameter, by its name alone, so that it does not matter who draws it and in which order.

    Args:
        name: Of the parameter in the causal language model.
        like: Of its whole shape, dtype and device.
        config: The architecture.
        seed: Of the run.

    Returns:
        Matrices normal with the configuration's range, those that write into the residual stream narrower by the root
        of how many do; biases zero, norms one.

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
