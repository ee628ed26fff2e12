"""Steps of an engine on random tokens, and by hand."""

from collections.abc import Mapping

import torch
from torch import Tensor

from codeshell_hf.train.checkpoint import Checkpoints, Run
from codeshell_hf.train.engine import Engine
from codeshell_hf.train.guard import Guard
from codeshell_hf.train.run_log import Progress
from codeshell_hf.train.schedule import Steps
from codeshell_hf.train.settings import GuardSettings


def take_step(engine: Engine, run: Run) -> None:
    ids = torch.randint(1, 320, (2, 16), generator=torch.Generator().manual_seed(run.progress.step))
    engine.backward(engine.module(input_ids=ids, labels=ids) / 30, is_last=True)
    norm, _ = engine.step(1.0, run.guard.allows)
    assert norm > 0
    run.progress.step += 1
    run.progress.tokens += run.steps.tokens


def make_run() -> Run:
    steps = Steps(tokens=32, count=100, phases=[(0, 16)])
    return Run(Progress(), Guard(GuardSettings(max_skips=2, max_rollbacks=1)), steps, "float32")


def save(checkpoints: Checkpoints, run: Run) -> None:
    checkpoints.save(run)
    checkpoints.commit()


def weights_of(engine: Engine) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in engine.model.parameters()]


def step_by_hand(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor], *, learning_rate: float, epsilon: float = 1e-8
) -> dict[str, Tensor]:
    """AdamW's first step with the settings' own decay, in which both means are the gradient's own.

    Source:
        Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2.
    """
    return {
        name: weight * (1 - learning_rate * (0.1 if weight.ndim == 2 else 0.0))
        - learning_rate * gradients[name] / (gradients[name].abs() + epsilon)
        for name, weight in weights.items()
    }
