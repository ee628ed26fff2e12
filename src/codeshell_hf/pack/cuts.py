"""Cuts of a text for fill-in-the-middle: between lines, or between syntax nodes."""

import functools
from itertools import accumulate
from typing import TYPE_CHECKING

from ..text.grammars import load_grammar

if TYPE_CHECKING:
    import tree_sitter


def cut_lines(text: str, cuts: tuple[float, float]) -> tuple[int, int]:
    """Start and end of one or more whole lines; the newline after the last stays in the suffix.

    Args:
        cuts: Where the first and the last line are, as fractions of the lines in [0, 1), sorted.
    """
    lines = text.split("\n")
    starts = list(accumulate((len(line) + 1 for line in lines), initial=0))
    first, last = (int(cut * len(lines)) for cut in cuts)
    return starts[first], starts[last + 1] - 1


def cut_syntax(text: str, span: tuple[int, int], language: str) -> tuple[int, int] | None:
    """Extends a random span to whole syntax nodes: the siblings that it touches in the smallest node around it.

    Args:
        span: In characters, start <= end.
        language: As curation names it.

    Returns:
        Start and end in characters; `None` if the language has no grammar or the span touches no node.

    Source:
        Gong et al. 2025, "Structure-Aware Fill-in-the-Middle Pretraining for Code", arXiv:2506.00204: middles are
        single nodes, or siblings aligned with a random span.
    """
    parser = _load_parser(language)
    if parser is None:
        return None
    data = text.encode("utf-8")
    start, end = (len(text[:place].encode("utf-8")) for place in span)
    node = parser.parse(data).root_node.descendant_for_byte_range(start, end)
    if node is None:
        return None
    touched = [child for child in node.children if child.end_byte > start and child.start_byte < end]
    first, last = (touched[0], touched[-1]) if touched else (node, node)
    if first.start_byte >= last.end_byte:
        return None
    begin = len(data[: first.start_byte].decode("utf-8"))
    return begin, begin + len(data[first.start_byte : last.end_byte].decode("utf-8"))


@functools.cache
def _load_parser(language: str) -> "tree_sitter.Parser | None":
    grammar = load_grammar(language)
    if grammar is None:
        return None
    import tree_sitter

    return tree_sitter.Parser(grammar)
