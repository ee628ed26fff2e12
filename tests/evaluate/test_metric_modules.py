"""The metrics as Hugging Face's `evaluate` loads them."""

from pathlib import Path

import pytest

from codeshell_hf.sandbox import Sandbox
from tests.evaluate.sets import ROOT

pytestmark = pytest.mark.xdist_group("execution")


@pytest.fixture
def metric_modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    pytest.importorskip("evaluate")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path))
    return ROOT / "src" / "codeshell_hf" / "evaluate" / "metric_modules"


def test_metrics_are_loaded_by_path_without_a_network(metric_modules: Path, sandbox: Sandbox) -> None:
    import evaluate

    exact = evaluate.load(str(metric_modules / "infilling_exact_match"))
    bleu = evaluate.load(str(metric_modules / "code_bleu_like"))
    passing = evaluate.load(str(metric_modules / "pass_at_k"))

    assert exact.compute(predictions=[" a", "b"], references=["a", "c"]) == {"exact_match": 0.5}
    assert bleu.compute(predictions=["f(x)"], references=["f ( x )"])["bleu"] == pytest.approx(1.0)
    found = passing.compute(
        predictions=[["def f(): return 1", "def f(): return 2"], ["x = 1", "import os; os._exit(0)"]],
        references=["assert f() == 1", "assert False"],
        k=[1, 2],
        sandbox=sandbox.backend,
    )
    assert found == {"pass@1": 0.25, "pass@2": 0.5}
