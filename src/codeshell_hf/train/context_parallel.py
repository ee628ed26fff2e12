"""Attention over rows whose positions are shared by a group of ranks: keys and values are gathered, queries are not.

With query groups, keys and values are a fraction of the hidden states, and a gather is one collective of known size,
whatever the documents' lengths. torch's ring attention needs CUDA and knows no documents.

B rows, T tokens of a row, C contexts, H heads, G groups of keys and values, W width of a head.

Source:
    Grattafiori et al. 2024, "The Llama 3 Herd of Models", arXiv:2407.21783, section 3.3.2.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

from ..errors import RunFailed
from .attention import GROUPED

CONTEXT = "context"
TOLERANCE = 0.05  # as in attention_choice


@dataclass(frozen=True)
class GatheredKeys:
    """What a rank's queries see, on the device.

    Args:
        group: Ranks that share the rows.
        order: Where each position stands among the gathered ones, shape (T,).
        queries: As in `KeyLengths`, like `keys` and `places`.
        row_tokens: T, no less than the keys of a piece.
    """

    group: dist.ProcessGroup
    order: Tensor
    queries: Tensor
    keys: Tensor
    places: Tensor
    row_tokens: int


class _GatherContext(Protocol):
    group: dist.ProcessGroup


class _Gather(torch.autograd.Function):
    """Concatenates a tensor of all ranks along its first dimension; gradients are summed and scattered."""

    @staticmethod
    def forward(ctx: _GatherContext, part: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        whole = part.new_empty(part.shape[0] * group.size(), *part.shape[1:])
        dist.all_gather_into_tensor(whole, part.contiguous(), group=group)
        return whole

    @staticmethod
    def backward(ctx: _GatherContext, *gradients: Tensor) -> tuple[Tensor, None]:
        (whole,) = gradients
        part = whole.new_empty(whole.shape[0] // ctx.group.size(), *whole.shape[1:])
        dist.reduce_scatter_tensor(part, whole.contiguous(), group=ctx.group)
        return part, None


def register_context_attention() -> str:
    """Registers `attend_context` with transformers, and returns its name there."""
    AttentionInterface.register(CONTEXT, attend_context)
    AttentionMaskInterface.register(CONTEXT, flash_attention_mask)
    return CONTEXT


def attend_context(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    gathered_keys: GatheredKeys,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: object,
) -> tuple[Tensor, None]:
    """Attends within each document, to keys and values of all ranks of the group.

    Args:
        module: Unused.
        query: This rank's, shape (B, H, T / C, W).
        key: This rank's, shape (B, G, T / C, W); H is a multiple of G.
        value: As `key`.
        attention_mask: `None`, since padding is not supported.
        scaling: Multiplies the scores.
        gathered_keys: Which keys each query sees.
        dropout: 0, since dropout is not supported.
        sliding_window: Number of tokens that each token sees, itself included; `None` for all before it.
        kwargs: Unused arguments of other implementations.

    Returns:
        Shape (B, T / C, H, W), and no attention weights.

    Raises:
        ValueError: For padding or dropout.
    """
    if attention_mask is not None or dropout:
        raise ValueError(f"{CONTEXT} takes neither padding nor dropout; train without them, or with cp 1")
    B, H, T, W = query.shape
    pair = torch.cat((key, value), dim=1).permute(2, 0, 1, 3)  # (T / C, B, 2 G, W)
    whole = cast(Tensor, _Gather.apply(pair, gathered_keys.group))  # type: ignore[no-untyped-call]
    whole = whole.index_select(0, gathered_keys.order).transpose(0, 1).flatten(0, 1)  # (B T, 2 G, W)
    keys, values = whole.index_select(0, gathered_keys.places).chunk(2, dim=1)
    queries = query.transpose(1, 2).reshape(B * T, H, W)
    output = attend_pieces(queries, keys, values, gathered_keys, sliding_window, scaling)
    return output.view(B, T, H, W), None


def attend_pieces(
    query: Tensor, key: Tensor, value: Tensor, lengths: GatheredKeys, window: int | None, scaling: float
) -> Tensor:
    """Causal attention of pieces with more keys than queries, whose last query sees all keys.

    Args:
        query: Shape (queries, H, W).
        key: Shape (keys, G, W).
        value: As `key`.

    Returns:
        Shape (queries, H, W).
    """
    if query.device.type == "cpu":
        return _attend_on_cpu(query, key, value, lengths, window, scaling)
    grouped = GROUPED if key.shape[1] != query.shape[1] else {}
    before = -1 if window is None else window - 1
    query, key = query.to(value.dtype), key.to(value.dtype)
    output = varlen_attn(
        query, key.contiguous(), value.contiguous(), lengths.queries, lengths.keys,
        lengths.row_tokens, lengths.row_tokens, scale=scaling, window_size=(before, 0), **grouped,
    )  # fmt: skip
    return cast(Tensor, output)


def _attend_on_cpu(
    query: Tensor, key: Tensor, value: Tensor, lengths: GatheredKeys, window: int | None, scaling: float
) -> Tensor:
    outputs = []
    pieces = zip(pairwise(lengths.queries.tolist()), pairwise(lengths.keys.tolist()), strict=True)
    for (first, last), (start, end) in pieces:
        q, k, v = (part.transpose(0, 1) for part in (query[first:last], key[start:end], value[start:end]))
        distances = torch.arange(end - start - (last - first), end - start)[:, None] - torch.arange(end - start)
        seen = (distances >= 0) & (distances < (window or end - start))
        output = nn.functional.scaled_dot_product_attention(
            q[None], k[None], v[None], attn_mask=seen, scale=scaling, enable_gqa=k.shape[0] != q.shape[0]
        )
        outputs.append(output[0].transpose(0, 1))
    return torch.cat(outputs)


def check_kernel(heads: int, groups: int, width: int, device: torch.device) -> None:
    """Compares the GPU's kernel with attention on the CPU, on two pieces with more keys than queries.

    Raises:
        RunFailed: If they differ.
    """
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(tokens, some, width, generator=generator).bfloat16()
        for tokens, some in ((40, heads), (100, groups), (100, groups))
    )
    ends = [torch.tensor(ends, dtype=torch.int32) for ends in ([0, 10, 40], [0, 60, 100])]
    here, there = (
        GatheredKeys(dist.group.WORLD, ends[0].to(place), ends[0].to(place), ends[1].to(place), ends[1].to(place), 100)  # type: ignore[arg-type]
        for place in (torch.device("cpu"), device)
    )
    expected = attend_pieces(query.float(), key.float(), value.float(), here, None, width**-0.5)
    found = attend_pieces(query.to(device), key.to(device), value.to(device), there, None, width**-0.5)
    error = float((found.float().cpu() - expected).abs().max())
    if not error < TOLERANCE:
        raise RunFailed(
            f"torch's attention by lengths is off by {error:.3g} where there are more keys than queries; "
            "install another torch, or set parallelism_config_cp_size to 1"
        )
