"""Extracts code from a chat answer."""

import re

FENCE = re.compile(r"```[\w+-]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


def extract_code(text: str) -> str:
    r"""The first fenced block, or the whole text where there is none.

    >>> extract_code("Here it is:\n```python\nx = 1\n```\nDone.")
    'x = 1'
    """
    block = FENCE.search(text)
    return block.group(1) if block else text
