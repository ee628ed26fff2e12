"""What the ZeRO engine decides by itself; its steps on two ranks are in tests/recipes/test_pretrain.py."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from codeshell_hf import CodeShellConfig
from codeshell_hf.errors import SettingsError
from codeshell_hf.precision import Precision
from codeshell_hf.train.engine import EngineOptions, make_engine
from codeshell_hf.train.settings import OptimizerSettings
from codeshell_hf.train.sharding import Sharding
from codeshell_hf.train.zero import ZeroEngine, _GatedAdamW
from recipes.with_accelerate import join_ranks

MakeConfig = Callable[..., CodeShellConfig]
CPU = torch.device("cpu")


def make_bare(**values: Any) -> Any:
    """An engine without DeepSpeed behind it."""
    engine = object.__new__(ZeroEngine)
    vars(engine).update(values)
    return engine


def test_zero_shards_adamw_alone(make_config: MakeConfig) -> None:
    muon, message = OptimizerSettings(name="muon", learning_rate=1e-3), "but ZeRO supports only AdamW; set it to adamw"

    with join_ranks(), pytest.raises(SettingsError, match=r"optimizer\.name is muon, " + message):
        make_engine(make_config(), muon, EngineOptions(sharding=Sharding("zero")), device=CPU, seed=0)


def test_a_missing_deepspeed_is_one_line_with_the_extra(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    options = EngineOptions(sharding=Sharding("zero", 2))

    with join_ranks(), pytest.raises(SettingsError, match=r'pip install "codeshell-hf\[deepspeed\]"'):
        make_engine(make_config(), OptimizerSettings(learning_rate=1e-3), options, device=CPU, seed=0)


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("offloads", [False, True])
@pytest.mark.parametrize("is_bf16", [False, True])
def test_deepspeed_is_told_what_the_settings_say(*, stage: int, offloads: bool, is_bf16: bool) -> None:
    precision = Precision("bfloat16" if is_bf16 else "float32")
    sharding = Sharding("zero", stage, offloads=offloads)
    options = EngineOptions(precision=precision, micro_rows=4, sharding=sharding)

    told = make_bare(options=options, max_gradient_norm=None)._settings()

    place = {"device": "cpu" if offloads else "none"}
    zero = {"stage": stage, "offload_optimizer": place} | ({"offload_param": place} if stage == 3 else {})
    assert told["zero_optimization"] == zero
    assert told["bf16"] == {"enabled": is_bf16}
    assert told["gradient_clipping"] == 0.0  # which is DeepSpeed's word for none
    assert told["train_micro_batch_size_per_gpu"] == 4
    # The loop accumulates by itself, and the optimiser is torch's.
    assert told["gradient_accumulation_steps"] == 1
    assert told["zero_allow_untested_optimizer"]
    assert not told["zero_force_ds_cpu_optimizer"]
    assert make_bare(options=options, max_gradient_norm=0.5)._settings()["gradient_clipping"] == 0.5


def test_a_checkpoint_has_each_weight_on_one_rank_and_about_as_many_numbers_on_each() -> None:
    inner = nn.Module()
    for name, size in (("a", 60), ("b", 50), ("c", 40), ("d", 30), ("e", 20)):
        inner.register_parameter(name, nn.Parameter(torch.zeros(size)))
    inner.register_parameter("tied", inner.a)

    assigned = list(make_bare(inner=inner, ranks=3)._assign_owners())

    assert sorted(name for names, _, _ in assigned for name in names) == ["a", "b", "c", "d", "e", "tied"]
    assert assigned[0][0] == ["a", "tied"]
    loads = [sum(weight.numel() for _, weight, owner in assigned if owner == rank) for rank in range(3)]
    assert loads == [60, 70, 70]  # by hand: each goes where least lies


def test_a_shard_counts_by_its_whole_shape() -> None:
    """What ZeRO-3 has sharded is empty here, and keeps its shape in an attribute."""
    inner = nn.Module()
    for name, shape in (("a", (10, 10)), ("b", (2, 3)), ("c", (5,))):
        inner.register_parameter(name, nn.Parameter(torch.zeros(0)))
        getattr(inner, name).ds_shape = torch.Size(shape)

    assert [owner for _, _, owner in make_bare(inner=inner, ranks=2)._assign_owners()] == [0, 1, 1]


@pytest.mark.parametrize(("norm", "is_allowed"), [(3.0, True), (3.0, False), (float("inf"), False)])
def test_a_norm_is_judged_once_before_the_first_shard(norm: float, *, is_allowed: bool) -> None:
    """DeepSpeed steps an optimiser a shard, and none at all where the norm is not finite."""
    stepped: list[bool] = []
    judged: list[float] = []

    def allows(found: float) -> bool:
        judged.append(found)
        return is_allowed

    gated = SimpleNamespace(param_groups=[{"lr": 0.0, "peak": 2.0}])

    def step() -> None:
        if norm != float("inf"):
            stepped.extend(gated.gate() for _ in range(2))

    inner = SimpleNamespace(_global_grad_norm=norm, param_groups=gated.param_groups)
    engine = make_bare(optimizers=[gated], _engine=SimpleNamespace(optimizer=inner, step=step))

    outcome = engine.step(0.5, allows)

    assert outcome == (norm, is_allowed)
    assert judged == [norm]
    assert stepped == ([] if norm == float("inf") else [is_allowed] * 2)
    assert engine.learning_rate == 1.0


@pytest.mark.parametrize("is_allowed", [True, False])
def test_a_shard_is_stepped_if_it_may(*, is_allowed: bool) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = _GatedAdamW([weight], lr=0.1, weight_decay=0.0)
    optimizer.gate = lambda: is_allowed
    weight.grad = torch.ones(3)

    optimizer.step()

    assert weight.tolist() == pytest.approx([0.9 if is_allowed else 1.0] * 3)


ONE_STEP = """
import json, sys, torch
from codeshell_hf import CodeShellConfig
from codeshell_hf.train.engine import EngineOptions, make_engine
from codeshell_hf.train.settings import OptimizerSettings
from codeshell_hf.train.sharding import Sharding
from recipes.with_accelerate import join_ranks
config = CodeShellConfig(vocab_size=320, n_positions=64, n_embd=32, n_layer=2, n_head=4, num_query_groups=2)
ids = torch.randint(1, 320, (2, 1, 16), generator=torch.Generator().manual_seed(0))
adamw = OptimizerSettings(learning_rate=1e-2)
after = []
with join_ranks() as ranks:
    for sharding in (Sharding(), Sharding("zero", 2), Sharding("zero", 3)):
        engine = make_engine(config, adamw, EngineOptions(sharding=sharding), device=ranks.device, seed=3)
        for place, row in enumerate(ids):
            engine.backward(engine.module(input_ids=row, labels=row) / 30, is_last=place == 1)
        norm, _ = engine.step(1.0, lambda norm: True)
        with torch.no_grad():
            after.append([norm, *(float(engine.model(row).logits.double().square().sum()) for row in ids)])
print("after", json.dumps(after))
"""


@pytest.mark.slow
@pytest.mark.skipif(
    find_spec("deepspeed") is None or shutil.which("g++") is None, reason="DeepSpeed on a CPU builds an operator"
)
def test_one_process_takes_the_plain_engines_step() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONE_STEP], capture_output=True, text=True, check=False, timeout=600, cwd="."
    )

    lines = [line for line in done.stdout.splitlines() if line.startswith("after ")]
    assert lines, done.stderr[-2000:]
    plain, *sharded = json.loads(lines[0].removeprefix("after "))
    for other in sharded:
        assert other == pytest.approx(plain, rel=1e-5)
