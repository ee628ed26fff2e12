"""Splits a test program into its single tests, so that a reward can count those that pass."""

import ast
import copy

from ..text.code import parse_python

MOST_TESTS = 64
"""More asserts than this are tested in so many groups."""

_PLAIN = (
    *(ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.keyword),
    *(ast.Constant, ast.Name, ast.Attribute, ast.Call, ast.Starred, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp),
    *(ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Subscript, ast.Slice),
)
"""Nodes of an assertion that tests a single case: no comprehensions, lambdas or names that it binds."""


def split_tests(tests: str) -> list[str]:
    r"""Splits a program of tests into one program for each assertion, with everything else in each of them.

    Assertions are `assert` statements and calls such as `self.assertEqual(...)`, wherever they are; one within a loop
    is one test. A program without any, or that does not parse, is one test.

    >>> split_tests("x = 1\nassert f(x)\nassert g(x)")
    ['x = 1\nassert f(x)\npass', 'x = 1\npass\nassert g(x)']
    """
    tree = parse_python(tests)
    count = 0 if tree is None else sum(map(_is_assertion, ast.walk(tree)))
    if tree is None or count < 2:
        return [tests]
    groups = min(count, MOST_TESTS)
    return [ast.unparse(_OneGroup(group, groups).visit(copy.deepcopy(tree))) for group in range(groups)]


def find_plain_tests(tests: str) -> list[str]:
    r"""The assertions that say nothing of the others, each as a program of its own, with the imports that it uses.

    They are `assert` statements at the top of the program, of literals and of names that the tests do not define.

    >>> find_plain_tests("import math\nassert f(1) == 2\nassert math.isnan(f(2))\nfor x in 3, 4:\n    assert f(x)")
    ['assert f(1) == 2', 'import math\nassert math.isnan(f(2))']
    """
    tree = parse_python(tests)
    if tree is None:
        return []
    imports = {
        alias.asname or alias.name.split(".")[0]: _import_alone(node, alias)
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    defined = {name for node in ast.walk(tree) for name in _list_defined(node)}
    found = []
    for node in tree.body:
        parts = list(ast.walk(node.test)) if isinstance(node, ast.Assert) and node.msg is None else []
        names = sorted({part.id for part in parts if isinstance(part, ast.Name)})
        if parts and all(isinstance(part, _PLAIN) for part in parts) and defined.isdisjoint(names):
            found.append("\n".join([*(imports[name] for name in names if name in imports), ast.unparse(node)]))
    return found


def _import_alone(node: ast.Import | ast.ImportFrom, alias: ast.alias) -> str:
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import([alias]))
    return ast.unparse(ast.ImportFrom(node.module, [alias], node.level))


def _list_defined(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [] if isinstance(node.ctx, ast.Load) else [node.id]
    return [node.name] if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) else []


def _is_assertion(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    return (
        isinstance(called, ast.Attribute)
        and isinstance(called.value, ast.Name)
        and called.value.id == "self"
        and called.attr.startswith("assert")
    )


class _OneGroup(ast.NodeTransformer):
    """Replaces the assertions of other groups by `pass`."""

    def __init__(self, group: int, groups: int) -> None:
        self.group = group
        self.groups = groups
        self.number = -1

    def visit(self, node: ast.AST) -> ast.AST:
        """Counts an assertion, or goes into any other node."""
        if not _is_assertion(node):
            return self.generic_visit(node)
        self.number += 1
        return node if self.number % self.groups == self.group else ast.copy_location(ast.Pass(), node)
