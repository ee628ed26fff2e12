"""Tasks for lm-evaluation-harness, held to its own, and its figures turned into scores."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.harness import collect_scores, make_gsm8k_tasks, make_mmlu_tasks, score_harness
from codeshell_hf.evaluate.models import EvaluatedModel
from codeshell_hf.evaluate.results import ResultCache
from codeshell_hf.evaluate.settings import HarnessSettings
from tests.evaluate.sets import SMALL


def read_own(path: str) -> dict[str, Any]:
    """A task of the harness itself."""
    pytest.importorskip("lm_eval")
    return dict(yaml.safe_load(files("lm_eval").joinpath("tasks", *path.split("/")).read_text(encoding="utf-8")))


def render(template: str, **values: object) -> str:
    """Fills a template in as the harness does."""
    jinja2 = pytest.importorskip("jinja2")
    return str(jinja2.Environment(autoescape=False, keep_trailing_newline=True).from_string(template).render(**values))


def test_mmlu_reads_as_the_harness_poses_it() -> None:
    own = read_own("mmlu/default/_default_template_yaml")
    subject = read_own("mmlu/default/mmlu_high_school_physics.yaml")

    ours = make_mmlu_tasks(SMALL / "mmlu")["local_mmlu_arithmetic"]

    choices = ["6", "7", "8", "9"]
    columns = {f"choice{number}": choice for number, choice in enumerate(choices)}
    question = " What is 3 + 4? "
    assert render(str(ours["doc_to_text"]), question=question, **columns) == render(
        own["doc_to_text"], question=question, choices=choices
    )
    same = (
        "output_type",
        "doc_to_choice",
        "doc_to_target",
        "metric_list",
        "test_split",
        "fewshot_split",
        "fewshot_config",
    )
    assert {key: ours[key] for key in same} == {key: own[key] for key in same}
    assert ours["num_fewshot"] == 5
    assert ours["description"] == subject["description"].replace("high school physics", "arithmetic")


def test_gsm8k_is_filtered_and_matched_as_the_harness_does() -> None:
    own = read_own("gsm8k/gsm8k.yaml")

    (ours,) = make_gsm8k_tasks(SMALL / "gsm8k" / "test.jsonl").values()

    assert ours["filter_list"] == own["filter_list"]
    metric, expected = ours["metric_list"][0], own["metric_list"][0]  # type: ignore[index]
    assert metric == {key: value for key, value in expected.items() if key != "ignore_punctuation"}
    assert not expected["ignore_punctuation"]
    same = ("output_type", "doc_to_text", "doc_to_target", "num_fewshot", "test_split", "fewshot_split")
    assert {key: ours[key] for key in same} == {key: own[key] for key in same}


def test_shots_come_from_the_test_where_there_is_no_training_file(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("{}\n")

    (task,) = make_gsm8k_tasks(tmp_path / "test.jsonl").values()

    assert task["fewshot_split"] == "test"
    assert task["dataset_kwargs"] == {"data_files": {"test": str(tmp_path / "test.jsonl")}}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"test holds no SUBJECT_test\.csv"):
        make_mmlu_tasks(tmp_path)
    with pytest.raises(DataError, match=r"test\.jsonl does not exist; name GSM8K's"):
        make_gsm8k_tasks(tmp_path / "test.jsonl")
    for part in ("test", "dev"):
        (tmp_path / part).mkdir()
        (tmp_path / part / f"law_{part}.csv").write_text("question,choice0,choice1,choice2,answer\n")
    with pytest.raises(DataError, match=r"law_test\.csv has no column 'choice3'; give question"):
        make_mmlu_tasks(tmp_path)


ANSWERED: dict[str, Any] = {
    "samples": {
        "local_mmlu_law": [{"doc_id": number, "acc": right} for number, right in enumerate((1.0, 0.0, 0.0))],
        "local_mmlu_physics": [{"doc_id": 0, "acc": 1.0}],
        "local_gsm8k": [
            {"doc_id": number, "filter": way, "exact_match": right, "doc": {"question": "ab"[number]}, "resps": [["x"]]}
            for way, rights in (("strict-match", (0, 0)), ("flexible-extract", (1, 0)))
            for number, right in enumerate(rights)
        ],
    },
    "versions": {"local_mmlu_law": 1.0, "local_mmlu_physics": 1.0, "local_gsm8k": 3.0},
}


def test_questions_weigh_alike_whatever_their_subject() -> None:
    pytest.importorskip("lm_eval")  # whose version is noted

    scores = collect_scores(ANSWERED)

    assert scores["mmlu"].measures["accuracy"].value == 2 / 4  # and not the mean of 1/3 and 1
    assert {name: own["accuracy"].value for name, own in scores["mmlu"].languages.items()} == {
        "law": round(1 / 3, 4),
        "physics": 1.0,
    }
    assert scores["mmlu"].counts == {"problems": 4}
    assert {way: measure.value for way, measure in scores["gsm8k"].measures.items()} == {
        "strict-match": 0.0,
        "flexible-extract": 0.5,
    }
    assert scores["gsm8k"].counts == {"problems": 2}
    assert [(row["language"], row["id"], row["right"]) for row in scores["mmlu"].problems] == [
        ("law", "0", 1.0), ("law", "1", 0.0), ("law", "2", 0.0), ("physics", "0", 1.0),
    ]  # fmt: skip
    assert [row["right"] for row in scores["gsm8k"].problems] == [0, 0]
    assert "5 shots, 3 tasks" in scores["mmlu"].notes["harness"]


def test_a_model_that_is_not_in_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="far is not in memory"):
        score_harness(EvaluatedModel("far"), HarnessSettings(), ResultCache(tmp_path, "code"))
