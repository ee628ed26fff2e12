"""Scores: asked of an endpoint within a budget, worked out from signals, learned, and applied."""

import json
import shutil
import sysconfig
from pathlib import Path

import pytest

from codeshell_hf.curate.annotation import PROMPT, Endpoint, annotate_by_signals, ask, read_score
from codeshell_hf.curate.options import Quality, Selection
from codeshell_hf.curate.regressor import Fitting, Regressor, fit
from codeshell_hf.errors import CheckpointError, DataError, RunFailed
from codeshell_hf.text.cache import JsonLinesCache
from codeshell_hf.text.documents import read_documents
from tests.curation import GOOD, run, write_files
from tests.endpoint import serve_answers

FITTING = Fitting(None, 48, 6, 16, 2e-3, 0.2, 0, "float32")


def make_endpoint(url: str, **changes: object) -> Endpoint:
    return Endpoint(
        **{"url": url, "model": "judge", "prompt": PROMPT, "max_characters": 500, "max_answers": 100, "tries": 2}
        | changes
    )  # type: ignore[arg-type]


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


def test_an_endpoint_that_never_answers_and_a_prompt_without_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"judge at http://127.0.0.1:9 answered no call"):
        ask(make_endpoint("http://127.0.0.1:9", tries=1), DOCUMENTS[:1], JsonLinesCache(tmp_path / "a.jsonl"))
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


SIGNALS = {
    "lines": 100, "parses": True, "faults": 0, "syntax_faults": 0, "style_faults": 0, "comment_fraction": 0.2,
    "complexity": 3.0, "mean_line": 30.0, "security_faults": 0, "functions": 6, "known_imports": 2,
    "duplicate_line_fraction": 0.1,
}  # fmt: skip


@pytest.mark.parametrize(
    "worse",
    [{"parses": False}, {"faults": 20}, {"comment_fraction": 0.0}, {"security_faults": 4}, {"functions": 0},
     {"complexity": 17.0}, {"duplicate_line_fraction": 0.8}, {"lines": 4}],
)  # fmt: skip
def test_static_scores_fall_with_every_fault(worse: dict) -> None:
    assert 0 <= annotate_by_signals(SIGNALS | worse) < annotate_by_signals(SIGNALS) <= 5


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """A regressor that has learned to tell files with comments from files without."""
    texts = [f"value_{n} = {n}\n" * 3 if n % 2 else f"# comment {n}\n# more words\n# and more\n" for n in range(160)]
    folder = tmp_path_factory.mktemp("quality")
    return folder, fit(texts, [1.0 if n % 2 else 4.0 for n in range(160)], folder, FITTING)


def test_a_regressor_learns_and_is_loaded_as_any_model(trained) -> None:
    folder, measures = trained
    regressor = Regressor(str(folder), max_tokens=48, precision="float32")

    poor, good = regressor.score(["value_7 = 7\n" * 3, "# comment 9\n# more words\n# and more\n"], batch_documents=2)

    assert measures["pearson"] > 0.9
    assert measures["spearman"] > 0.8
    assert measures["mean_squared_error"] < measures["variance_of_scores"]
    assert poor < 2.5 < good
    assert json.loads((folder / "quality.json").read_text()) == measures
    again = Regressor(str(folder), max_tokens=48, precision="float32").score(
        ["value_7 = 7\n" * 3] * 3, batch_documents=2
    )
    assert again == pytest.approx([poor] * 3, abs=1e-4), "padding and batches change nothing"


def test_too_few_documents_and_wrong_models_are_named(trained, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"3 annotated documents are too few to learn from; annotate 40 or more"):
        fit(["a"] * 3, [1.0] * 3, tmp_path, FITTING)
    with pytest.raises(CheckpointError, match=r"is no regressor of quality that can be loaded"):
        Regressor(str(tmp_path / "none"), max_tokens=48, precision="float32")
    shutil.copytree(trained[0], tmp_path / "two")
    config = json.loads((tmp_path / "two" / "config.json").read_text())
    (tmp_path / "two" / "config.json").write_text(json.dumps(config | {"id2label": {"0": "a", "1": "b"}}))
    with pytest.raises((CheckpointError, RuntimeError), match=r"gives 2 values|ignore_mismatched_sizes"):
        Regressor(str(tmp_path / "two"), max_tokens=48, precision="float32")


def test_the_funnel_annotates_trains_scores_and_selects(tmp_path: Path) -> None:
    stdlib = Path(sysconfig.get_paths()["stdlib"])
    files = {path.name: path.read_bytes()[:4000] for path in sorted(stdlib.glob("*.py"))[:70]}
    folder = write_files(tmp_path / "in", {**files, "area.py": GOOD})
    quality = Quality(None, 60, None, FITTING, None, 16)

    outcome = run(folder, tmp_path / "out", near=None, quality=quality, selection=Selection(9_000, "quality", 0))

    rows = list(read_documents(tmp_path / "out", columns=["id", "quality", "tokens"]))
    assert outcome.measures["quality"]["annotator"] == "static"
    assert outcome.measures["quality"]["held_out_documents"] == 12
    assert 8_000 < sum(row["tokens"] for row in rows) <= 9_000
    dropped = outcome.funnel.counts()["dropped"]["not-selected"]
    assert dropped + len(rows) == outcome.steps[-2][1]
    given = Quality(
        str(tmp_path / "out" / "quality"), 60, None, FITTING, min(row["quality"] for row in rows) - 1e-4, 16
    )
    again = run(folder, tmp_path / "again", near=None, quality=given)
    assert {row["id"] for row in rows} <= {row["id"] for row in read_documents(tmp_path / "again", columns=["id"])}
    assert again.funnel.counts()["dropped"]["low-quality"] > 0


def test_static_scores_need_no_model(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"area.py": GOOD, "poor.py": "x=eval(y)\n" * 9})

    run(folder, tmp_path / "out", near=None, quality=Quality("static", 1, None, FITTING, None, 16))

    scores = {row["id"]: row["quality"] for row in read_documents(tmp_path / "out", columns=["id", "quality"])}
    assert scores["source/poor.py"] < scores["source/area.py"]
