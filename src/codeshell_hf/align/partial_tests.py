"""Splits a test program into its single tests, so that a reward can count those that pass."""

import ast
import copy

from ..text.code import parse_python

MOST_TESTS = 64
"""More asserts than this are tested in so many groups."""


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
