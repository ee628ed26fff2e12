"""Nano's conversations and tasks: varied, right, and what their script writes."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from codeshell_hf.sandbox import Program, open_sandbox
from codeshell_hf.text.chat import Conversation
from codeshell_hf.text.conversation_files import read_conversations
from recipes.nano import tasks

DATA = Path("recipes/nano/data/conversations.jsonl")


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
    for conversation in written:
        if not conversation.tests:
            assert "def " not in conversation.messages[1]["content"]
            assert len(conversation.messages[1]["content"]) > 20


def test_the_tasks_are_what_their_script_writes_and_their_answers_pass(tmp_path: Path) -> None:
    assert tasks.main([str(tmp_path)]) == 0
    prompts: list[str] = []
    programs: list[Program] = []
    for name in ("tasks-tuning", "tasks-feedback", "tasks-held-out"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (DATA.parent / f"{name}.jsonl").read_bytes()
        for task in read_conversations(DATA.parent / f"{name}.jsonl"):
            prompts.append(task.messages[0]["content"])
            programs.append(Program(task.messages[1]["content"], task.tests or ""))

    assert len(set(prompts)) == len(prompts) == 1196
    with open_sandbox("none") as sandbox:
        assert all(verdict.passed for verdict in sandbox.run(programs))
