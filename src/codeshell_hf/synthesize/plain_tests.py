"""Makes tests that models write in other forms run as plain statements, beside the answer and not in its module."""

import ast

from ..text.code import parse_python

# Modules that stand for the answer's file, of which nobody knows the name.
ANSWER_MODULES = frozenset(
    {"solution", "answer", "main", "module", "your_module", "my_module", "your_code", "implementation",
     "code_under_test", "task", "problem", "__main__"}
)  # fmt: skip
_RUN_CASE = """
import unittest
_result = unittest.TestResult()
unittest.defaultTestLoader.loadTestsFromTestCase({name}).run(_result)
assert _result.testsRun and _result.wasSuccessful(), (_result.failures + _result.errors)[0][1]
"""


def make_plain(tests: str) -> str | None:
    r"""Rewrites tests so that running them tests; `None` if they are not Python, or more deeply nested than it writes.

    Imports of the answer's own module and calls of `unittest.main` or `pytest.main` are left out, also behind a
    `__main__` guard. Test functions without parameters that nothing calls are called, and test cases of unittest run.
    Tests that are plain already stay as they are, with their comments.

    >>> make_plain("from solution import f\ndef test_f():\n    assert f(1) == 2")
    'def test_f():\n    assert f(1) == 2\ntest_f()'
    """
    tree = parse_python(tests)
    if tree is None:
        return None
    body = [node for node in tree.body if not _is_frame(node)]
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    calls = [
        f"{node.name}()"
        for node in body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test")
        and node.name not in called
        and not _needs_arguments(node)
    ]
    cases = [_RUN_CASE.format(name=node.name) for node in body if isinstance(node, ast.ClassDef) and _is_case(node)]
    if len(body) == len(tree.body) and not calls and not cases:
        return tests
    try:
        written = ast.unparse(ast.Module(body, []))
    except (RecursionError, ValueError):
        return None
    return "\n".join([written, *calls, *cases]).strip()


def _is_frame(node: ast.stmt) -> bool:
    """Whether a statement only finds the answer's module, or starts a test runner."""
    if isinstance(node, ast.ImportFrom):
        return bool(node.level) or (node.module or "").partition(".")[0].lower() in ANSWER_MODULES
    if isinstance(node, ast.Import):
        return all(alias.name.partition(".")[0].lower() in ANSWER_MODULES for alias in node.names)
    if isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and isinstance(node.test.left, ast.Name):
        return node.test.left.id == "__name__" and all(map(_is_runner, node.body))
    return _is_runner(node)


def _is_runner(node: ast.stmt) -> bool:
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and (called.value.id, called.attr) in (("unittest", "main"), ("pytest", "main"))
    )


def _needs_arguments(node: ast.FunctionDef) -> bool:
    given = node.args
    return len(given.posonlyargs + given.args) > len(given.defaults) or any(
        default is None for default in given.kw_defaults
    )


def _is_case(node: ast.ClassDef) -> bool:
    names = [base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases]
    return any(name.endswith("TestCase") for name in names)


def count_assertions(tests: str) -> int:
    """The number of `assert` and `raise` statements and `self.assert...` calls in tests; 0 if they are not Python."""
    tree = parse_python(tests)
    return 0 if tree is None else sum(map(_asserts, ast.walk(tree)))


def _asserts(node: ast.AST) -> bool:
    if isinstance(node, (ast.Assert, ast.Raise)):
        return True
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr.startswith("assert")
