"""Preferences out of a model's own answers, judged by tests or by an endpoint."""

import itertools
import json
from pathlib import Path

import pytest

from codeshell_hf.align.samples import SampleStore
from codeshell_hf.text.decode import Answer
from tests.endpoint import serve_answers, serve_judge
from tests.recipes.toy_alignment import QUESTIONS, preferences_settings, read_output, run, write_lines
from tests.warm import start

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


def read_samples(output: Path) -> dict[str, object]:
    """Stored answers by prompt, of all ranks."""
    paths = output.with_name(f"{output.name}.samples").glob("*.jsonl")
    rows = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").split("\n") if line]
    return {row["key"]: row["answers"] for row in rows}


def test_a_stopped_run_keeps_its_samples_and_asks_for_the_others_alone(
    aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pairs are those of a run that was not stopped."""
    settings = {**preferences_settings(aligned, tmp_path / "out"), "sample": {"per_prompt": 24, "max_new_tokens": 24}}
    kept: list[int] = []
    add = SampleStore.add

    def stop_after_one(store: SampleStore, number: int, answers: list[Answer]) -> None:
        add(store, number, answers)
        kept.append(number)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(SampleStore, "add", stop_after_one)
        assert run("preferences", settings, tmp_path) == 75
    [first] = kept
    asked: list[int] = []

    def count(store: SampleStore, number: int, answers: list[Answer]) -> None:
        add(store, number, answers)
        asked.append(number)

    monkeypatch.setattr(SampleStore, "add", count)

    assert run("preferences", settings, tmp_path) == 0

    assert sorted([first, *asked]) == [0, 1, 2]
    written = (tmp_path / "out" / "pairs.jsonl").read_text()
    assert written == (aligned / "preferences" / "pairs.jsonl").read_text()
    changed = {**settings, "max_pairs_per_prompt": 1}
    assert run("preferences", changed, tmp_path) == 0
    assert len(asked) == 2, "another limit of pairs needs no new samples"


@pytest.mark.slow
def test_two_ranks_sample_what_one_does(aligned: Path, tmp_path: Path) -> None:
    settings = preferences_settings(aligned, tmp_path / "out")
    (tmp_path / "preferences.yaml").write_text(json.dumps(settings))

    process = start("-m", "recipes.preferences", str(tmp_path / "preferences.yaml"), ranks=2, is_warm=True)
    printed = process.communicate(timeout=240)[0]

    assert process.returncode == 0, printed[-3000:]
    assert printed.count("preferences: wrote") == 1
    assert len(list((tmp_path / "out.samples").glob("*.jsonl"))) == 2
    assert read_samples(tmp_path / "out") == read_samples(aligned / "preferences")
    assert (tmp_path / "out" / "pairs.jsonl").read_text() == (aligned / "preferences" / "pairs.jsonl").read_text()


def test_a_server_answers_prompts(aligned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gives right and wrong answers in turn, and ends a turn by text and goes on."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    turns = itertools.count()
    settings = {
        **preferences_settings(aligned, tmp_path / "out"),
        "model": None,
        "sample": {"per_prompt": 2, "max_new_tokens": 24},
        "max_pairs_per_prompt": 1,
    }

    def answer(question: str) -> str:
        return f"{QUESTIONS[question][next(turns) % 2]}|<end>|## human: more"

    with serve_answers(answer) as server:
        settings["server"] = {"url": server.url, "model": "m"}
        assert run("preferences", settings, tmp_path) == 0
        asked = len(server.prompts)
        assert run("preferences", {**settings, "seed": 0, "max_pairs_per_prompt": 2}, tmp_path) == 0

    assert len(server.prompts) == asked >= 6
    manifest = read_output(tmp_path / "out")
    assert manifest.measures["finished_fraction"] == 1.0
    for line in (tmp_path / "out" / "pairs.jsonl").read_text().split("\n")[:-1]:
        pair = json.loads(line)
        question = pair["prompt"][0]["content"]
        assert (pair["chosen"][0]["content"], pair["rejected"][0]["content"]) == QUESTIONS[question]


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
