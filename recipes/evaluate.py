"""Evaluates models: on held-out files, on benchmarks whose programs run in a sandbox, and for safety.

python -m recipes.evaluate recipes/nano/evaluate.yaml
"""

import gc
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codeshell_hf.stages.numerics import read_config, settle_precision
from codeshell_hf.stages.stage import Stage, Work, main
from recipes.benchmarking import (
    EXECUTED,
    ProgramSettings,
    Task,
    TaskSettings,
    compare_answers,
    prepare_task,
    read_task,
)
from recipes.evaluating import Settings, check, evaluate_model, find_kept, list_models, read_all_held_out
from recipes.held_out import (
    score_trigram,
)
from recipes.results import draw_sweep, format_results, list_changes, list_rows, shorten

if TYPE_CHECKING:
    pass


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
    local = [model for model in models.values() if isinstance(model, Path)]
    precision = None
    if local:
        # Kept answers are under the precision that they were made in: auto goes on with it, and asks nothing twice.
        kept = find_kept(settings) if settings.precision == "auto" else None
        precision = settle_precision(settings.precision, lambda: read_config(local[0]), work, kept=kept)
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
            results["models"][name] = evaluate_model(name, model, settings, held_out, tasks, chats, precision)
            gc.collect()
    if settings.judge is not None:
        add_preferences(settings, chats, results)
    results["versions"] = list_versions()
    results["seed"] = settings.seed
    work.measures |= {name: shorten(result) for name, result in results["models"].items()}
    results["changes"] = list_changes(results)
    work.measures["table"] = list_rows(results)
    work.counts = results["held_out"]
    work.report = format_results(results)
    if settings.sweep is not None:
        draw_sweep(settings.sweep, results, work.folder / "sweep.svg")
    text = json.dumps(results, indent=1, ensure_ascii=False)
    (work.folder / "results.json").write_text(text, encoding="utf-8", errors="replace")


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


def describe(settings: Settings) -> list[str]:
    """Says how much there is to do.

    Args:
        settings: The settings.

    Returns:
        Lines.
    """
    tasks = [read_task(name, task) for name, task in settings.tasks.items()]
    models = len(list_models(settings))
    return [
        f"{task.name}: {len(task.problems):,} problems, "
        f"{len(task.problems) * task.profile.samples * models:,} answers of {models} models under {task.profile.name}"
        for task in tasks
    ]


STAGE = Stage(name="evaluate", settings=Settings, inputs=list_inputs, run=run, describe=describe)

if __name__ == "__main__":
    sys.exit(main(STAGE))
