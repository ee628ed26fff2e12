"""Attention over packed rows from document lengths, without a T x T mask.

B rows, T tokens of a row, H heads, G heads of keys and values, W width of a head.
"""

import importlib
import inspect
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

VARLEN = "varlen"  # for these names, the model computes the documents' lengths
VARLEN_FA4 = "varlen_fa4"
_FA4_MODULE = "flash_attn.cute.interface"
# The kernel always supported query groups; since 2.12 torch wants them requested.
GROUPED: dict[str, Any] = {"enable_gqa": True} if "enable_gqa" in inspect.signature(varlen_attn).parameters else {}


def register_attention() -> str:
    """Registers `attend_varlen` and `attend_fa4` with transformers, and returns the former's name there."""
    for name, function in ((VARLEN, attend_varlen), (VARLEN_FA4, attend_fa4)):
        AttentionInterface.register(name, function)
        AttentionMaskInterface.register(name, flash_attention_mask)
    return VARLEN


def has_fa4(device: torch.device) -> bool:
    """Whether FlashAttention 4 is installed, and made for this GPU: Hopper or newer."""
    try:
        version("flash-attn-4")
    except PackageNotFoundError:
        return False
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 9


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
    _check(VARLEN, attention_mask, dropout)
    if query.device.type == "cpu":
        return _attend_on_cpu(query, key, value, cu_seq_lens_q, sliding_window, scaling), None

    def attend(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int, before: int) -> Tensor:
        grouped = GROUPED if k.shape[1] != q.shape[1] else {}
        output = varlen_attn(q, k, v, ends, ends, longest, longest, scale=scaling, window_size=(before, 0), **grouped)
        return cast(Tensor, output)

    return _attend_flat(attend, query, key, value, cu_seq_lens_q, sliding_window), None


def attend_fa4(
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
    """`attend_varlen` with FlashAttention 4, on a GPU alone; arguments and results are the same."""
    _check(VARLEN_FA4, attention_mask, dropout)

    def attend(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, longest: int, before: int) -> Tensor:
        output, _ = _run_fa4(q, k, v, ends, longest, scaling, before)
        return cast(Tensor, output)

    return _attend_flat(attend, query, key, value, cu_seq_lens_q, sliding_window), None


def _check(name: str, mask: Tensor | None, dropout: float) -> None:
    if mask is not None or dropout:
        raise ValueError(f"{name} takes neither padding nor dropout; use sdpa")


def _attend_flat(
    attend: Callable[[Tensor, Tensor, Tensor, Tensor, int, int], Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    ends: Tensor | None,
    window: int | None,
) -> Tensor:
    """Calls a kernel that takes all rows as one, with the documents' ends and the number of tokens seen before."""
    B, H, T, W = query.shape
    if ends is None:
        ends = torch.arange(0, (B + 1) * T, T, device=query.device, dtype=torch.int32)
    q, k, v = (part.transpose(1, 2).reshape(B * T, -1, W).to(value.dtype) for part in (query, key, value))
    # No document is longer than a row; a constant bound compiles once.
    return attend(q, k, v, ends, T, -1 if window is None else window - 1).view(B, T, H, W)


# FlashAttention 4 generates its kernels in Python, which torch.compile would trace into; an operator hides them. Its
# public function has no backward pass of its own to call, so these are the two that torch's own registration calls.


@torch.library.custom_op("codeshell_hf::fa4", mutates_args=())
def _run_fa4(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float, before: int
) -> tuple[Tensor, Tensor]:
    """Output, shape (tokens, H, W), and logarithms of the softmax's sums, shape (H, tokens), float32."""
    output, sums, *_ = _find_kernel("_flash_attn_fwd")(
        query,
        key,
        value,
        cu_seqlens_q=ends,
        cu_seqlens_k=ends,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        softmax_scale=scaling,
        return_lse=True,
        **_describe_window(before),
    )
    return output, sums


@_run_fa4.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int, scaling: float, before: int
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), query.new_empty((query.shape[1], query.shape[0]), dtype=torch.float32)


@torch.library.custom_op("codeshell_hf::fa4_backward", mutates_args=())
def _run_fa4_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    sums: Tensor,
    ends: Tensor,
    longest: int,
    scaling: float,
    before: int,
) -> tuple[Tensor, Tensor, Tensor]:
    queries, keys, values = _find_kernel("_flash_attn_bwd")(
        query,
        key,
        value,
        output,
        gradient.contiguous(),
        sums,
        cu_seqlens_q=ends,
        cu_seqlens_k=ends,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        softmax_scale=scaling,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        **_describe_window(before),
    )
    return queries, keys, values


@_run_fa4_backward.register_fake
def _(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    sums: Tensor,
    ends: Tensor,
    longest: int,
    scaling: float,
    before: int,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _find_kernel(name: str) -> Callable[..., tuple[Tensor, ...]]:
    return cast(Callable[..., tuple[Tensor, ...]], getattr(importlib.import_module(_FA4_MODULE), name))


def _describe_window(before: int) -> dict[str, Any]:
    if before < 0:
        return {"causal": True}
    return {"causal": False, "window_size_left": before, "window_size_right": 0}


def _keep_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    query, key, value, ends, ctx.longest, ctx.scaling, ctx.before = inputs
    ctx.save_for_backward(query, key, value, *output, ends)


def _go_backward(context: Any, gradient: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    more = (context.longest, context.scaling, context.before)
    gradients = _run_fa4_backward(gradient, *context.saved_tensors, *more)
    return (*gradients, None, None, None, None)


_run_fa4.register_autograd(_go_backward, setup_context=_keep_for_backward)


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
