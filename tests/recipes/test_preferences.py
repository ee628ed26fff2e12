"""Preferences out of a model's own answers, judged by tests or by an endpoint."""

import json
from pathlib import Path

import pytest

from tests.endpoint import serve_judge
from tests.recipes.toy_alignment import QUESTIONS, preferences_settings, read_output, run, write_lines

pytestmark = pytest.mark.xdist_group("alignment")


def interrupt(*given: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_preferences_are_made_of_the_models_own_answers_by_their_tests(aligned: Path) -> None:
    manifest = read_output(aligned / "preferences")
    lines = [json.loads(line) for line in (aligned / "preferences" / "pairs.jsonl").read_text().splitlines()]

    assert manifest.counts["by_source"] == {"tests": len(lines)}
    assert manifest.counts["samples"] == 72
    assert 0 < manifest.measures["pass_rate"] < 1
    for line in lines:
        question = line["prompt"][0]["content"]
        assert line["chosen"][0]["content"] == QUESTIONS[question][0]
        assert line["rejected"][0]["content"] != QUESTIONS[question][0]


def test_preferences_that_were_stopped_go_on_in_the_same_precision(
    aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped behind the probe, which says the opposite at the second try."""
    settings = preferences_settings(aligned, tmp_path / "out")
    monkeypatch.setattr("codeshell_hf.precision.measure_speedup", lambda work, device: 1.19)
    with monkeypatch.context() as stopped:
        stopped.setattr("codeshell_hf.sandbox.Sandbox.run", interrupt)
        assert run("preferences", settings, tmp_path) == 75
    monkeypatch.setattr("codeshell_hf.precision.measure_speedup", lambda work, device: 1.21)

    assert run("preferences", settings, tmp_path) == 0

    assert read_output(tmp_path / "out").precision["compute_dtype"] == "float32"


def test_an_endpoint_judges_prompts_without_tests_and_files_are_added(
    aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("JUDGE_KEY", "not-a-real-one")
    prompts = write_lines(
        tmp_path / "prompts.jsonl", [{"prompt": question, "completion": "-"} for question in QUESTIONS]
    )
    settings = {
        **preferences_settings(aligned, tmp_path / "out"),
        "prompts": [str(prompts)],
        "files": [str(aligned / "pairs.jsonl")],
    }

    with serve_judge() as endpoint:
        judge = {"url": endpoint.url, "model": "judge", "token_variable": "JUDGE_KEY"}
        assert run("preferences", {**settings, "judge": judge}, tmp_path) == 0

    counts = read_output(tmp_path / "out").counts
    assert counts["by_source"]["pairs.jsonl"] == 12
    assert counts["by_source"].get("judge", 0) + counts["dropped"].get("prompts left the judge undecided", 0) == 3
    assert counts["judge_requests"] == endpoint.requests
    assert "not-a-real-one" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())
