"""AdamW in 16 and 8 bits: bitsandbytes' code, torch's AdamW as the exact one, rounding by chance, whole runs."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codeshell_hf import CodeShellConfig
from codeshell_hf.errors import SettingsError
from codeshell_hf.precision import Precision
from codeshell_hf.presets import make_config as make_preset
from codeshell_hf.train import compact_adamw
from codeshell_hf.train.checkpoint import Checkpoints, Run
from codeshell_hf.train.compact_adamw import (
    BLOCK,
    CompactAdamW,
    dequantize,
    make_code,
    make_noise,
    quantize,
    round_stochastically,
)
from codeshell_hf.train.engine import Engine, EngineOptions, make_engine
from codeshell_hf.train.settings import CheckpointSettings, MomentFormat, OptimizerSettings
from codeshell_hf.train.sharding import Sharding
from recipes.with_accelerate import join_ranks
from tests.train.mesh_program import SIZES
from tests.train.mesh_program import train as train_here
from tests.train.steps import make_run, save, weights_of
from tests.train.test_mesh_engine import train as train_ranks

slow = pytest.mark.slow

CPU = torch.device("cpu")


def half(values: Tensor) -> Tensor:
    """Noise with which numbers are rounded to the nearest."""
    return torch.full_like(values, 2**15, dtype=torch.int32)


@pytest.mark.parametrize("signed", [True, False])
def test_the_code_is_that_of_bitsandbytes(signed: bool) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")

    torch.testing.assert_close(
        make_code(signed=signed), functional.create_dynamic_map(signed=signed), rtol=1e-5, atol=0
    )


def test_stored_numbers_are_at_least_as_near_as_those_of_bitsandbytes() -> None:
    """Which does not always take the nearest on a CPU."""
    functional = pytest.importorskip("bitsandbytes.functional")
    values = torch.randn(8, 2 * BLOCK, generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 0, 2 * BLOCK)

    found = dequantize(*quantize(values, make_code(signed=True), half(values)), make_code(signed=True))

    peer = functional.dequantize_blockwise(*functional.quantize_blockwise(values, blocksize=BLOCK))
    assert ((found - values).abs() <= 1.001 * (peer - values).abs() + 1e-7).all()
    assert ((found - peer).abs() < 1e-6 + 1e-5 * peer.abs()).float().mean() > 0.98


def test_blocks_do_not_cross_rows_and_rows_need_not_be_whole_blocks() -> None:
    values = torch.randn(3, BLOCK + 44, generator=torch.Generator().manual_seed(0))
    values[1] *= 1e-6
    code = make_code(signed=True)

    places, scales = quantize(values, code, half(values))

    assert (places.shape, places.dtype, scales.shape) == (values.shape, torch.uint8, (3, 2))
    for row, column in ((0, 5), (1, 5), (2, BLOCK + 43)):
        block = values[row, column // BLOCK * BLOCK :][:BLOCK]
        largest = float(block.abs().max())
        nearest = min((abs(float(values[row, column]) - largest * number), number) for number in code.tolist())
        assert float(dequantize(places, scales, code)[row, column]) == pytest.approx(largest * nearest[1])


def test_a_second_moment_is_never_rounded_to_zero() -> None:
    values = torch.tensor([[1.0, 1e-9, 0.0]])
    code = make_code(signed=False)

    stored = dequantize(*quantize(values, code, half(values)), code)

    assert stored[0, 1] > 0
    assert stored[0, 2] == 0


def test_rounding_is_by_chance_in_proportion_and_exact_where_it_can_be() -> None:
    """Between 1 and the next number, 1 + 2**-7, at a quarter: odds of 1 to 3. Four standard deviations: 1 in 16,000."""
    count = 100_000
    noise = make_noise(0, count, seed=5, device=CPU)
    rounded = round_stochastically(torch.full((count,), 1 + 2**-9), noise)

    assert set(rounded.tolist()) == {1.0, 1 + 2**-7}
    assert float((rounded > 1).float().mean()) == pytest.approx(0.25, abs=4 * math.sqrt(0.25 * 0.75 / count))
    exact = torch.tensor([0.0, -0.0, 1.5, -3.0, math.inf, -math.inf, math.nan])
    torch.testing.assert_close(round_stochastically(exact, noise[:7]), exact.bfloat16(), equal_nan=True)


def test_noise_depends_on_place_and_seed_alone_and_is_even() -> None:
    whole = make_noise(0, 200_000, seed=1, device=CPU)

    assert torch.equal(make_noise(70_000, 1000, seed=1, device=CPU), whole[70_000:71_000])
    assert (make_noise(0, 200_000, seed=2, device=CPU) == whole).float().mean() < 1e-3
    assert whole.min() >= 0
    assert whole.max() < 2**16
    counts = torch.bincount(whole // 4096, minlength=16)  # 12,500 each; six standard deviations are 650
    assert (counts - 12_500).abs().max() < 650
    assert abs(float(torch.corrcoef(torch.stack([whole[1:].float(), whole[:-1].float()]))[0, 1])) < 0.015


def train(optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer], steps: int, dtype: torch.dtype) -> Tensor:
    """A regression from 300 numbers on a noisy line: the weights after some steps."""
    draw = torch.Generator().manual_seed(0)
    wanted = torch.randn(40, 300, generator=draw)
    weight, bias = nn.Parameter(torch.zeros(40, 300, dtype=dtype)), nn.Parameter(torch.zeros(40))
    weight.grad_dtype = torch.float32
    taken = optimizer([weight, bias])
    for _ in range(steps):
        inputs = torch.randn(64, 300, generator=draw)
        noise = torch.randn(64, 40, generator=draw)
        loss = (nn.functional.linear(inputs, weight.float(), bias) - inputs @ wanted.T - noise).square().mean()
        loss.backward()
        taken.step()
        taken.zero_grad()
    return torch.cat([(weight.detach().float() - wanted).flatten(), bias.detach().flatten()])


def make_compact(moments: MomentFormat, betas: tuple[float, float] = (0.9, 0.95)) -> Callable[..., CompactAdamW]:
    return lambda all_: CompactAdamW([{"params": all_, "weight_decay": 0.1}], lr=0.02, betas=betas, eps=1e-8,
                                     moments=moments)  # fmt: skip


def test_in_float32_it_is_torchs_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slice by slice, of a few rows each."""
    monkeypatch.setattr(compact_adamw, "SLICE", 2000)

    found = train(make_compact("float32"), 20, torch.float32)

    peer = train(lambda all_: torch.optim.AdamW(all_, lr=0.02, betas=(0.9, 0.95), weight_decay=0.1), 20, torch.float32)
    torch.testing.assert_close(found, peer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("moments", "dtype", "limit"),
    [("bfloat16", torch.float32, 0.02), ("8bit", torch.float32, 0.05), ("8bit", torch.bfloat16, 0.1)],
)
def test_what_is_learned_is_as_near_as_in_float32(moments: MomentFormat, dtype: torch.dtype, limit: float) -> None:
    """The distance from what is to be learned, beside that of torch's AdamW; at first it is 1."""
    exact = train(
        lambda all_: torch.optim.AdamW(all_, lr=0.02, betas=(0.9, 0.95), weight_decay=0.1), 150, torch.float32
    )
    found = train(make_compact(moments), 150, dtype)

    assert float(exact.square().mean()) < 0.1
    assert float(found.square().mean().sqrt() / exact.square().mean().sqrt() - 1) < limit
    assert not torch.equal(found, exact)


def test_updates_below_half_of_the_last_bit_are_not_lost() -> None:
    """A step of 1e-4 at weights of 1, whose neighbours in bfloat16 are 4e-3 and 8e-3 away: -0.1 in a thousand steps."""
    weight = nn.Parameter(torch.ones(64, 64, dtype=torch.bfloat16))
    weight.grad_dtype = torch.float32
    adamw = CompactAdamW([{"params": [weight]}], lr=1e-4, betas=(0.9, 0.95), eps=1e-8, moments="8bit")
    for _ in range(1000):
        weight.grad = torch.ones(64, 64)
        adamw.step()

    assert float(weight.detach().float().mean()) == pytest.approx(0.9, abs=2e-3)


def test_second_moments_of_slow_decay_do_not_stall() -> None:
    """With 0.999 each change is a thousandth, below half of bfloat16's last bit: 1 - 0.999**2000 is 0.865."""
    weight = nn.Parameter(torch.zeros(64, 64))
    adamw = CompactAdamW([{"params": [weight]}], lr=0.0, betas=(0.9, 0.999), eps=1e-8, moments="bfloat16")
    for _ in range(2000):
        weight.grad = torch.ones(64, 64)
        adamw.step()

    stored = adamw.state[weight]["exp_avg_sq"]
    assert stored.dtype == torch.bfloat16
    assert float(stored.float().mean()) == pytest.approx(1 - 0.999**2000, rel=0.01)


@pytest.mark.parametrize("beta", [0.95, 0.99, 0.999])
def test_moments_of_8_bits_follow_gradients_that_change(beta: float) -> None:
    """Against float32, after gradients of all but one number of a block fall to a tenth: each share of it falls."""
    weights = [nn.Parameter(torch.zeros(64, BLOCK)) for _ in range(2)]
    adamws = [
        CompactAdamW([{"params": [weight]}], lr=0.0, betas=(0.9, beta), eps=1e-8, moments=moments)
        for weight, moments in zip(weights, ("float32", "8bit"), strict=True)
    ]
    late = torch.full((64, BLOCK), 0.1)
    late[:, 0] = 1.0
    for gradient in [torch.ones_like(late)] * 100 + [late] * round(2 / (1 - beta)):
        for weight, adamw in zip(weights, adamws, strict=True):
            weight.grad = gradient.clone()
            adamw.step()

    exact = adamws[0].state[weights[0]]["exp_avg_sq"][:, 1:].mean()
    state = adamws[1].state[weights[1]]
    stored = dequantize(state["exp_avg_sq"], state["exp_avg_sq_scale"], make_code(signed=False))[:, 1:].mean()
    assert float(stored) == pytest.approx(float(exact), rel=0.05)


def test_a_number_of_a_matrix_has_two_bytes_and_its_share_of_the_scales() -> None:
    matrix, vector = nn.Parameter(torch.ones(16, 1024, dtype=torch.bfloat16)), nn.Parameter(torch.ones(16))
    adamw = CompactAdamW([{"params": [matrix, vector]}], lr=0.1, betas=(0.9, 0.95), eps=1e-8, moments="8bit")
    matrix.grad_dtype = torch.float32
    matrix.grad, vector.grad = torch.ones(16, 1024), torch.ones(16)
    adamw.step()

    state = adamw.state[matrix]
    assert sum(value.nbytes for name, value in state.items() if name != "step") == 16 * 1024 * (2 + 2 * 4 / 256)
    assert adamw.state[vector]["exp_avg"].dtype == torch.float32


@slow
@pytest.mark.parametrize("moments", ["8bit", "bfloat16"])
def test_a_run_goes_from_two_ranks_to_one_and_on_to_two(moments: MomentFormat, tmp_path: Path) -> None:
    """Moments are read as they are stored; later, gradients that differ by 1e-7 move some of them to a neighbour."""
    optimizer = {"optimizer": {"moments": moments}}
    config = make_preset("nano", **SIZES)
    first = {"sharding": {"kind": "fsdp2"}, "steps": [0, 1], "writes": f"{tmp_path}/1"} | optimizer
    second = {"sharding": {}, "steps": [1, 2], "reads": f"{tmp_path}/1", "writes": f"{tmp_path}/2"} | optimizer
    third = {"sharding": {"kind": "fsdp2"}, "steps": [2, 4], "reads": f"{tmp_path}/2"} | optimizer

    found = train_ranks(2, first)
    with join_ranks() as alone:
        whole = train_here(alone, config, {"sharding": {}, "steps": [0, 4]} | optimizer)
        found.append(train_here(alone, config, second))
    found += train_ranks(2, third)

    steps = [step for run in found for step in run["steps"]]
    np.testing.assert_allclose(steps, whole["steps"], rtol=1e-4)


def test_a_run_with_weights_in_bfloat16_is_resumed_as_it_was(
    make_config: Callable[..., CodeShellConfig], tmp_path: Path
) -> None:
    optimizer = OptimizerSettings(learning_rate=1e-2, moments="8bit", weights="bfloat16")
    options = EngineOptions(precision=Precision("bfloat16"))
    with join_ranks() as ranks:
        engines = [make_engine(make_config(), optimizer, options, device=ranks.device, seed=seed) for seed in (3, 4)]
        assert {(p.dtype, p.ndim) for p in engines[0].model.parameters()} == {(torch.float32, 1), (torch.bfloat16, 2)}
        checkpoints = [Checkpoints(tmp_path, engine, CheckpointSettings()) for engine in engines]
        run, resumed = make_run(), make_run()
        start = weights_of(engines[0])
        for _ in range(2):
            take_bf16_step(engines[0], run)
        save(checkpoints[0], run)
        assert checkpoints[1].resume(resumed)
        for engine, one in zip(engines, (run, resumed), strict=True):
            take_bf16_step(engine, one)

        found, expected = (weights_of(engine) for engine in engines)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
        assert not any(torch.equal(one, other) for one, other in zip(found, start, strict=True))


def take_bf16_step(engine: Engine, run: Run) -> None:
    """Of two micro-batches, whose gradients are summed in float32."""
    ids = torch.randint(1, 320, (2, 2, 16), generator=torch.Generator().manual_seed(run.progress.step))
    for number, rows in enumerate(ids):
        with engine.autocast():
            loss = engine.module(input_ids=rows, labels=rows) / 60
        engine.backward(loss, is_last=number == 1)
    assert {parameter.grad.dtype for parameter in engine.model.parameters()} == {torch.float32}
    engine.step(1.0, run.guard.allows)
    run.progress.step += 1
    run.progress.tokens += run.steps.tokens


@pytest.mark.parametrize(
    ("settings", "sharding", "message"),
    [
        ({"moments": "8bit"}, Sharding("fsdp2", tensor=2), "8bit, but FSDP2, tp 2 supports only float32; set it to"),
        ({"moments": "8bit"}, Sharding("zero"), "optimizer.moments is 8bit, but ZeRO-3 supports only float32"),
        ({"weights": "bfloat16"}, Sharding("fsdp2"), "for one GPU without sharding, and this is FSDP2 on 1; set it to"),
        ({"weights": "bfloat16"}, Sharding(), "optimizer.weights is bfloat16, but precision is float32; set precision"),
    ],
)
def test_what_cannot_be_stored_so_is_one_line(
    make_config: Callable[..., CodeShellConfig], settings: dict[str, str], sharding: Sharding, message: str
) -> None:
    optimizer = OptimizerSettings.model_validate({"learning_rate": 1e-2, **settings})
    with join_ranks() as ranks, pytest.raises(SettingsError, match=message):
        make_engine(make_config(), optimizer, EngineOptions(sharding=sharding), device=ranks.device, seed=0)


def test_muon_has_no_weights_in_bfloat16() -> None:
    with pytest.raises(ValueError, match=r"optimizer\.weights is bfloat16, which muon does not update; set"):
        OptimizerSettings(name="muon", learning_rate=1e-2, weights="bfloat16")
