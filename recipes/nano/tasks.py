"""Writes the small programming tasks of nano's alignment, each with an answer, and tests that only correct ones pass.

python -m recipes.nano.tasks recipes/nano/data

A task is one operation or two in a row, in English or Chinese, with names and numbers. What is held out is new, and not
the training tasks in other words: pairs of operations that no training task has, in either order; wordings; and
operations. Training on feedback has pairs of its own, too.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, permutations
from pathlib import Path
from types import CodeType

from recipes.nano.operations import OPERATIONS, Operation

SEED = 20_240_601
TUNING = "tasks-tuning"  # its answers are learned, and its tests would only make the file large
SINGLE, PAIRED = 500, 1_500
FEEDBACK, HELD_OUT, WORDINGS, NEW_OPERATIONS = 400, 96, 64, 64
PAIR_SHARES = {"tuning": 0.55, "feedback": 0.25}  # the rest is held out
NUMBER_NAMES = ("f", "step", "change", "move", "shift", "apply", "compute", "update", "next_value", "transform", "calc")
LIST_NAMES = ("f", "pick", "part", "select", "choose", "get", "slice_of", "take", "apply", "update", "some")
NUMBERS = (-30, -12, -7, -3, -1, 0, 1, 2, 4, 5, 6, 8, 9, 11, 14, 17, 23, 40, 65)
NUMBERS_TESTED = 7
LISTS = (
    (5, 3, 8, 1, 9, 2, 7, 4, 6, 0),
    (12, -4, 7, 7, 3, 30, 1, -9, 2, 10, 8),
    (4, 9, 1, 16, 5, 2, 8, 3, 3, 11, 7, 6),
    (-2, -8, -5, -11, -3, -6, -1, -9, -4, -7, 2, 0, -3),
    (6, 6, 2, 40, -15, 9, 5, 5, 31, 3, 8, 2, 1, 7),
)

Chain = tuple[Operation, ...]
Step = tuple[Operation, int]
Value = int | bool | list[int]


@dataclass(frozen=True)
class ComposedTask:
    """A task, before it is written.

    Args:
        steps: Its operations in order, each with its number.
        inputs: What the tests call it with.
    """

    steps: tuple[Step, ...]
    inputs: tuple[Value, ...]
    language: str
    name: str
    argument: str
    wording: str

    @property
    def question(self) -> str:
        """What is asked."""
        call = f"`{self.name}({self.argument})`"
        return f"Write {call} that {self.wording}." if self.language == "en" else f"写 {call}，{self.wording}。"

    @property
    def answer(self) -> str:
        """The function, one operation a line."""
        lines = [operation.code.format(x=self.argument, k=number) for operation, number in self.steps]
        lines = [*(f"{self.argument} = {line}" for line in lines[:-1]), f"return {lines[-1]}"]
        return f"def {self.name}({self.argument}):\n" + "\n".join(f"    {line}" for line in lines)

    @property
    def tests(self) -> str:
        """Assertions on the result of each input."""
        return "\n".join(f"assert {self.name}({value!r}) == {compute(self.steps, value)!r}" for value in self.inputs)

    def write(self, *, has_tests: bool) -> dict[str, object]:
        """A conversation, with its tests if they are to be run."""
        messages = [{"role": "user", "content": self.question}, {"role": "assistant", "content": self.answer}]
        tests = {"tests": self.tests} if has_tests else {}
        return {"language": self.language, "messages": messages, **tests}


@cache
def _compile(operation: Operation, number: int) -> CodeType:
    return compile(operation.code.format(x="x", k=number), "<operation>", "eval")


def compute(steps: Sequence[Step], value: Value) -> Value | None:
    """The result of steps in a row; `None` if one of them fails, as on an empty list."""
    result = value
    try:
        for operation, number in steps:
            result = eval(_compile(operation, number), {"x": result})  # noqa: S307 - this project's own words
    except (IndexError, TypeError, ValueError):
        return None
    return result


def split_pairs() -> dict[str, list[Chain]]:
    """Splits the pairs of trained operations; both orders of a pair are on one side."""
    trained = [operation for operation in OPERATIONS if not operation.is_held_out]
    orders: dict[frozenset[str], list[Chain]] = {}
    for first, second in permutations(trained, 2):
        if first.gives == second.takes:
            orders.setdefault(frozenset((first.code, second.code)), []).append((first, second))
    pairs = list(orders.values())
    random.Random(SEED).shuffle(pairs)
    ends = [round(len(pairs) * share) for share in (0, PAIR_SHARES["tuning"], sum(PAIR_SHARES.values()), 1)]
    names = (*PAIR_SHARES, "held-out")
    return {
        name: [chain for pair in pairs[start:end] for chain in pair]
        for name, (start, end) in zip(names, pairwise(ends), strict=True)
    }


def make_tasks(chains: Sequence[Chain], rng: random.Random, *, has_new_wording: bool = False) -> Iterator[ComposedTask]:
    """Samples tasks without end; the tests of each fail if an operation is left out."""
    while True:
        chain = rng.choice(chains)
        is_list = chain[0].takes == "list"
        argument = rng.choice(("items", "values") if is_list else ("x", "n"))
        steps = tuple((operation, rng.randint(2, 9)) for operation in chain)
        language = rng.choice(("en", "zh"))
        wordings = [
            rng.choice(list_wordings(operation, language, is_new=has_new_wording)).format(x=argument, k=number)
            for operation, number in steps
        ]
        inputs: Sequence[Value] = (
            [list(values) for values in LISTS] if is_list else sorted(rng.sample(NUMBERS, NUMBERS_TESTED))
        )
        if is_tested(steps, inputs):
            name = rng.choice(LIST_NAMES if is_list else NUMBER_NAMES)
            wording = (", then " if language == "en" else "，然后").join(wordings)
            yield ComposedTask(steps, tuple(inputs), language, name, argument, wording)


def list_wordings(operation: Operation, language: str, *, is_new: bool) -> tuple[str, ...]:
    """The wordings of an operation; new ones are not trained on."""
    new = operation.new_english if language == "en" else operation.new_chinese
    if is_new and new is not None:
        return (new,)
    return operation.english if language == "en" else operation.chinese


def is_tested(steps: Sequence[Step], inputs: Sequence[Value]) -> bool:
    """Whether all inputs have results, hardly two thirds the same one, and each operation changes some of them."""
    results = [compute(steps, value) for value in inputs]
    if None in results or max(Counter(map(repr, results)).values()) > len(inputs) * 2 / 3:
        return False
    shorter = [[*steps[:place], *steps[place + 1 :]] for place in range(len(steps))]
    return all([compute(fewer, value) for value in inputs] != results for fewer in shorter)


def choose(
    tasks: Iterator[ComposedTask], count: int, seen: set[str], trained: Sequence[ComposedTask] = ()
) -> list[ComposedTask]:
    """The next tasks with new questions, none of which an answer of `trained` tasks solves."""
    answers = {task.steps for task in trained}
    chosen: list[ComposedTask] = []
    while len(chosen) < count:
        task = next(tasks)
        if task.question not in seen and not any(solves(answer, task) for answer in answers):
            seen.add(task.question)
            chosen.append(task)
    return chosen


def solves(answer: Sequence[Step], task: ComposedTask) -> bool:
    """Whether another task's answer passes a task's tests."""
    return all(compute(answer, value) == compute(task.steps, value) for value in task.inputs)


def make_files() -> dict[str, list[ComposedTask]]:
    """The tasks of each file."""
    rng = random.Random(SEED)
    seen: set[str] = set()
    pairs = split_pairs()
    single: list[Chain] = [(operation,) for operation in OPERATIONS if not operation.is_held_out]
    new: list[Chain] = [(operation,) for operation in OPERATIONS if operation.is_held_out]
    tuning = choose(make_tasks(single, rng), SINGLE, seen) + choose(make_tasks(pairs["tuning"], rng), PAIRED, seen)
    rng.shuffle(tuning)
    feedback = choose(make_tasks(pairs["feedback"], rng), FEEDBACK, seen)
    trained = [*tuning, *feedback]
    new_wordings = make_tasks([*single, *pairs["tuning"]], rng, has_new_wording=True)
    return {
        TUNING: tuning,
        "tasks-feedback": feedback,
        "tasks-held-out": choose(make_tasks(pairs["held-out"], rng), HELD_OUT, seen, trained),
        "tasks-new-wordings": choose(new_wordings, WORDINGS, seen),
        "tasks-new-operations": choose(make_tasks(new, rng), NEW_OPERATIONS, seen),
    }


def main(arguments: list[str] | None = None) -> int:
    """Writes tasks for fine-tuning, for learning from feedback, and three files of held-out ones."""
    parser = argparse.ArgumentParser(prog="python -m recipes.nano.tasks", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    for name, tasks in make_files().items():
        lines = [json.dumps(task.write(has_tests=name != TUNING), ensure_ascii=False) + "\n" for task in tasks]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"wrote {len(lines)} tasks to {folder / name}.jsonl", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
