"""Attention over packed rows by the lengths of their documents, with no mask of a row's square.

Shapes are written with B rows, T tokens of a row, H heads, G of keys and values, and W, a head's width.
"""

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

from ..configuration_codeshell import CodeShellConfig

VARLEN = "varlen"  # the model measures documents for this name
# The kernel always knew groups of heads; torch asks for a word since 2.12.
GROUPED: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


def register_attention() -> str:
    """Makes `attend_varlen` known to transformers, and gives its name there."""
    AttentionInterface.register(VARLEN, attend_varlen)
    AttentionMaskInterface.register(VARLEN, flash_attention_mask)
    return VARLEN


def agrees_with_mask(config: CodeShellConfig, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether `attend_varlen` runs on a device, and gives there what attention behind a mask gives, gradients too.

    Args:
        config: Whose heads are tried.
        device: Where.
        dtype: Of queries, keys and values.
    """
    generator = torch.Generator().manual_seed(0)
    width, ends = config.n_embd // config.n_head, [0, 20, 64]
    groups = config.num_query_groups or config.n_head
    heads = (config.n_head, groups, groups)
    # On the CPU by name: FSDP2 asks while its model is made on the meta device, where tensors hold nothing.
    drawn = [torch.randn(1, n, 64, width, generator=generator, device="cpu") for n in heads]
    parts = [one.to(device, dtype).requires_grad_() for one in drawn]
    query, key, value = parts
    places = torch.arange(64, device=device)
    documents, distances = places >= ends[1], places[:, None] - places
    borders = torch.tensor(ends, dtype=torch.int32, device=device)
    for window in (None, 8):
        sees = (documents[:, None] == documents) & (distances >= 0) & (distances < (window or 64))
        masked = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=sees, enable_gqa=True)
        expected = [masked.transpose(1, 2), *torch.autograd.grad(masked.square().sum(), parts)]
        try:
            output, _ = attend_varlen(
                nn.Identity(), *(query, key, value), None,
                scaling=width**-0.5, sliding_window=window, cu_seq_lens_q=borders,
            )  # fmt: skip
            found = [output, *torch.autograd.grad(output.square().sum(), parts)]
        except RuntimeError:  # a device or a head that the kernel does not know
            return False
        # Rounding to bfloat16 is a hundredth; a token too many or too few is far more.
        if any((a - b).float().norm() > 0.05 * b.float().norm() for a, b in zip(found, expected, strict=True)):
            return False
    return True


def attend_varlen(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attends inside each document: by torch's flash kernel on a GPU, one after the other on a CPU.

    Args:
        module: The attention layer.
        query: Shape (B, H, T, W).
        key: Shape (B, G, T, W), H being a multiple of G.
        value: As `key`; its dtype is computed in.
        attention_mask: `None`: rows are whole or packed, and not padded.
        scaling: Of the scores.
        dropout: Not done.
        sliding_window: How many tokens each one sees, itself among them; `None` for all before it.
        cu_seq_lens_q: Where documents begin in the rows laid end to end, and their end; `None` where each row is one.
        kwargs: What other implementations take.

    Returns:
        Shape (B, T, H, W), and no weights.

    Raises:
        ValueError: Rows are padded, or dropout is asked for.
    """
    if attention_mask is not None or dropout:
        raise ValueError(f"{VARLEN} takes neither padding nor dropout; use sdpa")
    if query.device.type == "cpu":
        return _attend_on_cpu(query, key, value, cu_seq_lens_q, sliding_window, scaling), None
    B, H, T, W = query.shape
    ends = cu_seq_lens_q
    if ends is None:
        ends = torch.arange(0, (B + 1) * T, T, device=query.device, dtype=torch.int32)
    q, k, v = (part.transpose(1, 2).reshape(B * T, -1, W).to(value.dtype) for part in (query, key, value))
    window = (-1 if sliding_window is None else sliding_window - 1, 0)
    # The longest document is as long as a row at most; a bound that never changes compiles once.
    grouped = GROUPED if key.shape[1] != H else {}
    output = varlen_attn(q, k, v, ends, ends, T, T, scale=scaling, window_size=window, **grouped)
    return cast(Tensor, output).view(B, T, H, W), None


def _attend_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor | None, window: int | None, scaling: float
) -> Tensor:
    B, H, T, W = query.shape
    if ends is None or len(ends) == B + 1:  # each row is one document
        return _attend(query, key, value, window, scaling).transpose(1, 2)
    lengths = ends.diff().tolist()
    # Split at once: the gradient of a slice is as large as what it was taken from.
    parts = (given.transpose(0, 1).reshape(1, -1, B * T, W).split(lengths, dim=2) for given in (query, key, value))  # type: ignore[no-untyped-call]
    documents = [_attend(q, k, v, window, scaling) for q, k, v in zip(*parts, strict=True)]
    return torch.cat(documents, dim=2).view(H, B, T, W).permute(1, 2, 0, 3)


def _attend(query: Tensor, key: Tensor, value: Tensor, window: int | None, scaling: float) -> Tensor:
    H, T = query.shape[1:3]
    seen = None
    if window is not None and window < T:
        places = torch.arange(T, device=query.device)
        distances = places[:, None] - places
        seen = (distances >= 0) & (distances < window)
    output: Tensor = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, is_causal=seen is None, scale=scaling, enable_gqa=key.shape[1] != H
    )
    return output
