"""When a run is evaluated and exported, and what its log and trackers get."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import Interrupted
from codeshell_hf.train.background_evaluation import BackgroundEvaluation
from codeshell_hf.train.engine import Engine
from codeshell_hf.train.evaluation import RunEvaluation
from codeshell_hf.train.ranks import Ranks
from codeshell_hf.train.run_log import Log, Progress
from codeshell_hf.train.settings import EvaluationSettings
from codeshell_hf.train.trackers import Trackers
from tests.pack.letters import make_shards


class Recorder(Trackers):
    def __init__(self) -> None:
        self.logged: list[int] = []

    def log(self, values: Mapping[str, float], step: int) -> None:
        assert "bits_per_byte/python" in values
        self.logged.append(step)


def make_evaluation(folder: Path, *, exports: bool = True, is_stopping: bool = False) -> tuple[RunEvaluation, Log]:
    """Evaluates every second step."""
    make_shards(folder / "shards" / "held-out", ["a = 1\n" * 12] * 8)
    log, ranks = Log(folder / "log.jsonl", 0, is_writer=True), Ranks(torch.device("cpu"), 0, 1)
    evaluation = RunEvaluation(
        EvaluationSettings(every_steps=2, exports=exports),
        folder / "shards",
        row_tokens=32,
        benchmarks=BackgroundEvaluation((), folder, None, folder, log, ranks),
        folder=folder,
        log=log,
        trackers=Recorder(),
        ranks=ranks,
        stop=SimpleNamespace(is_received=is_stopping),  # type: ignore[arg-type]
    )
    return evaluation, log


def list_evaluated(log: Log) -> list[int]:
    return [entry["step"] for entry in log.entries if "bits_per_byte" in entry]


@pytest.mark.parametrize("exports", [False, True])
def test_a_run_is_evaluated_and_exported_at_its_intervals_and_once_more_at_its_end(
    engine: Engine, tiny_tokenizer: CodeShellTokenizer, tmp_path: Path, *, exports: bool
) -> None:
    evaluation, log = make_evaluation(tmp_path, exports=exports)

    for step in range(1, 7):
        assert not evaluation.after_step(engine, tiny_tokenizer, Progress(step, 10 * step), is_last=step == 6)
    assert not evaluation.finish(engine, Progress(6, 60), by_position=True)

    assert list_evaluated(log) == [2, 4, 6]
    assert [entry["step"] for entry in log.entries if "loss_by_position" in entry] == [6]
    assert isinstance(evaluation._trackers, Recorder)
    assert evaluation._trackers.logged == [2, 4, 6]
    assert engine.inner.training
    written = sorted(path.name for path in tmp_path.glob("exports/*"))
    assert written == (["step-00000002", "step-00000004"] if exports else [])


def test_a_signal_ends_an_evaluation_which_is_not_logged(
    engine: Engine, tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    evaluation, log = make_evaluation(tmp_path, is_stopping=True)

    assert evaluation.after_step(engine, tiny_tokenizer, Progress(2, 20), is_last=False)
    assert evaluation.finish(engine, Progress(6, 60), by_position=True)
    with pytest.raises(Interrupted, match="run the same command again"):
        evaluation.make_up(engine, tiny_tokenizer, Progress(2, 20), is_last=False)

    assert log.entries == []
    assert not (tmp_path / "exports").exists()
    assert engine.inner.training


@pytest.mark.parametrize(
    ("step", "done", "evaluated"), [(0, [], [0]), (2, [], [2]), (2, [2], [2]), (3, [2], [2]), (4, [2], [2, 4])]
)
def test_an_evaluation_that_was_ended_is_made_up_for(
    engine: Engine,
    tiny_tokenizer: CodeShellTokenizer,
    tmp_path: Path,
    step: int,
    done: list[int],
    evaluated: list[int],
) -> None:
    evaluation, log = make_evaluation(tmp_path)
    for one in done:
        log.add({"step": one, "bits_per_byte": {"all": 2.0}})

    evaluation.make_up(engine, tiny_tokenizer, Progress(step, 10 * step), is_last=False)

    assert list_evaluated(log) == evaluated
    exported = [path.name for path in tmp_path.glob("exports/*")]
    assert exported == [f"step-{one:08d}" for one in evaluated if one and one not in done]
