"""Nano's conversations and tasks: varied, right, and what their script writes."""

import ast
import builtins
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import CodeType

import pytest

from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.conversation_files import read_conversations
from codeshell_hf.text.nearest_answer import NearestAnswers
from recipes.nano import tasks

DATA = Path("recipes/nano/data/conversations.jsonl")
NUMBER_OF_TASKS = 2_624


@pytest.fixture(scope="module")
def written() -> list[Conversation]:
    return list(read_conversations(DATA))


class Nameless(ast.NodeTransformer):
    """Takes out of a program all that is a mere name or a text."""

    def visit(self, node: ast.AST) -> ast.AST:
        for field in ("name", "id", "arg", "attr", "asname"):
            if isinstance(getattr(node, field, None), str):
                setattr(node, field, "_")
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = "_"
        return self.generic_visit(node)


def shape_of(answer: str) -> str:
    try:
        return ast.dump(Nameless().visit(ast.parse(answer)))
    except SyntaxError:
        return answer


def test_the_set_is_large_bilingual_and_varied(written: list[Conversation]) -> None:
    languages = Counter(conversation.language for conversation in written)
    questions = [re.sub(r"`[^`]*`", "", conversation.messages[0]["content"]) for conversation in written]
    # A one-line program has few shapes: `return a + b` is like another sum. Names of what is called tell those apart.
    bodies = [
        (shape_of(conversation.messages[1]["content"]), frozenset(called(conversation.messages[1]["content"])))
        for conversation in written
    ]

    assert len(written) >= 300
    assert min(languages["en"], languages["zh"]) >= 140
    assert len({conversation.messages[0]["content"] for conversation in written}) == len(written)
    assert [text for text, count in Counter(questions).items() if count > 1 and len(text) > 30] == []
    assert [shape for shape, count in Counter(bodies).items() if count > 1] == []


def called(answer: str) -> set[str]:
    """Names that a program uses and does not make, and its texts."""
    try:
        tree = ast.parse(answer)
    except SyntaxError:
        return {answer}
    made = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    made |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    made |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    used |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return (used - made) | texts


def test_every_code_answer_keeps_its_promise(written: list[Conversation], tmp_path: Path) -> None:
    """Runs each answer with its test in a process of its own scope; one interpreter, a fresh namespace each."""
    with_tests = [conversation for conversation in written if conversation.tests]
    programs = [f"{conversation.messages[1]['content']}\n{conversation.tests}\n" for conversation in with_tests]
    (tmp_path / "programs.json").write_text(json.dumps(programs))
    runner = (
        "import json, traceback\n"
        "failed = []\n"
        "for number, program in enumerate(json.load(open('programs.json'))):\n"
        "    try:\n"
        "        exec(compile(program, f'answer {number}', 'exec'), {'__name__': 'answer'})\n"
        "    except BaseException as error:\n"
        "        failed.append([number, repr(error)])\n"
        "print(json.dumps(failed))\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", runner], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )

    failed = json.loads(done.stdout.splitlines()[-1])
    assert [(with_tests[number].messages[0]["content"], error) for number, error in failed] == []
    assert len(with_tests) >= 280
    for conversation in with_tests:
        assert re.search("assert|test_", conversation.tests or "")


def test_answers_without_tests_are_prose(written: list[Conversation]) -> None:
    assert any(not conversation.tests for conversation in written)
    for conversation in written:
        if not conversation.tests:
            assert "def " not in conversation.messages[1]["content"]
            assert len(conversation.messages[1]["content"]) > 20


TASK_FILES = ("tasks-tuning", "tasks-feedback", "tasks-held-out", "tasks-new-wordings", "tasks-new-operations")


def test_the_tasks_are_what_their_script_writes_and_their_answers_pass(tmp_path: Path) -> None:
    assert tasks.main([str(tmp_path)]) == 0
    prompts: list[str] = []
    for name in TASK_FILES:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (DATA.parent / f"{name}.jsonl").read_bytes()
        for task in read_conversations(DATA.parent / f"{name}.jsonl"):
            prompts.append(task.messages[0]["content"])
            assert bool(task.tests) == (name != tasks.TUNING)

    assert len(set(prompts)) == len(prompts) == NUMBER_OF_TASKS
    for made in chain.from_iterable(tasks.make_files().values()):
        assert passes(f"{made.answer}\n{made.tests}", {}), made.answer


@dataclass(frozen=True)
class ReadTask:
    """A written task, taken apart by the text of its question and the syntax tree of its answer.

    Args:
        steps: The expression of each line, with all names of variables and all numbers alike.
        wordings: What is asked for each step, likewise.
    """

    conversation: Conversation
    steps: tuple[str, ...]
    wordings: tuple[str, ...]

    @property
    def pair(self) -> frozenset[str]:
        """The steps in any order."""
        return frozenset(self.steps)


class Alike(ast.NodeTransformer):
    """Makes all numbers alike, and all names but builtins."""

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant(0)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return node if hasattr(builtins, node.id) else ast.Name("_", node.ctx)


def take_apart(conversation: Conversation) -> ReadTask:
    question, answer = (message["content"] for message in conversation.messages)
    function = ast.parse(answer).body[0]
    assert isinstance(function, ast.FunctionDef)
    lines = [line for line in function.body if isinstance(line, ast.Assign | ast.Return) and line.value is not None]
    steps = tuple(ast.unparse(Alike().visit(line.value)) for line in lines)
    asked = re.split(" that |`，", question.rstrip(".。"), maxsplit=1)[1]
    alike = re.sub(r"\b(x|n|items|values)\b", "_", re.sub(r"\d+", "0", asked))
    wordings = tuple(re.split(", then |，然后", alike))
    assert len(wordings) == len(steps) == len(function.body)
    return ReadTask(conversation, steps, wordings)


@pytest.fixture(scope="module")
def read_tasks() -> dict[str, list[ReadTask]]:
    return {name: list(map(take_apart, read_conversations(DATA.parent / f"{name}.jsonl"))) for name in TASK_FILES}


def list_parts(read: Sequence[ReadTask], part: str) -> set[str]:
    return {value for task in read for value in getattr(task, part)}


def test_held_out_compositions_are_new_and_all_of_their_parts_are_known(read_tasks: dict[str, list[ReadTask]]) -> None:
    tuning, feedback, held_out = (read_tasks[name] for name in TASK_FILES[:3])
    pairs = [{task.pair for task in read if len(task.steps) == 2} for read in (tuning, feedback, held_out)]

    assert all(len(task.pair) == 2 for task in (*feedback, *held_out))
    assert pairs[0] & pairs[1] == pairs[0] & pairs[2] == pairs[1] & pairs[2] == set()
    assert len(pairs[2]) >= 20
    assert list_parts(held_out, "steps") <= {task.steps[0] for task in tuning if len(task.steps) == 1}
    assert list_parts(held_out, "wordings") <= list_parts(tuning, "wordings")


def test_held_out_wordings_and_operations_are_new(read_tasks: dict[str, list[ReadTask]]) -> None:
    trained = [*read_tasks["tasks-tuning"], *read_tasks["tasks-feedback"]]
    wordings, operations = read_tasks["tasks-new-wordings"], read_tasks["tasks-new-operations"]

    assert not list_parts(wordings, "wordings") & list_parts(trained, "wordings")
    assert list_parts(wordings, "steps") <= list_parts(trained, "steps")
    assert len(list_parts(wordings, "wordings")) >= 30
    assert not list_parts(operations, "steps") & list_parts(trained, "steps")
    assert not list_parts(operations, "wordings") & list_parts(trained, "wordings")
    assert len(list_parts(operations, "steps")) >= 7


def test_no_trained_answer_solves_a_held_out_composition(read_tasks: dict[str, list[ReadTask]]) -> None:
    trained = [task.conversation for name in TASK_FILES[:2] for task in read_tasks[name]]
    functions = {name_alike(one.reference): load_function(one.reference) for one in trained}

    solved = []
    for task in read_tasks["tasks-held-out"]:
        held_out = task.conversation
        assert name_alike(held_out.reference) not in functions
        name = held_out.reference.removeprefix("def ").partition("(")[0]
        tests = compile(held_out.tests or "", "tests", "exec")
        solved += [held_out.prompt for function in functions.values() if passes(tests, {name: function})]
    assert solved == []


def name_alike(answer: str) -> str:
    """An answer with one name for its function, and one for its argument."""
    argument = answer.partition("(")[2].partition(")")[0]
    return re.sub(rf"\b{argument}\b", "x", re.sub(r"def \w+", "def f", answer))


def load_function(answer: str) -> object:
    names: dict[str, object] = {}
    exec(answer, names)  # noqa: S102
    return names[answer.removeprefix("def ").partition("(")[0]]


def passes(program: str | CodeType, names: dict[str, object]) -> bool:
    """Whether a program of this project's own words runs without an error."""
    try:
        exec(program, names)  # noqa: S102
    except Exception:
        return False
    return True


def test_copying_the_nearest_answer_solves_hardly_any_held_out_composition(
    read_tasks: dict[str, list[ReadTask]],
) -> None:
    nearest = NearestAnswers(task.conversation for name in TASK_FILES[:2] for task in read_tasks[name])
    held_out = [task.conversation for task in read_tasks["tasks-held-out"]]

    copies = [nearest.copy(one.prompt[-1]["content"], one.tests) for one in held_out]

    solved = [
        passes(compile(f"{copy}\n{one.tests}", "", "exec"), {}) for copy, one in zip(copies, held_out, strict=True)
    ]
    assert sum(solved) <= 0.05 * len(held_out)
    assert passes(compile(f"{held_out[0].reference}\n{held_out[0].tests}", "", "exec"), {})


def test_every_file_of_tasks_has_both_languages(read_tasks: dict[str, list[ReadTask]]) -> None:
    for read in read_tasks.values():
        chinese = sum(task.conversation.language == "zh" for task in read)
        assert 0.35 < chinese / len(read) < 0.65
