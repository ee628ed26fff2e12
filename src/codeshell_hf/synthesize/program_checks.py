"""Runs tasks in the sandbox: answers have to pass their tests each time, and faulty answers have to fail them."""

import ast
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from ..manifest import hash_values
from ..sandbox import Program, Sandbox, Verdict
from ..text.cache import JsonLinesCache
from ..text.faults import list_more_faults, mutate
from .settings import CheckSettings
from .task_rules import SynthesizedTask

TASKS_AT_ONCE = 64
FAILED = "tests-fail"


@dataclass(frozen=True)
class CheckOutcome:
    """What the sandbox says of a task; without a reason it passes.

    Args:
        value: What the reason measured.
        mutants: Faulty answers that were tried, and `killed`, those that failed.
    """

    reason: str | None = None
    value: float | None = None
    threshold: float | None = None
    detail: str | None = None
    mutants: int = 0
    killed: int = 0


def check_programs(
    tasks: Sequence[SynthesizedTask],
    checks: CheckSettings,
    open_sandbox: Callable[[], Sandbox],
    cache: JsonLinesCache,
    *,
    timeout_s: float,
    on_progress: Callable[[int], object] = lambda done: None,
) -> Iterator[tuple[SynthesizedTask, CheckOutcome]]:
    """Runs the programs of tasks, and yields each task, with its mutants counted, and its outcome, in order.

    Args:
        open_sandbox: Opens a new sandbox for each repetition: programs of one sandbox are forked from processes with
            the same hash seed and random state, so that an answer that depends on them would look the same each time.
        cache: Of outcomes; tasks that it has are not run again, unless with other checks or another time limit.
        timeout_s: The sandbox's.
        on_progress: Called with the number of tasks just done.
    """
    for start in range(0, len(tasks), TASKS_AT_ONCE):
        group = tasks[start : start + TASKS_AT_ONCE]
        keys = [hash_values([task.program, task.tests, checks.model_dump(), timeout_s]) for task in group]
        missing = [place for place, key in enumerate(keys) if cache.get(key) is None]
        for place, outcome in zip(
            missing, _check_group([group[place] for place in missing], checks, open_sandbox), strict=True
        ):
            cache.add(keys[place], asdict(outcome))
        on_progress(len(group))
        for task, key in zip(group, keys, strict=True):
            outcome = CheckOutcome(**json.loads(json.dumps(cache.get(key))))
            yield replace(task, mutants=outcome.mutants, killed=outcome.killed), outcome


def _check_group(
    tasks: Sequence[SynthesizedTask], checks: CheckSettings, open_sandbox: Callable[[], Sandbox]
) -> list[CheckOutcome]:
    outcomes: dict[int, CheckOutcome] = {}
    for number in range(checks.repeats if tasks else 0):
        open_places = [place for place in range(len(tasks)) if place not in outcomes]
        with open_sandbox() as sandbox:
            verdicts = sandbox.run([Program(tasks[place].program, tasks[place].tests) for place in open_places])
        for place, verdict in zip(open_places, verdicts, strict=True):
            if (outcome := judge_run(verdict, checks, is_first=number == 0)) is not None:
                outcomes[place] = outcome
    passed = [place for place in range(len(tasks)) if place not in outcomes]
    if passed:
        with open_sandbox() as sandbox:
            found = try_mutants([tasks[place] for place in passed], checks, sandbox)
        outcomes.update(zip(passed, found, strict=True))
    return [outcomes[place] for place in range(len(tasks))]


def judge_run(verdict: Verdict, checks: CheckSettings, *, is_first: bool) -> CheckOutcome | None:
    """Why a run is the end of a task; `None` if it passed in time. A task that failed at first has no second run."""
    if not verdict.passed and not is_first:
        return CheckOutcome("nondeterministic", detail=verdict.reason or verdict.status)
    if verdict.status == "timed out" or (verdict.passed and verdict.seconds > checks.max_seconds):
        return CheckOutcome("too-slow", verdict.seconds, checks.max_seconds)
    return None if verdict.passed else CheckOutcome(FAILED, detail=verdict.reason)


def try_mutants(tasks: Sequence[SynthesizedTask], checks: CheckSettings, sandbox: Sandbox) -> list[CheckOutcome]:
    """Runs the tests of each task on faulty versions of its answer; without a reason if they fail enough of them.

    The first version has no bodies; tests that it passes test nothing. One that times out counts as failed.
    """
    versions = [
        [empty_bodies(task.program), *mutate(task.program, list_more_faults, at_most=checks.max_mutants)]
        for task in tasks
    ]
    programs = [Program(text, task.tests) for task, found in zip(tasks, versions, strict=True) for text in found]
    verdicts = iter(sandbox.run(programs))
    outcomes = []
    for found in versions:
        is_empty_killed, *killed = [not next(verdicts).passed for _ in found]
        passed = CheckOutcome(mutants=len(killed), killed=sum(killed))
        share = sum(killed) / len(killed) if killed else 1.0
        if not is_empty_killed:
            outcomes.append(replace(passed, reason="vacuous-tests", detail="an answer without a body passes them"))
        elif share < checks.min_killed:
            outcomes.append(replace(passed, reason="weak-tests", value=round(share, 4), threshold=checks.min_killed))
        else:
            outcomes.append(passed)
    return outcomes


def empty_bodies(program: str) -> str:
    r"""The program with functions that do nothing.

    >>> empty_bodies("def f(x):\n    return x")
    'def f(x):\n    pass'
    """

    class Emptying(ast.NodeTransformer):
        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
            node.body = [ast.Pass()]
            return node

        def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
            node.body = [ast.Pass()]
            return node

    return ast.unparse(ast.fix_missing_locations(Emptying().visit(ast.parse(program))))
