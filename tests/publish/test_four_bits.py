"""4-bit matrices of the release, against bitsandbytes and by hand."""

from typing import Any

import pytest
import torch

from codeshell_hf.errors import CheckpointError
from codeshell_hf.modeling_codeshell import FP4, NF4
from codeshell_hf.publish.four_bits import dequantize, read_state


def pack(matrix: torch.Tensor, kind: str, *, is_nested: bool) -> tuple[torch.Tensor, list[Any], torch.Tensor]:
    """Quantises by bitsandbytes and lays the state out as its 0.4x did.

    Rows are whole blocks: on a CPU its own reading back (0.50.2) is wrong for others.
    """
    functional = pytest.importorskip("bitsandbytes.functional")
    data, state = functional.quantize_4bit(matrix, blocksize=64, quant_type=kind, compress_statistics=is_nested)
    inner = None
    if is_nested:
        second = [state.state2.absmax, state.state2.code, state.state2.blocksize, False, torch.float32, None, None]
        inner = [state.offset, second]
    old = [state.absmax, state.shape, state.dtype, state.blocksize, inner, kind, state.code]
    return data, old, functional.dequantize_4bit(data, state)


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_four_bits_are_what_bitsandbytes_says(kind: str, is_nested: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    data, state, expected = pack(torch.randn(96, 128).to(dtype), kind, is_nested=is_nested)

    for given in (state, state[:6]):  # with and without the table of codes
        values = dequantize(data, read_state(given, "w"))
        assert values.dtype == dtype
        torch.testing.assert_close(values, expected, rtol=1e-6 if dtype == torch.float32 else 1e-2, atol=1e-6)


def test_codes_are_unpacked_upper_half_first() -> None:
    """By hand, so that it needs nothing installed."""
    data = torch.tensor([[0x0F], [0x78]], dtype=torch.uint8)
    state = [torch.tensor([2.0, 4.0]), torch.Size([2, 2]), torch.float32, 2, None, "nf4"]

    values = dequantize(data, read_state(state, "w"))

    assert values.tolist() == [[-2.0, 2.0], [4 * NF4[7], pytest.approx(4 * NF4[8])]]
    assert max(FP4) == 1
    with pytest.raises(CheckpointError, match="too few for"):
        dequantize(data[:1], read_state(state, "w"))
    with pytest.raises(CheckpointError, match="use nf4 or fp4"):
        read_state([*state[:5], "int3"], "w")
