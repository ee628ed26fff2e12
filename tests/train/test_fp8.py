"""FP8's products, beside the same products with factors that are rounded here, and what refuses them."""

import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM
from codeshell_hf.errors import SettingsError
from codeshell_hf.precision import Precision
from codeshell_hf.train.engine import FLOAT32, Engine, EngineOptions, make_engine
from codeshell_hf.train.fp8 import convert_blocks
from codeshell_hf.train.settings import ComputeSettings, Fp8Scaling, OptimizerSettings
from codeshell_hf.train.sharding import Sharding, check_fp8
from recipes.with_accelerate import join_ranks
from tests.train.steps import make_run, save, take_step

MakeConfig = Callable[..., CodeShellConfig]
CPU = torch.device("cpu")
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def make(config: CodeShellConfig, scaling: Fp8Scaling | None, precision: Precision = FLOAT32) -> Engine:
    options = EngineOptions(ComputeSettings(fp8=scaling), precision)
    return make_engine(config, OptimizerSettings(learning_rate=1e-2), options, device=CPU, seed=3)


def round_to(values: Tensor, dtype: torch.dtype, dim: int | None) -> Tensor:
    """Rounds to 8 bits, scaled so that the largest magnitude, of all or along a dimension, is the dtype's largest."""
    largest = values.abs().amax() if dim is None else values.abs().amax(dim, keepdim=True)
    scale = torch.finfo(dtype).max / largest.double().clamp(min=1e-12)
    if dim is not None:
        scale = torch.exp2(scale.log2().floor())  # torchao's rows have powers of two
    scale = scale.float()
    return (values * scale).clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype).float() / scale


@pytest.mark.parametrize("scaling", ["tensorwise", "rowwise"])
def test_products_are_those_of_rounded_factors(make_config: MakeConfig, scaling: Fp8Scaling) -> None:
    pytest.importorskip("torchao")
    with join_ranks():
        layer = make(make_config(), scaling).model.transformer.h[0].mlp.c_fc
    drawn = torch.Generator().manual_seed(0)
    inputs = torch.randn(48, layer.in_features, generator=drawn, requires_grad=True)
    gradient = torch.randn(48, layer.out_features, generator=drawn)
    weight, bias = layer.weight.detach(), layer.bias.detach()

    outputs = layer(inputs)
    outputs.backward(gradient)

    is_row = scaling == "rowwise"
    along, across = (-1, 0) if is_row else (None, None)
    of_gradients = E4M3 if is_row else E5M2
    given = inputs.detach()
    expected = round_to(given, E4M3, along) @ round_to(weight, E4M3, along).T + bias
    back = round_to(gradient, of_gradients, along) @ round_to(weight, E4M3, across)
    of_weight = round_to(gradient, of_gradients, across).T @ round_to(given, E4M3, across)
    torch.testing.assert_close(outputs, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(inputs.grad, back, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(layer.weight.grad, of_weight, atol=1e-3, rtol=1e-4)
    assert (outputs - (given @ weight.T + bias)).norm() > 0.01 * outputs.norm()


@pytest.mark.parametrize("scaling", ["tensorwise", "rowwise"])
def test_the_blocks_alone_are_converted_and_start_from_the_same_weights(
    make_config: MakeConfig, scaling: Fp8Scaling
) -> None:
    pytest.importorskip("torchao")
    with join_ranks():
        plain, converted = make(make_config(), None), make(make_config(), scaling)

    found, expected = converted.model.state_dict(), plain.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    kinds = {name: type(module).__name__ for name, module in converted.model.named_modules()}
    assert {kind for name, kind in kinds.items() if name.endswith(("c_attn", "c_proj", "c_fc"))} == {"Float8Linear"}
    assert kinds["lm_head"] == "Linear"


def test_it_learns_as_bfloat16_does_and_its_checkpoint_goes_on_without_it(
    make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("torchao")
    from codeshell_hf.train.checkpoint import Checkpoints
    from codeshell_hf.train.settings import CheckpointSettings

    folder = tmp_path_factory.mktemp("checkpoints")
    ids = torch.randint(1, 320, (4, 32), generator=torch.Generator().manual_seed(0))

    def train(engine: Engine, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            with engine.autocast():
                loss = engine.module(input_ids=ids, labels=ids) / (4 * 31)
            engine.backward(loss, is_last=True)
            engine.step(1.0, lambda norm: True)
            losses.append(float(loss.detach()))
        return losses

    with join_ranks():
        plain, converted = (make(make_config(), scaling, Precision("bfloat16")) for scaling in (None, "rowwise"))
        expected, found = train(plain, 12), train(converted, 12)
        assert expected[-1] < expected[0] - 1
        assert max(abs(one - other) for one, other in zip(found, expected, strict=True)) < 0.1
        assert found != expected
        run = make_run()
        take_step(converted, run)
        save(Checkpoints(folder, converted, CheckpointSettings()), run)
        other = make(make_config(), None)
        assert Checkpoints(folder, other, CheckpointSettings()).resume(make_run())
        weights = converted.model.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in other.model.state_dict().items())


def test_what_refuses_it(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config()
    with pytest.raises(
        SettingsError, match=r"^fp8 is rowwise, but ZeRO-3 supports none; set fp8: null, or shard with "
    ):
        check_fp8(config, "rowwise", Sharding("zero"))
    with pytest.raises(SettingsError, match=r"but FSDP2, tp 2 supports none"):
        check_fp8(config, "tensorwise", Sharding("fsdp2", tensor=2))
    check_fp8(config, "rowwise", Sharding("fsdp2", context=2))
    check_fp8(config, None, Sharding("zero"))
    for changes, said in (({"n_inner": 200}, "200 \\(n_inner\\)"), ({"n_embd": 40}, "40 \\(n_embd\\)")):
        with pytest.raises(SettingsError, match=f"multiples of 16, but the model has {said}; change the model or set"):
            check_fp8(make_config(**changes), "tensorwise", Sharding())
    with join_ranks():
        model = make(config, None).model
    monkeypatch.setitem(sys.modules, "torchao.float8", None)
    with pytest.raises(SettingsError, match=r'needs torchao; pip install "codeshell-hf\[quantization\]" or set'):
        convert_blocks(model, "tensorwise", CPU)


# Pretraining wants transformers 5.23; this also runs beside 5.19, which cannot recompute by this name.
RECOMPUTES = {"gradient_checkpointing": hasattr(CodeShellForCausalLM, "activation_checkpointing_enable")}


@pytest.mark.parametrize(
    ("changes", "compute"),
    [
        ({}, RECOMPUTES),
        ({"activation_function": "swiglu"}, {}),
        ({"attn_pdrop": 0.1, "resid_pdrop": 0.1}, {}),
    ],
)
def test_any_number_of_tokens_and_every_block_trains(
    make_config: MakeConfig, changes: dict[str, object], compute: dict[str, bool]
) -> None:
    pytest.importorskip("torchao")
    ids = torch.randint(1, 320, (1, 37), generator=torch.Generator().manual_seed(0))
    with join_ranks():
        options = EngineOptions(ComputeSettings(fp8="rowwise", **compute), Precision("bfloat16"))
        settings = OptimizerSettings(learning_rate=1e-2, moments="8bit", weights="bfloat16")
        engine = make_engine(make_config(**changes), settings, options, device=CPU, seed=3)
        losses = []
        for _ in range(8):
            with engine.autocast():
                loss = engine.module(input_ids=ids, labels=ids) / 36
            engine.backward(loss, is_last=True)
            engine.step(1.0, lambda norm: True)
            losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] - 0.5
