"""Steps, held-out losses, checkpoints and exports of an engine, on the ranks that torchrun starts.

Its argument is JSON: changes of the configuration, and runs one after the other. Rows are those of all ranks together.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from codeshell_hf import CodeShellConfig, CodeShellTokenizer
from codeshell_hf.presets import make_config
from codeshell_hf.train import muon
from codeshell_hf.train.engine import Engine, EngineOptions, make_engine
from codeshell_hf.train.mesh_engine import WholeRows
from codeshell_hf.train.ranks import Ranks, Readers
from codeshell_hf.train.settings import ComputeSettings, OptimizerSettings
from codeshell_hf.train.sharding import Sharding
from codeshell_hf.train.step import accumulate_gradients
from recipes.with_accelerate import join_ranks
from tests.train.test_row_slices import draw_positions

SIZES = {"vocab_size": 320, "n_embd": 32, "n_head": 4, "num_query_groups": 2, "n_layer": 2, "n_inner": 64}
IDS = np.random.default_rng(1).integers(1, 320, (4, 8, 32))
POSITIONS = draw_positions(8, 32)


class CollectiveCounter(TorchDispatchMode):
    """The names of collective operations, without waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation.namespace in ("c10d", "_c10d_functional") and "wait" not in str(operation):
            self.names.append(str(operation))
        return operation(*args, **(kwargs or {}))


def read(step: int, reader: Readers) -> Iterator[WholeRows]:
    """A micro-batch a row, with unequal numbers of labels."""
    for row in np.array_split(np.arange(8), reader.count)[reader.rank]:
        labels = np.where(POSITIONS[[row]] == 0, -100, IDS[step][[row]])
        labels[:, : row + 3] = -100
        yield WholeRows(IDS[step][[row]], POSITIONS[[row]], labels)


def count_saved_bytes(engine: Engine, rows: WholeRows, tensors: int) -> int:
    """Bytes that a forward pass saves for the backward pass, without weights, their parts and logits."""
    weights = {tuple(part) for weight in engine.model.parameters() for part in list_parts(list(weight.shape), tensors)}
    kept, sizes = [], {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        local = saved.to_local() if isinstance(saved, DTensor) else saved
        kept.append(local)  # a storage that is freed could come again
        if tuple(local.shape) not in weights and engine.config.vocab_size not in local.shape:
            sizes[local.untyped_storage().data_ptr()] = local.untyped_storage().nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        engine.module(**engine.make_inputs(rows)).backward()
    return sum(sizes.values())


def list_parts(shape: list[int], tensors: int) -> Iterator[list[int]]:
    """The shapes of a weight, whole and split, as they are and transposed."""
    for dimension in range(len(shape)):
        for parts in (1, tensors):
            part = [size // parts if place == dimension else size for place, size in enumerate(shape)]
            yield from (part, part[::-1])


def train(joined: Ranks, config: CodeShellConfig, run: dict[str, Any]) -> dict[str, Any]:
    muon.HELD_NUMBERS = run.get("held_numbers", 2**28)
    sharding = Sharding(**run["sharding"])
    ranks = joined.join(sharding.together)
    compute = ComputeSettings(gradient_checkpointing=run.get("recomputes", False))
    options = EngineOptions(sharding=sharding, compute=compute)
    given = {"learning_rate": 1e-2, "epsilon": 1e-5, "max_gradient_norm": 0.5, "z_loss": 1e-3}
    optimizer = OptimizerSettings(**(given | run.get("optimizer", {})))
    engine = make_engine(config, optimizer, options, device=ranks.device, seed=3, start_from=run.get("start_from"))
    if "reads" in run:
        engine.read(Path(run["reads"]), dist.group.WORLD)
    engine.inner.eval()
    rows = torch.from_numpy(IDS[0][:3, :27])
    held_out = engine.inner(input_ids=rows, labels=rows, reduction="none").flatten().tolist()
    engine.inner.train()
    saved = 0
    if "saved_tokens" in run:
        ids = np.tile(np.arange(run["saved_tokens"]) % 300, (2, 1))
        places = np.tile(np.arange(run["saved_tokens"]), (2, 1))
        saved = count_saved_bytes(engine, WholeRows(ids, places, ids), sharding.tensor)
        engine.step(0.0, lambda norm: False)
    steps, counter = [], CollectiveCounter()
    for step in range(*run["steps"]):
        share = accumulate_gradients(engine, list(read(step, ranks.readers)), ranks)
        (loss,) = ranks.all_reduce_sum(float(share))
        counter.names.clear()  # those of the last step stay
        with counter:
            steps.append((loss, engine.step(1.0, lambda norm: True)[0]))
    if "writes" in run:
        Path(run["writes"]).mkdir(exist_ok=True)
        dist.barrier()
        engine.write(Path(run["writes"]), dist.group.WORLD)()
        dist.barrier()
    if "exports" in run:
        engine.save_whole(Path(run["exports"]), CodeShellTokenizer.from_pretrained(run["tokenizer"]))
    return {"name": f"{sharding} by {engine}", "steps": steps, "held_out": held_out, "saved": saved,
            "collectives": counter.names}  # fmt: skip


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    with join_ranks() as everyone:
        for one in given["runs"]:
            found = train(everyone, make_config("nano", **(SIZES | given["config"])), one)
            everyone.print("FOUND " + json.dumps(found))
