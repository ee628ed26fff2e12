"""Tensor and context parallelism: one rank's parts here, and steps of four ranks in processes of their own."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import SettingsError
from codeshell_hf.presets import make_config as make_preset
from codeshell_hf.text.bits_per_byte import compute_losses
from codeshell_hf.train.engine import Engine, EngineOptions, make_engine
from codeshell_hf.train.memory import Layout, count_activations
from codeshell_hf.train.mesh import count_copies
from codeshell_hf.train.mesh_engine import MeshEngine
from codeshell_hf.train.ranks import Ranks
from codeshell_hf.train.settings import OptimizerSettings
from codeshell_hf.train.sharding import Sharding
from recipes.with_accelerate import join_ranks
from tests.train.mesh_program import IDS, read
from tests.warm import start

slow = pytest.mark.slow

ADAMW = OptimizerSettings(learning_rate=1e-2)
CPU = torch.device("cpu")


def train(ranks: int, *runs: dict[str, Any], **config: Any) -> list[dict[str, Any]]:
    """What each run of `mesh_program` finds."""
    process = start("-m", "tests.train.mesh_program", json.dumps({"config": config, "runs": runs}), ranks=ranks)
    printed = process.communicate(timeout=900)[0]
    assert process.returncode == 0, printed[-4000:]
    return [json.loads(line.removeprefix("FOUND ")) for line in printed.splitlines() if line.startswith("FOUND ")]


def mesh(**sizes: int) -> dict[str, Any]:
    return {"sharding": {"kind": "fsdp2", **sizes}, "steps": [0, 3]}


PLAIN = {"sharding": {}, "steps": [0, 3]}
LARGER = {
    "activation_function": "swiglu", "tie_word_embeddings": False, "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"],
}  # fmt: skip


@slow
@pytest.mark.parametrize(
    ("config", "runs"),
    [
        ({}, [mesh(tensor=2), mesh(context=2), mesh(tensor=2, context=2) | {"recomputes": True}]),
        (LARGER, [mesh(tensor=2, replicas=2), mesh(context=2, replicas=2), mesh(context=4)]),
    ],
    ids=["tied", "gated, untied, with a window"],
)
def test_four_ranks_take_the_steps_of_one_on_every_mesh(config: dict[str, Any], runs: list[dict[str, Any]]) -> None:
    """Losses, norms before clipping, and held-out losses before the first step, which no row length divides."""
    (expected,) = train(1, PLAIN, **config)

    for found in train(4, *runs, **config):
        assert "FSDPMeshModel of DTensor" in found["name"]
        np.testing.assert_allclose(found["steps"], expected["steps"], rtol=1e-5, err_msg=found["name"])
        np.testing.assert_allclose(found["held_out"], expected["held_out"], rtol=1e-5, atol=1e-6, err_msg=found["name"])


@slow
def test_checkpoints_and_weights_are_read_by_any_mesh_and_by_one_rank(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    """Weights and moments of a run that goes from tensors to one rank, and on to contexts and to both."""
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (whole,) = train(1, PLAIN | {"steps": [0, 4]})
    first = mesh(tensor=2) | {"steps": [0, 1], "writes": f"{tmp_path}/1"}
    (found,) = train(4, first)
    (second,) = train(1, PLAIN | {"steps": [1, 2], "reads": f"{tmp_path}/1", "writes": f"{tmp_path}/2"})
    exports = {"exports": f"{tmp_path}/model", "tokenizer": f"{tmp_path}/tokenizer"}
    third = mesh(context=2) | {"steps": [2, 3], "reads": f"{tmp_path}/2", "writes": f"{tmp_path}/3"}
    fourth = mesh(tensor=2, context=2) | {"steps": [3, 4], "reads": f"{tmp_path}/3"} | exports
    fifth = mesh(tensor=2) | {"steps": [0, 0], "start_from": f"{tmp_path}/model"}
    rest = train(4, third, fourth, fifth)

    steps = [*found["steps"], *second["steps"], *rest[0]["steps"], *rest[1]["steps"]]
    np.testing.assert_allclose(steps, whole["steps"], rtol=1e-5)
    model = CodeShellForCausalLM.from_pretrained(tmp_path / "model")
    rows = torch.from_numpy(IDS[0][:3, :27])
    losses = compute_losses(model, rows).flatten()
    np.testing.assert_allclose(rest[2]["held_out"], losses, rtol=1e-5, atol=1e-6)


@slow
def test_a_rank_of_four_saves_what_is_planned() -> None:
    sizes = {"n_embd": 96, "n_layer": 3, "n_head": 6, "n_inner": 384, "vocab_size": 500}
    runs = [{"tensor": 2}, {"context": 2}, {"tensor": 2, "context": 2}]

    found = train(4, *(mesh(**run) | {"steps": [0, 0], "saved_tokens": 128} for run in runs), **sizes)

    for run, one in zip(runs, found, strict=True):
        layout = Layout("fsdp2", 3, 4, micro_tokens=256, is_bf16=False, **run)
        assert one["saved"] == pytest.approx(count_activations(make_preset("nano", **sizes), layout), rel=0.1)


def test_on_one_rank_the_mesh_takes_the_plain_engines_step(make_config: Callable[..., CodeShellConfig]) -> None:
    """Nothing is split, but all of it runs: rows are cut, gradients are summed, norms are counted once."""
    config = make_config()
    rows = next(read(0, Ranks(CPU, 0, 1).readers))
    with join_ranks():
        engines = [
            kind(config, ADAMW, EngineOptions(sharding=sharding), device=CPU, seed=3, start_from=None)
            for kind, sharding in ((Engine, Sharding()), (MeshEngine, Sharding("fsdp2")))
        ]
        found = []
        for engine in engines:
            loss = engine.module(**engine.make_inputs(rows)) / 10
            engine.backward(loss, is_last=True)
            norm, _ = engine.step(1.0, lambda norm: True)
            found.append([float(loss.detach()), norm, *map(whole_norm, engine.model.parameters())])

    assert found[1] == pytest.approx(found[0], rel=1e-5)


def whole_norm(parameter: torch.Tensor) -> float:
    whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
    return float(whole.detach().norm())


class _Parameter(NamedTuple):
    """A stand-in for a parameter on a mesh of these sizes."""

    placements: tuple[Placement, ...]
    sizes: tuple[int, ...]

    @property
    def device_mesh(self) -> "_Parameter":
        return self

    def size(self, dimension: int | None = None) -> int:
        return math.prod(self.sizes) if dimension is None else self.sizes[dimension]


@pytest.mark.parametrize(
    ("placements", "sizes", "copies"),
    [
        ((Shard(0), Shard(0)), (4, 2), 1),
        ((Shard(0), Replicate()), (4, 2), 2),  # a norm: each rank of a tensor group has it
        ((Replicate(), Shard(0), Replicate()), (2, 2, 2), 4),
        ((Shard(0),), (4,), 2),  # a mesh of half of the ranks
    ],
)
def test_numbers_that_several_ranks_have_are_counted(
    placements: tuple[Placement, ...], sizes: tuple[int, ...], copies: int
) -> None:
    assert count_copies(_Parameter(placements, sizes), 8) == copies


@pytest.mark.parametrize(
    ("sharding", "options", "message"),
    [
        (Sharding("fsdp2", tensor=2), {}, "1 ranks do not make 1 replicas of tp 2 x cp 1; start a multiple of 2"),
        (Sharding("fsdp2", context=2), {"name": "muon"}, "tp and cp support only AdamW; set it to adamw"),
    ],
)
def test_what_a_mesh_cannot_do_is_one_line(
    make_config: Callable[..., CodeShellConfig], sharding: Sharding, options: dict[str, Any], message: str
) -> None:
    optimizer = OptimizerSettings(learning_rate=1e-2, **options)
    with join_ranks() as ranks, pytest.raises(SettingsError, match=message):
        make_engine(make_config(), optimizer, EngineOptions(sharding=sharding), device=ranks.device, seed=0)
