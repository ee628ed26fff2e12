"""Precision of a stage: chosen once, kept by a run that goes on, and the same error on every rank."""

import logging
import pickle
from pathlib import Path

import pytest
import torch

from codeshell_hf import precision as precisions
from codeshell_hf.errors import CheckpointError, RunFailed
from codeshell_hf.precision import Precision, read_precision, write_precision
from codeshell_hf.presets import make_config
from codeshell_hf.stages import precision_choice as stage_precision
from codeshell_hf.stages.precision_choice import read_config, resolve_precision
from codeshell_hf.stages.stage import Work

NANO = make_config("nano")


@pytest.fixture(autouse=True)
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def measure(monkeypatch: pytest.MonkeyPatch, speedup: float) -> None:
    """Has bfloat16 be so many times as fast as float32."""
    monkeypatch.setattr(precisions, "measure_speedup", lambda work, device: speedup)


def test_float32_is_tried_on_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def read() -> precisions.Shape:
        raise AssertionError("no configuration is needed")

    work = Work(tmp_path)

    assert resolve_precision("float32", read, work) == Precision("float32")
    assert work.precision["requested"] == "float32"
    assert work.precision["compute_dtype"] == "float32"
    assert work.precision["device"] == "cpu"
    assert work.precision["threads"] == torch.get_num_threads()
    threads = torch.get_num_threads()
    assert capsys.readouterr().out.strip().endswith(f"float32, as requested; {threads} threads")


@pytest.mark.parametrize(("first", "kept"), [(2.0, "bfloat16"), (0.5, "float32")])
def test_a_run_that_goes_on_keeps_what_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: float, kept: str
) -> None:
    folder = tmp_path / "checkpoints"
    measure(monkeypatch, first)
    begun = resolve_precision("auto", lambda: NANO, Work(tmp_path), record_folder=folder)
    measure(monkeypatch, 1 / first)

    resumed = resolve_precision("auto", lambda: NANO, Work(tmp_path), record_folder=folder)
    anew = resolve_precision("auto", lambda: NANO, Work(tmp_path))

    assert begun == resumed == read_precision(folder)
    assert resumed.compute_dtype == kept
    assert anew.compute_dtype != kept


@pytest.mark.parametrize(("here", "warnings"), [(0.1, 1), (2.0, 0)])
def test_a_run_that_goes_on_where_bfloat16_is_slow_warns_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, here: float, warnings: int
) -> None:
    measure(monkeypatch, here)
    begun = Precision("bfloat16", "bfloat16", 2.0, 20.0)
    write_precision(tmp_path, begun)

    with caplog.at_level(logging.WARNING):
        found = resolve_precision("auto", lambda: NANO, Work(tmp_path), trains=True, record_folder=tmp_path)

    assert found == begun == read_precision(tmp_path)
    advice = f"the run keeps its precision; remove {tmp_path / 'precision.json'} to choose again"
    warning = f"precision is bfloat16, which is less than 0.10 times as fast as float32 on this cpu; {advice}"
    assert [record.getMessage() for record in caplog.records] == [warning] * warnings


def test_what_stops_the_choice_is_raised(tmp_path: Path) -> None:
    def read() -> precisions.Shape:
        raise CheckpointError("no model")

    with pytest.raises(CheckpointError, match="no model"):
        resolve_precision("auto", read, Work(tmp_path))


class Odd(Exception):
    """Cannot be unpickled: it takes two words, of which pickle keeps one."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one}\n{two}")


def test_an_error_reaches_other_ranks_as_itself_or_in_its_words() -> None:
    plain, odd = CheckpointError("no model"), Odd("no", "kernel")

    assert stage_precision._make_portable(plain) is plain
    sent = pickle.loads(pickle.dumps(stage_precision._make_portable(odd)))  # noqa: S301 - its own bytes

    assert type(sent) is RunFailed
    assert str(sent) == "Odd: no kernel"


def test_a_folder_without_a_configuration_is_one_error_and_another_architecture_is_none(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=f"{tmp_path} has no configuration .*; name a model's folder"):
        read_config(tmp_path)

    (tmp_path / "config.json").write_text('{"model_type": "llama", "hidden_size": 48, "num_attention_heads": 2}')

    assert read_config(tmp_path).hidden_size == 48
