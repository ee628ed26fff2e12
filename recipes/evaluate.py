"""Evaluates models: on held-out files, on benchmarks whose programs run in a sandbox, and for safety.

python -m recipes.evaluate recipes/nano/evaluate.yaml
"""

import gc
import json
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from recipes.benchmarking import (
    EXECUTED,
    Contender,
    HarnessSettings,
    JudgeSettings,
    ModelSettings,
    ProgramSettings,
    Task,
    TaskSettings,
    ask,
    compare_answers,
    judge,
    judge_given,
    open_contender,
    prepare_task,
    read_task,
)
from recipes.held_out import (
    BitsPerByteSettings,
    InfillingSettings,
    MemorisationSettings,
    read_held_out,
    score_bits,
    score_trigram,
    take_beginnings,
)
from recipes.isolation import SandboxSettings
from recipes.stage import ROOT, Stage, Work, main

if TYPE_CHECKING:
    from codeshell_hf.evaluate.scores import Score

CODE = (
    "recipes/benchmarking.py",
    "recipes/held_out.py",
    "recipes/isolation.py",
    "src/codeshell_hf/evaluate",
    "src/codeshell_hf/sandbox",
    "src/codeshell_hf/modeling_codeshell.py",
    "src/codeshell_hf/tokenization_codeshell.py",
)
MEASURES_SHOWN = 3


class Settings(SandboxSettings):
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
    dtype: Literal["float32", "bfloat16", "float16"] = Field(default="float32", description="of weights in memory")
    attention: str | None = Field(default=None, description="as transformers names it; by default its choice")
    device_map: str | None = Field(
        default=None, description="auto spreads a model over all GPUs; by default one device"
    )
    seed: int = Field(default=0, ge=0, description="of sampling, and of the lines to fill in")


def run(settings: Settings, work: Work) -> None:
    """Runs every task on every model.

    Args:
        settings: What to run on what.
        work: Where to write.
    """
    from codeshell_hf.manifest import list_versions

    models = list_models(settings)
    check(settings, models)
    tasks = [read_task(name, task) for name, task in settings.tasks.items()]
    held_out = read_all_held_out(settings)
    results: dict[str, Any] = {"baselines": {}, "held_out": {}, "tasks": {}, "models": {}}
    if held_out is not None and settings.documents is not None:
        results["baselines"]["byte_trigram"] = score_trigram(settings.documents, held_out)
        results["held_out"] = {"documents": len(held_out["chosen"]), "bytes": held_out["bytes"]}
        work.measures["byte_trigram_bits_per_byte"] = results["baselines"]["byte_trigram"]
    with ExitStack() as opened:
        tasks = prepare_tasks(settings, tasks, opened)
        results["tasks"] = {task.name: describe_task(task) for task in tasks}
        chats: dict[str, dict[str, str]] = {}
        for name, model in models.items():
            results["models"][name] = evaluate_model(name, model, settings, held_out, tasks, chats)
            gc.collect()
    if settings.judge is not None:
        add_preferences(settings, chats, results)
    results["versions"] = list_versions()
    results["seed"] = settings.seed
    work.measures |= {name: shorten(result) for name, result in results["models"].items()}
    work.measures["table"] = list_rows(results)
    work.counts = results["held_out"]
    work.report = format_results(results)
    if settings.sweep is not None:
        draw_sweep(settings, results, work)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (work.folder / "results.json").write_text(text, encoding="utf-8", errors="replace")


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


def prepare_tasks(settings: Settings, tasks: list[Task], opened: ExitStack) -> list[Task]:
    """Opens the sandbox, if programs are run, and lets the right answers pass first.

    Args:
        settings: Which sandbox.
        tasks: All tasks.
        opened: Closes the sandbox.

    Returns:
        The tasks, those of programs with their bench.
    """
    from tqdm.auto import tqdm

    from codeshell_hf.evaluate.toolchains import list_shown

    if not any(task.profile.measure in EXECUTED for task in tasks):
        return tasks
    sandbox = opened.enter_context(settings.open_sandbox(list_shown()))
    prepared = []
    for task in tasks:
        if task.profile.measure not in EXECUTED:
            prepared.append(task)
            continue
        with tqdm(total=len(task.problems), desc=f"right answers {task.name}", unit="program", disable=None) as bar:
            prepared.append(prepare_task(task, sandbox, on_progress=bar.update))
    return prepared


def describe_task(task: Task) -> dict[str, Any]:
    """What made a task's figures, as it stands in the result.

    Args:
        task: The task.

    Returns:
        Plain values.
    """
    described: dict[str, Any] = {
        "profile": task.profile.describe(),
        "deviations": task.deviations,
        "data": {"path": task.settings.data, "hash": task.data_hash, "problems": len(task.problems)},
    }
    if task.bench is not None:
        described["sandbox"] = task.bench.sandbox.rung
        described["toolchains"] = dict(task.bench.versions)
    return described


def evaluate_model(
    name: str,
    model: ModelSettings,
    settings: Settings,
    held_out: dict[str, Any] | None,
    tasks: list[Task],
    chats: dict[str, dict[str, str]],
) -> dict[str, Any]:
    """Evaluates one model.

    Args:
        name: What it is called.
        model: Where it is.
        settings: How.
        held_out: The held-out split.
        tasks: Benchmarks.
        chats: Filled with its answers to the judge's requests.

    Returns:
        Its part of the results.
    """
    options = {"attn_implementation": settings.attention, "device_map": settings.device_map}
    contender = open_contender(
        name,
        model,
        dtype=settings.dtype,
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
    from codeshell_hf.manifest import hash_code, hash_values, write_text

    code = hash_code([ROOT / part for part in CODE])
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

    from codeshell_hf.evaluate.profiles import find_profile, pose_infilling
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


def add_preferences(settings: Settings, chats: dict[str, dict[str, str]], results: dict[str, Any]) -> None:
    """Lets the judge compare answers.

    Args:
        settings: With a judge.
        chats: Answers of every model.
        results: Filled.
    """
    if settings.judge is None:
        return
    own = TaskSettings(profile="harmful-requests-v1", data=str(settings.judge.requests))
    requests = read_task("chat", own).problems
    folder = find_kept(settings)
    folder.mkdir(parents=True, exist_ok=True)
    for name, score in compare_answers(settings.judge, chats, requests, folder / "judge.jsonl").items():
        results["models"][name]["tasks"]["preference"] = score.to_values()


def shorten(result: dict[str, Any]) -> dict[str, Any]:
    """What of a model's results goes into the manifest, the card and the page.

    Args:
        result: All of it.

    Returns:
        Without single problems and samples.
    """
    tasks = {
        name: {"measures": values["measures"], "languages": values["languages"], "counts": values["counts"]}
        for name, values in result["tasks"].items()
    }
    return {**{key: value for key, value in result.items() if key not in ("samples", "tasks")}, "tasks": tasks}


def format_results(results: dict[str, Any]) -> list[str]:
    """The tables at the end.

    Args:
        results: Of all models.

    Returns:
        Lines.
    """
    lines: list[str] = []
    if "byte_trigram" in results["baselines"]:
        lines += [
            f"{'model':<14}{'bits/byte':>10}{'95 % interval':>18}{'lines filled in':>18}",
            f"{'byte trigram':<14}{results['baselines']['byte_trigram']:>10.3f}",
        ]
        for name, result in results["models"].items():
            if "bits_per_byte" not in result:
                continue
            low, high = result["bits_per_byte_interval"]["all"]
            lines.append(
                f"{name:<14}{result['bits_per_byte']['all']:>10.3f}{f'[{low:.3f}, {high:.3f}]':>18}"
                + (f"{result['infilling']['all']['exact']} of {result['infilling']['all']['tasks']}".rjust(18)
                   if "infilling" in result else "")
            )  # fmt: skip
    return lines + format_tasks(results)


def format_tasks(results: dict[str, Any]) -> list[str]:
    """The table of benchmarks: a row a task and language, a column a model, and the report's own figure.

    Args:
        results: Of all models.

    Returns:
        Lines.
    """
    rows = list_rows(results)
    if not rows:
        return []
    names = list(results["models"])
    lines = [f"{'percent, 95 % interval':<44}" + "".join(f"{name:>22}" for name in names) + f"{'the report':>12}"]
    for row in rows:
        cells = "".join(
            f"{'-' if (cell := row['models'].get(name)) is None else format_cell(cell):>22}" for name in names
        )
        published = "" if row["published"] is None else f"{row['published']:.2f}"
        lines.append(f"{row['name']:<44}{cells}{published:>12}")
    for name, result in results["models"].items():
        for task, values in result["tasks"].items():
            for language, count in values["missing_toolchains"].items():
                lines.append(f"{name}: {count} problems of {task} in {language} were not judged: no toolchain")
    return lines


def format_cell(cell: Mapping[str, float]) -> str:
    """A figure with its interval.

    Args:
        cell: `value`, `low` and `high`, 0 to 1.

    Returns:
        In percent.
    """
    return f"{100 * cell['value']:.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


def list_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Lists the rows of the table of benchmarks.

    Args:
        results: Of all models.

    Returns:
        `name`, `models` with a measure each, and what the report `published` of CodeShell-7b.
    """
    from codeshell_hf.evaluate.published import find_published

    rows: dict[str, dict[str, Any]] = {}
    for model, result in results["models"].items():
        for task, values in result["tasks"].items():
            profile = results["tasks"].get(task, {}).get("profile", {}).get("name", task)
            several = len(values["languages"]) > 1
            for place, (name, measured) in enumerate(list(values["measures"].items())[:MEASURES_SHOWN]):
                by_language = values["languages"].items() if several and place == 0 else ()
                cells = [("", measured), *((f" {of}", own[name]) for of, own in by_language if name in own)]
                for language, cell in cells:
                    label = f"{task}{language}: {name}"
                    only = language.strip() or ("" if several else next(iter(values["languages"]), ""))
                    row = rows.setdefault(label, {"name": label, "models": {}, "published": None})
                    row["models"][model] = cell
                    if name in ("pass@1", "exact match"):
                        row["published"] = find_published(profile, only, cell["problems"])
    return list(rows.values())


def draw_sweep(settings: Settings, results: dict[str, Any], work: Work) -> None:
    """Draws every measure over the checkpoints of a run.

    Args:
        settings: With a sweep.
        results: Of all models.
        work: Where the figure goes.
    """
    from codeshell_hf.publish.figures import draw_sweep as draw
    from codeshell_hf.publish.figures import save_figure

    names = [path.name for path in sorted(settings.sweep.iterdir())] if settings.sweep else []
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for place, name in enumerate(name for name in names if name in results["models"]):
        digits = "".join(character for character in name if character.isdigit())
        step = int(digits) if digits else place
        result = results["models"][name]
        if "bits_per_byte" in result:
            low, high = result["bits_per_byte_interval"]["all"]
            curves.setdefault("bits per byte", []).append((step, result["bits_per_byte"]["all"], low, high))
        for task, values in result["tasks"].items():
            for measure, cell in list(values["measures"].items())[:1]:
                point = (step, cell["value"], cell["low"], cell["high"])
                curves.setdefault(f"{task}: {measure}", []).append(point)
    save_figure(draw(curves), work.folder / "sweep.svg")


def list_inputs(settings: Settings) -> dict[str, Path]:
    """Lists what the stage reads.

    Args:
        settings: The settings.

    Returns:
        Paths by name.
    """
    inputs = {name: path for name, path in list_models(settings).items() if isinstance(path, Path)}
    for name, model in settings.models.items():
        if isinstance(model, ProgramSettings):
            inputs |= {f"{name} {task}": path for task, path in model.programs.items()}
    if settings.sweep is not None:
        inputs["sweep"] = settings.sweep
    for name in ("documents", "shards"):
        if (path := getattr(settings, name)) is not None:
            inputs[name] = path
    for name, task in settings.tasks.items():
        if not task.data.startswith("hub:"):
            inputs[f"data of {name}"] = Path(task.data)
    if settings.harness is not None:
        inputs |= {name: path for name in ("mmlu", "gsm8k") if (path := getattr(settings.harness, name))}
    return inputs


STAGE = Stage(name="evaluate", settings=Settings, inputs=list_inputs, run=run, code=CODE)

if __name__ == "__main__":
    sys.exit(main(STAGE))
