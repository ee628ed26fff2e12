"""Documents packed into one row see themselves alone, in every way of running the model."""

from collections.abc import Callable, Iterator

import pytest
import torch
from transformers import DynamicCache

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.modeling_codeshell import find_document_starts
from tests.conftest import FLEX

LENGTHS = [(5, 7, 4), (3, 3, 10)]  # two rows of 16 tokens
POSITIONS = torch.stack([torch.cat([torch.arange(length) for length in row]) for row in LENGTHS])
CUMULATIVE = torch.tensor([0, 5, 12, 16, 19, 22, 32], dtype=torch.int32)
FORWARD = ["eager", "sdpa", FLEX]
BACKWARD = ["eager", "sdpa"]  # FlexAttention has no gradient on a CPU


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(1, 320, (2, 16), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def one_graph_a_shape() -> Iterator[None]:
    """Torch 2.13 writes C++ that does not compile for FlexAttention of changing lengths on a CPU."""
    torch.compiler.reset()
    with torch._dynamo.config.patch(automatic_dynamic_shapes=False):
        yield


def run_separately(model: CodeShellForCausalLM, ids: torch.Tensor) -> torch.Tensor:
    rows = []
    for row, lengths in zip(ids, LENGTHS, strict=True):
        rows.append(torch.cat([model(part[None], use_cache=False).logits[0] for part in row.split(lengths)]))
    return torch.stack(rows)


def ways_of_saying_packed(ids: torch.Tensor) -> dict[str, dict[str, torch.Tensor | int]]:
    lengths: dict[str, torch.Tensor | int] = {
        "cu_seq_lens_q": CUMULATIVE,
        "cu_seq_lens_k": CUMULATIVE,
        "max_length_q": 10,
        "max_length_k": 10,
    }
    return {
        "positions": {"position_ids": POSITIONS},
        "positions and ones": {"position_ids": POSITIONS, "attention_mask": torch.ones_like(ids)},
        "lengths": lengths,
        "lengths and ones": {**lengths, "attention_mask": torch.ones_like(ids)},
        "lengths and positions": {**lengths, "position_ids": POSITIONS},
    }


@pytest.mark.parametrize("changes", [{}, {"sliding_window": 4}], ids=["full", "sliding"])
@pytest.mark.parametrize("use_cache", [None, False, True])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("attention", FORWARD)
def test_packed_logits_equal_separate_ones(
    tiny_model: Callable[..., CodeShellForCausalLM],
    ids: torch.Tensor,
    attention: str,
    mode: str,
    use_cache: bool | None,
    changes: dict,
) -> None:
    model = tiny_model(attention, **changes)

    with torch.no_grad():
        expected = run_separately(tiny_model("eager", **changes), ids)
        getattr(model, mode)()
        for name, said in ways_of_saying_packed(ids).items():
            outputs = model(ids, use_cache=use_cache, **said)
            assert (outputs.logits - expected).abs().max() < 1e-5, name
            assert outputs.past_key_values is None, name


@pytest.mark.parametrize("attention", BACKWARD)
def test_packed_gradients_equal_separate_ones(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor, attention: str
) -> None:
    separate = tiny_model(attention)
    run_separately(separate, ids).square().sum().backward()

    for name, said in ways_of_saying_packed(ids).items():
        packed = tiny_model(attention)
        packed(ids, **said).logits.square().sum().backward()
        for key, parameter in packed.named_parameters():
            expected = separate.get_parameter(key).grad
            assert (parameter.grad - expected).norm() <= 1e-5 * expected.norm() + 1e-6, (name, key)


@pytest.mark.parametrize("attention", FORWARD)
def test_a_changed_document_leaves_the_others_as_they_were(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor, attention: str
) -> None:
    model = tiny_model(attention)
    changed = ids.clone()
    changed[0, 2] = (changed[0, 2] + 1) % 320

    with torch.no_grad():
        difference = (model(ids, position_ids=POSITIONS).logits - model(changed, position_ids=POSITIONS).logits).abs()

    assert difference[0, 2:5].amax(-1).min() > 1e-4
    assert difference[0, 5:].max() == 0
    assert difference[1].max() == 0


@pytest.mark.parametrize("attention", FORWARD)
def test_packed_rows_with_padding_behind_equal_separate_ones(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor, attention: str
) -> None:
    model = tiny_model(attention)
    mask = torch.ones_like(ids)
    mask[0, 12:] = 0
    positions = POSITIONS.clone()
    positions[0, 12:] = 1  # what collators put there

    with torch.no_grad():
        expected = run_separately(tiny_model("eager"), ids)
        logits = model(ids, position_ids=positions, attention_mask=mask).logits

    assert (logits - expected)[mask.bool()].abs().max() < 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_documents_with_padding_between_them_stay_apart(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor, attention: str
) -> None:
    model = tiny_model(attention)
    mask = torch.tensor([[1] * 5 + [0] * 3 + [1] * 8])
    positions = torch.cat([torch.arange(5), torch.zeros(3, dtype=torch.long), torch.arange(8)])[None]
    counted = (mask.cumsum(-1) - 1).clamp(min=0)  # one document with a hole: positions go on behind it

    with torch.no_grad():
        packed = model(ids[:1], attention_mask=mask, position_ids=positions).logits[0]
        first, second = model(ids[:1, :5]).logits[0], model(ids[:1, 8:]).logits[0]
        holed = model(ids[:1], attention_mask=mask, position_ids=counted).logits[0, 8:]
        joined = model(torch.cat([ids[:1, :5], ids[:1, 8:]], dim=1)).logits[0, 5:]

    assert (packed[:5] - first).abs().max() < 1e-5
    assert (packed[8:] - second).abs().max() < 1e-5
    assert (holed - joined).abs().max() < 1e-5


def test_left_padding_with_positions_is_not_taken_for_packing(tiny_model: Callable[..., CodeShellForCausalLM]) -> None:
    model = tiny_model()
    ids = torch.randint(1, 320, (2, 10))
    mask = torch.tensor([[0, 0, 0] + [1] * 7, [1] * 10])
    positions = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 1)

    with torch.no_grad():
        outputs = model(ids, attention_mask=mask, position_ids=positions, use_cache=True)
        alone = model(ids[:1, 3:]).logits

    assert outputs.past_key_values is not None
    torch.testing.assert_close(outputs.logits[0, 3:], alone[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("said", ["positions", "lengths", "positions and ones"])
def test_packing_into_a_cache_is_refused(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor, said: str
) -> None:
    model = tiny_model()

    with pytest.raises(ValueError, match=r"a cache cannot tell documents apart; pass (cache|past_key_values)=None"):
        model(ids, past_key_values=DynamicCache(config=model.config), **ways_of_saying_packed(ids)[said])


@pytest.mark.parametrize("said", ["positions", "positions and ones", "lengths", "lengths and positions"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_one_graph_holds_packed_rows_apart(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor, attention: str, said: str
) -> None:
    model = tiny_model(attention)
    compiled = torch.compile(model, fullgraph=True, backend="eager")

    with torch.no_grad():
        expected = run_separately(model, ids)
        logits = compiled(ids, use_cache=False, **ways_of_saying_packed(ids)[said]).logits

    assert (logits - expected).abs().max() < 1e-5


def test_one_graph_refuses_packing_into_a_cache_and_takes_plain_rows(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor
) -> None:
    model = tiny_model()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    plain = torch.arange(16).expand(2, -1).contiguous()

    with torch.no_grad():
        logits = compiled(ids, position_ids=plain, past_key_values=DynamicCache(config=model.config)).logits
        with pytest.raises(RuntimeError, match="a cache cannot tell documents apart"):
            compiled(ids, position_ids=POSITIONS, past_key_values=DynamicCache(config=model.config))

    torch.testing.assert_close(logits, model(ids).logits, atol=1e-5, rtol=1e-4)


def test_ready_boolean_mask_means_the_same_to_eager_and_sdpa(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor
) -> None:
    documents = torch.stack([torch.repeat_interleave(torch.arange(3), torch.tensor(row)) for row in LENGTHS])
    mask = (documents[:, None, :, None] == documents[:, None, None, :]) & torch.ones(16, 16).tril().bool()

    with torch.no_grad():
        eager, sdpa = (
            tiny_model(attention)(ids, attention_mask=mask, position_ids=POSITIONS, use_cache=False).logits
            for attention in ("eager", "sdpa")
        )
        expected = run_separately(tiny_model(), ids)

    assert (eager - expected).abs().max() < 1e-5
    assert (sdpa - expected).abs().max() < 1e-5


def test_flash_attention_is_given_the_lengths_of_all_rows(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor
) -> None:
    """FlashAttention itself needs a GPU; what it is told does not."""
    model = tiny_model()
    starts = find_document_starts((2, 16), POSITIONS, None, None)

    told = model.transformer._measure_documents(starts)

    assert told["cu_seq_lens_q"].tolist() == CUMULATIVE.tolist()
    assert told["cu_seq_lens_q"].dtype == torch.int32
    assert told["max_length_q"] == 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_flash_attention_holds_packed_rows_apart(
    tiny_model: Callable[..., CodeShellForCausalLM], ids: torch.Tensor
) -> None:
    pytest.importorskip("flash_attn", reason="needs flash-attn")
    reference = tiny_model("sdpa", n_embd=128).cuda().bfloat16()
    model = tiny_model("flash_attention_2", n_embd=128).cuda().bfloat16()

    with torch.no_grad():
        expected = run_separately(reference, ids.cuda())
        for said in ways_of_saying_packed(ids).values():
            moved = {key: value.cuda() if isinstance(value, torch.Tensor) else value for key, value in said.items()}
            assert (model(ids.cuda(), **moved).logits - expected).abs().max() < 0.1
