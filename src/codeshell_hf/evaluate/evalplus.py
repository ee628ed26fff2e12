"""Reads HumanEval+ and MBPP+ of EvalPlus: a reference solution, the benchmark's own inputs, and many more."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import DataError
from . import evalplus_check
from .problems import Problem, get_texts, read_rows

LEAST_S, FACTOR = 4.0, 4.0  # of a call, as in EvalPlus 0.3
MORE_TESTS = "more tests"  # of a problem's notes

Argument = object
Convert = Callable[[list[Argument]], list[Argument]]


def _tuple(value: Argument) -> Argument:
    return tuple(value) if isinstance(value, list) else value


def _tuples(value: Argument) -> list[Argument]:
    return [_tuple(item) for item in value] if isinstance(value, list) else []


def _deep_tuple(value: Argument) -> Argument:
    return tuple(map(_deep_tuple, value)) if isinstance(value, list) else value


def _sets(value: Argument) -> list[Argument]:
    return [set(item) if isinstance(item, list) and item else {} for item in value] if isinstance(value, list) else []


def _values(value: Argument) -> Argument:
    return {key: _tuple(item) for key, item in value.items()} if isinstance(value, dict) else value


# JSON has no tuples, sets and complex numbers: how the arguments of MBPP's tasks, by number, become those of the
# original tests.
CONVERSIONS: tuple[tuple[tuple[int, ...], Convert], ...] = (
    (
        (2, 116, 132, 143, 222, 261, 273, 394, 399, 421, 424, 429, 470, 560, 579, 596, 616, 630, 726, 740, 744, 809),
        lambda given: [_tuple(argument) for argument in given],
    ),
    (
        (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
        lambda given: [_tuples(argument) for argument in given],
    ),
    ((75, 413, 444, 753), lambda given: [_tuples(given[0]), *given[1:]]),
    ((106, 750), lambda given: [given[0], _tuple(given[1])]),
    ((115,), lambda given: [_sets(given[0])]),
    ((124,), lambda given: [float(str(given[0])), complex(str(given[1]))]),
    ((250, 307, 405, 446, 617, 720, 763, 808), lambda given: [_tuple(given[0]), *given[1:]]),
    ((252,), lambda given: [complex(str(given[0]))]),
    ((259, 401, 445), lambda given: [tuple(_tuples(argument)) for argument in given]),
    ((278,), lambda given: [tuple(_tuples(given[0]))]),
    ((580, 615, 791), lambda given: [_deep_tuple(argument) for argument in given]),
    ((722,), lambda given: [_values(given[0]), *given[1:]]),
)
BY_NUMBER = {number: convert for numbers, convert in CONVERSIONS for number in numbers}


def read_humaneval_plus(path: Path) -> list[Problem]:
    """Reads HumanEval+; see `read_evalplus`."""
    return read_evalplus(path)


def read_mbpp_plus(path: Path) -> list[Problem]:
    """Reads MBPP+, to be judged by the rules since June 2024; see `read_evalplus`."""
    return read_evalplus(path)


def read_first_mbpp_plus(path: Path) -> list[Problem]:
    """Reads MBPP+, to be judged by the rules of its first release, v0.1.0; see `read_evalplus`."""
    return read_evalplus(path, is_first=True)


def read_evalplus(path: Path, *, is_first: bool = False, is_elsewhere: bool = False) -> list[Problem]:
    """Reads HumanEval+ or MBPP+.

    Fields: `task_id`, `prompt`, `entry_point`, `canonical_solution`, `base_input`, `plus_input` and `atol`.

    Returns:
        Problems whose tests are the benchmark's own inputs; those with the additional inputs are in their notes.

    Raises:
        DataError: If a field is missing or of another type.
    """
    problems = []
    for place, row in read_rows(path):
        key, prompt, name, solution = get_texts(row, place, "task_id", "prompt", "entry_point", "canonical_solution")
        base, more, tolerance = row.get("base_input"), row.get("plus_input"), row.get("atol")
        more = [] if more == {} else more  # as MBPP+ writes one problem without further inputs
        if not isinstance(base, list) or not isinstance(more, list) or not isinstance(tolerance, (int, float)):
            raise DataError(
                f"{place} has no lists base_input and plus_input or no number atol; give EvalPlus' file as released"
            )
        number = key.rpartition("/")[2]
        convert = BY_NUMBER.get(int(number)) if key.startswith("Mbpp/") and number.isdecimal() else None
        texts = [
            make_tests(
                name,
                prompt + solution,
                _convert(inputs, convert),
                tolerance,
                is_first=is_first,
                is_elsewhere=is_elsewhere,
            )
            for inputs in (base, more)
        ]  # fmt: skip
        # MBPP's prompt is a docstring, and its solution a whole program.
        problems.append(Problem(key, "py", prompt, None, solution, texts[0], name, notes={MORE_TESTS: texts[1]}))
    return problems


def _convert(inputs: Sequence[Argument], convert: Convert | None) -> list[Argument]:
    return [convert(given) if convert is not None and isinstance(given, list) else given for given in inputs]


def make_tests(
    name: str,
    reference: str,
    inputs: Sequence[Argument],
    tolerance: float,
    *,
    is_first: bool = False,
    is_elsewhere: bool = False,
) -> str:
    """A program that compares the function `name` with that of a reference solution on each of the inputs.

    Args:
        is_first: Whether the rules of the first MBPP+ hold.
        is_elsewhere: Whether another interpreter gives the expected order of sets, as EvalPlus' stored outputs did.
    """
    expected = f"scope_of_reference[{name!r}]"
    if is_elsewhere and name in evalplus_check.AS_SETS:
        expected = f"run_elsewhere({name!r}, {reference!r}, inputs_of_tests)"
    return (
        f"{inspect.getsource(evalplus_check)}\n\nscope_of_reference = {{}}\nexec({reference!r}, scope_of_reference)\n"
        f"inputs_of_tests = {write_values(inputs)}\n"
        f"compare_outputs({name!r}, {name}, {expected}, inputs_of_tests, {tolerance!r}, "
        f"least_s={LEAST_S}, factor={FACTOR}, is_first={is_first})\n"
    )


def write_values(inputs: Sequence[Argument]) -> str:
    """Python for inputs, with infinities and NaN."""
    text = repr(list(inputs))
    if "inf" in text or "nan" in text:
        return f"eval({text!r}, {{'inf': float('inf'), 'nan': float('nan')}})"
    return text


def read_verdicts(path: Path) -> dict[str, list[tuple[str, bool, bool]]]:
    """Reads samples with EvalPlus' verdicts: by task, each program and what it passed.

    Fields: `task_id`, `solution`, `base` and `plus` ("pass" or not).

    Returns:
        Programs with whether they passed the benchmark's inputs, and those and the additional ones.
    """
    verdicts: dict[str, list[tuple[str, bool, bool]]] = {}
    for place, row in read_rows(path):
        key, solution, base, plus = get_texts(row, place, "task_id", "solution", "base", "plus")
        verdicts.setdefault(key, []).append((solution, base == "pass", base == plus == "pass"))
    return verdicts
