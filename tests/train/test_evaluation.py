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


@pytest.mark.parametrize("exports", [False, True])
def test_a_run_is_evaluated_and_exported_at_its_intervals_and_once_more_at_its_end(
    engine: Engine, tiny_tokenizer: CodeShellTokenizer, tmp_path: Path, *, exports: bool
) -> None:
    make_shards(tmp_path / "shards" / "held-out", ["a = 1\n" * 12] * 8)
    log, trackers, ranks = Log(tmp_path / "log.jsonl", 0, is_writer=True), Recorder(), Ranks(torch.device("cpu"), 0, 1)
    evaluation = RunEvaluation(
        EvaluationSettings(every_steps=2, exports=exports),
        tmp_path / "shards",
        row_tokens=32,
        benchmarks=BackgroundEvaluation((), tmp_path, None, tmp_path, log, ranks),
        folder=tmp_path,
        log=log,
        trackers=trackers,
        ranks=ranks,
        stop=SimpleNamespace(is_received=False),
    )

    for step in range(1, 7):
        assert not evaluation.after_step(engine, tiny_tokenizer, Progress(step, 10 * step), is_last=step == 6)
    evaluation.finish(engine, Progress(6, 60), by_position=True)

    assert [entry["step"] for entry in log.entries if "bits_per_byte" in entry] == [2, 4, 6]
    assert [entry["step"] for entry in log.entries if "loss_by_position" in entry] == [6]
    assert trackers.logged == [2, 4, 6]
    assert engine.inner.training
    written = sorted(path.name for path in tmp_path.glob("exports/*"))
    assert written == (["step-00000002", "step-00000004"] if exports else [])


def test_a_signal_ends_an_evaluation_which_is_not_logged(
    engine: Engine, tiny_tokenizer: CodeShellTokenizer, tmp_path: Path
) -> None:
    make_shards(tmp_path / "shards" / "held-out", ["a = 1\n" * 12] * 8)
    log, ranks = Log(tmp_path / "log.jsonl", 0, is_writer=True), Ranks(torch.device("cpu"), 0, 1)
    evaluation = RunEvaluation(
        EvaluationSettings(every_steps=2, exports=True),
        tmp_path / "shards",
        row_tokens=32,
        benchmarks=BackgroundEvaluation((), tmp_path, None, tmp_path, log, ranks),
        folder=tmp_path,
        log=log,
        trackers=Recorder(),
        ranks=ranks,
        stop=SimpleNamespace(is_received=True),
    )

    assert evaluation.after_step(engine, tiny_tokenizer, Progress(2, 20), is_last=False)
    with pytest.raises(Interrupted):
        evaluation.finish(engine, Progress(6, 60), by_position=True)

    assert log.entries == []
    assert not (tmp_path / "exports").exists()
    assert engine.inner.training
