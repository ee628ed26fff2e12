"""New weights, the same on any number of ranks, and loading so that a broken file is one clear error."""

import hashlib
import math
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from ..configuration_codeshell import CodeShellConfig
from ..errors import CheckpointError
from ..modeling_codeshell import CodeShellForCausalLM


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
    chance = torch.Generator(like.device).manual_seed(number)
    return torch.empty(like.shape, dtype=like.dtype, device=like.device).normal_(0.0, std, generator=chance)


def load_model(name: str, *, dtype: torch.dtype | Literal["auto"], **options: Any) -> CodeShellForCausalLM:
    """Loads a CodeShell checkpoint, whole or not at all.

    Args:
        name: A folder or a Hub name.
        dtype: Of the weights in memory; "auto" keeps what the folder says.
        options: Further ones of `from_pretrained`.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: If it is missing, broken, of another architecture, or lacks weights.
    """
    report: dict[str, Any]
    try:
        model, report = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, output_loading_info=True, **options)
    except Exception as error:  # safetensors, torch, JSON and the Hub each have their own kinds
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{name} cannot be loaded ({reason}); name a whole CodeShell checkpoint") from error
    if not isinstance(model, CodeShellForCausalLM):
        raise CheckpointError(f"{name} is a {type(model).__name__}; name a CodeShell checkpoint")
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))[0]
        raise CheckpointError(f"{name} lacks {lacking} or has it in another shape; name a whole CodeShell checkpoint")
    return model
