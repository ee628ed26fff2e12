"""The chunked loss, against the model's own."""

import math
import shutil
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.train.engine import _to_autocast_dtype
from codeshell_hf.train.loss import IGNORED, TrainedModel, _fuse_gradient, _turn_into_gradient, sum_losses


def test_the_chunked_loss_and_its_gradients_equal_the_plain_ones(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    ids = torch.randint(1, 320, (2, 24))
    labels = ids.clone()
    labels[0, 5] = labels[1, 0] = -100
    found = []
    for held in (10**9, 7):  # all logits at once, and those of seven positions
        model = TrainedModel(tiny_model().train(), held_positions=held)
        loss = model(input_ids=ids, labels=labels) / 46
        loss.backward()
        found.append((float(loss), {name: weight.grad for name, weight in model.named_parameters()}))

    expected = tiny_model().train()(input_ids=ids, labels=labels, num_items_in_batch=46).loss
    assert found[0][0] == pytest.approx(float(expected), rel=1e-6)
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-4, atol=1e-7)


def test_the_chunked_loss_is_computed_in_bfloat16_under_autocast(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    ids = torch.randint(1, 320, (2, 24))
    losses = []
    for held in (10**9, 7):
        model = TrainedModel(tiny_model().train(), held_positions=held)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=ids)
        loss.backward()
        losses.append(float(loss))
        assert model.model.lm_head.weight.grad.dtype == torch.float32
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("held", [10**9, 7])
def test_the_z_loss_changes_gradients_and_not_the_value(
    tiny_model: Callable[..., CodeShellForCausalLM], held: int
) -> None:
    ids = torch.randint(1, 320, (2, 24), generator=torch.Generator().manual_seed(0))
    labels = ids.masked_fill(ids % 5 == 0, IGNORED)
    plain = tiny_model().train()
    found = TrainedModel(deepcopy(plain), held_positions=held, z_loss=0.01)

    logits = plain(input_ids=ids).logits[:, :-1]
    is_counted = labels[:, 1:] != IGNORED
    loss = torch.nn.functional.cross_entropy(logits[is_counted], labels[:, 1:][is_counted], reduction="sum")
    (loss + 0.01 * logits[is_counted].exp().sum(-1).log().square().sum()).backward()
    value = found(input_ids=ids, labels=labels)
    value.backward()

    assert float(value) == pytest.approx(float(loss), rel=1e-5)
    for expected, got in zip(plain.parameters(), found.model.parameters(), strict=True):
        torch.testing.assert_close(got.grad, expected.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        assert float(found(input_ids=ids, labels=labels)) == pytest.approx(float(loss), rel=1e-5)


@pytest.mark.slow
def test_the_compiled_loss_equals_the_plain_one() -> None:
    """As on a GPU; needs a compiler."""
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs g++")
    found = []
    for compiles in (False, True):
        hidden, weight = (
            torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
            for shape in ((2, 300, 16), (90, 16))
        )
        labels = torch.randint(0, 90, (2, 300), generator=torch.Generator().manual_seed(0))
        labels[0, 3:50] = IGNORED
        loss = sum_losses(hidden, weight, labels, held_positions=256, compiles=compiles, z_loss=1e-3)
        loss.backward()
        found.append((loss.detach(), hidden.grad, weight.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("held", [10**9, 7])
def test_equal_logits_cost_the_logarithm_of_the_vocabulary_a_label(
    tiny_model: Callable[..., CodeShellForCausalLM], held: int
) -> None:
    model = TrainedModel(tiny_model(tie_word_embeddings=False), held_positions=held)
    torch.nn.init.zeros_(model.model.lm_head.weight)
    ids = torch.randint(1, 320, (2, 24))
    labels = ids.masked_fill(ids % 3 == 0, -100)

    loss = model(input_ids=ids, labels=labels)

    assert float(loss) == pytest.approx(int((labels[:, 1:] != -100).sum()) * math.log(320), rel=1e-5)


@pytest.mark.parametrize("z_loss", [0.0, 0.05])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_become_their_gradient_as_autograd_has_it(dtype: torch.dtype, z_loss: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (3 * torch.randn(6, 40, generator=generator)).to(dtype)
    labels = torch.tensor([3, 0, 39, IGNORED, 7, 7])
    exact = logits.double().requires_grad_()
    expected = torch.nn.functional.cross_entropy(exact, labels, ignore_index=IGNORED, reduction="sum")
    squares = exact.logsumexp(-1)[labels != IGNORED].square().sum()
    (expected + z_loss * squares).backward()

    weights = (labels != IGNORED).float()[:, None]
    given = (labels.clamp(min=0)[:, None], weights)
    for turn in (
        lambda part: _fuse_gradient(part, *given, z_loss),
        lambda part: _turn_into_gradient(part, *given, z_loss, torch.empty_like(part, dtype=torch.float32)),
    ):
        found = logits.clone()
        loss = turn(found)
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)
        limit = 1e-6 if dtype == torch.float32 else 4e-3
        torch.testing.assert_close(found.double(), exact.grad, rtol=limit, atol=limit)
        assert not found[3].any()


class NoHostWaits(TorchDispatchMode):
    """Refuses operators that wait for a device, to know a value or a number of values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        is_mask = func is torch.ops.aten.index.Tensor and any(
            one is not None and one.dtype == torch.bool for one in args[1]
        )
        if is_mask or func.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "masked_select", "equal"):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


def test_the_loss_makes_no_host_wait() -> None:
    hidden, weight = torch.randn(2, 12, 8, requires_grad=True), torch.randn(40, 8, requires_grad=True)
    labels = torch.randint(0, 40, (2, 12))
    labels[0, 3] = IGNORED

    with NoHostWaits():
        sum_losses(hidden, weight, labels, held_positions=7).backward()
        with pytest.raises(AssertionError, match="waits"):
            hidden[labels != IGNORED]


def test_a_model_trains_in_bfloat16_from_its_embedding_on_and_is_evaluated_in_float32(
    tiny_model: Callable[..., CodeShellForCausalLM],
) -> None:
    model = tiny_model().train()
    model.transformer.wte.register_forward_hook(_to_autocast_dtype)
    seen: list[torch.dtype] = []
    model.transformer.h[1].register_forward_pre_hook(lambda block, given: seen.append(given[0].dtype))
    ids = torch.randint(1, 320, (2, 24))

    with torch.autocast("cpu", torch.bfloat16):
        model(input_ids=ids)
    model(input_ids=ids)

    assert seen == [torch.bfloat16, torch.float32]
