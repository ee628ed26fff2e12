"""Published scores from published generations: our verdict on every program, beside the one that was published.

python -m benchmarks.published_generations --mbpp GENERATIONS --mbpp-plus MbppPlus-v0.1.0.jsonl.gz
python -m benchmarks.published_generations --humaneval GENERATIONS --humaneval-data HumanEval.jsonl.gz

A row of generations has `task_id`, `solution`, and EvalPlus' verdicts `base` and `plus` ("pass" or "fail"). HumanEval+
is judged where its file is given (--humaneval-plus), and HumanEval by its own tests otherwise. The exit status is 1 if
a verdict differs. MBPP+ is judged by the rules of its first release, which made the published verdicts; --rules
mbpp-plus-v1 takes those since June 2024.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf.evaluate.evalplus import MORE_TESTS, read_evalplus, read_verdicts
from codeshell_hf.evaluate.execution import Executor, open_executor, run_more_tests
from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.sandbox import Sandbox, open_sandbox

COLUMNS = {"benchmark": "24", "programs": "10,.0f", "published": "11.2f", "here": "8.2f", "differ": "8,.0f"}


def judge(executor: Executor, pairs: Sequence[tuple[Problem, str]]) -> tuple[list[bool], list[bool]]:
    """Whether each program passes the benchmark's own tests, and those and the additional ones."""
    made = [executor.make_program(problem, source) for problem, source in pairs]
    base = [verdict.passed for verdict in executor.sandbox.run(made, repeats_timeouts=True)]
    further = [pair for pair, passed in zip(pairs, base, strict=True) if passed and MORE_TESTS in pair[0].notes]
    more = iter([verdict.passed for verdict in run_more_tests(executor, further)])
    both = [passed and MORE_TESTS in pair[0].notes and next(more) for pair, passed in zip(pairs, base, strict=True)]
    return base, both


def compare(table: Result, sandbox: Sandbox, name: str, profile: str, data: Path, generations: Path) -> int:
    """Adds the rows of a benchmark; returns the number of verdicts that differ."""
    found = PROFILES[profile]
    problems = read_problems(data, found.read)
    executor = open_executor(found, problems, sandbox)
    if profile == "mbpp-plus-first-v1":  # whose verdicts depend on the order of sets in another interpreter
        problems = read_evalplus(data, is_first=True, is_elsewhere=True)
    published = read_verdicts(generations)
    rows = [(problem, *row) for problem in problems for row in published[problem.id]]
    base, both = judge(executor, [(problem, source) for problem, source, _, _ in rows])
    columns = [(name, base, [row[2] for row in rows])]
    if any(MORE_TESTS in problem.notes for problem in problems):
        columns.append((f"{name}+", both, [row[3] for row in rows]))
    differing = 0
    for title, ours, theirs in columns:
        wrong = [row[0].id for row, own, other in zip(rows, ours, theirs, strict=True) if own != other]
        table.add(title, len(rows), 100 * sum(theirs) / len(rows), 100 * sum(ours) / len(rows), len(wrong))
        if wrong:
            table.note(f"{title}: {', '.join(wrong[:20])}")
        differing += len(wrong)
    return differing


def main(arguments: list[str] | None = None) -> int:
    """Runs the benchmark and prints its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.published_generations", description=__doc__)
    parser.add_argument("--humaneval", type=Path, help="generations for HumanEval")
    parser.add_argument("--humaneval-data", type=Path, help="HumanEval, for its own tests alone")
    parser.add_argument("--humaneval-plus", type=Path, help="HumanEval+, for both columns")
    parser.add_argument("--mbpp", type=Path, help="generations for MBPP+")
    parser.add_argument("--mbpp-plus", type=Path, help="MBPP+")
    parser.add_argument("--rules", choices=["mbpp-plus-first-v1", "mbpp-plus-v1"], default="mbpp-plus-first-v1")
    parser.add_argument("--backend", default="auto")
    add_output(parser)
    options = parser.parse_args(arguments)
    given = [
        ("HumanEval", "humaneval-greedy-v1", options.humaneval_data, options.humaneval),
        ("HumanEval", "humaneval-plus-v1", options.humaneval_plus, options.humaneval),
        ("MBPP", options.rules, options.mbpp_plus, options.mbpp),
    ]
    chosen = [one for one in given if one[2] is not None and one[3] is not None]
    if not chosen:
        parser.error("nothing is given; name generations and their data")
    facts = ["pass@1 in percent, and the verdicts that differ from EvalPlus' published ones"]
    table = Result(describe_machine(), facts, COLUMNS).start("benchmarks.published_generations", arguments)
    with open_sandbox(options.backend) as sandbox:
        differing = sum(compare(table, sandbox, *one) for one in chosen)
    table.keep(options.json)
    return int(differing > 0)


if __name__ == "__main__":
    sys.exit(main())
