"""Names of what was run, and the report's results."""

import json
import re
from pathlib import Path

import pytest

from codeshell_hf.evaluate.harness import name_harness_tasks
from codeshell_hf.evaluate.problems import read_problems
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.evaluate.published import (
    EXECUTION,
    PUBLISHERS,
    TaskName,
    disambiguate_titles,
    find_reported,
    name_task,
)
from codeshell_hf.evaluate.settings import HarnessSettings, TaskSettings
from codeshell_hf.evaluate.tasks import read_task
from tests.evaluate.sets import ROOT, SHARED, SMALL, requires_shared

PUBLISHED = re.compile("humaneval|mbpp|multipl-e|mmlu|gsm8k|santacoder", re.IGNORECASE)
OURS = re.compile(r"\(in [A-Za-z0-9 -]+'s form, [\d,]+ (problems|questions)\)")


def name(key: str, profile: str, data: Path | str, **settings: int) -> TaskName:
    return read_task(key, TaskSettings.model_validate({"profile": profile, "data": str(data), **settings})).shown_name


def test_the_report_is_beside_its_own_data_and_protocol_alone() -> None:
    assert find_reported("humaneval-released-v1", "HumanEval", "py") == 34.32
    assert find_reported("humaneval-released-v1", "", "py") is None
    assert find_reported("humaneval-greedy-v1", "HumanEval", "py") is None
    assert find_reported("humaneval-released-v1", "MBPP", "py") is None
    assert find_reported("infilling-santacoder-v1", "SantaCoder FIM", "java") == 76.9
    assert find_reported("infilling-santacoder-v1", "SantaCoder FIM", "py") == 65.3
    assert len([1 for task, _ in EXECUTION if task == "MultiPL-E"]) == 11


@pytest.mark.parametrize(
    "key", ["humaneval", "HumanEval", "human_eval", "mbpp+", "MMLU", "multipl-e", "gsm-8k", "our humaneval"]
)
@pytest.mark.parametrize(
    ("profile", "file"),
    [
        ("humaneval-greedy-v1", "humaneval.jsonl"),
        ("mbpp-greedy-0shot-v1", "mbpp.jsonl"),
        ("multipl-e-greedy-v1", "multipl-e"),
        ("infilling-santacoder-v1", "infilling.jsonl"),
        ("infilling-humaneval-v1", "humaneval-infilling.jsonl"),
        ("fixing-v1", "humaneval.jsonl"),
        ("lines", "lines.jsonl"),
    ],
)
def test_other_data_never_carry_a_published_name(key: str, profile: str, file: str) -> None:
    named = name(key, "line-completion-v1" if profile == "lines" else profile, SMALL / file)

    assert (named.benchmark, named.dataset) == ("", "")
    assert not PUBLISHED.search(OURS.sub("", named.title)), named.title


def test_a_changed_test_or_prompt_is_no_longer_the_benchmark(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (SMALL / "humaneval.jsonl").read_text(encoding="utf-8").split("\n") if line]
    for row in rows:
        row["task_id"] = row["task_id"].replace(row["task_id"].partition("/")[0], "HumanEval")
    (tmp_path / "HumanEval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    assert name("humaneval", "humaneval-greedy-v1", tmp_path / "HumanEval.jsonl").benchmark == ""


def test_data_from_a_publisher_carry_its_name() -> None:
    problems = read_problems(SMALL / "humaneval.jsonl", PROFILES["humaneval-greedy-v1"].read)
    hub = "hub:openai/openai_humaneval@7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544/openai_humaneval/test.parquet"
    other = "hub:someone/openai_humaneval@7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544/test.parquet"

    def ask(data: str, used: int = 8) -> TaskName:
        return name_task("humaneval", data=data, problems=problems, used=used, form="HumanEval", own="functions")

    assert ask(hub) == TaskName("HumanEval", "HumanEval", "openai/openai_humaneval")
    assert ask(hub, 3) == TaskName("HumanEval (3 of 8 problems)", "", "openai/openai_humaneval")
    assert ask(other).title == "functions (in HumanEval's form, 8 problems)"


def test_two_tasks_on_the_same_data_have_two_titles() -> None:
    names = disambiguate_titles(
        {"humaneval": TaskName("HumanEval"), "HumanEval": TaskName("HumanEval"), "b": TaskName("b")}
    )

    assert [named.title for named in names.values()] == ["HumanEval [humaneval]", "HumanEval [HumanEval]", "b"]


def test_the_harness_names_our_questions_as_ours() -> None:
    names = name_harness_tasks(HarnessSettings(mmlu=SMALL / "mmlu", gsm8k=SMALL / "gsm8k" / "test.jsonl", max_items=3))

    assert {key: named.title for key, named in names.items()} == {
        "mmlu": "choices (in MMLU's form, 6 questions)",
        "gsm8k": "word problems (in GSM8K's form, 3 problems)",
    }


def test_no_recipe_of_ours_names_our_data_after_a_benchmark() -> None:
    for path in sorted((ROOT / "recipes").glob("nano*/evaluate.yaml")):
        keys = re.findall(r"^  ([^:#]+): \{profile", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert keys, path
        assert not [key for key in keys if PUBLISHED.search(key)], path


def test_publishers_are_repositories() -> None:
    assert all(re.fullmatch(r"[\w.-]+/[\w.-]+", place) for places in PUBLISHERS.values() for place in places)


@requires_shared
@pytest.mark.parametrize(
    ("key", "profile", "path", "title"),
    [
        ("humaneval", "humaneval-released-v1", "humaneval/HumanEval.jsonl.gz", "HumanEval"),
        ("humaneval at 0.8", "humaneval-pass10-v1", "humaneval/HumanEval.jsonl.gz", "HumanEval at 0.8"),
        ("functions", "humaneval-released-v1", "humaneval/HumanEval.jsonl.gz", "HumanEval functions"),
        ("fixing", "fixing-v1", "humaneval/HumanEval.jsonl.gz", "fixing (on HumanEval, 164 problems)"),
        ("mbpp", "mbpp-released-0shot-v1", "mbpp/mbpp.jsonl", "MBPP"),
        ("mbpp 3 shots", "mbpp-austin-3shot-v1", "mbpp/mbpp.jsonl", "MBPP 3 shots"),
        ("multipl-e", "multipl-e-released-v1", "multipl_e", "MultiPL-E"),
        ("infilling", "infilling-santacoder-v1", "fim_santacoder/train.parquet", "SantaCoder FIM infilling"),
        (
            "x", "infilling-humaneval-v1", "humaneval_infilling/HumanEval-SingleLineInfilling.jsonl.gz",
            "HumanEval-Infilling single lines x",
        ),
    ],
)  # fmt: skip
def test_published_data_are_known_by_their_content(key: str, profile: str, path: str, title: str) -> None:
    assert name(key, profile, SHARED / path).title == title
    part = name(key, profile, SHARED / path, max_problems=20)
    assert part.benchmark == ""
    assert " of " in part.title or key == "fixing"


@requires_shared
def test_published_questions_are_known_by_their_content() -> None:
    settings = HarnessSettings(mmlu=SHARED / "mmlu", gsm8k=SHARED / "gsm8k" / "test.jsonl")

    titles = {key: named.title for key, named in name_harness_tasks(settings).items()}

    assert titles == {"mmlu": "MMLU (4 of 57 subjects, 412 questions)", "gsm8k": "GSM8K"}
