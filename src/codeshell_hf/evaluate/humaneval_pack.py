"""HumanEvalFix of HumanEvalPack, and HumanEval-XL: faulty functions, and requests in 23 natural languages.

Sources:
    Muennighoff et al. 2023, arXiv:2308.07124 (OctoPack), and Peng et al. 2024, arXiv:2402.16694, with the released
    prompts, cuts and imports of the first; the second has no released prompts of base models.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError
from .problems import Problem, get_texts, read_rows
from .prompts import Prompt

KEYS = {"python": "py", "cpp": "cpp", "js": "js", "javascript": "js", "java": "java", "go": "go", "rust": "rs"}
XL_KEYS = {**KEYS, "php": "php", "swift": "swift", "ruby": "rb", "csharp": "cs"}
STOPS = {
    "py": ("\nclass", "\ndef", "\n#", "\n@", "\nprint", "\nif", "\nassert"),
    "go": ("\n//", "\nfunc main(", "struct", "\nfunc"),
}
# The names that the harness imports for every program.
PYTHON_HEAD = (
    "import math\nimport re\nimport sys\nimport copy\nimport datetime\nimport itertools\nimport collections\n"
    "import heapq\nimport statistics\nimport functools\nimport hashlib\nimport string\nfrom typing import *\n"
    "from collections import *\n"
)
CPP_HEADERS = (
    "stdlib.h", "algorithm", "cmath", "math.h", "numeric", "stdio.h", "vector", "set", "map", "queue", "stack", "list",
    "deque", "string", "climits", "cstring", "iostream", "sstream", "fstream",
)  # fmt: skip
CPP_HEAD = "".join(f"#include <{name}>\n" for name in CPP_HEADERS) + "using namespace std;\n"
BRACES = ("java", "js", "go", "cpp", "rs", "php", "swift", "cs")


def read_humanevalfix(path: Path) -> list[Problem]:
    """Reads one language of HumanEvalPack, to fix its faulty functions.

    Fields: `task_id`, `prompt`, `declaration`, `canonical_solution`, `buggy_solution`, `test` and `entry_point`.
    """
    problems = []
    for place, row in read_rows(path):
        key, prompt, declaration, solution, faulty, tests, name = get_texts(
            row,
            place,
            "task_id",
            "prompt",
            "declaration",
            "canonical_solution",
            "buggy_solution",
            "test",
            "entry_point",
        )
        language = find_language(key, KEYS, place)
        notes = {
            "declaration": declaration,
            "faulty": faulty,
            "shown_tests": tests,
            "answer": f"\n{solution}",
            "prelude": "",
        }
        tests = adapt_tests(tests, language)
        problems.append(
            Problem(
                key, language, prompt, None, solution, tests, name, (*STOPS.get(language, ()), "<|endoftext|>"), notes
            )
        )
    return problems


def read_humaneval_xl(path: Path) -> list[Problem]:
    """Reads one pair of languages of HumanEval-XL.

    Fields: `task_id`, `prompt`, `test`, `entry_point`, `natural_language`, and `canonical_solution` (for Python alone).
    """
    problems = []
    for place, row in read_rows(path):
        key, prompt, tests, name, spoken = get_texts(
            row, place, "task_id", "prompt", "test", "entry_point", "natural_language"
        )
        language = find_language(key, XL_KEYS, place)
        solution = row.get("canonical_solution")
        if solution == "nan" or not isinstance(solution, str):  # as some files are released
            solution = None
        notes: dict[str, object] = {"spoken": spoken}
        if solution is not None:
            notes["answer"] = f"\n{solution}"
        tests = f"{tests}\ncheck({name})" if language == "py" else adapt_tests(tests, language)
        stops = (*STOPS.get(language, ()), "<|endoftext|>")
        problems.append(Problem(f"{key}/{spoken}", language, prompt, None, solution, tests, name, stops, notes))
    return problems


def find_language(key: str, known: dict[str, str], place: str) -> str:
    """The language before the slash of a task's id; a `DataError` if it is none."""
    name = key.partition("/")[0].lower().replace("c++", "cpp")
    if name not in known:
        raise DataError(f"{place} has task_id {key!r}, which names no language; use one of {', '.join(known)}")
    return known[name]


def adapt_tests(tests: str, language: str) -> str:
    """Tests as this sandbox runs them: a main class of its name, assertions that fail, and no packages."""
    if language == "java":
        return re.sub(r"\bclass Main\b", "class Problem", tests)
    if language == "js":
        tests = tests.replace("console.assert(", "assertOfTests(")
        return re.sub(
            r"""const _ = require\(["']lodash["']\);?""",
            "const _ = {isEqual: require('node:util').isDeepStrictEqual};", tests,
        )  # fmt: skip
    if language == "rs":
        tests = re.sub(r"#\[(?:cfg\(test\)|test)\]", "", tests)
        names = re.findall(r"\bfn\s+(\w+)\s*\(\s*\)", tests)
        calls = "".join(f"tests::{name}(); " for name in names)
        return f"{re.sub(r'(?<!pub )fn ', 'pub fn ', tests)}\nfn main() {{ {calls}}}\n"
    return tests


def prompt_fix_tests(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The faulty function with its tests, the instruction, and the beginning of the right function."""
    head = _head(problem)
    shown = f"{head}{problem.notes['faulty']}\n{problem.notes['shown_tests']}"
    return Prompt(f"{shown}\nFix bugs in {problem.name}.\n\n{head}".strip())


def prompt_fix_docs(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The faulty function with its documentation, the instruction, and the beginning of the right function."""
    return Prompt(
        f"{problem.prompt}{problem.notes['faulty']}\nFix bugs in {problem.name}.\n\n{problem.prompt}".strip()
    )  # fmt: skip


def _head(problem: Problem) -> str:
    declaration = str(problem.notes["declaration"])
    return f"fn main(){{}}\n{declaration}" if problem.language == "rs" else declaration


def take_function(problem: Problem, text: str) -> str:
    """The rest of a function: in Python up to a line without indentation, elsewhere up to its closing brace."""
    text = text.rstrip()
    if problem.language not in BRACES:
        lines = text.split("\n")
        ends = [number for number, line in enumerate(lines) if line.strip() and line[0] not in " \t"]
        return "\n".join(lines[: ends[0]]) if ends else text
    depth = 2 if problem.language == "java" else 1
    for place, sign in enumerate(text):
        depth += (sign == "{") - (sign == "}")
        if depth == 0:
            return text[: place + 1]
    return close(problem, text)


def close(problem: Problem, text: str) -> str:
    """A function that was not closed, up to its last brace; in Java, with the class closed."""
    if problem.language == "java":
        text = text.partition("public static void main")[0] + ("}" if "public static void main" in text else "")
    if "}" in text:
        text = text[: text.rindex("}") + 1]
    if problem.language == "java" and text.count("{") - 1 == text.count("}"):
        text += "\n}"
    return text


def program_fixed(problem: Problem, text: str) -> tuple[str, str]:
    """The prompt and the answer, after the names that the harness imports."""
    source = problem.prompt.rstrip() + text
    if problem.language == "py":
        source = PYTHON_HEAD + source
    elif problem.language == "cpp":
        source = CPP_HEAD + source.partition("int main")[0]
    elif problem.language == "rs":
        source = re.sub(r"fn main\s*\(\s*\)\s*\{\s*\}", "", source)
    return source, problem.tests
