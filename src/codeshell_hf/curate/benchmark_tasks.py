"""Reads the tasks of benchmarks: their prompts, solutions and tests."""

import csv
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from ..errors import DataError
from .settings import Benchmark

# Fields of HumanEval, MBPP, MultiPL-E, GSM8K, infilling, MMLU, CRUXEval, LiveCodeBench, DS-1000, BigCodeBench.
SOLUTIONS = ("canonical_solution", "code", "solution", "reference", "reference_code", "declaration", "buggy_solution")
TESTS = ("test", "tests", "test_list", "challenge_test_list", "test_cases", "assertion", "input_output")
FIELDS = (
    *("prompt", "text", "question", "answer", "suffix", "messages", "docstring", "instruction"),
    *("question_content", "complete_prompt", "instruct_prompt", "problem"),
    *SOLUTIONS,
    *TESTS,
)
_CHOICE_COLUMNS = 6
_CODE_PROMPTS = ("prompt", "complete_prompt", "declaration")
COMMENTS = re.compile(rb'"""[\s\S]*?"""|\'\'\'[\s\S]*?\'\'\'|#[^\n]*|//[^\n]*|/\*[\s\S]*?\*/')
"""Comments and docstrings, in the order of their likelihood; what merely looks like one does so in every copy."""


@dataclass(frozen=True)
class BenchmarkTask:
    """A task of a benchmark.

    Args:
        texts: What must not be trained on, each searched for itself.
        code: Whole solutions, with the head of their function, without comments.
    """

    texts: tuple[str, ...]
    code: tuple[str, ...] = ()


def read_tasks(benchmark: Benchmark) -> tuple[BenchmarkTask, ...]:
    """Reads the tasks of a benchmark.

    Its path is JSON Lines, compressed or not, Parquet, multiple-choice CSV, plain text with empty lines between texts,
    or a folder of those. Without `fields` in the settings, those of `FIELDS` that exist are read.

    Raises:
        DataError: If it cannot be read or has no text.
    """
    name, path, fields = benchmark.name, benchmark.path, benchmark.fields or FIELDS
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    try:
        tasks = tuple(task for file in files for task in _read_file(file, fields) if task.texts)
    except (OSError, ValueError, EOFError, csv.Error) as error:
        raise DataError(
            f"benchmark {name} at {path} cannot be read ({error}); name JSON Lines, Parquet or text"
        ) from error
    if not tasks:
        raise DataError(f"benchmark {name} at {path} has none of the fields {', '.join(fields)}; set fields")
    return tasks


def read_benchmark(benchmark: Benchmark) -> tuple[str, ...]:
    """Reads the distinct texts of a benchmark, as `read_tasks` does."""
    return tuple(dict.fromkeys(text for task in read_tasks(benchmark) for text in task.texts))


def _read_file(file: Path, fields: Sequence[str]) -> Iterator[BenchmarkTask]:
    name = file.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        with gzip.open(file, "rt", encoding="utf-8") if name.endswith(".gz") else file.open(encoding="utf-8") as lines:
            for line in lines:
                if line.strip():
                    yield make_task(json.loads(line), fields)
    elif name.endswith(".parquet"):
        for row in pq.read_table(file).to_pylist():
            yield make_task(row, fields)
    elif name.endswith(".csv"):
        with file.open(encoding="utf-8", newline="") as lines:
            for cells in csv.reader(lines):
                yield BenchmarkTask((" ".join(cells[: _CHOICE_COLUMNS - 1]),))
    elif name.endswith((".txt", ".md")) and not name.startswith(("readme", "licen")):
        for text in re.split(r"\n\s*\n", file.read_text(encoding="utf-8")):
            if text.strip():
                yield BenchmarkTask((text,))


def make_task(row: Mapping[str, object], fields: Sequence[str] = FIELDS) -> BenchmarkTask:
    """Makes a task of a row: its texts, and its solutions as code.

    A solution that continues its prompt, as HumanEval's, is joined with the head of its function, so that one of a few
    words is searched for, too.
    """
    texts = [text for field in fields for text in _find_texts(row.get(field)) if text.strip()]
    solutions = [text for field in SOLUTIONS if field in fields for text in _find_texts(row.get(field)) if text.strip()]
    heads = [value for field in _CODE_PROMPTS if field in fields and isinstance(value := row.get(field), str)]
    code = []
    for solution in solutions:
        continues = solution[:1].isspace() and heads and not solution.lstrip().startswith(("def ", "class ", "import "))
        code.append(_strip_comments(f"{heads[0]}\n{solution}" if continues else solution))
    return BenchmarkTask(tuple(dict.fromkeys((*texts, *code))), tuple(dict.fromkeys(code)))


def _strip_comments(text: str) -> str:
    return COMMENTS.sub(b" ", text.encode("utf-8", errors="surrogatepass")).decode("utf-8", errors="surrogatepass")


def _find_texts(value: object) -> Iterator[str]:
    """The texts of a field: a string, the turns of a conversation, or a list of tests as one text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        turns = [turn.get("content") for turn in value if isinstance(turn, dict)]
        yield from (turn for turn in turns if isinstance(turn, str))
        yield "\n".join(part for part in value if isinstance(part, str))
