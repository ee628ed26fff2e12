"""A step before the optimiser: gradients of the mean loss over all labels, however they are split."""

from collections.abc import Sequence

import numpy as np
import torch

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
