"""Loads checkpoints, with one clear error for missing or broken files."""

from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from .errors import CheckpointError
from .modeling_codeshell import CodeShellForCausalLM


def load_model(name: str, *, dtype: torch.dtype | Literal["auto"], **options: Any) -> CodeShellForCausalLM:
    """Loads a complete CodeShell checkpoint, in evaluation mode.

    Args:
        name: A folder or a Hub name.
        dtype: Of the weights in memory; "auto" keeps the folder's.
        options: Further arguments of `from_pretrained`.

    Raises:
        CheckpointError: If it is missing, broken, of another architecture, or lacks weights.
    """
    report: dict[str, Any]
    try:
        model, report = AutoModelForCausalLM.from_pretrained(name, dtype=dtype, output_loading_info=True, **options)
    except Exception as error:  # safetensors, torch, JSON and the Hub each raise their own
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{name} cannot be loaded ({reason}); name a complete CodeShell checkpoint") from error
    if not isinstance(model, CodeShellForCausalLM):
        raise CheckpointError(f"{name} is a {type(model).__name__}; name a CodeShell checkpoint")
    if report["missing_keys"] or report["mismatched_keys"]:
        lacking = sorted(map(str, [*report["missing_keys"], *report["mismatched_keys"]]))[0]
        raise CheckpointError(
            f"{name} lacks {lacking} or has it in another shape; name a complete CodeShell checkpoint"
        )
    return model
