"""What evaluation is made of besides its order: settings, and what is measured on one model."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from codeshell_hf.sandbox.settings import SandboxSettings
from codeshell_hf.stages.numerics import PrecisionSettings
from codeshell_hf.stages.stage import StageSettings
from recipes.benchmarking import (
    Contender,
    HarnessSettings,
    JudgeSettings,
    ModelSettings,
    ProgramSettings,
    Task,
    TaskSettings,
    ask,
    judge,
    judge_given,
    open_contender,
    read_task,
)
from recipes.held_out import (
    BitsPerByteSettings,
    InfillingSettings,
    MemorisationSettings,
    read_held_out,
    score_bits,
    take_beginnings,
)

if TYPE_CHECKING:
    from codeshell_hf.evaluate.scores import Score
    from codeshell_hf.precision import Precision


class Settings(StageSettings, SandboxSettings, PrecisionSettings):
    """Settings of evaluation."""

    models: dict[str, ModelSettings] = Field(default_factory=dict, description="folders, servers or programs, by name")
    sweep: Path | None = Field(default=None, description="folder with a model in each of its folders, such as exports")
    documents: Path | None = Field(default=None, description="output of curate")
    shards: Path | None = Field(default=None, description="output of pack, with a held-out split")
    bits_per_byte: BitsPerByteSettings | None = Field(default=None, description="bits per byte")
    infilling: InfillingSettings | None = Field(default=None, description="lines of held-out files to fill in")
    memorisation: MemorisationSettings | None = Field(default=None, description="training files known by heart")
    tasks: dict[str, TaskSettings] = Field(default_factory=dict, description="benchmarks by name")
    harness: HarnessSettings | None = Field(default=None, description="MMLU and GSM8K by lm-evaluation-harness")
    judge: JudgeSettings | None = Field(default=None, description="a model that prefers one of two answers")
    kept: Path | None = Field(default=None, description="folder that keeps what models wrote; by default OUTPUT.kept")
    batch_size: int = Field(default=32, gt=0, description="answers at a time")
    attention: str | None = Field(default=None, description="as transformers names it; by default its choice")
    device_map: str | None = Field(
        default=None, description="auto spreads a model over all GPUs; by default one device"
    )
    seed: int = Field(default=0, ge=0, description="of sampling, and of the lines to fill in")


def list_models(settings: Settings) -> dict[str, ModelSettings]:
    """Lists what is evaluated.

    Args:
        settings: With models, and perhaps a folder of them.

    Returns:
        By name, those of a sweep in the order of their names.
    """
    found: dict[str, ModelSettings] = dict(settings.models)
    if settings.sweep is not None and settings.sweep.is_dir():
        found |= {path.name: path for path in sorted(settings.sweep.iterdir()) if (path / "config.json").exists()}
    return found


def check(settings: Settings, models: Mapping[str, ModelSettings]) -> None:
    """Checks what can be told before anything is loaded.

    Args:
        settings: The settings.
        models: What is evaluated.

    Raises:
        SettingsError: If something contradicts something else.
    """
    from codeshell_hf.errors import SettingsError

    if not models:
        raise SettingsError(f"there is no model to evaluate in {settings.sweep or 'models'}; name one under models")
    for name, needs in (
        ("bits_per_byte", (settings.documents, settings.shards)),
        ("infilling", (settings.documents, settings.shards)),
        ("memorisation", (settings.documents,)),
    ):
        if getattr(settings, name) is not None and None in needs:
            raise SettingsError(f"{name} is set, but documents or shards is not; name the outputs of curate and pack")
    if settings.infilling is not None and settings.bits_per_byte is None:
        raise SettingsError("infilling is set, but bits_per_byte is not; both read the held-out split: set both")
    for name, model in models.items():
        if isinstance(model, ProgramSettings) and (unknown := sorted(set(model.programs) - set(settings.tasks))):
            raise SettingsError(f"models.{name} has programs of {unknown[0]!r}, which is not among tasks; add it there")
    if settings.judge is not None and settings.judge.against not in models:
        raise SettingsError(
            f"judge.against is {settings.judge.against!r}, but the models are {', '.join(models)}; name one of them"
        )


def read_all_held_out(settings: Settings) -> dict[str, Any] | None:
    """Reads the held-out split, if something is measured on it.

    Args:
        settings: The settings.

    Returns:
        As `read_held_out`, with the lines to fill in.
    """
    from codeshell_hf.evaluate.infilling import take_lines

    if settings.documents is None or settings.shards is None or settings.bits_per_byte is None:
        return None
    held_out = read_held_out(
        settings.documents, settings.shards, max_bytes_per_language=settings.bits_per_byte.max_bytes_per_language
    )
    if settings.infilling is not None:
        held_out["lines"] = take_lines(
            held_out["rows"], per_language=settings.infilling.per_language, seed=settings.seed
        )
    return held_out


def evaluate_model(
    name: str,
    model: ModelSettings,
    settings: Settings,
    held_out: dict[str, Any] | None,
    tasks: list[Task],
    chats: dict[str, dict[str, str]],
    precision: "Precision | None",
) -> dict[str, Any]:
    """Evaluates one model.

    Args:
        name: What it is called.
        model: Where it is.
        settings: How.
        held_out: The held-out split.
        tasks: Benchmarks.
        chats: Filled with its answers to the judge's requests.
        precision: Of weights in memory; `None` where no model is loaded.

    Returns:
        Its part of the results.
    """
    options = {"attn_implementation": settings.attention, "device_map": settings.device_map}
    contender = open_contender(
        name,
        model,
        dtype=precision.arithmetic if precision else "auto",
        batch_size=settings.batch_size,
        options={key: value for key, value in options.items() if value is not None},
    )
    result: dict[str, Any] = {
        "made_by": {**contender.identity, **contender.details, "batch_size": settings.batch_size}, "tasks": {},
    }  # fmt: skip
    if contender.model is not None and held_out is not None and settings.bits_per_byte is not None:
        window = settings.bits_per_byte.window_tokens
        origin = [contender.identity, window, held_out["chosen"], held_out["shards"].header]
        result |= remember(
            settings, f"bits-{name}", origin, lambda: score_bits(contender.model, held_out, window_tokens=window)
        )
    if contender.generator is not None and held_out is not None and settings.infilling is not None:
        result |= fill_in(contender, held_out["lines"], settings)
    for task in tasks:
        if (score := run_task(contender, task, settings)) is not None:
            result["tasks"][task.name] = score.to_values()
    if settings.memorisation is not None and settings.documents is not None and contender.generator is not None:
        result["tasks"]["memorisation"] = recite(contender, settings).to_values()
    if settings.harness is not None and contender.model is not None:
        result["tasks"] |= run_in_harness(contender, settings)
    if settings.judge is not None and contender.generator is not None:
        chats[name] = chat(contender, settings)
    return result


def remember(settings: Settings, name: str, origin: Any, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Computes something unless it was computed before from the same.

    Args:
        settings: Where it is kept.
        name: To find it by.
        origin: What it depends on, besides the code.
        compute: Computes it.

    Returns:
        It.
    """
    from codeshell_hf.dependencies import hash_code
    from codeshell_hf.manifest import hash_values, write_text

    code = hash_code(Path(__file__))
    folder = find_kept(settings)
    path = folder / f"{name}-{hash_values([code, json.loads(json.dumps(origin, default=str))])[:12]}.json"
    if path.exists():
        return dict(json.loads(path.read_text(encoding="utf-8")))
    value = compute()
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(value, ensure_ascii=False))
    return value


def find_kept(settings: Settings) -> Path:
    """Finds where answers are kept from run to run.

    Args:
        settings: The settings.

    Returns:
        A folder.
    """
    return settings.kept or settings.output.with_name(f"{settings.output.name}.kept")


def fill_in(contender: Contender, lines: list[Any], settings: Settings) -> dict[str, Any]:
    """Lets a model fill in lines of held-out files.

    Args:
        contender: The model.
        lines: The lines.
        settings: How long a prompt may be.

    Returns:
        Exact matches by language, and samples.
    """
    from codeshell_hf.evaluate.infilling import find_line, score_lines, show_lines

    task = make_own_task("infilling", "held-out-lines-v1", lines, settings)
    answers = answer(contender, task, settings)
    written = {key: find_line(found[0].text) for key, found in answers.items()}
    return {"infilling": score_lines(lines, written), "samples": show_lines(lines, written)}


def make_own_task(name: str, profile: str, problems: list[Any], settings: Settings) -> Task:
    """Makes a task of what this run has taken out of its own files.

    Args:
        name: What it is called.
        profile: How it is posed.
        problems: What is asked.
        settings: How long a prompt to fill in may be.

    Returns:
        The task.
    """
    from dataclasses import replace

    from codeshell_hf.evaluate.posing import pose_infilling
    from codeshell_hf.evaluate.profiles import find_profile
    from codeshell_hf.manifest import hash_values

    found = find_profile(profile)
    longest = settings.infilling.max_prompt_tokens if settings.infilling else None
    if found.measure == "held-out lines":
        found = replace(found, pose=lambda problem, shown: replace(pose_infilling(problem, shown), max_tokens=longest))
    asked = [[problem.key, problem.prompt, problem.suffix, problem.reference] for problem in problems]
    own = TaskSettings(profile=profile, data=str(settings.documents))
    return Task(name, own, found, problems, [], hash_values([asked, longest]), {})


def answer(contender: Contender, task: Task, settings: Settings) -> dict[str, Any]:
    """Lets a model answer, with a bar.

    Args:
        contender: The model.
        task: What it is asked.
        settings: Seed, and where answers are kept.

    Returns:
        Answers by problem.
    """
    from tqdm.auto import tqdm

    with tqdm(total=len(task.problems), desc=f"{task.name} {contender.name}", unit="problem", disable=None) as bar:
        return ask(contender, task, find_kept(settings), seed=settings.seed, on_progress=bar.update)


def run_task(contender: Contender, task: Task, settings: Settings) -> "Score | None":
    """Lets a model answer a benchmark and judges the answers.

    Args:
        contender: The model.
        task: The benchmark.
        settings: The settings.

    Returns:
        The result; `None` where programs are given and none for this task.
    """
    import logging

    from tqdm.auto import tqdm

    from codeshell_hf.evaluate.scores import Score, read_score

    if isinstance(contender.settings, ProgramSettings):
        path = contender.settings.programs.get(task.name)
        return judge_given(task, path) if path is not None else None
    answers = answer(contender, task, settings)
    origin = [contender.identity, task.profile.describe(), task.data_hash, task.settings.strict, settings.seed]
    if task.bench is not None:
        origin += [dict(task.bench.versions), task.bench.sandbox.rung]
    total = sum(len(found) for found in answers.values())

    def judge_all() -> dict[str, Any]:
        with tqdm(total=total, desc=f"judging {task.name} {contender.name}", unit="answer", disable=None) as bar:
            return judge(task, answers, on_progress=bar.update).to_values()

    values = remember(settings, f"score-{task.name}-{contender.name}", [origin, len(task.problems)], judge_all)
    score: Score = read_score(values)
    if too_long := score.counts.get("prompt too long"):
        logging.getLogger(__name__).warning(
            "%s: %d of %d answers to %s have no room behind their prompt, and count as wrong",
            contender.name, too_long, total, task.name,
        )  # fmt: skip
    return score


def recite(contender: Contender, settings: Settings) -> "Score":
    """Measures what a model knows by heart.

    Args:
        contender: The model.
        settings: How many files.

    Returns:
        The result.
    """
    if settings.documents is None or settings.memorisation is None:
        raise ValueError("documents or memorisation is not set")
    problems = take_beginnings(settings.documents, settings.memorisation)
    task = make_own_task("memorisation", "memorisation-v1", problems, settings)
    return judge(task, answer(contender, task, settings))


def run_in_harness(contender: Contender, settings: Settings) -> dict[str, Any]:
    """Runs MMLU and GSM8K.

    Args:
        contender: A model in memory.
        settings: Where their files lie.

    Returns:
        Results by task.
    """
    from codeshell_hf.evaluate.harness import make_gsm8k_tasks, make_mmlu_tasks, run_harness

    given = settings.harness or HarnessSettings()
    tasks = make_mmlu_tasks(given.mmlu) if given.mmlu else {}
    tasks |= make_gsm8k_tasks(given.gsm8k) if given.gsm8k else {}

    def compute() -> dict[str, Any]:
        scores = run_harness(
            contender.model, contender.tokenizer, tasks, batch_size=settings.batch_size, max_items=given.max_items
        )
        return {name: score.to_values() for name, score in scores.items()}

    return remember(settings, f"harness-{contender.name}", [contender.identity, tasks, given.max_items], compute)


def chat(contender: Contender, settings: Settings) -> dict[str, str]:
    """Lets a model answer the judge's requests.

    Args:
        contender: The model.
        settings: With a judge.

    Returns:
        Answers by request.
    """
    given = settings.judge
    if given is None:
        return {}
    own = TaskSettings(profile="harmful-requests-v1", data=str(given.requests), max_new_tokens=given.max_new_tokens)
    answers = answer(contender, read_task("chat", own), settings)
    return {key: found[0].text for key, found in answers.items()}
