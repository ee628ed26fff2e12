"""Rules for tasks, and the reasons of those that break one."""

from typing import Any

import pytest

from codeshell_hf.synthesize.reply_parts import ReplyParts
from codeshell_hf.synthesize.settings import CheckSettings
from codeshell_hf.synthesize.task_rules import (
    RuleBroken,
    SynthesizedTask,
    check_copy,
    find_exact_copies,
    make_task,
    measure_chinese,
)

PROBLEM = "Write `double(x)`, which returns twice a number."
CODE = "def double(x):\n    return 2 * x"
TESTS = "assert double(1) == 2\nassert double(0) == 0"
LONG = (
    "def mean(values):\n    total = 0\n    for value in values:\n        total += value\n    return total / len(values)"
)


def draft(written_in: Any = "en", problem: str = "", program: str = "") -> SynthesizedTask:
    return SynthesizedTask("1", "d:1", "MIT", written_in, problem, "", program, "")


def make(
    problem: str = PROBLEM, answer: str = CODE, tests: str = TESTS, seed: str = "", written_in: Any = "en",
    answers_as: Any = "given", **checks: Any,
) -> SynthesizedTask:  # fmt: skip
    parts = ReplyParts(problem, answer, tests)
    return make_task(parts, draft(written_in), seed, CheckSettings(**checks), answers_as)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "a short problem": ({"problem": "double(x)"}, "problem-too-short"),
    "a long problem": ({"max_problem_characters": 40}, "problem-too-long"),
    "English for Chinese": ({"written_in": "zh"}, "wrong-language"),
    "Chinese for English": ({"problem": "编写函数 `double(x)`，返回这个数字的两倍，不改变它。"}, "wrong-language"),
    "what is not there": ({"problem": "Complete the code above, double(x), so that it works."}, "refers-to-seed"),
    "a seed that is not there, in Chinese": (
        {"problem": "根据上述代码编写函数 `double(x)`，返回这个数字的两倍。", "written_in": "zh"}, "refers-to-seed",
    ),
    "tests that are none": ({"tests": "assert double(1) =="}, "tests-not-python"),
    "an answer that is none": ({"answer": "```js\nconst double = (x) => 2 * x\n```"}, "answer-not-python"),
    "an answer that is nested too deep": ({"answer": f"{CODE}\ny = {'+'.join('1' * 3000)}"}, "answer-not-python"),
    "an answer with a number that Python cannot write": (
        {"answer": f"{CODE}\ny = 0x{'f' * 5000}"}, "answer-not-python",
    ),
    "tests that are nested too deep": (
        {"tests": f"from solution import double\n{TESTS}\nassert {'+'.join('1' * 3000)}"}, "tests-not-python",
    ),
    "an answer in words": ({"answer": "Multiply by two."}, "answer-not-python"),
    "a long answer": ({"max_answer_lines": 1}, "answer-too-long"),
    "one test": ({"tests": "assert double(1) == 2"}, "too-few-tests"),
    "tests that print": ({"tests": "print(double(1))\nprint(double(2))"}, "too-few-tests"),
    "tests of something else": ({"tests": "assert 1 == 1\nassert 2 == 2"}, "tests-use-nothing"),
    "tests with an answer of their own": ({"tests": f"{CODE}\n{TESTS}"}, "tests-use-nothing"),
    "a name that the problem keeps to itself": (
        {"problem": "Write a function that returns twice a number, its argument."}, "unnamed",
    ),
    "a part of a name": ({"problem": "Write `doubled(x)`, which returns twice a number."}, "unnamed"),
    "the answer in the problem": ({"problem": f"{PROBLEM} For instance:\n{CODE}"}, "problem-holds-answer"),
    "the seed again": ({"seed": CODE}, "copies-seed"),
    "the seed and more": ({"answer": f"import math\n\n{CODE}", "seed": f"\n{CODE}\n\n"}, "copies-seed"),
    "a part of the seed": ({"seed": f"class A:\n    pass\n\n{CODE}\n\ndef more(): ..."}, "copies-seed"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_has_its_reason(name: str) -> None:
    changes, reason = BROKEN[name]

    with pytest.raises(RuleBroken) as caught:
        make(**changes)

    assert caught.value.reason == reason


def test_a_task_that_keeps_the_rules_is_made() -> None:
    task = make(seed="def triple(x):\n    return 3 * x")

    assert (task.problem, task.answer, task.program, task.tests) == (PROBLEM, CODE, CODE, TESTS)


@pytest.mark.parametrize(("answers_as", "expected"), [
    ("given", f"It doubles.\n```python\n{CODE}\n```"), ("fenced", f"```python\n{CODE}\n```"), ("bare", CODE),
])  # fmt: skip
def test_answers_are_written_as_asked(answers_as: str, expected: str) -> None:
    task = make(answer=f"It doubles.\n```python\n{CODE}\n```", answers_as=answers_as)

    assert (task.answer, task.program) == (expected, CODE)


def test_chinese_is_measured_without_code() -> None:
    assert measure_chinese("编写 `add_two_numbers(first, second)`") == 1.0
    assert measure_chinese("Write `f`.\n```python\n# 返回\n```") == 0.0
    assert measure_chinese("1 + 1") == 0.0
    assert make(problem="编写函数 `double(x)`，返回 number 的两倍即可。", written_in="zh").written_in == "zh"


def test_a_copy_is_known_by_its_share_of_sequences() -> None:
    """Of 17 words six names are new: 12 sequences, all of which have one of them, or none."""
    renamed = LONG.replace("total", "amount")
    check_copy(renamed, LONG, 0.8)
    check_copy(LONG, "", 0.8)
    check_copy(LONG, "def other():\n    return None", 0.8)
    almost = f"{LONG}  # mean"
    with pytest.raises(RuleBroken) as caught:
        check_copy(almost.replace("mean(values)", "mean(values)", 1), f"# first\n{LONG}\n\nprint()", 0.8)
    assert caught.value.value is not None
    assert caught.value.value > 0.8


def test_exact_copies_have_the_problem_or_the_program_of_an_earlier_task() -> None:
    tasks = [
        draft(problem="one", program="x = 1"),
        draft(problem="two", program="x = 2"),
        draft(problem=" one\n", program="x = 3"),
        draft(problem="four", program="x  =  2  # again"),
        draft(problem="five", program="x = 3"),
    ]

    assert find_exact_copies(tasks) == [None, None, 0, 1, None]
