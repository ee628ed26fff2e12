"""Attention over packed rows from document lengths, without a T x T mask.

B rows, T tokens of a row, H heads, G heads of keys and values, W width of a head.
"""

import inspect
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

VARLEN = "varlen"  # for this name, the model computes the documents' lengths
# The kernel always supported query groups; since 2.12 torch wants them requested.
GROUPED: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


def register_attention() -> str:
    """Registers `attend_varlen` with transformers, and returns its name there."""
    AttentionInterface.register(VARLEN, attend_varlen)
    AttentionMaskInterface.register(VARLEN, flash_attention_mask)
    return VARLEN


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
    """Attends within each document: with torch's flash kernel on a GPU, document by document on a CPU.

    Args:
        module: Unused.
        query: Shape (B, H, T, W).
        key: Shape (B, G, T, W); H is a multiple of G.
        value: As `key`; its dtype is the compute dtype.
        attention_mask: `None`, since padding is not supported.
        scaling: Multiplies the scores.
        dropout: 0, since dropout is not supported.
        sliding_window: Number of tokens that each token sees, itself included; `None` for all before it.
        cu_seq_lens_q: Cumulative document lengths over all rows, from 0; `None` if each row is one document.
        kwargs: Unused arguments of other implementations.

    Returns:
        Shape (B, T, H, W), and no attention weights.

    Raises:
        ValueError: For padding or dropout.
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
    # No document is longer than a row; a constant bound compiles once.
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
    # One split, since the gradient of each slice would be as large as its source.
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
