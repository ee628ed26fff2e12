"""Dequantises the release's 4-bit checkpoint without bitsandbytes and without running its pickle.

For each quantised matrix, the release pickled `NAME.data` (two codes per byte) and `NAME.quant_state`, bitsandbytes
0.4x's list. The model's own file reads them, since a 4-bit release also loads without this package.
"""

from collections.abc import Callable

import torch

from .. import modeling_codeshell as modeling
from ..errors import CheckpointError
from ..modeling_codeshell import CODES, STATE, QuantState
from .tensors import Tensors


def is_four_bits(tensors: Tensors) -> bool:
    """Whether a checkpoint is in the release's 4-bit format, with quantisation states."""
    return any(name.endswith(STATE) for name in tensors)


def dequantize_checkpoint(
    tensors: Tensors,
    *,
    dtype: torch.dtype | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, torch.Tensor]:
    """Reads a 4-bit checkpoint as plain tensors, under the usual names.

    Args:
        tensors: Its entries.
        dtype: Of all tensors; by default, each has the dtype that it was quantised from.
        on_progress: Called with the entries done and their total.

    Raises:
        CheckpointError: If a state is not in the release's format.
    """
    names = [name for name in tensors if not name.endswith(STATE)]
    state_dict = {}
    for index, name in enumerate(names):
        plain = name.removesuffix(CODES)
        value = tensors.get(name)
        if plain + STATE in tensors:
            value = dequantize(value, read_state(tensors.get_value(plain + STATE), plain))
        state_dict[plain] = value.to(dtype) if dtype and value.is_floating_point() else value
        on_progress(index + 1, len(names))
    return state_dict


def dequantize(data: torch.Tensor, state: QuantState) -> torch.Tensor:
    """As `dequantize` of the model's file; a `CheckpointError` if there are too few codes for the shape."""
    try:
        return modeling.dequantize(data, state)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def read_state(state: object, name: str) -> QuantState:
    """As `read_state` of the model's file; a `CheckpointError` if it is not such a list."""
    try:
        return modeling.read_state(state, name)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
