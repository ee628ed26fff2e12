"""Programs that models wrote, held against tests: right answers first, then theirs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import RunFailed
from ..sandbox import AnyProgram, Limits, Program, Sandbox, StrictProgram, Verdict
from .metrics import pass_at_k
from .problems import Problem
from .profiles import Profile
from .scores import ProblemRow, Score, make_score
from .toolchains import LANGUAGES, check_toolchains

OnProgress = Callable[[int], None]
SHOWN_FAILURES = 3


@dataclass(frozen=True)
class Executor:
    """Where programs are run, after the right answers have passed.

    Args:
        sandbox: The sandbox.
        profile: The protocol.
        versions: Of each language's toolchain; `None` where it is missing.
        strict: Ids of the problems whose tests run apart from the program.
        unproven: Ids of the problems that came without a right answer.
    """

    sandbox: Sandbox
    profile: Profile
    versions: Mapping[str, str | None]
    strict: frozenset[str] = frozenset()
    unproven: frozenset[str] = frozenset()

    def can_run(self, problem: Problem) -> bool:
        """Whether a problem's language is there.

        Args:
            problem: The problem.

        Returns:
            False where its toolchain is missing.
        """
        return self.versions.get(problem.language) is not None

    def make_program(self, problem: Problem, source: str) -> AnyProgram:
        """Puts a program and its tests together.

        Args:
            problem: The problem.
            source: The program.

        Returns:
            What the sandbox runs.
        """
        if problem.language != "py":
            return LANGUAGES[problem.language].make_program(source, problem.tests)
        limits = replace(self.sandbox.limits, timeout_s=self.profile.timeout_s)
        if problem.key in self.strict:
            return make_strict(problem, source, limits)
        return Program(source, problem.tests, limits)


def make_strict(problem: Problem, source: str, limits: Limits) -> StrictProgram:
    """Lets a problem's tests run apart from a program.

    Args:
        problem: Whose prompt may hold functions that the tests use.
        source: The program.
        limits: Its limits.

    Returns:
        What the sandbox runs.
    """
    prelude = problem.prompt if "def " in problem.prompt else ""
    return StrictProgram(source, problem.tests, (problem.name,), prelude, limits)


def find_reference_program(problem: Problem) -> str | None:
    """Puts a problem's own right answer into its place.

    Args:
        problem: The problem.

    Returns:
        A whole program, or `None` if the data hold none.
    """
    if "code" in problem.notes:
        return str(problem.notes["code"])
    return None if problem.reference is None else f"{problem.prompt}{problem.reference}{problem.suffix or ''}"


def open_executor(
    profile: Profile,
    problems: Sequence[Problem],
    sandbox: Sandbox,
    *,
    strict: bool = False,
    on_progress: OnProgress = lambda done: None,
) -> Executor:
    """Runs the right answers of all problems before anything is judged.

    Args:
        profile: The protocol.
        problems: The problems.
        sandbox: Where programs run.
        strict: Whether tests run in a process of their own, where that is possible.
        on_progress: Called with the number of right answers just run.

    Returns:
        Where the answers of models can be run.

    Raises:
        RunFailed: If a right answer does not pass.
    """
    versions = check_toolchains(sandbox, [problem.language for problem in problems])
    executor = Executor(sandbox, profile, versions)
    right = {problem: find_reference_program(problem) for problem in problems if executor.can_run(problem)}
    known = {problem: source for problem, source in right.items() if source is not None}
    programs = [executor.make_program(problem, source) for problem, source in known.items()]
    verdicts = sandbox.run(programs, on_progress=on_progress, repeats_timeouts=True)
    failed = [(problem, verdict) for problem, verdict in zip(known, verdicts, strict=True) if not verdict.passed]
    if failed:
        problem, verdict = failed[0]
        said = " ".join(verdict.output.split())[-160:]
        raise RunFailed(
            f"the right answers to {len(failed)} of {len(known)} problems do not pass their own tests here, such as "
            f"{problem.language} {problem.id} ({verdict.reason} after {verdict.seconds:.1f} s {said}); nothing is "
            "judged on this machine before they do: check toolchains, time limits and data"
        )
    apart: set[str] = set()
    if strict:
        chosen = [problem for problem in known if problem.language == "py" and problem.name]
        limits = replace(sandbox.limits, timeout_s=profile.timeout_s)
        tried = sandbox.run([make_strict(problem, known[problem], limits) for problem in chosen])
        apart = {problem.key for problem, verdict in zip(chosen, tried, strict=True) if verdict.passed}
    unproven = frozenset(problem.key for problem in right if problem not in known)
    return replace(executor, strict=frozenset(apart), unproven=unproven)


def score_programs(
    executor: Executor,
    problems: Sequence[Problem],
    programs: Mapping[str, Sequence[str]],
    *,
    on_progress: OnProgress = lambda done: None,
) -> Score:
    """Runs every program with its problem's tests and counts.

    Args:
        executor: Where the right answers have passed.
        problems: The problems.
        programs: Whole ones, by problem.
        on_progress: Called with the number of programs just run.

    Returns:
        pass@k for each k that every problem has samples for, over all problems whose language is there.
    """
    chosen = [problem for problem in problems if executor.can_run(problem) and problem.key in programs]
    pairs = [(problem, source) for problem in chosen for source in programs[problem.key]]
    made = [executor.make_program(problem, source) for problem, source in pairs]
    verdicts = executor.sandbox.run(made, on_progress=on_progress, repeats_timeouts=True)
    grouped: dict[str, list[Verdict]] = {problem.key: [] for problem in chosen}
    for (problem, _), verdict in zip(pairs, verdicts, strict=True):
        grouped[problem.key].append(verdict)

    least = min((len(found) for found in grouped.values()), default=0)
    ks = [k for k in executor.profile.ks if k <= least]
    values = {
        f"pass@{k}": [pass_at_k(len(found), sum(verdict.passed for verdict in found), k) for found in grouped.values()]
        for k in ks
    }
    score = make_score(values, [problem.language for problem in chosen])
    counts = Counter(verdict.status for verdict in verdicts)
    score.counts |= {"problems": len(chosen), "samples": len(verdicts)}
    score.counts |= {str(status): counts[status] for status in sorted(counts)}
    missing = Counter(problem.language for problem in problems if not executor.can_run(problem))
    score.missing_toolchains = dict(sorted(missing.items()))
    score.counts["tests run apart"] = sum(problem.key in executor.strict for problem in chosen)
    score.counts["without a right answer to check"] = sum(problem.key in executor.unproven for problem in chosen)
    for problem in chosen:
        found = grouped[problem.key]
        reasons = Counter(verdict.reason for verdict in found if not verdict.passed)
        score.problems.append({
            "id": problem.id, "language": problem.language, "samples": len(found),
            "right": sum(verdict.passed for verdict in found), "reasons": dict(reasons.most_common()),
        })  # fmt: skip
    for (problem, source), verdict in zip(pairs, verdicts, strict=True):
        if len(score.samples) < SHOWN_FAILURES:
            score.samples.append(
                {"id": problem.id, "program": source, "status": verdict.status, "reason": verdict.reason}
            )
    return score


def score_tests(
    executor: Executor,
    problems: Sequence[Problem],
    written: Mapping[str, Sequence[str]],
    *,
    on_progress: OnProgress = lambda done: None,
) -> Score:
    """Runs tests that a model wrote against the right program and against faulty ones.

    Args:
        executor: Where the right answers have passed.
        problems: With `mutants` in their notes.
        written: What was written behind the beginning of each test, cut.
        on_progress: Called with the number of programs just run.

    Returns:
        "right tests": the share that pass the right program and fail every faulty one; "accepts the right program";
        "faults found": the share of faulty programs that fail a test which accepts the right one.
    """
    limits = replace(executor.sandbox.limits, timeout_s=executor.profile.timeout_s)
    made: list[Program] = []
    for problem in problems:
        programs = [find_reference_program(problem) or "", *problem.notes["mutants"]]
        for text in written[problem.key]:
            test = f"def test_{problem.name}():\n    assert {problem.name}({text}\n\ntest_{problem.name}()\n"
            made += [Program(program, test, limits) for program in programs]
    verdicts = iter(executor.sandbox.run(made, on_progress=on_progress, repeats_timeouts=True))
    names = ("right tests", "accepts the right program", "faults found")
    values: dict[str, list[float]] = {name: [] for name in names}
    rows: list[ProblemRow] = []
    for problem in problems:
        sums = [0.0, 0.0, 0.0]
        for _ in written[problem.key]:
            accepts = next(verdicts).passed
            faults = [not next(verdicts).passed for _ in problem.notes["mutants"]]
            found = sum(faults) / len(faults) if accepts else 0.0
            sums = [sums[0] + (accepts and all(faults)), sums[1] + accepts, sums[2] + found]
        count = max(1, len(written[problem.key]))
        for name, total in zip(names, sums, strict=True):
            values[name].append(total / count)
        rows.append({"id": problem.id, "language": "py", "samples": count, "right": int(sums[0])})
    score = make_score(values, ["py"] * len(problems))
    score.counts |= {"problems": len(problems), "faulty programs": sum(len(p.notes["mutants"]) for p in problems)}
    score.problems = rows
    score.samples = [{"id": p.id, "written": written[p.key][0]} for p in problems[:SHOWN_FAILURES] if written[p.key]]
    return score
