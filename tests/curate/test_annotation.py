"""Scores from an endpoint within a budget, and from signals."""

from pathlib import Path
from typing import cast

import pytest

from codeshell_hf.curate import annotation
from codeshell_hf.curate.annotation import annotate_by_signals, ask, read_score
from codeshell_hf.curate.preference_score import Measured
from codeshell_hf.curate.settings import Endpoint
from codeshell_hf.errors import DataError, RunFailed
from codeshell_hf.text.cache import JsonLinesCache
from tests.endpoint import serve_answers


def make_endpoint(url: str, **changes: object) -> Endpoint:
    values = {"url": url, "model": "judge", "max_characters": 500, "max_answers": 100} | changes
    return Endpoint.model_validate(values)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are offline, which the client takes for loopback as well."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


DOCUMENTS = [(f"x = {n}  # file {n}\n", "python") for n in range(6)]


def test_scores_are_asked_once_and_kept(tmp_path: Path) -> None:
    with serve_answers(lambda prompt: f"Plain.\nScore: {prompt.count('file 3') * 2 + 1}") as server:
        first = ask(make_endpoint(server.url), DOCUMENTS, JsonLinesCache(tmp_path / "a.jsonl"))
        asked = len(server.prompts)
        second = ask(make_endpoint(server.url), DOCUMENTS, JsonLinesCache(tmp_path / "a.jsonl"))

        assert first == second == [1, 1, 1, 3, 1, 1]
        assert asked == len(server.prompts) == 6
        assert server.key == "Bearer none", "the Hub's key stays at home"
        assert all("written in python" in prompt for prompt in server.prompts)


def test_a_budget_is_kept_over_all_runs(tmp_path: Path) -> None:
    with serve_answers(lambda prompt: "Score: 4") as server:
        for wanted in (4, 4, 6):
            scores = ask(make_endpoint(server.url, max_answers=wanted), DOCUMENTS, JsonLinesCache(tmp_path / "a.jsonl"))
            assert sum(score is not None for score in scores) == wanted == len(server.prompts)


def test_failures_are_tried_again_and_an_answer_without_a_score_is_none(tmp_path: Path) -> None:
    seen: set[str] = set()

    def answer(prompt: str) -> str:
        if "file 5" in prompt:
            return "I would rather not."
        if prompt not in seen:
            seen.add(prompt)
            raise ConnectionError("busy")
        return "Score: 2"

    with serve_answers(answer) as server:
        scores = ask(make_endpoint(server.url), DOCUMENTS, JsonLinesCache(tmp_path / "a.jsonl"))

    assert scores == [2, 2, 2, 2, 2, None]


def test_a_cache_with_a_line_cut_short_keeps_the_others(tmp_path: Path) -> None:
    cache = JsonLinesCache(tmp_path / "deep" / "a.jsonl")
    cache.add("k", {"score": 3, "answer": "Score: 3"})
    with (tmp_path / "deep" / "a.jsonl").open("a") as file:
        file.write('{"key": "l", "sc')

    assert JsonLinesCache(tmp_path / "deep" / "a.jsonl").get("k") == {"score": 3, "answer": "Score: 3"}
    assert len(JsonLinesCache(tmp_path / "deep" / "a.jsonl")) == 1


def test_an_endpoint_that_never_answers_and_a_prompt_without_text_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotation, "TRIES", 1)
    with pytest.raises(RunFailed, match=r"judge at http://127.0.0.1:9 answered no request"):
        ask(make_endpoint("http://127.0.0.1:9"), DOCUMENTS[:1], JsonLinesCache(tmp_path / "a.jsonl"))
    (tmp_path / "p.md").write_text("Judge.")
    with pytest.raises(DataError, match=r"has no \{text\}"):
        ask(
            make_endpoint("http://127.0.0.1:9", prompt=tmp_path / "p.md"),
            DOCUMENTS,
            JsonLinesCache(tmp_path / "b.jsonl"),
        )


@pytest.mark.parametrize(
    ("answer", "score"),
    [("Score: 3", 3), ("**Score**: 5", 5), ("score = 0", 0), ("Score: 9", None), ("Score: 3.5", None), ("5", None),
     ("At first Score: 2, no.\nScore: 4", 4)],
)  # fmt: skip
def test_scores_are_read_out_of_answers(answer: str, score: int | None) -> None:
    assert read_score(answer) == score


SIGNALS: Measured = {
    "lines": 100, "parses": True, "faults": 0, "syntax_faults": 0, "style_faults": 0, "comment_fraction": 0.2,
    "complexity": 3.0, "mean_line": 30.0, "security_faults": 0, "functions": 6, "known_imports": 2,
    "duplicate_line_fraction": 0.1, "imports": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    "worse",
    [{"parses": False}, {"faults": 20}, {"comment_fraction": 0.0}, {"security_faults": 4}, {"functions": 0},
     {"complexity": 17.0}, {"duplicate_line_fraction": 0.8}, {"lines": 4}],
)  # fmt: skip
def test_static_scores_fall_with_every_fault(worse: dict[str, float]) -> None:
    poor = cast(Measured, {**SIGNALS, **worse})

    assert 0 <= annotate_by_signals(poor) < annotate_by_signals(SIGNALS) <= 5
