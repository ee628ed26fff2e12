"""LiveCodeBench: problems as released, answers as its runner reads them, and programs as its judge runs them."""

import base64
import json
import pickle
import zlib
from pathlib import Path

import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.evaluate.contests import read_cases, take_last_block
from codeshell_hf.evaluate.execution import Executor, open_executor
from codeshell_hf.evaluate.judged import wrap_statements
from codeshell_hf.evaluate.problems import Problem, read_problems
from codeshell_hf.evaluate.profiles import PROFILES
from codeshell_hf.sandbox import Sandbox
from tests.evaluate.sets import SMALL

PROFILE = PROFILES["livecodebench-v1"]
RUNNING_TOTALS, HALVES, PAIRS = 0, 1, 2
LOOP = "n = int(input())\ntotal = 0\nwords = []\nfor word in input().split():\n    total += int(word)\n"
RIGHT = f"{LOOP}    words.append(str(total))\nprint(' '.join(words))"


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return read_problems(SMALL / "livecodebench.jsonl", PROFILE.read)


@pytest.fixture
def executor(problems: list[Problem], sandbox: Sandbox) -> Executor:
    return open_executor(PROFILE, problems, sandbox)


def judge(executor: Executor, problem: Problem, *programs: str) -> list[str]:
    assert PROFILE.program is not None
    made = [executor.make_program(problem, PROFILE.program(problem, text)[0]) for text in programs]
    return [verdict.reason or verdict.status for verdict in executor.sandbox.run(made)]


def test_programs_that_read_and_print_are_judged(executor: Executor, problems: list[Problem]) -> None:
    ways = [
        RIGHT,
        f"def main():\n    {RIGHT.replace(chr(10), chr(10) + '    ')}\nif __name__ == '__main__':\n    main()",
        RIGHT.replace("input()", "sys.stdin.readline()"),
        "print(*accumulate(map(int, open(0).read().split()[1:])))",
        f"{RIGHT}\nsys.exit()",
        f"{RIGHT}\nexit(1)",  # the released judge ignores SystemExit
        RIGHT.replace("print(", "print(end='  \\n')\nprint("),
    ]
    rejected = [
        f"{RIGHT}\nprint(1)",
        f"{RIGHT}\nraise ValueError",
        f"{RIGHT}\nsys.stdout.flush()\nos._exit(1)",
        "print('1 3 6')",
        "",
        "n = (",
        # Globals of a program are locals of the judge's function, as in the released one.
        f"count = 0\ndef up():\n    global count\n    count += 1\nup()\n{RIGHT}",
    ]

    assert judge(executor, problems[RUNNING_TOTALS], *ways) == ["passed"] * len(ways)
    assert "passed" not in judge(executor, problems[RUNNING_TOTALS], *rejected)


@pytest.mark.slow
def test_an_endless_program_is_stopped(executor: Executor, problems: list[Problem]) -> None:
    assert judge(executor, problems[RUNNING_TOTALS], "while True: pass") == ["TimeoutError"]


def test_each_input_has_a_program_of_its_own(executor: Executor, problems: list[Problem]) -> None:
    stateful = (
        "import sys\nsys.seen = getattr(sys, 'seen', 0) + 1\nfor line in sys.stdin: print(int(line) / 2 / sys.seen)"
    )

    assert judge(executor, problems[HALVES], stateful) == ["passed"]


def test_methods_are_called_with_json_values(executor: Executor, problems: list[Problem]) -> None:
    head = "class Solution:\n    def countPairs(self, nums):\n        "

    assert judge(
        executor,
        problems[PAIRS],
        f"{head}return sum(a == b for a, b in combinations(nums, 2))",
        f"{head}return float(sum(a == b for a, b in combinations(nums, 2)))",
        f"{head}return str(3)",
        f"{head}return type('E', (), {{'__eq__': lambda *_: True}})()",
        "def countPairs(nums): return 0",
        "class Other: pass",
    ) == ["passed", "passed", "AssertionError", "AssertionError", "AssertionError", "NameError"]


def test_the_expected_outputs_are_not_in_the_process_of_the_program(
    executor: Executor, problems: list[Problem]
) -> None:
    search = (
        "import gc, sys\nfound = []\nframe = sys._getframe()\nwhile frame:\n    found.append(repr(frame.f_locals))\n"
        "    frame = frame.f_back\n"
        "found += [repr(item) for item in gc.get_objects() if isinstance(item, (list, tuple, str))]\n"
        "print(3 if any('0 0 7 8 0' in text for text in found) else 'none')"
    )
    assert judge(executor, problems[RUNNING_TOTALS], search) == ["AssertionError"]


def test_the_last_fenced_block_is_the_answer() -> None:
    problem = Problem("a", "py", "")

    assert take_last_block(problem, "```python\nx\n```\nbetter:\n```\ny\nz\n```\nend") == "y\nz"
    assert take_last_block(problem, "```python\nx") == ""
    assert take_last_block(problem, "x") == ""


def test_statements_become_a_function_and_imports_stay() -> None:
    source = "import os\nx = 1\ndef f():\n    return x\nif __name__ == '__main__':\n    print(f())\n"

    assert wrap_statements(source, "main") == (
        "import os\ndef main():\n    x = 1\n\n    def f():\n        return x\n    print(f())"
    )
    assert wrap_statements("x = (", "main") == "x = ("


def pack(value: object) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()


class Hostile:
    """Runs code when it is unpickled by a reader that allows classes."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object]]:
        return Path.touch, (self.mark,)


def test_hidden_tests_are_read_as_released_and_run_no_code(tmp_path: Path) -> None:
    hostile = pack(Hostile(tmp_path / "mark"))
    cases = [{"input": "1\n", "output": "2", "testtype": "stdin"}]

    assert read_cases(json.dumps(cases), "p") == [("1\n", "2")]
    assert read_cases(pack(json.dumps(cases)), "p") == [("1\n", "2")]
    for broken in (hostile, "bm90IHpsaWI=", "[{}]", "*", pack("[1]")):
        with pytest.raises(DataError, match="p has test cases that cannot be read"):
            read_cases(broken, "p")
    assert not (tmp_path / "mark").exists()
    pickle.loads(zlib.decompress(base64.b64decode(hostile)))  # noqa: S301 - as a reader that allows classes would
    assert (tmp_path / "mark").exists()


def test_broken_problems_are_named(tmp_path: Path) -> None:
    row = json.loads((SMALL / "livecodebench.jsonl").read_text(encoding="utf-8").split("\n")[2])
    path = tmp_path / "contests.jsonl"
    for change, message in (
        ({"metadata": "["}, "metadata that are not JSON"),
        ({"metadata": "[]"}, "metadata that are no object"),
        ({"public_test_cases": "[]", "private_test_cases": "[]"}, "no test cases"),
        ({"public_test_cases": '[{"input": "x", "output": "1"}]'}, "is not JSON"),
    ):
        path.write_text(json.dumps({**row, **change}))
        with pytest.raises(DataError, match=message):
            read_problems(path, PROFILE.read)
