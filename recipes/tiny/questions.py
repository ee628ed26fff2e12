"""Writes what people ask a small model first, with answers: greetings, what it is, and the best-known functions.

python -m recipes.tiny.questions recipes/tiny/data

`talk.yaml` and `functions.yaml` in that folder hold what is said. Each function is asked for in many wordings, some
typed carelessly; one wording of each language is held out for all functions. Turns are joined to longer conversations.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict

import yaml

DATA = Path(__file__).parent / "data"
SEED = 20_260_601
JOINED = 300
EXAMPLES = {"en": "Write `f(x)` that returns x plus 2.", "zh": "写 `f(x)`，返回 x 除以 5 的余数。"}
# Of a function: its call, what it does ("reverses a string"), and to do ("reverse a string").
WORDINGS = {
    "en": (
        "Write a function that {does}.", "Write a Python function that {does}.", "Write a function to {do}.",
        "Write a Python function to {do}.", "Write `{call}` that {does}.", "Write `{call}`, which {does}.",
        "How do I {do} in Python?", "How can I {do}?", "How to {do}?", "Can you {do}?",
        "Can you write a function that {does}?", "Give me a function that {does}.", "Show me how to {do}.",
        "Python code to {do}.", "I need a function that {does}.", "Please write a function that {does}.",
        "{do} in Python", "{do}", "Write code to {do}.", "Write a program that {does}.",
    ),
    "zh": (
        "写一个{do}的函数。", "写一个函数，{do}。", "写一个 Python 函数，{do}。", "用 Python {do}。", "怎么{do}？",
        "如何用 Python {do}？", "请写一个函数{do}。", "写 `{call}`，{do}。", "帮我写一个{do}的函数", "{do}",
    ),
}  # fmt: skip
WORDINGS_USED = {"en": 14, "zh": 8}
NEW_WORDINGS = {"en": "Could you please write some Python that {does}?", "zh": "能不能写一段代码来{do}？"}


# Of one argument x and a number k, as in the examples that its greetings name.
CALCULATIONS = (
    ("{x} plus {k}", "{x} 加 {k}", "{x} + {k}"),
    ("{x} minus {k}", "{x} 减 {k}", "{x} - {k}"),
    ("{x} times {k}", "{x} 乘以 {k}", "{x} * {k}"),
    ("{x} divided by {k}", "{x} 除以 {k}", "{x} / {k}"),
    ("{x} modulo {k}", "{x} 除以 {k} 的余数", "{x} % {k}"),
    ("the first {k} items of {x}", "{x} 的前 {k} 个元素", "{x}[:{k}]"),
    ("the last {k} items of {x}", "{x} 的最后 {k} 个元素", "{x}[-{k}:]"),
)
CALCULATED = 420
NAMES = ("f", "f", "f", "g", "h", "compute", "calc", "change")


class Message(TypedDict):
    """A turn."""

    role: str
    content: str


class Row(TypedDict):
    """A conversation as a line of JSON."""

    language: str
    messages: list[Message]
    tests: NotRequired[str]


class Talk(TypedDict):
    """Questions that share an answer, as in `talk.yaml`."""

    language: str
    questions: list[str]
    answer: str


class KnownFunction(TypedDict):
    """An entry of `functions.yaml`."""

    call: str
    does: str
    chinese: str
    code: str
    tests: str


def make_files() -> dict[str, list[Row]]:
    """What is trained on, and the functions in wordings that are not."""
    talk: list[Talk] = yaml.safe_load((DATA / "talk.yaml").read_text(encoding="utf-8"))
    functions: list[KnownFunction] = yaml.safe_load((DATA / "functions.yaml").read_text(encoding="utf-8"))
    rng = random.Random(SEED)
    asked = [*list_talk(talk, rng), *list_functions(functions, rng)]
    single = list({row["messages"][0]["content"]: row for row in asked}.values())
    rows = [*single, *(join(single, rng) for _ in range(JOINED))]
    rng.shuffle(rows)
    calculations = [make_calculation(rng) for _ in range(CALCULATED)]
    return {"questions": rows, "calculations": calculations, "questions-held-out": list(list_held_out(functions))}


def list_talk(talk: Sequence[Talk], rng: random.Random) -> Iterator[Row]:
    """Each question as written, and as typed carelessly."""
    for part in talk:
        answer = part["answer"].format(example=EXAMPLES[part["language"]])
        written = dict.fromkeys(text for one in part["questions"] for text in (one, type_carelessly(one, rng)))
        for question in written:
            yield make_row(part["language"], question, answer)


def type_carelessly(question: str, rng: random.Random) -> str:
    """A question in lower case, without its last mark, or both."""
    bare = question.rstrip("?.!？。！")
    return rng.choice((bare, question.lower(), bare.lower(), bare.lower()))


def list_functions(functions: Sequence[KnownFunction], rng: random.Random) -> Iterator[Row]:
    """Each function in some of the wordings, a third of them typed carelessly."""
    for function in functions:
        for language, wordings in WORDINGS.items():
            for wording in rng.sample(wordings, WORDINGS_USED[language]):
                question = word(function, wording, language)
                is_careless = "`" not in question and rng.random() < 1 / 3
                yield make_row(language, type_carelessly(question, rng) if is_careless else question, function["code"])


def list_held_out(functions: Sequence[KnownFunction]) -> Iterator[Row]:
    """Each function in the new wordings, with its tests."""
    for function in functions:
        for language, wording in NEW_WORDINGS.items():
            row = make_row(language, word(function, wording, language), function["code"])
            yield {**row, "tests": function["tests"]}


def make_calculation(rng: random.Random) -> Row:
    """A function of one line, with or without marks around its call."""
    english, chinese, code = rng.choice(CALCULATIONS)
    argument = rng.choice(("items", "values") if "items" in english else ("x", "x", "n"))
    call, number = f"{rng.choice(NAMES)}({argument})", rng.randint(2, 9)
    language, mark = rng.choice(("en", "zh")), rng.choice(("`", "`", ""))
    wording = (english if language == "en" else chinese).format(x=argument, k=number)
    shown = f"{mark}{call}{mark}"
    question = f"Write {shown} that returns {wording}." if language == "en" else f"写 {shown}，返回 {wording}。"
    return make_row(language, question, f"def {call}:\n    return {code.format(x=argument, k=number)}")


def word(function: KnownFunction, wording: str, language: str) -> str:
    """A question for a function."""
    if language == "zh":
        return wording.format(call=function["call"], do=function["chinese"])
    does = function["does"]
    question = wording.format(call=function["call"], does=does, do=as_imperative(does))
    return question[0].upper() + question[1:]


def as_imperative(does: str) -> str:
    """The same to do.

    >>> as_imperative("reverses a string"), as_imperative("multiplies two numbers")
    ('reverse a string', 'multiply two numbers')
    """
    verb, _, rest = does.partition(" ")
    return f"{verb.removesuffix('ies')}y {rest}" if verb.endswith("ies") else f"{verb.removesuffix('s')} {rest}"


def make_row(language: str, question: str, answer: str) -> Row:
    """A conversation of one turn each."""
    messages: list[Message] = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"language": language, "messages": messages}


def join(rows: Sequence[Row], rng: random.Random) -> Row:
    """Two or three conversations of one language as one."""
    language = rng.choice(("en", "zh"))
    parts = rng.sample([row for row in rows if row["language"] == language], rng.choice((2, 2, 3)))
    return {"language": language, "messages": [message for row in parts for message in row["messages"]]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files; returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    for name, rows in make_files().items():
        text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
        (options.folder / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="")
        print(f"{name}: {len(rows)} conversations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
