"""Splits code into words for the n-gram model."""

import re
from collections.abc import Callable
from pathlib import Path

from ..errors import DataError

# Words are names, numbers, single other characters, and line ends with the next line's indentation.
_WORD = re.compile(r"\n[ \t]*|[A-Za-z_]\w*|\d+|[^\s\w]|\w")
_NEW_LINE, _DEEPER = "¶", "→"
Splitter = Callable[[str], list[str]]
CODE_WORDS = "code"


def split_code(text: str) -> list[str]:
    r"""Splits code into names, numbers, symbols, and line ends: `¶`, followed by `→` and the indentation in fours.

    >>> split_code("if x:\n    return 42")
    ['if', 'x', ':', '¶→1', 'return', '42']
    """
    return [_name_line(word) if word[0] == "\n" else word for word in _WORD.findall(text)]


def _name_line(space: str) -> str:
    depth = (len(space) - 1 + 3 * space.count("\t")) // 4
    return f"{_NEW_LINE}{_DEEPER}{min(depth, 9)}" if depth else _NEW_LINE


def load_splitter(name: str) -> Splitter:
    """Loads a function that splits text into words.

    Args:
        name: "code", or a folder with a tokenizer or its `tokenizer.json`.

    Raises:
        DataError: If the tokenizer cannot be read.
    """
    if name == CODE_WORDS:
        return split_code
    from tokenizers import Tokenizer

    path = Path(name) / "tokenizer.json" if Path(name).is_dir() else Path(name)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(f"{path} cannot be read as a tokenizer; name one, or set words to code") from error
    tokenizer.encode_special_tokens = True
    return lambda text: [
        token.replace(" ", "▁").replace("\n", _NEW_LINE).replace("\t", _DEEPER)
        for token in tokenizer.encode(text, add_special_tokens=False).tokens
    ]
