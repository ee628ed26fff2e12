"""Dequantises the release's 4-bit checkpoint without bitsandbytes and without running its pickle.

For each quantised matrix, the release pickled `NAME.data` (two codes per byte) and `NAME.quant_state`, bitsandbytes
0.4x's list:

    [absmax, shape, dtype, blocksize, [offset, [absmax, table, blocksize, ...]] or None, "nf4" or "fp4", table]
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..errors import CheckpointError
from .tensors import Tensors

DATA, STATE = ".data", ".quant_state"
# Dettmers et al. 2023, arXiv:2305.14314, appendix E, and the four-bit floats of bitsandbytes 0.4x.
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
_FP4 = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
FP4 = tuple(value / 12 for value in (*_FP4, *(-value for value in _FP4)))


@dataclass(frozen=True)
class QuantState:
    """How codes are dequantised; `absmax` is the scale of each block, `table` of shape (16,) the value of each code."""

    absmax: torch.Tensor
    shape: tuple[int, ...]
    dtype: torch.dtype
    block_size: int
    table: torch.Tensor


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
        plain = name.removesuffix(DATA)
        value = tensors.get(name)
        if plain + STATE in tensors:
            value = dequantize(value, read_state(tensors.get_value(plain + STATE), plain))
        state_dict[plain] = value.to(dtype) if dtype and value.is_floating_point() else value
        on_progress(index + 1, len(names))
    return state_dict


def dequantize(data: torch.Tensor, state: QuantState) -> torch.Tensor:
    """Dequantises codes (two per byte, the first in the upper half) to a matrix of the state's shape and dtype.

    Raises:
        CheckpointError: If there are too few codes for the shape.
    """
    count = int(torch.tensor(state.shape).prod())
    packed = data.reshape(-1)
    blocks = -(-count // state.block_size)
    if packed.dtype != torch.uint8 or 2 * packed.numel() < count or state.absmax.numel() < blocks:
        raise CheckpointError(
            f"{packed.numel()} bytes in {state.absmax.numel()} blocks are too few for {tuple(state.shape)}; "
            "download it again"
        )
    codes = torch.stack((packed >> 4, packed & 15), dim=1).reshape(-1)[:count]
    values = state.table.float()[codes.int()]
    scales = state.absmax.float().repeat_interleave(state.block_size)[:count]
    return (values * scales).reshape(state.shape).to(state.dtype)


def read_state(state: object, name: str) -> QuantState:
    """Parses bitsandbytes 0.4x's list for the matrix `name`, and dequantises nested scales.

    Raises:
        CheckpointError: If it is not such a list.
    """
    if not isinstance(state, Sequence) or len(state) < 6 or not isinstance(state[0], torch.Tensor):
        raise CheckpointError(f"{name}{STATE} is not a state of bitsandbytes 0.4x; use unquantised weights")
    absmax, shape, dtype, block_size, nested, kind, *rest = state
    tables = [item for item in rest if isinstance(item, torch.Tensor) and item.numel() == 16]
    if not isinstance(dtype, torch.dtype) or not isinstance(block_size, int) or kind not in ("nf4", "fp4"):
        raise CheckpointError(f"{name}{STATE} says {kind!r} in blocks of {block_size!r}; use nf4 or fp4")
    if nested is not None:
        offset, (inner, table, inner_size, *_) = nested
        inner_scales = inner.float().repeat_interleave(inner_size)[: absmax.numel()]
        absmax = table.float()[absmax.reshape(-1).int()] * inner_scales + offset
    table = tables[0] if tables else torch.tensor(NF4 if kind == "nf4" else FP4)
    return QuantState(absmax.reshape(-1), tuple(shape), dtype, block_size, table)
