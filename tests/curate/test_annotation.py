"""Scores from an endpoint within a budget, and from signals."""

import json
from pathlib import Path
from typing import cast

import pytest

from codeshell_hf.curate import annotation
from codeshell_hf.curate.annotation import AnswerCounts, annotate_by_signals, ask
from codeshell_hf.curate.preference_score import Measured
from codeshell_hf.curate.quality_scores import Assessment
from codeshell_hf.curate.settings import Endpoint
from codeshell_hf.errors import DataError, RunFailed, SettingsError
from codeshell_hf.text.cache import JsonLinesCache
from tests.endpoint import Refusal, serve_answers


def make_endpoint(url: str, **changes: object) -> Endpoint:
    values = {"url": url, "model": "judge", "max_characters": 500, "max_answers": 100} | changes
    return Endpoint.model_validate(values)


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests are offline, which the client takes for loopback as well."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


DOCUMENTS = [(f"x = {n}  # file {n}\n", "python") for n in range(6)]


def annotate(
    server: str, cache: Path, documents: list[tuple[str, str]] = DOCUMENTS, **changes: object
) -> tuple[list[float | None], AnswerCounts]:
    found, counts = ask(make_endpoint(server, **changes), documents, JsonLinesCache(cache))
    return [None if scores is None else scores.score for scores in found], counts


def test_scores_are_asked_once_and_kept(tmp_path: Path) -> None:
    with serve_answers(lambda prompt: f"Plain.\nScore: {prompt.count('file 3') * 2 + 1}") as server:
        first, counts = annotate(server.url, tmp_path / "a.jsonl")
        asked = len(server.prompts)
        second, _ = annotate(server.url, tmp_path / "a.jsonl")

        assert first == second == [1, 1, 1, 3, 1, 1]
        assert counts == AnswerCounts(scored=6)
        assert asked == len(server.prompts) == 1 + 6, "a first request, and one for each document"
        assert server.key == "Bearer none", "the Hub's key stays at home"
        assert all("written in python" in prompt for prompt in server.prompts)


def test_the_sides_are_kept_and_asked_for_by_a_schema(tmp_path: Path) -> None:
    answer = {"reasons": "Clear.", "correctness": 5, "readability": 4, "security": 3, "value": 2, "score": 4}
    with serve_answers(lambda prompt: json.dumps(answer)) as server:
        found, _ = ask(make_endpoint(server.url), DOCUMENTS[:1], JsonLinesCache(tmp_path / "a.jsonl"))

        assert found == [Assessment(4, 5, 4, 3, 2)]
        sent = server.bodies[-1]["response_format"]["json_schema"]["schema"]
        assert sent["required"] == ["reasons", "correctness", "readability", "security", "value", "score"]
        assert sent["properties"]["score"] == {"type": "integer", "enum": [0, 1, 2, 3, 4, 5]}


def test_a_server_without_schemas_is_asked_without(tmp_path: Path) -> None:
    bodies: list[dict] = []

    def answer(prompt: str) -> str:
        bodies.append(server.bodies[-1])
        if "response_format" in bodies[-1]:
            raise Refusal(400)
        return "Score: 4"

    with serve_answers(answer) as server:
        scores, _ = annotate(server.url, tmp_path / "a.jsonl", calls_at_once=1)

    assert scores == [4] * 6
    assert ["response_format" in body for body in bodies][-7:] == [False] * 7
    assert "response_format" in bodies[0]


def test_a_budget_is_kept_over_all_runs(tmp_path: Path) -> None:
    with serve_answers(lambda prompt: "Score: 4") as server:
        for run, wanted in enumerate((4, 4, 6), 1):
            scores, counts = annotate(server.url, tmp_path / "a.jsonl", max_answers=wanted)
            assert sum(score is not None for score in scores) == wanted == len(server.prompts) - run
            assert counts.beyond_budget == 6 - wanted


def test_failures_are_tried_again_and_an_answer_without_a_score_is_asked_for_once_more(tmp_path: Path) -> None:
    seen: set[str] = set()

    def answer(prompt: str) -> str:
        if "file 5" in prompt:
            return "I would rather not."
        if prompt not in seen:
            seen.add(prompt)
            raise ConnectionError("busy")
        return "Score: 2"

    with serve_answers(answer) as server:
        scores, counts = annotate(server.url, tmp_path / "a.jsonl")
        refused = [body["messages"] for body in server.bodies if "file 5" in body["messages"][0]["content"]]
        again, _ = annotate(server.url, tmp_path / "a.jsonl")

        assert scores == again == [2, 2, 2, 2, 2, None]
        assert counts == AnswerCounts(scored=5, unreadable=1)
        assert [[message["role"] for message in messages] for messages in refused] == [
            ["user"],
            ["user", "assistant", "user"],
        ]
        assert refused[1][1]["content"] == "I would rather not."
        later = sum("file 5" in body["messages"][0]["content"] for body in server.bodies)
        assert later == 2, "an answer that was unreadable twice is not asked for in another run"


def test_answers_that_cannot_be_read_count_against_the_budget(tmp_path: Path) -> None:
    def answer(prompt: str) -> str:
        return "No." if "# file" in prompt else "Score: 1"

    with serve_answers(answer) as server:
        scores, counts = annotate(server.url, tmp_path / "a.jsonl", max_answers=4, calls_at_once=1)

        assert scores == [None] * 6
        assert counts == AnswerCounts(unreadable=2, beyond_budget=4)
        assert len(server.prompts) == 1 + 4


@pytest.mark.parametrize("status", [401, 404])
def test_a_refused_key_or_model_ends_the_run_with_one_request(tmp_path: Path, status: int) -> None:
    def answer(prompt: str) -> str:
        raise Refusal(status)

    with serve_answers(answer) as server:
        with pytest.raises(SettingsError, match=rf"refuses judge: {status} .*; check url, model, key") as raised:
            annotate(server.url, tmp_path / "a.jsonl")

        assert len(server.prompts) == 1
        assert "\n" not in str(raised.value)


def test_a_key_that_expires_ends_the_run_and_keeps_the_answers(tmp_path: Path) -> None:
    def answer(prompt: str) -> str:
        if "file 3" in prompt:
            raise Refusal(401)
        return "Score: 4"

    with serve_answers(answer) as server, pytest.raises(SettingsError, match=r"401"):
        annotate(server.url, tmp_path / "a.jsonl", calls_at_once=1)

    assert 3 <= len(JsonLinesCache(tmp_path / "a.jsonl")) < 6


def test_a_document_that_is_refused_costs_itself_and_many_in_a_row_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(prompt: str) -> str:
        if "# file" in prompt and "file 5" not in prompt:
            raise Refusal(403)
        return "Score: 4"

    with serve_answers(answer) as server:
        scores, counts = annotate(server.url, tmp_path / "a.jsonl")
        monkeypatch.setattr(annotation, "MAX_FAILURES", 3)
        with pytest.raises(RunFailed, match=r"answered none of 3 documents in a row .*403.*run again when it is up"):
            annotate(server.url, tmp_path / "b.jsonl", calls_at_once=1)

    assert scores == [None] * 5 + [4]
    assert counts == AnswerCounts(scored=1, unanswered=5)


def test_a_model_that_never_scores_is_named_before_the_run(tmp_path: Path) -> None:
    with serve_answers(lambda prompt: "Nice code!") as server:
        with pytest.raises(RunFailed, match=r"gives no score for a function of two lines, but 'Nice code!'"):
            annotate(server.url, tmp_path / "a.jsonl")

        assert len(server.prompts) == 4, "twice with a schema, and twice without"


def test_a_cache_with_a_line_cut_short_keeps_the_others(tmp_path: Path) -> None:
    cache = JsonLinesCache(tmp_path / "deep" / "a.jsonl")
    cache.add("k", {"answer": "Score: 3"})
    with (tmp_path / "deep" / "a.jsonl").open("a") as file:
        file.write('{"key": "l", "sc')

    assert JsonLinesCache(tmp_path / "deep" / "a.jsonl").get("k") == {"answer": "Score: 3"}
    assert len(JsonLinesCache(tmp_path / "deep" / "a.jsonl")) == 1


def test_an_endpoint_that_never_answers_and_a_prompt_without_text_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(annotation, "TRIES", 1)
    with pytest.raises(RunFailed, match=r"judge at http://127.0.0.1:9 did not answer after 1 tries"):
        annotate("http://127.0.0.1:9", tmp_path / "a.jsonl")
    (tmp_path / "p.md").write_text("Judge.")
    with pytest.raises(DataError, match=r"has no \{text\}"):
        annotate("http://127.0.0.1:9", tmp_path / "b.jsonl", prompt=tmp_path / "p.md")


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

    assert 0 <= annotate_by_signals(poor).score < annotate_by_signals(SIGNALS).score <= 5
