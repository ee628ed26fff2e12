"""Problems whose programs read standard input and write standard output, or are functions with inputs and outputs.

The program's process gets one input at a time. Expected outputs stay in the process of the tests, which compares.
"""

import ast
import inspect
import json
from collections.abc import Sequence

from ..sandbox.inside import outputs
from ..sandbox.limits import Rule
from . import judged_program, judged_tests
from .evalplus import write_values

SECONDS_TO_START = 5.0
Case = tuple[str, tuple[str, ...]]  # an input, and the outputs of which one has to be printed
UNREADABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def make_reading_program(source: str, *, module: str, function: str = "", head: str = "") -> str:
    """A program that its tests run on one input after another.

    Args:
        source: Runs once for each input; or once before all inputs if `function` is what runs for each.
        module: Its `__name__`.
        head: Runs before it.
    """
    text = f"{inspect.getsource(judged_program)}\n\nscope_of_judge = {{'__name__': {module!r}}}\n"
    text += f"code_of_judge = compile({head + source!r}, 'program', 'exec', dont_inherit=True)\n"
    if function:
        text += "exec(code_of_judge, scope_of_judge)\ncode_of_judge = None\n"
    return f"{text}program_of_judge = code_of_judge, scope_of_judge, {function!r}\n"


def make_output_tests(cases: Sequence[Case], rule: Rule, timeout_s: float) -> str:
    """Tests that run a program of `make_reading_program` on each input, `timeout_s` at most."""
    listed = [(given, list(accepted)) for given, accepted in cases]
    compare = f"compare_outputs(run_on_input, {listed!r}, RULES[{rule!r}], {timeout_s!r})"
    return f"{inspect.getsource(outputs)}\n\n{inspect.getsource(judged_tests).replace(FUTURE, '')}\n\n{compare}\n"


def make_value_tests(name: str, cases: Sequence[tuple[Sequence[object], object]], timeout_s: float) -> str:
    """Tests that call a function with each list of arguments, `timeout_s` at most."""
    listed = write_values([(list(given), expected) for given, expected in cases])
    return f"{inspect.getsource(judged_tests)}\n\ncompare_values({name}, {listed}, {timeout_s!r})\n"


FUTURE = "from __future__ import annotations\n"


def wrap_statements(source: str, name: str) -> str:
    """A program whose statements other than imports are the body of a function; unchanged if it does not parse.

    A last block under `__main__` counts as its statements.
    """
    try:
        body = ast.parse(source).body
        if body and isinstance(body[-1], ast.If) and ast.unparse(body[-1].test) == "__name__ == '__main__'":
            body = [*body[:-1], *body[-1].body]
        imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
        rest = [node for node in body if not isinstance(node, (ast.Import, ast.ImportFrom))]
        lines = ast.unparse(ast.Module([make_function(name, rest or [ast.Pass()])], []))
        return "\n".join([*(ast.unparse(node) for node in imports), lines])
    except UNREADABLE:
        return source


def make_function(name: str, body: list[ast.stmt]) -> ast.stmt:
    """The syntax tree of a function without parameters."""
    function = ast.parse(f"def {name}(): pass").body[0]
    if isinstance(function, ast.FunctionDef):
        function.body = body
    return function


def read_json(text: str) -> object:
    """A JSON value."""
    value: object = json.loads(text)
    return value
