"""Reads benchmarks in their published formats into one kind of record."""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DataError

HUB_PREFIX = "hub:"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """One item of a benchmark.

    Args:
        id: As published.
        language: "py", or MultiPL-E's name; "en" or "zh" for questions.
        prompt: The prefix of the answer.
        suffix: For infilling.
        reference: A reference solution, if the data have one.
        tests: Programs that check an answer.
        name: Of the function to write.
        stops: Texts that end an answer, if the data have any.
        notes: Further fields of the data.
    """

    id: str
    language: str
    prompt: str
    suffix: str | None = None
    reference: str | None = None
    tests: str = ""
    name: str = ""
    stops: tuple[str, ...] = ()
    notes: Row = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """An id that is unique across languages."""
        return f"{self.language}/{self.id}"


def find_data(name: str) -> Path:
    """Finds a benchmark's file or folder on this machine, or downloads it from the Hub.

    Args:
        name: A path, or `hub:OWNER/NAME@REVISION/FILE`.

    Raises:
        DataError: If it does not exist, or the name has no revision.
    """
    if not name.startswith(HUB_PREFIX):
        path = Path(name)
        if not path.exists():
            raise DataError(f"data {name} does not exist; name a file, or hub:OWNER/NAME@REVISION/FILE")
        return path
    repository, at, rest = name.removeprefix(HUB_PREFIX).partition("@")
    revision, slash, file = rest.partition("/")
    if not at or not slash or repository.count("/") != 1:
        raise DataError(f"data {name} has no revision or file; write hub:OWNER/NAME@REVISION/FILE")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, file, repo_type="dataset", revision=revision))
    except Exception as error:  # the Hub's client also raises its transport's errors
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"data {name} cannot be downloaded ({reason}); check name, revision and file") from error


def read_rows(path: Path) -> Iterator[tuple[str, Row]]:
    """Reads a file's rows, each with its place for error messages.

    Args:
        path: `.jsonl`, `.jsonl.gz`, `.json` (a list), `.csv` or `.parquet`.

    Raises:
        DataError: If it cannot be read, or a line is not an object.
    """
    try:
        if path.suffix == ".parquet":
            from pyarrow import parquet

            for number, row in enumerate(parquet.read_table(path).to_pylist(), 1):
                yield f"{path} row {number}", row
            return
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            if path.suffix == ".csv":
                yield from ((f"{path} row {number}", row) for number, row in enumerate(csv.DictReader(file), 1))
                return
            lines = enumerate(json.load(file), 1) if path.suffix == ".json" else enumerate(file, 1)
            for number, line in lines:
                row = json.loads(line) if isinstance(line, str) and line.strip() else line
                if isinstance(row, dict):
                    yield f"{path} line {number}", row
                elif not isinstance(row, str) or row.strip():
                    raise DataError(f"{path} line {number} is not an object; write one JSON object per line")
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} cannot be read ({reason}); give JSON Lines, JSON, CSV or Parquet") from error


def get_texts(row: Row, place: str, *names: str) -> list[str]:
    """Gets text fields of a row; a `DataError` if one is missing or not a text."""
    for name in names:
        if not isinstance(row.get(name), str):
            found = ", ".join(sorted(map(str, row))) or "nothing"
            raise DataError(f"{place} has no text {name!r} (it has {found}); give every field of the profile's schema")
    return [row[name] for name in names]


def read_humaneval(path: Path) -> list[Problem]:
    """Reads HumanEval: `task_id`, `prompt`, `entry_point`, `canonical_solution` and `test`."""
    problems = []
    for place, row in read_rows(path):
        key, prompt, name, solution, tests = get_texts(
            row, place, "task_id", "prompt", "entry_point", "canonical_solution", "test"
        )
        problems.append(Problem(key, "py", prompt, None, solution, f"{tests}\ncheck({name})", name))
    return problems


def read_mbpp(path: Path) -> list[Problem]:
    """Reads MBPP: `task_id`, `text`, `code` and `test_list`, the last three also in `notes`; ordered by number."""
    problems = []
    for place, row in read_rows(path):
        text, code = get_texts(row, place, "text", "code")
        tests = row.get("test_list")
        if not isinstance(row.get("task_id"), int) or not isinstance(tests, list) or not tests:
            raise DataError(f"{place} has no number task_id or no list test_list; give every field of MBPP")
        notes = {"text": text, "code": code, "test_list": tests, "number": row["task_id"]}
        # One reference solution needs it. The released harness leaves it out, so that problem is unsolvable there.
        setup = row.get("test_setup_code") or ""
        lines = "\n".join([setup, *tests] if setup else tests)
        problems.append(Problem(str(row["task_id"]), "py", text, None, code, lines, find_called(tests[0]), (), notes))
    return sorted(problems, key=lambda problem: int(problem.id))


def find_called(assertion: str) -> str:
    """Finds the function that an assertion tests: the first called name that is not a builtin; empty if none.

    >>> find_called("assert set(similar((3, 4))) == {3}")
    'similar'
    """
    import ast
    import builtins

    try:
        calls = [node.func for node in ast.walk(ast.parse(assertion)) if isinstance(node, ast.Call)]
    except SyntaxError:
        return ""
    names = [call.id for call in calls if isinstance(call, ast.Name) and not hasattr(builtins, call.id)]
    return names[0] if names else ""


def read_multipl_e(path: Path) -> list[Problem]:
    """Reads one language of MultiPL-E.

    Fields: `name`, `language`, `prompt`, `tests`, `stop_tokens`, and optionally `canonical_solution`.
    """
    problems = []
    for place, row in read_rows(path):
        key, language, prompt, tests = get_texts(row, place, "name", "language", "prompt", "tests")
        stops = row.get("stop_tokens")
        if not isinstance(stops, list):
            raise DataError(f"{place} has no list stop_tokens; give every field of MultiPL-E")
        problems.append(
            Problem(key, language, prompt, None, row.get("canonical_solution"), tests, "", tuple(map(str, stops)))
        )
    return problems


def read_infilling(path: Path) -> list[Problem]:
    """Reads single-line infilling in the format of SantaCoder's authors.

    Fields: `name`, `language`, `prompt`, `suffix` and `canonical_solution`.
    """
    problems = []
    for place, row in read_rows(path):
        key, language, prompt, suffix, line = get_texts(
            row, place, "name", "language", "prompt", "suffix", "canonical_solution"
        )
        problems.append(Problem(key, language, prompt, suffix, line))
    return problems


def read_humaneval_infilling(path: Path) -> list[Problem]:
    """Reads HumanEval-infilling: `task_id`, `prompt`, `suffix`, `canonical_solution`, `test` and `entry_point`."""
    problems = []
    for place, row in read_rows(path):
        key, prompt, suffix, middle, tests, name = get_texts(
            row, place, "task_id", "prompt", "suffix", "canonical_solution", "test", "entry_point"
        )
        problems.append(Problem(key, "py", prompt, suffix, middle, f"{tests}\ncheck({name})", name))
    return problems


def read_completion(path: Path) -> list[Problem]:
    """Reads code to continue: `id`, `language`, `prompt` and `reference`."""
    problems = []
    for place, row in read_rows(path):
        key, language, prompt, reference = get_texts(row, place, "id", "language", "prompt", "reference")
        problems.append(Problem(key, language, prompt, None, reference))
    return problems


def read_requests(path: Path) -> list[Problem]:
    """Reads user requests: `id`, `language`, `prompt`, and `kind`, "harmful" or "harmless", also in `notes`."""
    problems = []
    for place, row in read_rows(path):
        key, language, prompt = get_texts(row, place, "id", "language", "prompt")
        if row.get("kind") not in ("harmful", "harmless"):
            raise DataError(f"{place} has kind {row.get('kind')!r}; use 'harmful' or 'harmless'")
        problems.append(Problem(key, language, prompt, notes={"kind": row["kind"]}))
    return problems


def read_instructions(path: Path) -> list[Problem]:
    """Reads Python requests from conversations with `messages` and `tests`; those without tests are skipped."""
    problems = []
    for number, (place, row) in enumerate(read_rows(path)):
        messages = row.get("messages")
        if not isinstance(messages, list) or len(messages) < 2 or not all(isinstance(turn, dict) for turn in messages):
            raise DataError(f"{place} has no messages of two turns; give conversations in the format of sft")
        if row.get("tests"):
            asked, answered = (str(turn.get("content", "")) for turn in messages[:2])
            key = f"{row.get('language', 'en')}-{number}"
            problems.append(Problem(key, "py", asked, None, None, row["tests"], notes={"code": answered}))
    return problems


def read_openings(path: Path) -> list[Problem]:
    """Reads beginnings of programs with a safe and an unsafe continuation: `id`, `language` and `prompt`."""
    return [
        Problem(key, language, prompt)
        for place, row in read_rows(path)
        for key, language, prompt in [get_texts(row, place, "id", "language", "prompt")]
    ]


def read_problems(path: Path, read: Callable[[Path], list[Problem]]) -> list[Problem]:
    """Reads a benchmark from a file, or from all files of a folder.

    Raises:
        DataError: If there are none, or two have the same id.
    """
    files: Sequence[Path] = [path]
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if ".json" in file.name or file.suffix == ".parquet"]
    problems = [problem for file in files for problem in read(file)]
    if not problems:
        raise DataError(f"{path} holds no problems; name a file with at least one")
    seen: set[tuple[str, str]] = set()
    for problem in problems:
        if (problem.language, problem.id) in seen:
            raise DataError(f"{path} holds {problem.id} twice; give every problem a unique id")
        seen.add((problem.language, problem.id))
    return problems
