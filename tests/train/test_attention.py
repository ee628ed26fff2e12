"""Attention by documents' lengths: equal to the masked one, and spoken to as torch's kernel wants it."""

import sys
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise, product
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.modeling_codeshell import CACHE_NAME
from codeshell_hf.train.attention import VARLEN, VARLEN_FA4, attend_fa4, attend_varlen, has_fa4, register_attention

WHOLE = [torch.arange(40), torch.arange(40)]
PACKED = [torch.cat([torch.arange(13), torch.arange(27)]), torch.cat([torch.arange(n) for n in (1, 20, 2, 17)])]
MIXED = [PACKED[1], torch.arange(40)]
ENDS = torch.tensor([0, 13, 40, 41, 61, 63, 80], dtype=torch.int32)  # of the documents of PACKED
TENSORS = {
    "input_ids": torch.randint(0, 320, (2, 40), generator=torch.Generator().manual_seed(0)),
    "position_ids": torch.stack(PACKED),
    "cu_seq_lens_q": ENDS,
    "cu_seq_lens_k": ENDS,
}
LONGEST = {"max_length_q": 40, "max_length_k": 40}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}


@pytest.mark.parametrize("rows", [WHOLE, PACKED, MIXED], ids=["whole", "packed", "mixed"])
@pytest.mark.parametrize("changes", [{}, SLIDING], ids=["full", "sliding"])
def test_documents_see_what_a_mask_lets_them_see(
    tiny_model: Callable[..., CodeShellForCausalLM], changes: dict, rows: list[torch.Tensor]
) -> None:
    masked = tiny_model("sdpa", **changes).train()
    by_lengths = CodeShellForCausalLM._from_config(deepcopy(masked.config), attn_implementation=register_attention())
    by_lengths.load_state_dict(masked.state_dict())
    ids = torch.randint(0, masked.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))

    found = []
    for model in (masked, by_lengths.train()):
        logits = model(ids, position_ids=torch.stack(rows), use_cache=False).logits
        logits.pow(2).mean().backward()
        found.append([logits.detach(), *(parameter.grad for parameter in model.parameters())])

    assert by_lengths.config._attn_implementation == VARLEN
    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


class Kernels:
    """FlashAttention 4's two functions as it documents them, query by query; the real ones need a GPU."""

    @staticmethod
    def _flash_attn_fwd(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, cu_seqlens_q: torch.Tensor, cu_seqlens_k: torch.Tensor,
        max_seqlen_q: int, max_seqlen_k: int, softmax_scale: float, causal: bool, return_lse: bool,
        window_size_left: int | None = None, window_size_right: int | None = None,
    ) -> tuple[torch.Tensor | None, ...]:  # fmt: skip
        assert return_lse
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        assert max_seqlen_q == max_seqlen_k >= int(cu_seqlens_q.diff().max())
        assert causal or window_size_right == 0  # else later tokens would be seen
        output, sums, group = torch.empty_like(q), q.new_empty(q.shape[1], len(q)), q.shape[1] // k.shape[1]
        for start, end in pairwise(cu_seqlens_q.tolist()):
            for place in range(start, end):
                first = start if window_size_left is None else max(start, place - window_size_left)
                for head in range(q.shape[1]):
                    seen = k[first : place + 1, head // group], v[first : place + 1, head // group]
                    scores = softmax_scale * (seen[0] @ q[place, head])
                    output[place, head] = scores.softmax(0) @ seen[1]
                    sums[head, place] = scores.logsumexp(0)
        return output, sums.float(), None, None, None

    @staticmethod
    def _flash_attn_bwd(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, out: torch.Tensor, d_out: torch.Tensor, lse: torch.Tensor,
        *, deterministic: bool, softmax_scale: float, **more: Any,
    ) -> tuple[torch.Tensor, ...]:  # fmt: skip
        assert not deterministic
        again, sums, *_ = Kernels._flash_attn_fwd(q, k, v, return_lse=True, softmax_scale=softmax_scale, **more)
        torch.testing.assert_close((out, lse), (again, sums))
        dq, dk, dv = (torch.zeros_like(part) for part in (q, k, v))
        group, before = q.shape[1] // k.shape[1], more.get("window_size_left")
        for start, end in pairwise(more["cu_seqlens_q"].tolist()):
            for place, head in product(range(start, end), range(q.shape[1])):
                seen = slice(start if before is None else max(start, place - before), place + 1), head // group
                share = (softmax_scale * (k[seen] @ q[place, head])).softmax(0)
                of_share = v[seen] @ d_out[place, head]
                of_score = softmax_scale * share * (of_share - share @ of_share)
                dq[place, head] = of_score @ k[seen]
                dk[seen] += of_score[:, None] * q[place, head]
                dv[seen] += share[:, None] * d_out[place, head]
        return dq, dk, dv


@pytest.mark.parametrize("changes", [{}, SLIDING], ids=["full", "sliding"])
def test_flash_attention_4_is_given_documents_and_windows(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., CodeShellForCausalLM], changes: dict
) -> None:
    register_attention()
    monkeypatch.setitem(sys.modules, "flash_attn.cute.interface", Kernels)
    masked = tiny_model("sdpa", **changes).train()
    by_fa4 = CodeShellForCausalLM._from_config(deepcopy(masked.config), attn_implementation=VARLEN_FA4)
    by_fa4.load_state_dict(masked.state_dict())

    found = []
    for model in (masked, by_fa4.train()):
        logits = model(TENSORS["input_ids"], position_ids=TENSORS["position_ids"], use_cache=False).logits
        logits.pow(2).mean().backward()
        found.append([logits.detach(), *(parameter.grad for parameter in model.parameters())])

    for expected, got in zip(*found, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_flash_attention_4_is_hidden_from_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn.cute.interface", Kernels)
    query, key, value = (torch.randn(13, heads, 8, requires_grad=True) for heads in (4, 2, 2))
    ends = torch.tensor([0, 5, 13], dtype=torch.int32)

    torch.library.opcheck(torch.ops.codeshell_hf.fa4.default, (query, key, value, ends, 13, 0.3, 4))


def test_flash_attention_4_needs_its_package_and_a_gpu_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    hopper, ampere = SimpleNamespace(type="cuda", major=9), SimpleNamespace(type="cuda", major=8)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (device.major, 0))

    assert not has_fa4(hopper)  # not installed
    monkeypatch.setattr("codeshell_hf.train.attention.version", lambda name: {"flash-attn-4": "4.0.0b36"}[name])
    assert has_fa4(hopper)
    assert not has_fa4(ampere)
    assert not has_fa4(torch.device("cpu"))


@pytest.mark.parametrize("window", [None, 16])
def test_the_kernel_of_a_gpu_takes_what_it_is_given(window: int | None) -> None:
    """Shapes alone, on torch's meta device: its own description of the kernel stands for it."""
    query = torch.empty(2, 8, 64, 32, device="meta", requires_grad=True)  # rotated in float32, beside a half value
    key, value = (torch.empty(2, 2, 64, 32, device="meta", dtype=torch.bfloat16) for _ in range(2))
    ends = torch.tensor([0, 20, 64, 128], dtype=torch.int32, device="meta")

    output, _ = attend_varlen(
        torch.nn.Identity(), query, key, value, None, scaling=0.1, sliding_window=window, cu_seq_lens_q=ends
    )
    output.sum().backward()

    assert (output.shape, output.dtype) == ((2, 64, 8, 32), torch.bfloat16)
    assert query.grad is not None
    assert query.grad.shape == query.shape


def test_padding_and_dropout_are_refused() -> None:
    part = torch.zeros(1, 2, 4, 8)

    for (attend, name), (mask, dropout) in product(
        ((attend_varlen, VARLEN), (attend_fa4, VARLEN_FA4)), ((torch.ones(1, 4), 0.0), (None, 0.1))
    ):
        with pytest.raises(ValueError, match=f"{name} takes neither padding nor dropout; use sdpa"):
            attend(torch.nn.Identity(), part, part, part, mask, scaling=1.0, dropout=dropout)


def test_no_value_is_read_from_the_device_when_lengths_are_given(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    """On torch's meta device reading a value is an error; on a GPU the host would wait."""
    model = CodeShellForCausalLM._from_config(
        deepcopy(tiny_model(n_embd=128).config), attn_implementation=register_attention()
    )
    transformer = model.to("meta").train().transformer
    given = {name: torch.as_tensor(value).to("meta") for name, value in TENSORS.items()}

    transformer(**given, **LONGEST, use_cache=False).last_hidden_state.sum().backward()

    assert all(parameter.grad is not None for parameter in transformer.parameters())
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):  # so this would have been seen
        transformer(input_ids=given["input_ids"], position_ids=given["position_ids"], use_cache=False)


def test_given_lengths_mean_what_positions_mean(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    masked = tiny_model("sdpa").train()
    by_lengths = CodeShellForCausalLM._from_config(deepcopy(masked.config), attn_implementation=register_attention())
    by_lengths.load_state_dict(masked.state_dict())
    by_lengths.train()
    ids, positions = TENSORS["input_ids"], TENSORS["position_ids"]
    longer = torch.tensor([0, 40, 80], dtype=torch.int32)
    too_long = {**TENSORS, **LONGEST, "cu_seq_lens_q": longer, "cu_seq_lens_k": longer}

    expected = masked(ids, position_ids=positions, use_cache=False).logits

    absent = dict.fromkeys((*LONGEST, "cu_seq_lens_q", "cu_seq_lens_k"))
    for given in ({**TENSORS, **LONGEST}, {"input_ids": ids, "position_ids": positions, **absent}):
        torch.testing.assert_close(by_lengths(**given, use_cache=False).logits, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="position_ids restart where cu_seq_lens_q has no boundary"):
        by_lengths(**too_long, use_cache=False)

    by_lengths.eval()  # outside training, lengths and positions are compared
    torch.testing.assert_close(by_lengths(**too_long, use_cache=False).logits, expected, rtol=1e-4, atol=1e-5)
    whole = by_lengths(**too_long | {"position_ids": torch.stack(WHOLE)}, use_cache=True)
    assert getattr(whole, CACHE_NAME) is not None
