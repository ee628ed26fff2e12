"""Writes the small programming tasks of nano's alignment, each with an answer, and tests that only correct ones pass.

python -m recipes.nano.tasks recipes/nano/data

After fine-tuning, a model of two million parameters solves some of them and not others, which reinforcement learning
needs. A task has a function, an operation (in English or Chinese, in several wordings) and a number.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

SEED = 20_240_601
FILES = {"tasks-tuning": 700, "tasks-feedback": 400, "tasks-held-out": 96}
NUMBER_NAMES = ("f", "step", "change", "move", "shift", "apply", "compute", "update", "next_value", "transform", "calc")
LIST_NAMES = ("f", "pick", "part", "select", "choose", "get", "slice_of", "take", "apply", "update", "some")


@dataclass(frozen=True)
class Operation:
    """The operation of a task.

    Args:
        answer: The expression, with `x` for the argument and `k` for the number.
        english: Wordings, with the same two letters in braces.
        chinese: The same in Chinese.
        is_list: Whether the argument is a list.
    """

    answer: str
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    is_list: bool = False


OPERATIONS = (
    Operation("{x} + {k}", ("adds {k} to {x}", "returns {x} plus {k}"), ("把 {x} 加上 {k}", "返回 {x} 与 {k} 的和")),
    Operation(
        "{x} - {k}", ("subtracts {k} from {x}", "returns {x} minus {k}"), ("把 {x} 减去 {k}", "返回比 {x} 小 {k} 的数")
    ),
    Operation(
        "{x} * {k}", ("multiplies {x} by {k}", "returns {k} times {x}"), ("把 {x} 乘以 {k}", "返回 {x} 的 {k} 倍")
    ),
    Operation(
        "{x} // {k}",
        ("divides {x} by {k} and rounds down", "returns how often {k} fits into {x}"),
        ("返回 {x} 整除以 {k} 的商",),
    ),
    Operation(
        "{x} % {k}", ("returns the rest of {x} divided by {k}", "returns {x} modulo {k}"), ("返回 {x} 除以 {k} 的余数",)
    ),
    Operation("{x} ** {k}", ("raises {x} to the power {k}",), ("返回 {x} 的 {k} 次方", "求 {x} 的 {k} 次幂")),
    Operation(
        "{x} > {k}",
        ("tells whether {x} is greater than {k}", "checks that {x} is above {k}"),
        ("判断 {x} 是否大于 {k}",),
    ),
    Operation(
        "{x} < {k}", ("tells whether {x} is less than {k}", "checks that {x} is below {k}"), ("判断 {x} 是否小于 {k}",)
    ),
    Operation("{x} == {k}", ("tells whether {x} equals {k}",), ("判断 {x} 是否等于 {k}",)),
    Operation("{x} % {k} == 0", ("tells whether {x} is divisible by {k}",), ("判断 {x} 能否被 {k} 整除",)),
    Operation(
        "max({x}, {k})",
        ("returns the larger of {x} and {k}", "returns {x} but at least {k}"),
        ("返回 {x} 和 {k} 中较大的数",),
    ),
    Operation(
        "min({x}, {k})",
        ("returns the smaller of {x} and {k}", "returns {x} but at most {k}"),
        ("返回 {x} 和 {k} 中较小的数",),
    ),
    Operation("{x}[:{k}]", ("returns the first {k} items of {x}",), ("返回 {x} 的前 {k} 个元素",), is_list=True),
    Operation("{x}[-{k}:]", ("returns the last {k} items of {x}",), ("返回 {x} 的后 {k} 个元素",), is_list=True),
    Operation(
        "{x}[{k}:]", ("returns {x} without the first {k} items",), ("返回去掉前 {k} 个元素的 {x}",), is_list=True
    ),
    Operation("{x} * {k}", ("repeats the list {x} {k} times",), ("把列表 {x} 重复 {k} 次",), is_list=True),
    Operation("{x}[{k}]", ("returns the item of {x} at index {k}",), ("返回 {x} 中下标为 {k} 的元素",), is_list=True),
)


def make_tasks(count: int, seed: int) -> Iterator[dict[str, object]]:
    """Samples tasks with distinct prompts: question and answer, with `language` and `tests`."""
    rng = random.Random(seed)
    seen: set[str] = set()
    while len(seen) < count:
        operation = rng.choice(OPERATIONS)
        language = rng.choice(("en", "zh"))
        name = rng.choice(LIST_NAMES if operation.is_list else NUMBER_NAMES)
        words = {"x": rng.choice(("items", "values") if operation.is_list else ("x", "n")), "k": rng.randint(2, 9)}
        wording = rng.choice(operation.english if language == "en" else operation.chinese).format(**words)
        call = f"`{name}({words['x']})`"
        question = f"Write {call} that {wording}." if language == "en" else f"写 {call}，{wording}。"
        if question in seen:
            continue
        seen.add(question)
        answer = f"def {name}({words['x']}):\n    return {operation.answer.format(**words)}"
        yield {
            "language": language,
            "messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
            "tests": write_tests(operation, name, int(words["k"])),
        }


def write_tests(operation: Operation, name: str, number: int) -> str:
    """Writes assertions from the correct results; no other operation passes them with this number."""
    arguments = (
        ["list('abcdefghijklm')", "[5, 3, 8, 1, 9, 2, 7, 4, 6, 0]"]
        if operation.is_list
        else [str(value) for value in (number, number - 1, number + 1, 3 * number, 29)]
    )
    expression = operation.answer.format(x="x", k=number)
    expected = [eval(expression, {"x": eval(text)}) for text in arguments]  # noqa: S307 - this file's own words
    return "\n".join(f"assert {name}({text}) == {value!r}" for text, value in zip(arguments, expected, strict=True))


def main(arguments: list[str] | None = None) -> int:
    """Writes tasks for fine-tuning, for learning from feedback, and held-out ones."""
    parser = argparse.ArgumentParser(prog="python -m recipes.nano.tasks", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    tasks = make_tasks(sum(FILES.values()), SEED)
    for name, count in FILES.items():
        lines = [json.dumps(task, ensure_ascii=False) + "\n" for task in islice(tasks, count)]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"wrote {len(lines)} tasks to {folder / name}.jsonl", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
