"""Puts small faults into correct programs: a flipped comparison, an off-by-one, a negated condition."""

import ast
from collections.abc import Callable, Iterator

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult,
}  # fmt: skip
OPPOSITES = {"min": "max", "max": "min", "any": "all", "all": "any"}


class Fault:
    """A new value for a field of a node."""

    def __init__(self, node: ast.AST, name: str, value: object) -> None:
        self._node = node
        self._name = name
        self._value = value

    def __call__(self) -> None:
        """Applies the fault."""
        setattr(self._node, self._name, self._value)


ListFaults = Callable[[ast.AST], Iterator[Fault]]


def list_faults(tree: ast.AST) -> Iterator[Fault]:
    """Lists the possible faults of a program; calling one changes the tree in place.

    Benchmarks are made of them, so another kind of fault belongs into `list_more_faults`.
    """
    docstrings = _list_docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
            yield Fault(node, "ops", [COMPARISONS[type(node.ops[0])](), *node.ops[1:]])
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
            yield Fault(node, "op", OPERATORS[type(node.op)]())
        elif isinstance(node, ast.BoolOp):
            yield Fault(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
        elif isinstance(node, (ast.If, ast.While)):
            yield Fault(node, "test", ast.UnaryOp(ast.Not(), node.test))
        elif isinstance(node, ast.Constant) and id(node) not in docstrings:
            if isinstance(node.value, bool):
                yield Fault(node, "value", not node.value)
            elif isinstance(node.value, int):
                yield Fault(node, "value", node.value + 1)
            elif isinstance(node.value, str) and node.value:
                yield Fault(node, "value", "")


def list_more_faults(tree: ast.AST) -> Iterator[Fault]:
    """Lists those of `list_faults`, and off-by-one ranges, wrong returns, dropped updates and swapped functions."""
    yield from list_faults(tree)
    returns = sum(isinstance(node, ast.Return) and node.value is not None for node in ast.walk(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for place, other in enumerate(node.ops[1:], 1):
                if type(other) in COMPARISONS:
                    changed = [*node.ops[:place], COMPARISONS[type(other)](), *node.ops[place + 1 :]]
                    yield Fault(node, "ops", changed)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            yield Fault(node, "op", ast.UAdd())
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield Fault(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
        elif isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield Fault(node, "value", node.value + 1)
        elif isinstance(node, ast.IfExp):
            yield Fault(node, "test", ast.UnaryOp(ast.Not(), node.test))
        elif isinstance(node, ast.Return) and node.value is not None and returns > 1:
            yield Fault(node, "value", ast.Constant(None))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id == "range" and node.args and not isinstance(node.args[-1], ast.Starred):
                stop = min(1, len(node.args) - 1)
                less = ast.BinOp(node.args[stop], ast.Sub(), ast.Constant(1))
                yield Fault(node, "args", [*node.args[:stop], less, *node.args[stop + 1 :]])
            elif node.func.id in OPPOSITES:
                yield Fault(node, "func", ast.Name(OPPOSITES[node.func.id], ast.Load()))
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.For, ast.While, ast.If)):
            yield from _drop_updates(node)


def _drop_updates(node: "ast.FunctionDef | ast.AsyncFunctionDef | ast.For | ast.While | ast.If") -> Iterator[Fault]:
    """Leaves out a statement that changes something and binds no name: `total += x`, `items.append(x)`."""
    for place, statement in enumerate(node.body):
        is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        if isinstance(statement, ast.AugAssign) or is_call:
            yield Fault(node, "body", [*node.body[:place], ast.Pass(), *node.body[place + 1 :]])


def _list_docstrings(tree: ast.AST) -> set[int]:
    return {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.Module, ast.ClassDef)) and node.body
        if isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    }


def mutate(source: str, faults: ListFaults = list_faults, *, at_most: int | None = None) -> list[str]:
    r"""Lists every program with one small fault, in the order of `faults`, reformatted; empty if it does not parse.

    Args:
        faults: Which faults there are.
        at_most: So many of them are tried, spread over the program; `None` for all.

    >>> [text.splitlines()[-1].strip() for text in mutate("def f(x):\n    return x + 1\n")]
    ['return x - 1', 'return x + 2']
    """
    try:
        count = sum(1 for _ in faults(ast.parse(source)))
        original = ast.unparse(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):
        return []
    programs: dict[str, None] = {}
    for number in _spread(count, at_most):
        tree = ast.parse(source)
        for place, change in enumerate(faults(tree)):
            if place == number:
                change()
                break
        try:
            text = ast.unparse(ast.fix_missing_locations(tree))
        except (RecursionError, ValueError):  # nested deeper, or a longer number, than Python writes
            continue
        if text != original:
            programs[f"{text}\n"] = None
    return list(programs)


def _spread(count: int, at_most: int | None) -> list[int]:
    """At most so many of the numbers below a count, at equal distances.

    >>> _spread(10, 4), _spread(3, None)
    ([0, 2, 5, 7], [0, 1, 2])
    """
    if at_most is None or count <= at_most:
        return list(range(count))
    return [place * count // at_most for place in range(at_most)]
