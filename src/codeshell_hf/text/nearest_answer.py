"""The copying baseline: the answer of the most similar request among those that a model was tuned on.

A model that only repeats what it was tuned on is no better. The copy gets all that costs no understanding: it is given
the name that the tests call, and the numbers of the new request in place of the old ones.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError
from .chat import Conversation, Message
from .code import extract_code, list_wanted, parse_python

SHINGLE_CHARACTERS = 3
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.]\d)")
_CODE = re.compile(r"`[^`\n]*`")
_CALL = re.compile(r"`(\w+)\(")


class NearestAnswers:
    """Answers requests with a copy of the answer to the most similar one.

    Similarity is the Jaccard index of the requests' shingles of three characters, without names in backticks and with
    all numbers alike.

    Args:
        conversations: What the model was tuned on; the last user's message of each is compared.

    Raises:
        DataError: If there are none.
    """

    def __init__(self, conversations: Iterable[Conversation]) -> None:
        self._answers = [(find_request(one.prompt), one.reference) for one in conversations]
        if not self._answers:
            raise DataError("there is no conversation to copy answers from; name files that hold some")
        shingles = [_cut_shingles(request) for request, _ in self._answers]
        self._sizes = np.array([len(found) for found in shingles])
        places: dict[str, list[int]] = defaultdict(list)
        for place, found in enumerate(shingles):
            for shingle in found:
                places[shingle].append(place)
        self._places: dict[str, NDArray[np.int64]] = {shingle: np.array(rows) for shingle, rows in places.items()}

    def find(self, request: str) -> tuple[str, str]:
        """The most similar request, the first of several, with its answer."""
        shingles = _cut_shingles(request)
        shared = np.zeros(len(self._sizes), dtype=np.int64)
        for shingle in shingles & self._places.keys():
            shared[self._places[shingle]] += 1
        similarity = shared / np.maximum(1, self._sizes + len(shingles) - shared)
        return self._answers[int(similarity.argmax())]

    def copy(self, request: str, tests: str | None = None) -> str:
        """The copied answer, with the request's numbers and the name that is asked for."""
        neighbour, answer = self.find(request)
        wanted = list_wanted(tests or "") or set(_CALL.findall(request)[:1])
        return rename_function(replace_numbers(answer, neighbour, request), wanted)


def find_request(prompt: Sequence[Message]) -> str:
    """The last message of a prompt's user; empty if there is none."""
    return next((message["content"] for message in reversed(prompt) if message["role"] == "user"), "")


def _cut_shingles(request: str) -> set[str]:
    text = " ".join(_NUMBER.sub("0", _CODE.sub("`", request)).lower().split())
    return {text[start : start + SHINGLE_CHARACTERS] for start in range(max(1, len(text) - SHINGLE_CHARACTERS + 1))}


def replace_numbers(answer: str, old_request: str, new_request: str) -> str:
    r"""Puts the numbers of a new request in place of those of the old one, if both have equally many.

    A number that the old request has several times is replaced in the order of its uses.

    >>> replace_numbers("x = x + 2\nreturn x * 3 - 1", "add 2, times 3", "add 5, times 7")
    'x = x + 5\nreturn x * 7 - 1'
    """
    old, new = (_NUMBER.findall(_CODE.sub("`", request)) for request in (old_request, new_request))
    if len(old) != len(new):
        return answer
    waiting: dict[str, list[str]] = defaultdict(list)
    for before, after in zip(old, new, strict=True):
        waiting[before].append(after)

    def choose(found: re.Match[str]) -> str:
        values = waiting.get(found[0])
        if not values:
            return found[0]
        return values.pop(0) if len(values) > 1 else values[0]

    return _NUMBER.sub(choose, answer)


def rename_function(answer: str, wanted: Collection[str]) -> str:
    r"""Renames the last function of an answer to the one name that is wanted, if the answer lacks it.

    >>> rename_function("def f(x):\n    return x", ["g"])
    'def g(x):\n    return x'
    """
    tree = parse_python(extract_code(answer))
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)] if tree is not None else []
    if len(wanted) != 1 or not defined or set(wanted) & set(defined):
        return answer
    return re.sub(rf"\b{re.escape(defined[-1])}\b", next(iter(wanted)), answer)
