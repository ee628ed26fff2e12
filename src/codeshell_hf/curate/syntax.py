"""Measures syntax and control flow with tree-sitter: parsing, functions, nesting depth and complexity."""

import atexit
import functools
import json
import math
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..errors import RunFailed
from ..text.grammars import load_grammar
from .worker_pool import WorkerProcess

if TYPE_CHECKING:
    import tree_sitter

# By language. A query captures comments, strings, functions, branches, each of which adds a path, and nesting blocks.
_C = """
(comment) @comment
[(string_literal) (char_literal)] @string
(function_definition) @function
[(if_statement) (for_statement) (while_statement) (do_statement) (case_statement value: (_)) (conditional_expression)
 (binary_expression operator: ["&&" "||"])] @branch
[(if_statement) (for_statement) (while_statement) (do_statement) (switch_statement)] @block
"""
_JAVASCRIPT = """
(comment) @comment
[(string) (template_string)] @string
[(function_declaration) (function_expression) (arrow_function) (method_definition)
 (generator_function_declaration)] @function
[(if_statement) (for_statement) (for_in_statement) (while_statement) (do_statement) (switch_case) (catch_clause)
 (ternary_expression) (binary_expression operator: ["&&" "||" "??"])] @branch
[(if_statement) (for_statement) (for_in_statement) (while_statement) (do_statement) (switch_statement)
 (try_statement)] @block
"""
QUERIES: dict[str, str] = {
    "python": """
    (comment) @comment
    (expression_statement . (string) @comment .)
    (string) @string
    (function_definition) @function
    [(if_statement) (elif_clause) (for_statement) (while_statement) (except_clause) (conditional_expression)
     (boolean_operator) (case_clause) (for_in_clause) (if_clause) (assert_statement)] @branch
    [(if_statement) (for_statement) (while_statement) (try_statement) (with_statement) (match_statement)] @block
    """,
    "java": """
    [(line_comment) (block_comment)] @comment
    [(string_literal) (character_literal)] @string
    [(method_declaration) (constructor_declaration) (lambda_expression)] @function
    [(if_statement) (for_statement) (enhanced_for_statement) (while_statement) (do_statement) (catch_clause)
     (switch_label) (ternary_expression) (binary_expression operator: ["&&" "||"])] @branch
    [(if_statement) (for_statement) (enhanced_for_statement) (while_statement) (do_statement) (try_statement)
     (switch_expression)] @block
    """,
    "javascript": _JAVASCRIPT,
    "typescript": _JAVASCRIPT,
    "go": """
    (comment) @comment
    [(interpreted_string_literal) (raw_string_literal)] @string
    [(function_declaration) (method_declaration) (func_literal)] @function
    [(if_statement) (for_statement) (expression_case) (type_case) (communication_case)
     (binary_expression operator: ["&&" "||"])] @branch
    [(if_statement) (for_statement) (expression_switch_statement) (type_switch_statement) (select_statement)] @block
    """,
    "c": _C,
    "cpp": _C + "(catch_clause) @branch (for_range_loop) @branch (lambda_expression) @function (for_range_loop) @block",
    "rust": """
    [(line_comment) (block_comment)] @comment
    [(string_literal) (raw_string_literal)] @string
    [(function_item) (closure_expression)] @function
    [(if_expression) (for_expression) (while_expression) (loop_expression) (match_arm)
     (binary_expression operator: ["&&" "||"])] @branch
    [(if_expression) (for_expression) (while_expression) (loop_expression) (match_expression)] @block
    """,
    "c-sharp": """
    (comment) @comment
    [(string_literal) (verbatim_string_literal) (character_literal)] @string
    [(method_declaration) (constructor_declaration) (lambda_expression) (local_function_statement)] @function
    [(if_statement) (for_statement) (foreach_statement) (while_statement) (do_statement) (switch_section)
     (catch_clause) (conditional_expression) (binary_expression operator: ["&&" "||" "??"])] @branch
    [(if_statement) (for_statement) (foreach_statement) (while_statement) (do_statement) (try_statement)
     (switch_statement)] @block
    """,
    "php": """
    (comment) @comment
    [(string) (encapsed_string) (heredoc)] @string
    [(function_definition) (method_declaration) (anonymous_function)] @function
    [(if_statement) (else_if_clause) (for_statement) (foreach_statement) (while_statement) (do_statement)
     (case_statement) (catch_clause) (conditional_expression)
     (binary_expression operator: ["&&" "||" "and" "or"])] @branch
    [(if_statement) (for_statement) (foreach_statement) (while_statement) (do_statement) (try_statement)
     (switch_statement)] @block
    """,
    "ruby": """
    (comment) @comment
    (string) @string
    [(method) (singleton_method)] @function
    [(if) (elsif) (unless) (while) (until) (for) (when) (rescue) (conditional) (if_modifier) (unless_modifier)
     (binary operator: ["&&" "||" "and" "or"])] @branch
    [(if) (unless) (while) (until) (for) (case) (begin)] @block
    """,
    "shell": """
    (comment) @comment
    [(string) (raw_string)] @string
    (function_definition) @function
    [(if_statement) (elif_clause) (for_statement) (while_statement) (case_item)] @branch
    [(if_statement) (for_statement) (while_statement) (case_statement)] @block
    """,
}
# A megabyte of code takes a tenth of a second.
PARSE_LIMIT_S = 2.0
# Longer documents are parsed in a process of their own, which is killed if a single step of the parser, that cannot be
# interrupted, takes too long; the time of a step grows with the square of the length.
GUARDED_BYTES = 50_000
_KILL_S = 1
# Of a megabyte of the standard library, up to 2.5 million.
_MAX_VISITS = 10_000_000
_SAMPLED_NODES = 64
_CHUNK_BYTES = 1 << 16
LONG_FUNCTION_LINES = 80
DEEP_BLOCKS = 5
COMPLEX_PATHS = 15


@dataclass(frozen=True)
class Syntax:
    """Syntax and control flow of a document.

    Args:
        parses: Whether the whole document parses.
        comment_fraction: Of bytes, comments and docstrings, 0 to 1.
        string_fraction: Of bytes, other strings, 0 to 1.
        functions: Number of functions.
        depth: The deepest nesting of blocks.
        complexity: Mean cyclomatic complexity of functions, 1 without branches; of the whole code if there are none.
        worst_complexity: The highest cyclomatic complexity.
        syntax_faults: Functions of more than 80 lines or 15 paths, and whether blocks nest deeper than 5.

    Source:
        McCabe 1976, "A Complexity Measure": a function's paths are its branches plus one.
    """

    parses: bool
    comment_fraction: float
    string_fraction: float
    functions: int
    depth: int
    complexity: float
    worst_complexity: int
    syntax_faults: int


_ENDLESS = Syntax(
    parses=False,
    comment_fraction=0.0,
    string_fraction=0.0,
    functions=0,
    depth=0,
    complexity=1.0,
    worst_complexity=1,
    syntax_faults=0,
)


@functools.cache
def load_query(language: str) -> "tuple[tree_sitter.Parser, tree_sitter.Query] | None":
    """Loads the parser and query of a language; `None` where there is no grammar or its package is not installed."""
    grammar = load_grammar(language) if language in QUERIES else None
    if grammar is None:
        return None
    import tree_sitter

    return tree_sitter.Parser(grammar), tree_sitter.Query(grammar, QUERIES[language])


def parse(data: bytes, language: str | None) -> Syntax | None:
    """Measures a document; `None` if its language has no grammar.

    What takes far longer than code of its length does not parse, and has no comments, functions or blocks.
    """
    if language is None or load_query(language) is None:
        return None
    return parse_here(data, language) if len(data) <= GUARDED_BYTES else _parse_guarded(data, language)


class _LongParser:
    """The process that parses long documents."""

    process: WorkerProcess | None = None

    @classmethod
    def end(cls) -> None:
        if cls.process is not None:
            cls.process.end()
        cls.process = None


atexit.register(_LongParser.end)


def _parse_guarded(data: bytes, language: str) -> Syntax:
    """As `parse_here`, in a process that the system ends after some seconds of computing."""
    _LongParser.process = _LongParser.process or WorkerProcess()
    task = json.dumps([data.decode("latin-1"), language])
    try:
        answer = json.loads(_LongParser.process.ask(parse_limited, task, "null"))
    except RunFailed:
        _LongParser.end()
        return _ENDLESS
    if "result" not in answer:
        raise RunFailed(answer["error"])
    return Syntax(**answer["result"])


def parse_limited(task: tuple[str, str], shared: None) -> dict[str, object]:
    """Parses in this process, which is ended if that takes too long. Systems without such a limit wait."""
    try:
        import resource
    except ImportError:  # Windows
        pass
    else:
        soft = math.ceil(time.process_time() + PARSE_LIMIT_S) + _KILL_S
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        if hard == resource.RLIM_INFINITY or soft < hard:
            resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    return asdict(parse_here(task[0].encode("latin-1"), task[1]))


def parse_here(data: bytes, language: str) -> Syntax:
    """As `parse`, of a language with a grammar; a single step of the parser may take long."""
    loaded = load_query(language)
    assert loaded is not None, language  # noqa: S101
    from tree_sitter import QueryCursor

    parser, query = loaded
    tree = _parse_in_time(parser, data)
    if tree is None:
        return _ENDLESS
    root = tree.root_node
    captures = QueryCursor(query).captures(root)
    spans = {name: sorted((node.start_byte, node.end_byte) for node in nodes) for name, nodes in captures.items()}
    comments = spans.get("comment", [])
    commented = sum(end - start for start, end in comments)
    strings = sum(end - start for start, end in set(spans.get("string", [])) - set(comments))
    functions = spans.get("function", [])
    paths = count_paths(functions, [start for start, _ in spans.get("branch", [])])
    depth = measure_depth(spans.get("block", []))
    lines = [node.end_point[0] - node.start_point[0] + 1 for node in captures.get("function", [])]
    return Syntax(
        parses=not root.has_error,
        comment_fraction=min(commented / max(len(data), 1), 1.0),
        string_fraction=min(strings / max(len(data), 1), 1.0),
        functions=len(functions),
        depth=depth,
        complexity=sum(paths) / len(paths),
        worst_complexity=max(paths),
        syntax_faults=sum(line > LONG_FUNCTION_LINES for line in lines)
        + sum(path > COMPLEX_PATHS for path in paths)
        + (depth > DEEP_BLOCKS),
    )


def _parse_in_time(parser: "tree_sitter.Parser", data: bytes) -> "tree_sitter.Tree | None":
    """Parses in bounded time; `None` if that is not enough, or if queries on the tree would take too long.

    The parser recovers from some errors, such as unclosed comments of another language, in quadratic time, and queries
    are quadratic in the depth of a tree and in the length of an error.
    """
    ends_s = time.thread_time() + PARSE_LIMIT_S

    def is_over(offset: int, has_error: bool) -> bool:  # noqa: FBT001 - the parser's own order
        return time.thread_time() > ends_s

    try:
        tree = parser.parse(lambda offset, point: data[offset : offset + _CHUNK_BYTES], progress_callback=is_over)
    except ValueError:
        parser.reset()
        return None
    return tree if _estimate_visits(tree) <= _MAX_VISITS else None


def _estimate_visits(tree: "tree_sitter.Tree") -> int:
    """About how many nodes a query visits, from a sample of nodes, their depths and the lengths of errors."""
    cursor = tree.walk()
    nodes = tree.root_node.descendant_count
    visits = 0
    for place in range(_SAMPLED_NODES):
        cursor.goto_descendant(nodes * (2 * place + 1) // (2 * _SAMPLED_NODES))
        visits += cursor.depth
        if cursor.goto_parent() and cursor.node is not None and cursor.node.is_error:
            visits += cursor.node.child_count
    return visits * nodes // _SAMPLED_NODES


def count_paths(functions: list[tuple[int, int]], branches: list[int]) -> list[int]:
    """Counts the paths through each function: its branches, without those of inner functions, plus one.

    Args:
        functions: Start and end offsets, in order; without functions, the whole code is one.
        branches: Start offsets, in order.

    >>> count_paths([(0, 100), (10, 20)], [5, 12, 50])
    [3, 2]
    """
    if not functions:
        return [1 + len(branches)]
    paths = [1] * len(functions)
    begun = 0
    enclosing: list[int] = []
    for branch in branches:
        while begun < len(functions) and functions[begun][0] <= branch:
            while enclosing and functions[enclosing[-1]][1] <= functions[begun][0]:
                enclosing.pop()
            enclosing.append(begun)
            begun += 1
        while enclosing and functions[enclosing[-1]][1] <= branch:
            enclosing.pop()
        if enclosing:  # the innermost function
            paths[enclosing[-1]] += 1
    return paths


def measure_depth(blocks: list[tuple[int, int]]) -> int:
    """The deepest nesting of blocks, given as start and end offsets in order.

    >>> measure_depth([(0, 50), (5, 20), (25, 30)])
    2
    """
    deepest, open_ends = 0, list[int]()
    for start, end in blocks:
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        open_ends.append(end)
        deepest = max(deepest, len(open_ends))
    return deepest
