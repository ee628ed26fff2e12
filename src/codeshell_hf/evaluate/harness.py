"""MMLU and GSM8K in lm-evaluation-harness, from local files."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ..errors import DataError
from .models import EvaluatedModel
from .problems import Row
from .results import ResultCache
from .scores import Score, measure
from .settings import HarnessSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LETTERS = ("A", "B", "C", "D")
MMLU_FIELDS = ("question", "choice0", "choice1", "choice2", "choice3", "answer")
SHOTS = 5
TaskConfig = dict[str, object]


def make_mmlu_tasks(folder: Path) -> dict[str, TaskConfig]:
    """MMLU's tasks for the harness, one per subject: likelihood of the letters, the first five shots.

    Args:
        folder: Contains `test/SUBJECT_test.csv`, and `dev/SUBJECT_dev.csv` for the shots.

    Raises:
        DataError: If a file or a column is missing.

    Source:
        Hendrycks et al. 2020, arXiv:2009.03300; prompts and shots as in the harness' own `mmlu`.
    """
    tasks = {}
    for test in sorted((folder / "test").glob("*_test.csv")):
        subject = test.stem.removesuffix("_test")
        dev = folder / "dev" / f"{subject}_dev.csv"
        for file in (test, dev):
            header = file.open(encoding="utf-8").readline().strip().split(",") if file.exists() else []
            if missing := [name for name in MMLU_FIELDS if name not in header]:
                raise DataError(f"{file} has no column {missing[0]!r}; give {', '.join(MMLU_FIELDS)} in a first line")
        tasks[f"local_mmlu_{subject}"] = {
            "dataset_path": "csv",
            "dataset_kwargs": {"data_files": {"test": str(test.resolve()), "dev": str(dev.resolve())}},
            "test_split": "test",
            "fewshot_split": "dev",
            "fewshot_config": {"sampler": "first_n"},
            "num_fewshot": SHOTS,
            "output_type": "multiple_choice",
            "description": f"The following are multiple choice questions (with answers) about "
            f"{subject.replace('_', ' ')}.\n\n",
            "doc_to_text": "{{question.strip()}}\n"
            + "".join(f"{letter}. {{{{choice{number}}}}}\n" for number, letter in enumerate(LETTERS))
            + "Answer:",
            "doc_to_choice": list(LETTERS),
            "doc_to_target": "answer",
            "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        }
    if not tasks:
        raise DataError(f"{folder}/test holds no SUBJECT_test.csv; name a folder of MMLU with test/ and dev/")
    return tasks


def make_gsm8k_tasks(path: Path) -> dict[str, TaskConfig]:
    """GSM8K's task for the harness: five shots; the number after `####`, and the last number anywhere.

    Args:
        path: The test split, with `question` and `answer`. Shots are from `train.jsonl` beside it, or else from the
            test's other questions.

    Raises:
        DataError: If the file is missing.

    Source:
        Cobbe et al. 2021, arXiv:2110.14168; prompts and filters as in the harness' own `gsm8k`.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; name GSM8K's test.jsonl")
    files = {"test": str(path.resolve())}
    train = path.with_name("train.jsonl")
    if train.exists():
        files["train"] = str(train.resolve())
    number = r"(\-?[0-9\.\,]+)"
    first = {"function": "take_first"}
    return {
        "local_gsm8k": {
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": files},
            "test_split": "test",
            "fewshot_split": "train" if train.exists() else "test",
            "num_fewshot": SHOTS,
            "output_type": "generate_until",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": ["Question:", "\n\n"], "do_sample": False, "max_gen_toks": 256},
            "metric_list": [
                {
                    "metric": "exact_match",
                    "aggregation": "mean",
                    "higher_is_better": True,
                    "ignore_case": True,
                    "regexes_to_ignore": [",", r"\$", r"(?s).*#### ", r"\.$"],
                }
            ],
            "filter_list": [
                {
                    "name": "strict-match",
                    "filter": [{"function": "regex", "regex_pattern": rf"#### {number}"}, first],
                },
                {
                    "name": "flexible-extract",
                    "filter": [
                        {
                            "function": "regex",
                            "group_select": -1,
                            "regex_pattern": r"(-?[$0-9.,]{2,})|(-?[0-9]+)",
                        },
                        first,
                    ],
                },
            ],
        }
    }


def score_harness(model: EvaluatedModel, settings: HarnessSettings, cache: ResultCache) -> dict[str, Score]:
    """Runs the benchmarks that have files, or reads an earlier run's scores."""
    tasks = make_mmlu_tasks(settings.mmlu) if settings.mmlu else {}
    tasks |= make_gsm8k_tasks(settings.gsm8k) if settings.gsm8k else {}
    if model.model is None or model.tokenizer is None:
        raise ValueError(f"{model.name} is not in memory")
    weights, tokenizer = model.model, model.tokenizer

    def compute() -> dict[str, object]:
        scores = run_harness(weights, tokenizer, tasks, batch_size=model.batch_size, max_items=settings.max_items)
        return {name: score.to_values() for name, score in scores.items()}

    values = cache.compute(f"harness-{model.name}", [model.identity, tasks, settings.max_items], compute)
    return {name: Score.from_values(own) for name, own in values.items()}


def run_harness(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    tasks: Mapping[str, TaskConfig],
    *,
    batch_size: int,
    max_items: int | None,
) -> dict[str, Score]:
    """Runs "mmlu", over all questions and by subject, and "gsm8k" in the harness, on a model in memory.

    Raises:
        DataError: If the harness is not installed.
    """
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise DataError(f"lm-eval is missing ({error.name}); pip install 'codeshell-hf[harness]'") from error
    for name in ("lm_eval", "lm-eval", "evaluate", "absl"):
        logging.getLogger(name).setLevel(logging.ERROR)
    limit = int(getattr(model.config, "n_positions", None) or model.config.max_position_embeddings)
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        for name, values in tasks.items():
            config = {"task": name, **values}
            if isinstance(
                generation := values.get("generation_kwargs"), dict
            ):  # the harness reserves room for the prompt
                longest = min(generation["max_gen_toks"], limit // 2)
                config["generation_kwargs"] = {**generation, "max_gen_toks": longest}
            text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
            (Path(folder) / f"{name}.yaml").write_text(text, encoding="utf-8")
        answered = simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            tasks=list(tasks),
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            limit=max_items,
            bootstrap_iters=0,
            log_samples=True,
            random_seed=0,
            numpy_random_seed=0,
            torch_random_seed=0,
            fewshot_random_seed=0,
        )
    scores = collect_scores(answered)
    for name, score in scores.items():
        # The harness silently truncates long prompts from the left; here they are counted.
        rows = [row for task, rows in answered["samples"].items() if name in task for row in rows]
        prompts = {row["doc_id"]: row["arguments"][0][0] for row in rows if row["arguments"]}
        score.counts["prompts cut"] = sum(len(tokenizer(text)["input_ids"]) > limit for text in prompts.values())
    return scores


def collect_scores(answered: Row) -> dict[str, Score]:
    """Converts the harness' results into scores."""
    scores: dict[str, Score] = {}
    questions: list[float] = []
    for name, rows in answered["samples"].items():
        if name.startswith("local_mmlu_"):
            values = [float(row["acc"]) for row in rows]
            questions += values
            subject = name.removeprefix("local_mmlu_")
            scores.setdefault("mmlu", Score()).languages[subject] = {"accuracy": measure(values)}
        else:
            score = scores.setdefault("gsm8k", Score())
            for way in ("strict-match", "flexible-extract"):
                values = [float(row["exact_match"]) for row in rows if row["filter"] == way]
                score.measures[way] = measure(values)
                score.counts = {"problems": len(values)}
            score.samples = [{"question": row["doc"]["question"], "written": row["resps"][0][0]} for row in rows[:3]]
    if questions:
        scores["mmlu"].measures["accuracy"] = measure(questions)
        scores["mmlu"].counts = {"problems": len(questions)}
        scores["mmlu"].notes["accuracy"] = "over questions, so subjects count by their number of questions"
    versions = {key: str(answered["versions"][key]) for key in answered.get("versions", {})}
    for score in scores.values():
        score.notes["harness"] = f"lm-evaluation-harness {read_version()}, {SHOTS} shots, {len(versions)} tasks"
    return scores


def read_version() -> str:
    """The harness' version."""
    from importlib.metadata import version

    return version("lm-eval")
