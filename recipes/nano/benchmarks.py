"""Writes small benchmarks in the formats of published ones, whose data may not be redistributed.

python -m recipes.nano.benchmarks recipes/nano/data/benchmarks
"""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from codeshell_hf.stages.process import make_parser, run
from recipes.nano.multilingual import FUNCTIONS, LANGUAGES, STOPS, write_answer, write_prompt, write_tests

Row = dict[str, object]

FIRST_MBPP = 11
SHOTS = (
    ("find the square of x", "def square(x):\n    return x * x", "square", ((2, 4), (-3, 9), (0, 0))),
    ("subtract 1 from x", "def less_one(x):\n    return x - 1", "less_one", ((2, 1), (0, -1), (9, 8))),
    ("tell whether x is 0", "def is_zero(x):\n    return x == 0", "is_zero", ((0, True), (1, False), (-1, False))),
)
INFILLED = {"py": "python", "java": "java", "js": "javascript"}


def main(arguments: list[str] | None = None) -> int:
    """Writes every file."""
    parser = make_parser("nano.benchmarks", __doc__)
    parser.add_argument("folder", type=Path, help="where to write")
    options = parser.parse_args(arguments)
    return run("benchmarks", lambda: write_all(options.folder))


def write_all(folder: Path) -> None:
    """Writes every file."""
    (folder / "multipl-e").mkdir(parents=True, exist_ok=True)
    write_rows(folder / "humaneval.jsonl", make_humaneval())
    write_rows(folder / "mbpp.jsonl", make_mbpp())
    for language in LANGUAGES:
        write_rows(folder / "multipl-e" / f"humaneval-{language}.jsonl", make_multipl_e(language))
    write_rows(folder / "infilling.jsonl", make_infilling())
    write_rows(folder / "humaneval-infilling.jsonl", make_humaneval_infilling())
    write_rows(folder / "lines.jsonl", make_lines())
    write_rows(folder / "blocks.jsonl", make_blocks())


def write_rows(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Writes JSON Lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def make_humaneval() -> list[dict[str, str]]:
    """The functions in Python, in the form of HumanEval."""
    return [
        {
            "task_id": f"Nano/{number}",
            "prompt": write_prompt(function, "py"),
            "entry_point": function.name,
            "canonical_solution": write_answer(function, "py"),
            "test": write_tests(function, "py"),
        }
        for number, function in enumerate(FUNCTIONS)
    ]


def make_mbpp() -> list[Row]:
    """Three worked examples and the functions, in the form of MBPP."""
    rows: list[Row] = [
        {
            "task_id": number,
            "text": f"Write a function to {text}.",
            "code": code,
            "test_list": [f"assert {name}({given!r}) == {result!r}" for given, result in cases],
        }
        for number, (text, code, name, cases) in enumerate(SHOTS, 2)
    ]
    for number, function in enumerate(FUNCTIONS, FIRST_MBPP):
        head = write_prompt(function, "py").partition("\n")[0]
        tests = [
            f"assert {function.name}({', '.join(map(repr, given))}) == {result!r}" for given, result in function.cases
        ]
        asked = f"{function.says[0].lower()}{function.says[1:]}"
        rows.append({
            "task_id": number, "text": f"Write a function to {asked}",
            "code": f"{head}\n{write_answer(function, 'py')}", "test_list": tests,
        })  # fmt: skip
    return rows


def make_multipl_e(language: str) -> list[Row]:
    """The functions in another language, in the form of MultiPL-E, with reference solutions."""
    return [
        {
            "name": f"Nano_{number}_{function.name}",
            "language": language,
            "prompt": write_prompt(function, language),
            "tests": write_tests(function, language),
            "stop_tokens": STOPS[language],
            "canonical_solution": write_answer(function, language),
        }
        for number, function in enumerate(FUNCTIONS)
    ]


def make_infilling() -> list[dict[str, str]]:
    """The first line of each body removed, in the form of SantaCoder's lines."""
    rows = []
    for language, name in INFILLED.items():
        for number, function in enumerate(FUNCTIONS):
            line, _, rest = write_answer(function, language).partition("\n")
            rows.append({
                "name": f"nano-{number}-{function.name}-{language}", "language": name,
                "prompt": write_prompt(function, language), "suffix": f"\n{rest}", "canonical_solution": line,
            })  # fmt: skip
    return rows


def make_humaneval_infilling() -> list[dict[str, str]]:
    """The last line of each body removed, in the form of HumanEval-infilling."""
    rows = []
    for row in make_humaneval():
        *lines, last = row["canonical_solution"].rstrip("\n").split("\n")
        rows.append({
            "task_id": f"SingleLineInfilling/{row['task_id']}", "entry_point": row["entry_point"],
            "prompt": row["prompt"] + "".join(f"{line}\n" for line in lines), "suffix": "\n",
            "canonical_solution": f"{last}\n", "test": row["test"],
        })  # fmt: skip
    return rows


def make_lines() -> list[dict[str, str]]:
    """Half of a line, and the rest of it."""
    rows = []
    for language, name in INFILLED.items():
        for number, function in enumerate(FUNCTIONS):
            line = write_answer(function, language).partition("\n")[0]
            half = line.find(" ", len(line) - len(line.lstrip())) + 1 or len(line) // 2
            rows.append({
                "id": f"{language}-{number}", "language": name,
                "prompt": write_prompt(function, language) + line[:half], "reference": line[half:],
            })  # fmt: skip
    return rows


def make_blocks() -> list[Row]:
    """The head of a function, and its body."""
    return [
        {
            "id": f"{language}-{number}",
            "language": name,
            "prompt": write_prompt(function, language),
            "reference": write_answer(function, language),
        }
        for language, name in INFILLED.items()
        for number, function in enumerate(FUNCTIONS)
    ]


if __name__ == "__main__":
    sys.exit(main())
