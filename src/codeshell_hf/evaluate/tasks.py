"""Takes a benchmark from its file to a score: reads, checks, answers and scores it."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from pathlib import Path

from tqdm.auto import tqdm

from ..errors import SettingsError
from ..manifest import hash_file, hash_values
from ..sandbox import Program, Sandbox
from ..text.sampling import Sampling
from .completions import CompletionFile, read_programs
from .cross_file import score_calls, score_next_lines, score_statements
from .execution import Executor, OnProgress, open_executor, score_programs
from .generation import Completion, Question
from .memorisation import score_memorisation
from .models import EvaluatedModel
from .mutation import add_mutants, spread_faults
from .problems import Problem, find_data, read_problems
from .profiles import find_profile
from .prompts import Prompt, prompt_infilling
from .protocol import Profile
from .published import TaskName, name_task
from .results import ResultCache
from .safety import score_requests, score_security
from .scores import Score, count_ends, score_texts
from .settings import TaskSettings
from .suites import add_lines, score_assertions, score_suites
from .toolchains import list_shown

logger = logging.getLogger(__name__)
MUTANTS_PER_PROBLEM, MUTANTS_PER_SUITE = 5, 20
# How the measures of completions are computed.
BY_TEXT = {"next line": score_next_lines, "statement": score_statements, "syntax match": score_calls}


@dataclass(frozen=True)
class Task:
    """A benchmark whose data were read.

    Args:
        profile: The protocol, with the changes of the settings.
        shots: Worked examples.
        data: The file of the problems.
        deviations: What the settings change in the profile.
        is_strict: Whether Python tests run in another process than the program.
        executor: Runs programs; set once the reference solutions have passed.
        shown_name: What it is called in results.
        touched: Keys of the problems that touch the training data; `None` if these are not known.
        packages: Folder of packages that programs may import.
    """

    name: str
    profile: Profile
    problems: Sequence[Problem]
    data: str
    data_hash: str
    shots: Sequence[Problem] = ()
    deviations: Mapping[str, object] = field(default_factory=dict)
    is_strict: bool = Program.strict
    executor: Executor | None = None
    shown_name: TaskName = field(default_factory=TaskName)
    touched: frozenset[str] | None = None
    packages: Path | None = None

    @property
    def title(self) -> str:
        """What it is called in tables."""
        return self.shown_name.title or self.name

    @property
    def runs_programs(self) -> bool:
        """Whether answers are programs, or tests of programs."""
        return self.profile.measure in ("execution", "tests", "suites")

    @property
    def asks_in_chats(self) -> bool:
        """Whether its prompts are chats."""
        return self.profile.make_prompt(self.problems[0], self.shots).is_chat

    def describe(self) -> dict[str, object]:
        """What produced the task's results, as plain values."""
        described: dict[str, object] = {
            "title": self.title,
            "benchmark": self.shown_name.benchmark or None,
            "profile": self.profile.describe(),
            "deviations": self.deviations,
            "data": {"path": self.data, "hash": self.data_hash, "problems": len(self.problems)},
        }
        if self.executor is not None:
            described["sandbox"] = self.executor.sandbox.backend
            described["toolchains"] = dict(self.executor.versions)
        if self.packages is not None:
            described["packages"] = list_packages(self.packages)
        return described

    def describe_size(self, models: int) -> str:
        """A line on the size of the task, for `--dry-run`."""
        answers = len(self.problems) * self.profile.samples * models
        return (
            f"{self.title}: {len(self.problems):,} problems, {answers:,} answers of {models} models under "
            f"{self.profile.name}"
        )


def read_task(name: str, settings: TaskSettings) -> Task:
    """Reads a benchmark's data and applies the settings to its profile."""
    profile = find_profile(settings.profile)
    path = find_data(settings.data)
    problems, shots = profile.choose(read_problems(path, profile.read))
    everything = problems
    deviations: dict[str, object] = {}
    window = describe_window(settings.since, settings.until)
    if window:
        problems = choose_dates(problems, settings.since, settings.until, path)
        deviations["dates"] = window
    if settings.max_problems is not None:
        by_language: dict[str, list[Problem]] = {}
        for problem in problems:
            by_language.setdefault(problem.language, []).append(problem)
        fewer = [problem for own in by_language.values() for problem in own[: settings.max_problems]]
        if len(fewer) < len(problems):
            deviations["problems"] = f"the first {settings.max_problems} of each language"
        problems = fewer
    for key in ("samples", "max_new_tokens", "timeout_s"):
        value = getattr(settings, key)
        if value is not None and value != getattr(profile, key):
            deviations[key] = value
            profile = replace(profile, **{key: value})
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    data_hash = hash_values([hash_file(file) for file in files])
    form, own = profile.form
    shown_name = name_task(
        name, data=settings.data, problems=everything, used=len(problems), form=form, own=own,
        is_own_measure=profile.is_own_measure,
    )  # fmt: skip
    if window:
        shown_name = replace(shown_name, title=f"{shown_name.title}, {window}")
    if profile.needs_packages and settings.packages is None:
        raise SettingsError(
            f"tasks.{name} runs programs that import packages, but packages is not set; name the site-packages of an "
            "environment with those that the benchmark lists"
        )
    return Task(
        name, profile, problems, settings.data, data_hash, shots, deviations, settings.strict,
        shown_name=shown_name, packages=settings.packages,
    )  # fmt: skip


def list_packages(folder: Path) -> list[str]:
    """Names and versions of the packages that are installed in a folder."""
    return sorted(path.name.removesuffix(".dist-info") for path in folder.glob("*.dist-info"))


def describe_window(since: date | None, until: date | None) -> str:
    """Days from and to which problems are taken; empty if all are.

    >>> describe_window(date(2024, 8, 1), None)
    'since 2024-08-01'
    """
    parts = [f"since {since}" if since else "", f"until {until}" if until else ""]
    return " ".join(part for part in parts if part)


def choose_dates(problems: Sequence[Problem], since: date | None, until: date | None, path: Path) -> list[Problem]:
    """The problems of a window of dates, both ends included.

    Raises:
        SettingsError: If a problem has no date, or none is in the window.
    """
    dates: dict[str, date] = {}
    for problem in problems:
        try:
            dates[problem.key] = date.fromisoformat(str(problem.notes.get("date", "")))
        except ValueError as error:
            raise SettingsError(
                f"{path} has no date of {problem.id}, so since and until cannot choose; leave them out"
            ) from error
    chosen = [
        problem
        for problem in problems
        if (since is None or dates[problem.key] >= since) and (until is None or dates[problem.key] <= until)
    ]
    if not chosen:
        first, last = min(dates.values()), max(dates.values())
        raise SettingsError(f"{path} has no problem {describe_window(since, until)}; its dates are {first} to {last}")
    return chosen


def make_task(
    name: str, profile: str, problems: Sequence[Problem], data: str, *, max_prompt_tokens: int | None = None
) -> Task:
    """Makes a task from problems of the run's own files; infilling prompts are cut to `max_prompt_tokens`."""
    found = find_profile(profile)
    if max_prompt_tokens is not None:

        def prompt_in_limit(problem: Problem, shots: Sequence[Problem]) -> Prompt:
            return replace(prompt_infilling(problem, shots), max_tokens=max_prompt_tokens)

        found = replace(found, make_prompt=prompt_in_limit)
    asked = [[problem.key, problem.prompt, problem.suffix, problem.reference] for problem in problems]
    return Task(name, found, problems, data, hash_values([asked, max_prompt_tokens]))


def check_task(task: Task, sandbox: Sandbox) -> Task:
    """Runs the reference solutions of a task, and makes faulty programs for the profiles that need them.

    Returns:
        The task, ready to score programs; unchanged if it runs none.

    Raises:
        RunFailed: If a reference solution does not pass.
    """
    if not task.runs_programs:
        return task
    with tqdm(total=len(task.problems), desc=f"reference solutions {task.name}", unit="program", disable=None) as bar:
        executor = open_executor(
            task.profile, task.problems, sandbox, strict=task.is_strict,
            packages="" if task.packages is None else str(task.packages.resolve()), on_progress=bar.update,
        )  # fmt: skip
    problems, touched = task.problems, task.touched
    if task.profile.name.startswith(("fixing", "test-generation")):
        per_problem = MUTANTS_PER_SUITE if task.profile.measure == "suites" else MUTANTS_PER_PROBLEM
        problems = add_mutants(problems, sandbox, per_problem=per_problem)
    if task.profile.measure == "suites":
        problems = add_lines(problems, sandbox)
    if task.profile.faults:
        bases = {problem.key for problem in problems} & (touched or set())
        problems = spread_faults(problems, per_problem=task.profile.faults)
        if touched is not None:
            keys = ((problem, f"{problem.language}/{problem.notes['base']}") for problem in problems)
            touched = frozenset(problem.key for problem, base in keys if base in bases)
    return replace(task, problems=problems, executor=executor, touched=touched)


def check_tasks(tasks: Sequence[Task], open_sandbox: Callable[[Sequence[str]], Sandbox]) -> list[Task]:
    """Checks tasks, those with packages in a sandbox that shows these; see `check_task`.

    Args:
        open_sandbox: Opens a sandbox whose programs may read some files and folders besides the system's.
    """
    opened: dict[Path | None, Sandbox] = {}
    checked = []
    for task in tasks:
        if task.runs_programs and task.packages not in opened:
            shown = [] if task.packages is None else [str(task.packages.resolve())]
            opened[task.packages] = open_sandbox([*list_shown(), *shown])
        checked.append(check_task(task, opened[task.packages]) if task.runs_programs else task)
    return checked


def answer_task(model: EvaluatedModel, task: Task, folder: Path, *, seed: int) -> dict[str, list[Completion]]:
    """Generates the answers that no earlier run has stored."""
    profile = task.profile
    sampling = Sampling(
        profile.max_new_tokens, profile.temperature, profile.top_p, seed, profile.samples, max_tokens=profile.max_tokens
    )
    questions = [
        Question(
            problem.key,
            profile.make_prompt(problem, task.shots),
            replace(sampling, stops=(*profile.stops, *problem.stops)),
        )
        for problem in task.problems
    ]
    hashes = {question.id: hash_values(asdict(question)) for question in questions}
    origin = {**model.identity, "profile": profile.describe(), "data": task.data_hash, "seed": seed}
    stored = CompletionFile(folder, f"{task.name}-{model.name}", origin)
    missing = [question for question in questions if stored.find(question.id, hashes[question.id]) is None]
    with tqdm(total=len(questions), desc=f"{task.name} {model.name}", unit="problem", disable=None) as bar:
        bar.update(len(questions) - len(missing))

        def store(question: Question, completions: list[Completion]) -> None:
            stored.add(question.id, hashes[question.id], completions)
            bar.update(1)

        if missing and model.generator is not None:
            model.generator.generate(missing, store)
    return {question.id: stored.find(question.id, hashes[question.id]) or [] for question in questions}


def score_task(model: EvaluatedModel, task: Task, cache: ResultCache, *, seed: int) -> Score | None:
    """Generates and scores a model's answers to a task, or reads an earlier run's score.

    Returns:
        `None` for a model of given programs that has none for this task, or one of chats only and another task.
    """
    if model.only_chats and not task.asks_in_chats:
        return None
    if model.generator is None:
        path = model.programs.get(task.name)
        return None if path is None else score_program_file(task, path)
    answers = answer_task(model, task, cache.folder, seed=seed)
    origin: list[object] = [model.identity, task.profile.describe(), task.data_hash, task.is_strict, seed]
    origin += [problem.key for problem in task.problems]
    origin += list_packages(task.packages) if task.packages is not None else []
    if task.executor is not None:
        origin += [dict(task.executor.versions), task.executor.sandbox.backend]
    total = sum(len(completions) for completions in answers.values())

    def compute() -> dict[str, object]:
        with tqdm(total=total, desc=f"scoring {task.name} {model.name}", unit="answer", disable=None) as bar:
            return score_answers(task, answers, on_progress=bar.update).to_values()

    name = f"score-{task.name}-{model.name}"
    score = Score.from_values(cache.compute(name, [origin, len(task.problems)], compute))
    if too_long := score.counts.get("prompt too long"):
        logger.warning(
            "%s: %d of %d answers to %s have no room after their prompt, and count as wrong",
            model.name, too_long, total, task.name,
        )  # fmt: skip
    return score


def score_answers(
    task: Task, answers: Mapping[str, Sequence[Completion]], *, on_progress: OnProgress = lambda done: None
) -> Score:
    """Scores answers by the task's profile."""
    profile, problems = task.profile, task.problems
    texts = {
        problem.key: [profile.cut(problem, completion.text) for completion in answers[problem.key]]
        for problem in problems
    }
    if profile.measure == "execution" and profile.program is not None and task.executor is not None:
        programs = {
            problem.key: [profile.program(problem, text)[0] for text in texts[problem.key]] for problem in problems
        }
        score = score_programs(task.executor, problems, programs, on_progress=on_progress)
    elif profile.measure == "tests" and task.executor is not None:
        score = score_assertions(task.executor, problems, texts, on_progress=on_progress)
    elif profile.measure == "suites" and task.executor is not None:
        score = score_suites(task.executor, problems, texts, on_progress=on_progress)
    elif profile.measure == "security":
        score = score_security(problems, texts)
    elif profile.measure == "refusal":
        score = score_requests(problems, texts)
    elif profile.measure == "memorisation":
        score = score_memorisation(problems, texts)
    elif profile.measure in BY_TEXT:
        score = BY_TEXT[profile.measure](problems, texts)
    else:
        score = score_texts(problems, texts, has_bleu=profile.measure == "text")
    score.counts |= count_ends([completion.end for completions in answers.values() for completion in completions])
    return score


def score_program_file(task: Task, path: Path) -> Score:
    """Scores programs that another harness generated.

    Raises:
        SettingsError: If the task does not run programs.
    """
    if task.profile.measure != "execution" or task.executor is None:
        raise SettingsError(f"tasks.{task.name} runs no programs; give programs only for tasks that do")
    return score_programs(task.executor, task.problems, read_programs(path, task.problems))
