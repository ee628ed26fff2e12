"""Compares a function with a reference on many inputs, by the rules of EvalPlus; the sandbox runs this file's text.

It imports nothing of the package, and runs in Python 3.9 or later.
"""

from __future__ import annotations

import ast
import copy
import math
import signal
import subprocess
import sys
import time
from typing import Any

NUMBERS = (bool, int, float, complex)
RELATIVE = 1e-07
FLOAT_TOLERANCE = 1e-06  # where the data give none and a float is expected
# MBPP's functions whose outputs are compared as sets, only by whether they are None, or by a rule of their own.
AS_SETS = (
    "similar_elements", "find_char_long", "common_in_nested_lists", "extract_singly", "larg_nnum", "intersection_array",
    "find_dissimilar", "Diff",
)  # fmt: skip
LATER = ("surface_Area", "digit_distance_nums")
AS_FOUND = ("check_str", "text_match_three", "text_starta_endb")


def compare_outputs(
    name: str,
    candidate: Any,
    reference: Any,
    inputs: list[Any],
    tolerance: float,
    *,
    least_s: float,
    factor: float,
    is_first: bool = False,
) -> None:
    """Raises an AssertionError at the first input whose output is wrong, or TimeoutError if it takes too long.

    Args:
        name: Of the function, for the rules of single problems.
        tolerance: Absolute, of numbers; 0 for none.
        least_s: Time limit of a call.
        factor: And of how many times the reference's time.
        is_first: Whether the rules of the first MBPP+ hold: no sets, no rules of shapes and digits, any type of number.
    """

    def stop(*_: object) -> None:
        raise TimeoutError(name)

    signal.signal(signal.SIGALRM, stop)
    for given in inputs:
        started = time.perf_counter()
        expected = reference(*copy.deepcopy(given))
        limit = max(least_s, factor * (time.perf_counter() - started))
        signal.setitimer(signal.ITIMER_REAL, limit)
        output = candidate(*given)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if name == "find_zero":  # a root, whichever it is
            value = sum(part * math.pow(output, power) for power, part in enumerate(given[0]))
            require(condition=abs(value) <= tolerance)
            continue
        # A float among the expected outputs sets the tolerance of all that follow.
        if tolerance == 0 and is_floating(expected):
            tolerance = FLOAT_TOLERANCE
        if is_first and name in AS_SETS:
            require(condition=output == expected)
        elif not is_right("" if is_first and name in LATER else name, output, expected, given, tolerance):
            require(condition=tolerance != 0 and (is_first or type(output) is type(expected)))
            require(condition=is_near(output, expected, tolerance, has_nan=is_first))


def run_elsewhere(name: str, source: str, inputs: list[Any]) -> Any:
    """A function that gives the outputs of another interpreter, in order, whose sets of texts are ordered otherwise."""
    code = (
        "import ast, sys\nsource, name, inputs = ast.literal_eval(sys.stdin.read())\nscope = {}\nexec(source, scope)\n"
    )
    code += "print(repr([scope[name](*given) for given in inputs]))"
    given = repr((source, name, inputs))
    command = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)  # noqa: S603 - its own text
    outputs = iter(ast.literal_eval(done.stdout))
    return lambda *_: next(outputs)


def require(*, condition: bool) -> None:
    """Raises an AssertionError unless a condition holds."""
    if not condition:
        raise AssertionError


def is_right(name: str, output: Any, expected: Any, given: Any, tolerance: float) -> bool:
    """Whether an output is right without tolerance."""
    if name in AS_SETS:
        return bool(set(output) == set(expected))
    if name in AS_FOUND:
        found = expected is not None
        return bool(output == found) if isinstance(output, bool) else found == (output is not None)
    if output == expected or name == "are_equivalent" or (name == "sum_div" and output == 0):
        return True
    if name == "surface_Area":
        base, height = given
        slant = math.sqrt((base / 2) ** 2 + height**2)
        return bool(abs(output - round(base**2 + 2 * base * slant)) <= tolerance)
    if name == "digit_distance_nums":
        texts = [str(number) for number in given]
        width = max(map(len, texts))
        pairs = zip(*(text.zfill(width) for text in texts))  # noqa: B905 - Python 3.9 has no strict
        return bool(output == sum(abs(int(one) - int(other)) for one, other in pairs))
    return False


def is_floating(value: object) -> bool:
    """Whether a float is expected, or a list or tuple of nothing else."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def is_near(output: Any, expected: Any, tolerance: float, *, has_nan: bool = False) -> bool:
    """Whether numbers, alone or in lists of the same shape, are near; with `has_nan` two NaN are, too.

    Raises:
        TypeError: If one is not a number.
    """
    if isinstance(output, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(output) == len(expected) and all(
            is_near(output[place], expected[place], tolerance, has_nan=has_nan) for place in range(len(output))
        )
    if not isinstance(output, NUMBERS) or not isinstance(expected, NUMBERS):
        raise TypeError("no numbers")
    if has_nan and output != output and expected != expected:
        return True
    return bool(output == expected or abs(output - expected) <= tolerance + RELATIVE * abs(expected) < math.inf)
