"""Writes what a model wrote as whole programs, in the layout of another harness.

codeshell programs runs/nano/evaluate.kept/humaneval-base-0123456789ab.jsonl --data humaneval.jsonl \
    --layout bigcode --output generations.json
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..stages.process import make_parser, run

if TYPE_CHECKING:
    from ..evaluate.completions import Format


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the file; returns 0, or 2 if called wrongly."""
    parser = make_parser("programs", __doc__)
    parser.add_argument("kept", type=Path, help="a file of what a model wrote, out of the folder that evaluate keeps")
    parser.add_argument("--data", required=True, help="the benchmark, as in evaluate's settings")
    parser.add_argument("--layout", choices=["bigcode", "evalplus", "coderujb"], required=True)
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    options = parser.parse_args(arguments)
    return run("programs", lambda: write(options.kept, options.data, options.layout, options.output))


def write(kept: Path, data: str, layout: "Format", output: Path) -> None:
    """Puts prompts and answers together and writes them.

    Args:
        kept: Answers.
        data: The benchmark.
        layout: Whose.
        output: The file.

    Raises:
        DataError: If the answers are not whole, or of a task that makes no programs.
    """
    from ..errors import DataError
    from ..evaluate.completions import write_programs
    from ..evaluate.problems import find_data, read_problems
    from ..evaluate.profiles import find_profile

    try:
        first, *lines = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
        profile = find_profile(first["origin"]["profile"]["name"])
        answers = {row["key"]: [completion["text"] for completion in row["completions"]] for row in lines}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{kept} cannot be read ({error}); name a file that evaluate has kept") from error
    make = profile.program
    if make is None:
        raise DataError(f"{kept} was written under {profile.name}, which makes no programs; name another")
    problems, _ = profile.choose(read_problems(find_data(data), profile.read))
    if missing := [problem for problem in problems if problem.key not in answers]:
        answered = f"{len(problems) - len(missing)} of {len(problems)}"
        raise DataError(f"{kept} answers {answered} problems of {data}; finish evaluate first")
    programs = {
        problem.key: [make(problem, profile.cut(problem, text))[0] for text in answers[problem.key]]
        for problem in problems
    }
    write_programs(output, problems, programs, layout)
    print(f"wrote {sum(map(len, programs.values()))} programs for {len(problems)} problems to {output}")
