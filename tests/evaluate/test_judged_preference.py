"""Preferences of a judge."""

from pathlib import Path

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.evaluate.judged_preference import PreferenceMeasurement
from codeshell_hf.evaluate.settings import PreferenceSettings
from tests.endpoint import serve_judge
from tests.evaluate.sets import SMALL


def test_the_better_answers_are_preferred(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The judge of the tests prefers the answer with more x."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    rows = (SMALL / "requests.jsonl").read_text().splitlines(keepends=True)[:4]
    (tmp_path / "requests.jsonl").write_text("".join(rows))
    with serve_judge() as judge:
        settings = PreferenceSettings(url=judge.url, model="judge", against="a", requests=tmp_path / "requests.jsonl")
        preference = PreferenceMeasurement(settings, ["a", "b"], tmp_path, seed=0)
        keys = [problem.key for problem in preference.requests.problems]
        preference.answers["a"] = dict.fromkeys(keys, "xx")
        preference.answers["b"] = dict(zip(keys, ["xxx", "xxx", "xxx", "x"], strict=True))

        scores = preference.score()

    assert list(scores) == ["b"]
    assert scores["b"].measures["preferred"].value == 0.75
    assert scores["b"].counts == {"problems": 4, "ties": 0}


def test_the_model_to_compare_with_has_to_be_evaluated(tmp_path: Path) -> None:
    settings = PreferenceSettings(
        url="http://127.0.0.1:9", model="judge", against="c", requests=SMALL / "requests.jsonl"
    )

    with pytest.raises(SettingsError, match="the models are a, b; name one of them"):
        PreferenceMeasurement(settings, ["a", "b"], tmp_path, seed=0)
