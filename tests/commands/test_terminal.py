"""The dtype in which chat, complete and serve compute."""

import argparse

import pytest
import torch

import codeshell_hf
from codeshell_hf import precision
from codeshell_hf.commands import terminal

AUTO = argparse.Namespace(device="cpu", dtype="auto")


@pytest.mark.parametrize(("speedup", "dtype"), [(0.1, torch.float32), (1.9, torch.bfloat16)])
def test_a_small_model_computes_in_what_is_faster_here(
    speedup: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "measure_speedup", lambda work, device: speedup)

    model, _ = terminal.load(codeshell_hf.bundled(), AUTO)

    assert model.dtype == dtype
    assert caplog.records == []


def test_a_large_one_keeps_its_dtype_and_says_what_would_be_faster(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(precision, "measure_speedup", lambda work, device: 0.1)
    monkeypatch.setattr(terminal, "SMALL_PARAMETERS", 1_000_000)

    model, _ = terminal.load(codeshell_hf.bundled(), AUTO)

    assert model.dtype == torch.bfloat16
    assert "pass --dtype float32, which takes twice the memory" in caplog.text
