"""Loading a checkpoint so that a missing or broken file is one clear error."""

from typing import Any, Literal

import torch
from transformers import AutoModelForCausalLM

from .errors import CheckpointError
from .modeling_codeshell import CodeShellForCausalLM


def load_model(name: str, *, dtype: torch.dtype | Literal["auto"], **options: Any) -> CodeShellForCausalLM:
    """Loads a CodeShell checkpoint, whole or not at all.

    Args:
        name: A folder or a Hub name.
        dtype: Of the weights in memory; "auto" keeps the folder's.
        options: Further arguments of `from_pretrained`.

    Returns:
        The model, in evaluation mode.

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
