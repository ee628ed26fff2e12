"""CRUXEval: what a function gives for an input, or an input for which it gives an output.

Source:
    Gu et al. 2024, arXiv:2401.03065, and its released prompts, stops, extraction and check.
"""

import ast
from collections.abc import Sequence
from pathlib import Path

from .judged import UNREADABLE
from .problems import Problem, get_texts, read_rows
from .prompts import Prompt

OUTPUT_TASK = (
    "You are given a Python function and an assertion containing an input to the function. Complete the assertion with "
    "a literal (no unsimplified expressions, no function calls) containing the output when executing the provided code "
    "on the given input, even if the function is incorrect or incomplete. Do NOT output any extra information. "
)
INPUT_TASK = "You will be given a function f and an output in the form f(??) == output. "
OUTPUT_SHOTS = (
    ("def f(n):\n    return n", "f(17)", "17"),
    ('def f(s):\n    return s + "a"', 'f("x9j")', '"x9ja"'),
)
INPUT_SHOTS = (
    (
        (
            "def f(my_list):\n    count = 0\n    for i in my_list:\n        if len(i) % 2 == 0:\n"
            "            count += 1\n    return count"
        ),
        'f(["mq", "px", "zy"])', "3",
    ),
    ("def f(s1, s2):\n    return s1 + s2", 'f("ba", "nana")', '"banana"'),
)  # fmt: skip


def read_cruxeval(path: Path) -> list[Problem]:
    """Reads CRUXEval for the prediction of outputs: `id`, `code`, `input` and `output`."""
    return _read(path, is_input=False)


def read_cruxeval_inputs(path: Path) -> list[Problem]:
    """Reads CRUXEval for the prediction of inputs; see `read_cruxeval`."""
    return _read(path, is_input=True)


def _read(path: Path, *, is_input: bool) -> list[Problem]:
    problems = []
    for place, row in read_rows(path):
        key, code, given, output = get_texts(row, place, "id", "code", "input", "output")
        tests = f"assert {output} == f(*answer()[0], **answer()[1])" if is_input else f"assert {output} == answer()"
        side = f"assert f({given}) == {output}\n[/ANSWER]"
        notes = {"input": given, "output": output, "answer": side, "prelude": code if is_input else ""}
        problems.append(Problem(key, "py", code, None, given if is_input else output, tests, notes=notes))
    return problems


def prompt_output(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The task, two examples and the function, with the output left out of an assertion."""
    text = f"{OUTPUT_TASK}Provide the full assertion with the correct output in [ANSWER] and [/ANSWER] tags, "
    text += "following the examples.\n\n"
    for code, called, output in OUTPUT_SHOTS:
        text += f"{_show(code, called, '??')}[ANSWER]\nassert {called} == {output}\n[/ANSWER]\n\n"
    return Prompt(f"{text}{_show(problem.prompt, _call(problem), '??')}[ANSWER]\n")


def prompt_output_steps(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The task and one example with its execution step by step."""
    text = (
        f"{OUTPUT_TASK}Execute the program step by step before arriving at an answer, and provide the full assertion "
        "with the correct output in [ANSWER] and [/ANSWER] tags, following the examples.\n\n"
        f"{_show(STEPS_SHOT, 'f(' + chr(34) + 'hi' + chr(34) + ')', '??')}[THOUGHT]\n{STEPS}[/THOUGHT]\n"
        '[ANSWER]\nassert f("hi") == "bhihia"\n[/ANSWER]\n\n'
    )
    return Prompt(f"{text}{_show(problem.prompt, _call(problem), '??')}[THOUGHT]\n")


STEPS_SHOT = 'def f(s):\n    s = s + s\n    return "b" + s + "a"'
STEPS = (
    "Let's execute the code step by step:\n\n"
    "1. The function f is defined, which takes a single argument s.\n"
    '2. The function is called with the argument "hi", so within the function, s is initially "hi".\n'
    '3. Inside the function, s is concatenated with itself, so s becomes "hihi".\n'
    '4. The function then returns a new string that starts with "b", followed by the value of s (which is now "hihi"), '
    'and ends with "a".\n'
    '5. The return value of the function is therefore "bhihia".\n'
)


def prompt_input(problem: Problem, shots: Sequence[Problem]) -> Prompt:
    """The task, two examples and the function, with the arguments left out of an assertion."""
    text = (
        f"{INPUT_TASK}Find any input such that executing f on the input leads to the given output. There may be "
        "multiple answers, but you should only output one. In [ANSWER] and [/ANSWER] tags, complete the assertion with "
        "one such input that will produce the output when executing the function.\n\n"
    )
    for code, called, output in INPUT_SHOTS:
        text += f"{_show(code, 'f(??)', output)}[ANSWER]\nassert {called} == {output}\n[/ANSWER]\n\n"
    return Prompt(f"{text}{_show(problem.prompt, 'f(??)', problem.notes['output'])}[ANSWER]\n")


def _call(problem: Problem) -> str:
    return f"f({problem.notes['input']})"


def _show(code: str, called: str, output: str) -> str:
    return f"[PYTHON]\n{code}\nassert {called} == {output}\n[/PYTHON]\n"


def take_output(problem: Problem, text: str) -> str:
    """What stands behind the first `==` of an answer."""
    return (text.split("==")[1] if "==" in text else text).strip()


def take_tagged_output(problem: Problem, text: str) -> str:
    """What stands behind the first `==` after the reasoning."""
    return take_output(problem, text.split("[ANSWER]")[1].strip() if "[ANSWER]" in text else text)


def take_call(problem: Problem, text: str) -> str:
    """The call before the first `==` of an answer."""
    text = text.split("==")[0].strip() if "==" in text else text
    return ("f" + text.split("assert f")[1].strip() if "assert f" in text else text).strip()


def program_output(problem: Problem, text: str) -> tuple[str, str]:
    """The function, and one that gives the answer's value; an answer that calls the function on the input is wrong."""
    if f"f({problem.notes['input']})" in text:
        return "", problem.tests
    value = find_value(text)
    return f"{problem.prompt}\n\ndef answer():\n    return {value}\n" if value else "", problem.tests


def program_input(problem: Problem, text: str) -> tuple[str, str]:
    """The function, and one that gives the arguments of the answer's call of it; any other answer is wrong."""
    value = find_value(text)
    call = ast.parse(value, mode="eval").body if value else None
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != "f":
        return "", problem.tests
    call.func = ast.Name("collect_arguments")
    collect = "def collect_arguments(*given, **named):\n    return given, named"
    return f"{problem.prompt}\n\n{collect}\n\ndef answer():\n    return {ast.unparse(call)}\n", problem.tests


def find_value(text: str) -> str:
    """The expression that an assertion would compare if an answer stood behind its `==`; empty if there is none."""
    try:
        statements = ast.parse(f"assert 0 == {text}").body
        asserted = statements[0]
        test = asserted.test if len(statements) == 1 and isinstance(asserted, ast.Assert) else None
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            return ast.unparse(test.comparators[0])
    except UNREADABLE:
        pass
    return ""
