"""Attention by documents' lengths: equal to the masked one, and spoken to as torch's kernel wants it."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.presets import PRESETS, make_config
from codeshell_hf.train import attention
from codeshell_hf.train.attention import VARLEN, agrees_with_mask, attend_varlen, register_attention

WHOLE = [torch.arange(40), torch.arange(40)]
PACKED = [torch.cat([torch.arange(13), torch.arange(27)]), torch.cat([torch.arange(n) for n in (1, 20, 2, 17)])]
MIXED = [PACKED[1], torch.arange(40)]
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

    for mask, dropout in ((torch.ones(1, 4), 0.0), (None, 0.1)):
        with pytest.raises(ValueError, match="neither padding nor dropout; use sdpa"):
            attend_varlen(torch.nn.Identity(), part, part, part, mask, scaling=1.0, dropout=dropout)


@pytest.mark.parametrize(
    "fault",
    [
        lambda given: given | {"cu_seq_lens_q": None},  # documents that see each other
        lambda given: given | {"sliding_window": given["sliding_window"] and given["sliding_window"] + 1},
        lambda given: given | {"scaling": given["scaling"] * 1.1},
        lambda given: torch.linalg.inv(torch.zeros(2, 2)),  # a kernel that fails
    ],
)
def test_it_is_tried_before_it_is_trusted(fault: Callable[[dict], dict], monkeypatch: pytest.MonkeyPatch) -> None:
    given = [(make_config(name), torch.device("cpu"), torch.bfloat16) for name in PRESETS]
    assert all(agrees_with_mask(*one) for one in given)

    right = attention.attend_varlen
    monkeypatch.setattr(attention, "attend_varlen", lambda *more, **named: right(*more, **fault(named)))

    assert not any(agrees_with_mask(*one) for one in given)


def test_the_trial_of_the_kernel_runs_while_a_model_is_made_without_memory() -> None:
    # FSDP2 makes the model under this context, and asks there which attention to use.
    with torch.device("meta"):
        assert agrees_with_mask(make_config("nano"), torch.device("cpu"), torch.float32)
