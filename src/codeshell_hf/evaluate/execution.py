"""Scores programs by running them: first the reference solutions, then the models' programs."""

import ast
import builtins
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import RunFailed
from ..sandbox import AnyProgram, Program, Sandbox, Verdict
from .evalplus import MORE_TESTS
from .metrics import pass_at_k
from .problems import Problem
from .protocol import Profile
from .scores import Score, make_score, mean_by_base
from .toolchains import LANGUAGES, check_toolchains

logger = logging.getLogger(__name__)
OnProgress = Callable[[int], None]
SHOWN_FAILURES = 3


@dataclass(frozen=True)
class Executor:
    """Runs programs, once the reference solutions have passed.

    Args:
        versions: Of each language's toolchain; `None` if it is missing.
        strict: Whether tests run in another process than the program.
        shared: Why, by the key of problems whose tests cannot, so that they share an interpreter with the program.
        unproven: Keys of problems without a reference solution.
        packages: Folder of packages that Python programs may import; empty for none.
    """

    sandbox: Sandbox
    profile: Profile
    versions: Mapping[str, str | None]
    strict: bool = Program.strict
    shared: Mapping[str, str] = field(default_factory=dict)
    unproven: frozenset[str] = frozenset()
    packages: str = ""

    def can_run(self, problem: Problem) -> bool:
        """Whether the toolchain of a problem's language is installed."""
        return self.versions.get(problem.language) is not None

    def is_apart(self, problem: Problem) -> bool:
        """Whether a problem's tests run in another process than the program."""
        return self.strict and self.profile.is_strict and problem.language == "py" and problem.key not in self.shared

    def make_program(self, problem: Problem, source: str, tests: str | None = None) -> AnyProgram:
        """Combines a program and its tests, by default the problem's."""
        if problem.language != "py":
            language = LANGUAGES[problem.language]
            if "cases" in problem.notes:
                return language.make_judged(source, problem.notes["cases"], problem.notes["timeout_s"])
            return language.make_program(source, problem.tests)
        profile = self.profile
        limits = replace(self.sandbox.limits, timeout_s=problem.notes.get("timeout_s", profile.timeout_s))
        if profile.max_memory_bytes is not None:
            limits = replace(
                limits, max_memory_bytes=profile.max_memory_bytes, max_resident_bytes=profile.max_resident_bytes
            )
        if profile.max_processes is not None:
            limits = replace(limits, max_processes=profile.max_processes)
        # The prompt may define functions that the tests use.
        prelude = problem.notes.get("prelude", problem.prompt if "def " in problem.prompt else "")
        return Program(
            source, problem.tests if tests is None else tests, prelude, list_names(problem),
            strict=self.is_apart(problem), limits=limits, module=profile.module, has_input=profile.has_input,
            packages=self.packages,
        )  # fmt: skip


def list_names(problem: Problem) -> tuple[str, ...]:
    """The functions that a problem asks for, if they have the name of one of the prompt's or Python's."""
    code = str(problem.notes.get("code", ""))
    try:
        defined = {node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)}
    except (SyntaxError, ValueError):
        defined = set()
    return tuple(sorted({problem.name} - {""} | {name for name in defined if hasattr(builtins, name)}))


def find_reference_program(problem: Problem, profile: Profile | None = None) -> str | None:
    """The complete program of a problem's reference solution; `None` if the data have none.

    An `answer` in the notes is the reference as a model would write it, and takes an answer's way into a program.
    """
    if "answer" in problem.notes and profile is not None and profile.program is not None:
        return profile.program(problem, profile.cut(problem, str(problem.notes["answer"])))[0]
    if "code" in problem.notes:
        return str(problem.notes["code"])
    return None if problem.reference is None else f"{problem.prompt}{problem.reference}{problem.suffix or ''}"


def open_executor(
    profile: Profile,
    problems: Sequence[Problem],
    sandbox: Sandbox,
    *,
    strict: bool = Program.strict,
    packages: str = "",
    on_progress: OnProgress = lambda done: None,
) -> Executor:
    """Runs the reference solutions of all problems before anything is scored.

    Args:
        strict: Whether tests run in another process than the program, if the reference solution passes that way.
        packages: Folder of packages that programs may import.

    Raises:
        RunFailed: If a reference solution does not pass.
    """
    versions = check_toolchains(sandbox, [problem.language for problem in problems])
    executor = Executor(sandbox, profile, versions, strict, packages=packages)
    references = {
        problem: find_reference_program(problem, profile) for problem in problems if executor.can_run(problem)
    }
    known = {problem: source for problem, source in references.items() if source is not None}
    failed = find_failures(executor, known, on_progress=on_progress)
    if shared := {problem.key: verdict.reason for problem, verdict in failed.items() if executor.is_apart(problem)}:
        executor = replace(executor, shared=shared)
        failed = find_failures(executor, {problem: known[problem] for problem in failed})
    if failed:
        problem, verdict = next(iter(failed.items()))
        output = " ".join(verdict.output.split())[-160:]
        raise RunFailed(
            f"the reference solutions of {len(failed)} of {len(known)} problems fail their tests here, such as "
            f"{problem.language} {problem.id} ({verdict.reason} after {verdict.seconds:.1f} s {output}); nothing is "
            "scored before they pass: check toolchains, time limits and data"
        )
    if shared:
        logger.warning(
            "the tests of %d problems share an interpreter with the program, which can forge their verdict: %s",
            len(shared), ", ".join(f"{key} ({reason})" for key, reason in shared.items()),
        )  # fmt: skip
    unproven = frozenset(problem.key for problem in references if problem not in known)
    return replace(executor, unproven=unproven)


def find_failures(
    executor: Executor, programs: Mapping[Problem, str], *, on_progress: OnProgress = lambda done: None
) -> dict[Problem, Verdict]:
    """Runs a program of each problem, and returns the verdicts on those that do not pass."""
    made = [executor.make_program(problem, source) for problem, source in programs.items()]
    verdicts = executor.sandbox.run(made, on_progress=on_progress, repeats_timeouts=True)
    failed = {problem: verdict for problem, verdict in zip(programs, verdicts, strict=True) if not verdict.passed}
    more = {problem: source for problem, source in programs.items() if MORE_TESTS in problem.notes}
    passed = [(problem, source) for problem, source in more.items() if problem not in failed]
    further = run_more_tests(executor, passed)
    return failed | {
        problem: verdict for (problem, _), verdict in zip(passed, further, strict=True) if not verdict.passed
    }


def run_more_tests(executor: Executor, pairs: Sequence[tuple[Problem, str]]) -> list[Verdict]:
    """Runs programs with the additional tests of their problems."""
    made = [executor.make_program(problem, source, problem.notes[MORE_TESTS]) for problem, source in pairs]
    return executor.sandbox.run(made, repeats_timeouts=True)


def score_programs(
    executor: Executor,
    problems: Sequence[Problem],
    programs: Mapping[str, Sequence[str]],
    *,
    on_progress: OnProgress = lambda done: None,
) -> Score:
    """Runs every program with its problem's tests.

    Returns:
        pass@k for each k that every problem has samples for, over problems with an installed toolchain.
    """
    chosen = [problem for problem in problems if executor.can_run(problem) and problem.key in programs]
    pairs = [(problem, source) for problem in chosen for source in programs[problem.key]]
    made = [executor.make_program(problem, source) for problem, source in pairs]
    verdicts = executor.sandbox.run(made, on_progress=on_progress, repeats_timeouts=True)
    grouped: dict[str, list[Verdict]] = {problem.key: [] for problem in chosen}
    for (problem, _), verdict in zip(pairs, verdicts, strict=True):
        grouped[problem.key].append(verdict)

    fewest = min(map(len, grouped.values()), default=0)
    ks = [k for k in executor.profile.ks if k <= fewest]
    values = {
        f"pass@{k}": [pass_at_k(len(own), sum(verdict.passed for verdict in own), k) for own in grouped.values()]
        for k in ks
    }
    passed = [
        pair for pair, verdict in zip(pairs, verdicts, strict=True) if verdict.passed and MORE_TESTS in pair[0].notes
    ]
    if any(MORE_TESTS in problem.notes for problem in chosen):
        rights = Counter(
            problem.key
            for (problem, _), verdict in zip(passed, run_more_tests(executor, passed), strict=True)
            if verdict.passed
        )
        values |= {f"pass@{k} (+)": [pass_at_k(len(own), rights[key], k) for key, own in grouped.items()] for k in ks}
    languages = {str(problem.notes.get("base", problem.key)): problem.language for problem in chosen}
    bases = [str(problem.notes.get("base", problem.key)) for problem in chosen]
    score = make_score({name: mean_by_base(own, bases) for name, own in values.items()}, list(languages.values()))
    counts = Counter(verdict.status for verdict in verdicts)
    score.counts |= {"problems": len(chosen), "samples": len(verdicts)}
    score.counts |= {str(status): counts[status] for status in sorted(counts)}
    missing = Counter(problem.language for problem in problems if not executor.can_run(problem))
    score.missing_toolchains = dict(sorted(missing.items()))
    score.counts["tests run apart"] = sum(executor.is_apart(problem) for problem in chosen)
    score.counts["without a right answer to check"] = sum(problem.key in executor.unproven for problem in chosen)
    for problem in chosen:
        own = grouped[problem.key]
        reasons = Counter(verdict.reason for verdict in own if not verdict.passed)
        score.problems.append({
            "id": problem.id, "language": problem.language, "samples": len(own),
            "right": sum(verdict.passed for verdict in own), "reasons": dict(reasons.most_common()),
        })  # fmt: skip
        if "base" in problem.notes:
            score.problems[-1]["base"] = str(problem.notes["base"])
    for (problem, source), verdict in zip(pairs, verdicts, strict=True):
        if len(score.samples) < SHOWN_FAILURES:
            score.samples.append(
                {"id": problem.id, "program": source, "status": verdict.status, "reason": verdict.reason}
            )
    return score
