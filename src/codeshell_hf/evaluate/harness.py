"""MMLU and GSM8K in lm-evaluation-harness, from local files."""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ..errors import DataError
from .models import EvaluatedModel
from .problems import Row, read_rows
from .published import PUBLISHERS, TaskName, digest_rows, find_by_digests
from .results import ResultCache
from .scores import Score, measure
from .settings import HarnessSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

LETTERS = ("A", "B", "C", "D")
MMLU_FIELDS = ("question", "choice0", "choice1", "choice2", "choice3", "answer")
SHOTS = 5
GSM8K_LANGUAGE = "en"
SUBJECTS = 57  # of MMLU
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


def list_questions(settings: HarnessSettings) -> dict[str, dict[str, list[str]]]:
    """The texts of each question, by the harness' benchmark and by subject and number, as in the scores' rows."""
    questions: dict[str, dict[str, list[str]]] = {}
    if settings.mmlu is not None:
        for subject, rows in _read_mmlu(settings.mmlu).items():
            for number, row in enumerate(rows[: settings.max_items]):
                questions.setdefault("mmlu", {})[f"{subject}/{number}"] = [" ".join(row[:-1])]
    if settings.gsm8k is not None:
        rows = _read_gsm8k(settings.gsm8k)[: settings.max_items]
        questions["gsm8k"] = {f"{GSM8K_LANGUAGE}/{number}": row for number, row in enumerate(rows)}
    return questions


def name_harness_tasks(settings: HarnessSettings) -> dict[str, TaskName]:
    """What the harness' benchmarks are called: by their published names only if the questions are theirs."""
    names: dict[str, TaskName] = {}
    if settings.mmlu is not None:
        subjects = _read_mmlu(settings.mmlu)
        used = sum(len(rows[: settings.max_items]) for rows in subjects.values())
        if find_by_digests([digest_rows(rows) for rows in subjects.values()]) == "MMLU":
            is_whole = len(subjects) == SUBJECTS and settings.max_items is None
            part = "" if is_whole else f" ({len(subjects)} of {SUBJECTS} subjects, {used:,} questions)"
            names["mmlu"] = TaskName(f"MMLU{part}", "MMLU" if is_whole else "", PUBLISHERS["MMLU"][0])
        else:
            names["mmlu"] = TaskName(f"choices (in MMLU's form, {used:,} questions)")
    if settings.gsm8k is not None:
        rows = _read_gsm8k(settings.gsm8k)
        used = len(rows[: settings.max_items])
        if find_by_digests([digest_rows(rows)]) == "GSM8K":
            part = "" if used == len(rows) else f" ({used:,} of {len(rows):,} problems)"
            names["gsm8k"] = TaskName(f"GSM8K{part}", "" if part else "GSM8K", PUBLISHERS["GSM8K"][0])
        else:
            names["gsm8k"] = TaskName(f"word problems (in GSM8K's form, {used:,} problems)")
    return names


def _read_mmlu(folder: Path) -> dict[str, list[list[str]]]:
    files = sorted((folder / "test").glob("*_test.csv"))
    return {
        file.stem.removesuffix("_test"): [
            [str(row.get(name) or "").strip() for name in MMLU_FIELDS] for _, row in read_rows(file)
        ]
        for file in files
    }


def _read_gsm8k(path: Path) -> list[list[str]]:
    return [[str(row.get(name) or "").strip() for name in ("question", "answer")] for _, row in read_rows(path)]


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
    scores = {name: Score.from_values(own) for name, own in values.items()}
    for name, shown_name in name_harness_tasks(settings).items():
        scores[name].shown_name = shown_name
    return scores


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
            score = scores.setdefault("mmlu", Score())
            score.languages[subject] = {"accuracy": measure(values)}
            score.problems += [
                {"id": str(row["doc_id"]), "language": subject, "samples": 1, "right": float(row["acc"])}
                for row in rows
            ]
        else:
            score = scores.setdefault("gsm8k", Score())
            for way in ("strict-match", "flexible-extract"):
                values = [float(row["exact_match"]) for row in rows if row["filter"] == way]
                score.measures[way] = measure(values)
                score.counts = {"problems": len(values)}
                if way == "strict-match":
                    score.problems = [
                        {"id": str(row["doc_id"]), "language": GSM8K_LANGUAGE, "samples": 1, "right": value}
                        for row, value in zip((row for row in rows if row["filter"] == way), values, strict=True)
                    ]
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
