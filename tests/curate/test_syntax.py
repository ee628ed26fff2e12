"""Grammars count functions, paths, depth, comments and strings."""

import ast
import importlib.util
import sysconfig
import time
from pathlib import Path

import pytest

from codeshell_hf.curate import syntax
from codeshell_hf.curate.syntax import (
    GUARDED_BYTES,
    QUERIES,
    count_paths,
    load_query,
    parse,
    parse_here,
    parse_limited,
)
from codeshell_hf.text.grammars import load_grammar

SAMPLES = {
    "python": "def f(x):\n    if x and y:\n        for z in x:\n            pass\n    return 'text'  # why\n",
    "java": 'class A { int f(int x) { if (x > 1 && y) { for (;;) { g("t"); } } return 1; /* why */ } }',
    "javascript": "function f(x) { if (x && y) { for (const z of x) { g('t'); } } return 1; /* why */ }",
    "typescript": "function f(x: number) { if (x && y) { for (const z of x) { g('t'); } } return 1; /* why */ }",
    "go": 'package a\nfunc f(x int) int { if x > 1 && y { for { g("t") } }; return 1 /* why */ }\n',
    "c": 'int f(int x) { if (x && y) { for (;;) { g("t"); } } return 1; /* why */ }\n',
    "cpp": 'int f(int x) { if (x && y) { for (auto z : w) { g("t"); } } return 1; /* why */ }\n',
    "rust": 'fn f(x: i32) -> i32 { if x > 1 && y { for z in w { g("t"); } } 1 /* why */ }\n',
    "c-sharp": 'class A { int f(int x) { if (x > 1 && y) { foreach (var z in w) { g("t"); } } return 1; /* why */ } }',
    "php": "<?php function f($x) { if ($x && $y) { foreach ($w as $z) { g('t'); } } return 1; /* why */ }",
    "ruby": "def f(x)\n  if x && y\n    while z\n      g('t')\n    end\n  end\n  1 # why\nend\n",
    "shell": (
        'f() {\n  if [ -n "$1" ]; then\n    for z in a; do\n'
        "      case $z in a) echo 't' ;; esac\n    done\n  fi # why\n}\n"
    ),
}


def test_every_grammar_has_a_sample() -> None:
    assert set(SAMPLES) == set(QUERIES)


@pytest.mark.parametrize("language", SAMPLES)
def test_grammars_tell_functions_paths_depth_comments_and_strings(language: str) -> None:
    found = parse(SAMPLES[language].encode(), language)

    assert found is not None
    assert found.parses
    assert found.functions == 1
    assert found.complexity == found.worst_complexity == 4, "an if with two conditions, or one and a case, and a loop"
    assert found.depth == (3 if language == "shell" else 2)
    assert found.comment_fraction > 0
    assert found.string_fraction > 0
    broken = parse(SAMPLES[language].replace("}", "").replace(")", "").encode(), language)
    assert broken is not None
    assert not broken.parses


def plain_complexity(node: ast.AST) -> int:
    """Paths of a Python function by its syntax tree, functions inside it left out."""
    total = 1
    front = list(ast.iter_child_nodes(node))
    while front:
        child = front.pop()
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        kinds = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.Assert, ast.match_case)
        total += isinstance(child, kinds)
        if isinstance(child, ast.BoolOp):
            total += len(child.values) - 1
        if isinstance(child, ast.comprehension):
            total += 1 + len(child.ifs)
        front += ast.iter_child_nodes(child)
    return total


@pytest.mark.parametrize("name", ["json/decoder.py", "argparse.py", "textwrap.py", "heapq.py", "shutil.py"])
def test_complexity_of_real_files_equals_that_of_pythons_own_syntax_tree(name: str) -> None:
    data = (Path(sysconfig.get_paths()["stdlib"]) / name).read_bytes()
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    paths = [plain_complexity(node) for node in ast.walk(ast.parse(data)) if isinstance(node, kinds)]

    found = parse(data, "python")

    assert found is not None
    assert found.functions == len(paths)
    assert found.worst_complexity == max(paths)
    assert found.complexity == pytest.approx(sum(paths) / len(paths))


def test_without_a_grammar_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(b"x", "cobol") is None
    load_query.cache_clear()
    load_grammar.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert parse(b"x = 1", "python") is None
    load_query.cache_clear()
    load_grammar.cache_clear()


ENDLESS = ("<!--", "(", "{", "1+", "a<", "f'{", "<script>")


@pytest.mark.parametrize("language", ["python", "java"])
def test_text_that_parsers_take_quadratic_time_for_is_measured_in_bounded_time(language: str) -> None:
    start_s = time.process_time()
    for unit in ENDLESS:
        parse((unit * 8_000)[:8_000].encode(), language)

    assert time.process_time() - start_s < 10


def compute_for_ever(task: tuple[str, str], shared: None) -> dict[str, object]:
    def step(data: bytes, language: str) -> syntax.Syntax:
        while True:
            pass

    syntax.PARSE_LIMIT_S, syntax.parse_here = 0.1, step  # in the process that parses
    return parse_limited(task, shared)


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="the system has no limits of time")
def test_a_step_of_the_parser_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    code = b"x = 1\n" * (GUARDED_BYTES // 6 + 1)
    monkeypatch.setattr(syntax, "parse_limited", compute_for_ever)
    endless = parse(code, "python")
    monkeypatch.undo()

    assert endless is not None
    assert not endless.parses
    assert parse(code, "python") == parse_here(code, "python"), "the next one has a new process"


def test_long_documents_are_measured_as_short_ones_are() -> None:
    code = "".join(f"def f{n}(x):\n    # 注释 \0\n    return x if x else '{n}'\n\n" for n in range(2000)).encode()

    assert len(code) > GUARDED_BYTES
    assert parse(code, "python") == parse_here(code, "python")


def test_branches_behind_many_functions_are_counted_in_linear_time() -> None:
    functions = [(10 * place, 10 * place + 9) for place in range(200_000)]
    start_s = time.process_time()

    paths = count_paths([*functions, (2_000_000, 9_000_000)], [5, *range(2_000_001, 2_200_000)])

    assert (paths[0], paths[1], paths[-1]) == (2, 1, 200_000)
    assert time.process_time() - start_s < 5
