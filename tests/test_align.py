"""Conversations: what is read, what is refused, and the set that this project wrote."""

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from codeshell_hf.align.conversations import Conversation, parse_conversation, read_conversations
from codeshell_hf.errors import DataError

DATA = Path("recipes/nano/data/conversations.jsonl")
TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


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
        assert "assert" in conversation.tests or "test_" in conversation.tests


def test_answers_without_tests_are_prose(written: list[Conversation]) -> None:
    for conversation in written:
        if not conversation.tests:
            assert "def " not in conversation.messages[1]["content"]
            assert len(conversation.messages[1]["content"]) > 20


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 of x is not JSON"),
        ("[]", "line 1 of x has no messages; write a list of turns"),
        ('{"messages": []}', "has no messages"),
        (json.dumps({"messages": [{"role": "system", "content": "a"}]}), "turn 1 .* has role 'system'; use user or"),
        (json.dumps({"messages": TURNS[::-1]}), "turn 1 .* is the assistant's, but turns alternate"),
        (json.dumps({"messages": [TURNS[0], TURNS[0]]}), "turn 2 .* make it the assistant's"),
        (json.dumps({"messages": TURNS[:1]}), "ends with the user; end with the assistant's answer"),
        (json.dumps({"messages": [TURNS[0], {"role": "assistant", "content": " "}]}), "turn 2 .* is empty"),
        (json.dumps({"messages": [TURNS[0], {"role": "assistant"}]}), "turn 2 .* is empty"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_line(line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_conversation(line, "line 1 of x")


def test_files_without_conversations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be read"):
        list(read_conversations(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"holds no conversation"):
        list(read_conversations(tmp_path / "empty.jsonl"))
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"is not UTF-8 text"):
        list(read_conversations(tmp_path / "binary.jsonl"))
    (tmp_path / "third.jsonl").write_text(json.dumps({"messages": TURNS}) + "\n\n{}\n")
    with pytest.raises(DataError, match=r"line 3 of .*third.jsonl has no messages"):
        list(read_conversations(tmp_path / "third.jsonl"))
