"""A step before the optimiser: gradients of the mean loss over all labels, however they are split."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from codeshell_hf.errors import Interrupted
from codeshell_hf.pack.rows import IGNORED, Batch
from codeshell_hf.train.engine import Engine
from codeshell_hf.train.ranks import Ranks
from codeshell_hf.train.step import accumulate_gradients, seed_dropout


def make_batch(rng: np.random.Generator, rows: int, ignored: Sequence[int]) -> Batch:
    ids = rng.integers(1, 320, (rows, 16))
    labels = ids.copy()
    labels[:, list(ignored)] = IGNORED
    return Batch(ids, np.tile(np.arange(16), (rows, 1)), labels)


def test_gradients_are_those_of_the_mean_over_all_labels_of_uneven_micro_batches(engine: Engine) -> None:
    """By hand: logits of whole rows, the log probability of each label that is not ignored, one division."""
    rng = np.random.default_rng(0)
    batches = [make_batch(rng, 2, []), make_batch(rng, 2, [0, 3, 4, 5, 6, 7, 8, 9, 10])]
    losses = []
    for batch in batches:
        logits = engine.model(torch.from_numpy(batch.input_ids), use_cache=False).logits
        spread = logits[:, :-1].log_softmax(-1)
        for row, place in np.argwhere(batch.labels[:, 1:] != IGNORED):
            losses.append(-spread[row, place, batch.labels[row, place + 1]])
    assert len(losses) == 2 * 15 + 2 * 7
    expected = torch.stack(losses).mean()
    expected.backward()
    by_hand = {name: parameter.grad.clone() for name, parameter in engine.model.named_parameters()
               if parameter.grad is not None}  # fmt: skip
    engine.model.zero_grad()

    loss = accumulate_gradients(engine, batches, Ranks(torch.device("cpu"), 0, 1))

    torch.testing.assert_close(loss, expected.detach())
    found = {name: parameter.grad for name, parameter in engine.model.named_parameters()}
    assert by_hand.keys() == found.keys()
    for name, gradient in by_hand.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_dropout_depends_on_seed_step_and_rank_alone() -> None:
    def drop(seed: int, step: int, rank: int) -> list[float]:
        seed_dropout(seed, step, rank)
        return torch.nn.functional.dropout(torch.ones(64)).tolist()

    first = drop(0, 0, 0)
    torch.rand(5)

    assert drop(0, 0, 0) == first
    assert first not in (drop(1, 0, 0), drop(0, 1, 0), drop(0, 0, 1))


def test_a_stop_between_micro_batches_ends_the_step_one_later_and_drops_its_gradients(engine: Engine) -> None:
    rng = np.random.default_rng(0)
    batches = [make_batch(rng, 2, []) for _ in range(4)]
    ranks, passed = Ranks(torch.device("cpu"), 0, 1), list[None]()
    engine.module.register_forward_hook(lambda *given: passed.append(None))

    with pytest.raises(Interrupted):
        accumulate_gradients(engine, batches, ranks, lambda: len(passed) >= 2)

    assert len(passed) == 3
    assert all(parameter.grad is None for parameter in engine.model.parameters())


@pytest.mark.parametrize("since", [3, 4])
def test_a_stop_at_the_end_leaves_the_step_whole(engine: Engine, since: int) -> None:
    rng = np.random.default_rng(0)
    batches = [make_batch(rng, 2, []) for _ in range(4)]
    ranks, passed = Ranks(torch.device("cpu"), 0, 1), list[None]()
    engine.module.register_forward_hook(lambda *given: passed.append(None))

    accumulate_gradients(engine, batches, ranks, lambda: len(passed) >= since)

    assert len(passed) == 4
    assert all(parameter.grad is not None for parameter in engine.model.parameters())


# Two ranks with stand-ins for engines, of which the second, slower one is asked to stop.
RANKS = """
import sys, time
from contextlib import nullcontext
import numpy as np
import torch
import torch.distributed as dist
from codeshell_hf.errors import Interrupted
from codeshell_hf.train.ranks import Ranks
from codeshell_hf.train.step import accumulate_gradients
from tests.train.test_step import make_batch

rank, home = int(sys.argv[1]), sys.argv[2]

class Engine:
    passed = 0
    no_sync = autocast = lambda self: nullcontext()
    make_inputs = lambda self, batch: {}
    backward = lambda self, loss, is_last: None
    drop_gradients = lambda self: None
    def module(self):
        time.sleep(0.2 * rank)
        self.passed += 1
        return torch.ones(())

dist.init_process_group("gloo", init_method=f"file://{home}/store", rank=rank, world_size=2)
engine, rows = Engine(), [make_batch(np.random.default_rng(0), 1, [])] * 8
try:
    accumulate_gradients(engine, rows, Ranks(torch.device("cpu"), rank, 2), lambda: rank == 1 and engine.passed >= 3)
except Interrupted:
    print(engine.passed)
dist.destroy_process_group()
"""


def test_ranks_stop_at_the_same_micro_batch_if_one_is_asked_to(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RANKS, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
        )
        for rank in range(2)
    ]

    assert [process.communicate(timeout=600)[0].strip() for process in processes] == ["4", "4"]
