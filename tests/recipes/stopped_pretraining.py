"""Pretraining that signals itself, on one of its ranks, at a moment that no timer would hit.

$STOP is "step N": between two micro-batches of the Nth step that this process takes; or "evaluation N": between two
batches of windows of the evaluation after step N. The arguments are those of the recipe.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

from codeshell_hf.stages.stage import main
from codeshell_hf.text.bits_per_byte import score_documents
from codeshell_hf.train import evaluation, step
from recipes.pretrain import STAGE

MOMENT, _, NUMBER = os.environ.get("STOP", "never 0").partition(" ")
accumulate_gradients = step.accumulate_gradients
log_bits_per_byte = evaluation.RunEvaluation.log_bits_per_byte


def count_and_stop(second: int, is_stopping: Callable[[], bool]) -> Callable[[], bool]:
    """Asks as before, and sends SIGTERM when asked for the given time."""
    asked = 0

    def ask() -> bool:
        nonlocal asked
        asked += 1
        if asked == second and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        return is_stopping()

    return ask


def main_with_stops(arguments: Sequence[str]) -> int:
    """Runs the recipe."""
    taken = 0

    def step_and_stop(engine: Any, batches: Any, ranks: Any, is_stopping: Callable[[], bool]) -> Any:
        nonlocal taken
        taken += 1
        stops = MOMENT == "step" and taken == int(NUMBER)
        return accumulate_gradients(engine, batches, ranks, count_and_stop(2, is_stopping) if stops else is_stopping)

    def evaluate_and_stop(self: Any, engine: Any, progress: Any) -> Any:
        stops = MOMENT == "evaluation" and progress.step == int(NUMBER)

        def score(*given: Any, is_stopping: Callable[[], bool], **named: Any) -> Any:
            return score_documents(
                *given, is_stopping=count_and_stop(2, is_stopping) if stops else is_stopping, **named
            )

        with patch.object(evaluation, "score_documents", score):
            return log_bits_per_byte(self, engine, progress)

    with (
        patch.object(step, "accumulate_gradients", step_and_stop),
        patch.object(evaluation.RunEvaluation, "log_bits_per_byte", evaluate_and_stop),
    ):
        return main(STAGE, arguments)


if __name__ == "__main__":
    sys.exit(main_with_stops(sys.argv[1:]))
