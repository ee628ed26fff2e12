"""Finds documents that contain a benchmark's prompts, solutions or tests, whole or in large part."""

import ast
import builtins
import keyword
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..text.word_hashes import find_words, hash_text, hash_words, roll
from .benchmark_tasks import COMMENTS, BenchmarkTask

SEQUENCE_WORDS = 6
# Sequences of tokens with normalised identifiers, which begin at keywords and names of the language.
TOKENS = 16
MIN_STRUCTURES, MIN_STRUCTURE_OVERLAP = 4, 0.6
# A text with fewer sequences must be there as a whole, and have words of its own.
MIN_SEQUENCES = 5
_OWN_WORD, _MIN_OWN_LETTERS = 3, 12
# What so many tasks share, as a number and a share of them, is the benchmark's form.
_FORM_TASKS, _FORM_FRACTION = 3, 0.05
_UPPER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
# Bytes of a block of documents, which stays in the processor's cache.
BLOCK_BYTES = 300_000
# The filter of an index has 16 to 32 places for each hash, and stays in the processor's cache.
_MIN_FILTER_BITS, _SPARE_BITS = 12, 4
_MULTIPLY = np.uint64(0x9E3779B97F4A7C15)
_SYMBOL = np.uint64(0xBF58476D1CE4E5B9)
_IS_SYMBOL = bytes(byte in b"()[]{}=+-*/%<>!&|^~.,:;@?" for byte in range(256))
_DISTANCES = np.random.default_rng(0).integers(1, 2**63, TOKENS, np.uint64)
_PYTHON_FRACTION = 0.5
PYTHON = frozenset({"python", "cython", "jupyter-scripts", "jupyter-structured"})


@dataclass(frozen=True)
class Contamination:
    """Why a document is contaminated.

    Args:
        benchmark: Its name.
        task: Number of the task in the benchmark.
        overlap: Share of a text of the task that the document contains, 0 to 1.
        is_renamed: Found with identifiers normalised.
    """

    benchmark: str
    task: int
    overlap: float
    is_renamed: bool = False


class _SequenceIndex:
    """Texts by the hashes of their sequences."""

    def __init__(self, texts: Sequence[NDArray[np.uint64]]) -> None:
        distinct = [np.unique(hashes) for hashes in texts]
        self.sizes = np.array([len(hashes) for hashes in distinct], np.int64)
        hashes = np.concatenate([np.empty(0, np.uint64), *distinct])
        owners = np.repeat(np.arange(len(texts)), self.sizes)
        order = np.argsort(hashes, kind="stable")
        self._owners = owners[order]
        self._keys, self._first, self._counts = np.unique(hashes[order], return_index=True, return_counts=True)
        bits = max(_MIN_FILTER_BITS, len(self._keys).bit_length() + _SPARE_BITS)
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, bool)
        self._filter[(self._keys >> self._shift).astype(np.int64)] = True

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The places of those hashes that the index has, int64, in order."""
        places = np.flatnonzero(self._filter.take((hashes >> self._shift).view(np.int64), mode="clip"))
        if not len(places) or not len(self._keys):
            return places[:0]
        found = hashes[places]
        rows = np.minimum(np.searchsorted(self._keys, found), len(self._keys) - 1)
        known: NDArray[np.int64] = places[self._keys[rows] == found]
        return known

    def count(self, hashes: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The texts that share sequences with a document, and how many distinct ones."""
        shared = np.unique(hashes[self.find(hashes)])
        rows = np.searchsorted(self._keys, shared)
        owners = [self._owners[self._first[row] : self._first[row] + self._counts[row]] for row in rows.tolist()]
        texts, counts = np.unique(np.concatenate([np.empty(0, np.int64), *owners]), return_counts=True)
        return texts.astype(np.int64), counts


class Decontaminator:
    """Searches documents for the tasks of benchmarks, in two looks.

    The first is at words, ignoring case, punctuation and layout: a document is contaminated if it contains a share of
    the six-word sequences of one text of a task, its prompt, solution or tests; of shorter texts, all. Sequences of
    numbers, and those that many tasks of a benchmark share, do not count. The second, at code, ignores comments and the
    names of variables and functions: it compares the order of keywords, symbols, names of the language and repeated
    names.

    Args:
        tasks: Of each benchmark, by name.
        min_hits: Common sequences at least, in texts that have as many.
        min_overlap: Share of a text's sequences.

    Source:
        Word sequences as in Qwen2.5-Coder (Hui et al. 2024, arXiv:2409.12186, section 3.1.2), shorter, and counted for
        each task; StarCoder's substrings (Li et al. 2023, arXiv:2305.06161, section 3.4) are texts found as a whole.
    """

    def __init__(
        self, tasks: Mapping[str, Sequence[BenchmarkTask]], *, min_hits: int = MIN_SEQUENCES, min_overlap: float = 0.5
    ) -> None:
        self._names = list(tasks)
        texts: list[NDArray[np.uint64]] = []
        code: list[NDArray[np.uint64]] = []
        shapes: list[NDArray[np.uint64]] = []
        self._owners: list[tuple[int, int]] = []
        self._code_owners: list[tuple[int, int]] = []
        parsed = 0
        for place, name in enumerate(self._names):
            forms = _find_forms(tasks[name])
            seen: set[str] = set()
            for number, task in enumerate(tasks[name]):
                for text in task.texts:
                    if text in seen:  # tasks of infilling share prompts and tests
                        continue
                    seen.add(text)
                    hashes = _hash_searchable(_encode(text), forms)
                    if len(hashes):
                        texts.append(hashes)
                        self._owners.append((place, number))
                for text in task.code:
                    structure = Structure([_encode(text)])
                    sequences = structure.hash_sequences()
                    if len(np.unique(sequences)) >= MIN_STRUCTURES:
                        code.append(sequences)
                        shapes.append(structure.hash_shapes())
                        self._code_owners.append((place, number))
                        parsed += _is_python(text)
        self._texts, self._code, self._shapes = _SequenceIndex(texts), _SequenceIndex(code), _SequenceIndex(shapes)
        self._is_python = parsed >= _PYTHON_FRACTION * len(self._code_owners)
        sizes = self._texts.sizes
        self._needed = np.where(
            sizes < MIN_SEQUENCES, sizes, np.maximum(np.ceil(min_overlap * sizes), np.minimum(min_hits, sizes))
        )

    def find(self, text: bytes, language: str | None = None) -> Contamination | None:
        """What contaminates a document (UTF-8), if anything.

        Args:
            language: Benchmarks of Python are compared by structure with documents in it alone; `None` for all.
        """
        return self.find_all([text], [language])[0]

    def find_all(self, texts: Sequence[bytes], languages: Sequence[str | None]) -> list[Contamination | None]:
        """As `find`, of many documents at once, which takes half the time."""
        found: list[Contamination | None] = []
        first = held = 0
        for end, text in enumerate(texts, 1):
            held += len(text)
            if held >= BLOCK_BYTES or end == len(texts):
                found += self._find_block(texts[first:end], languages[first:end])
                first, held = end, 0
        return found

    def _find_block(self, texts: Sequence[bytes], languages: Sequence[str | None]) -> list[Contamination | None]:
        found: list[Contamination | None] = [None] * len(texts)
        for document, hashes in self._find_known(texts):
            found[document] = self._find_text(hashes)
        if not self._code_owners:
            return found
        looked = [
            document
            for document, language in enumerate(languages)
            if found[document] is None and (not self._is_python or language is None or language in PYTHON)
        ]
        structure = Structure([texts[document] for document in looked])
        # Shapes are sequences without the order of names, and cheaper: most documents share none.
        known = structure.documents[self._shapes.find(structure.hash_shapes())]
        for place in np.flatnonzero(np.bincount(known, minlength=len(looked)) >= MIN_STRUCTURES).tolist():
            found[looked[place]] = self._find_renamed(texts[looked[place]])
        return found

    def _find_known(self, texts: Sequence[bytes]) -> Iterator[tuple[int, NDArray[np.uint64]]]:
        """The documents with word sequences that texts of tasks have, and the hashes of those."""
        data = np.frombuffer(b"\n".join([*texts, b""]).translate(_UPPER), np.uint8)
        starts, ends = find_words(data)
        rolled = roll(hash_words(data, starts, ends), SEQUENCE_WORDS)
        places = self._texts.find(rolled)
        if len(places):
            # A sequence that goes on into the next document is none.
            bounds = np.searchsorted(starts, np.cumsum([len(text) + 1 for text in texts]))
            documents = np.searchsorted(bounds, places, side="right")
            inside = places + SEQUENCE_WORDS <= bounds[documents]
            places, documents = places[inside], documents[inside]
            for document in np.unique(documents).tolist():
                yield document, rolled[places[documents == document]]

    def _find_text(self, hashes: NDArray[np.uint64]) -> Contamination | None:
        found, counts = self._texts.count(hashes)
        hits = np.flatnonzero(counts >= self._needed[found])
        if not len(hits):
            return None
        best = hits[np.argmax(counts[hits] / self._texts.sizes[found[hits]])]
        return self._describe(self._owners[found[best]], counts[best] / self._texts.sizes[found[best]])

    def _find_renamed(self, text: bytes) -> Contamination | None:
        found, counts = self._code.count(Structure([text]).hash_sequences())
        overlaps = counts / self._code.sizes[found] if len(found) else counts
        hits = np.flatnonzero((counts >= MIN_STRUCTURES) & (overlaps >= MIN_STRUCTURE_OVERLAP))
        if not len(hits):
            return None
        best = hits[np.argmax(overlaps[hits])]
        return self._describe(self._code_owners[found[best]], overlaps[best], is_renamed=True)

    def _describe(self, owner: tuple[int, int], overlap: float, *, is_renamed: bool = False) -> Contamination:
        return Contamination(self._names[owner[0]], owner[1], float(overlap), is_renamed)


def _find_forms(tasks: Sequence[BenchmarkTask]) -> NDArray[np.uint64]:
    """The hashes of sequences that many tasks of a benchmark share; sorted."""
    of_tasks = [
        np.unique(
            np.concatenate(
                [np.empty(0, np.uint64), *(roll(hash_text(_encode(text)), SEQUENCE_WORDS) for text in texts)]
            )
        )
        for texts in {task.texts for task in tasks}
    ]
    hashes, counts = np.unique(np.concatenate(of_tasks), return_counts=True)
    return hashes[counts > max(_FORM_TASKS, _FORM_FRACTION * len(tasks))]


def _encode(text: str) -> bytes:
    return text.encode("utf-8", errors="surrogatepass")


def _hash_searchable(text: bytes, forms: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The hashes of a text's sequences that count; none if it is too short or of common words."""
    data = np.frombuffer(text.translate(_UPPER), np.uint8)
    starts, ends = find_words(data)
    rolled = roll(hash_words(data, starts, ends), SEQUENCE_WORDS)
    if not len(rolled):
        return rolled
    is_word = np.concatenate([[0], np.cumsum(~_is_number(data[starts]))])
    rolled = rolled[is_word[SEQUENCE_WORDS:] - is_word[:-SEQUENCE_WORDS] >= 2]
    if len(forms):
        rows = np.minimum(np.searchsorted(forms, rolled), len(forms) - 1)
        own_part: NDArray[np.uint64] = rolled[forms[rows] != rolled]
        rolled = own_part
    if len(np.unique(rolled)) < MIN_SEQUENCES:
        words = {data[start:end].tobytes() for start, end in zip(starts, ends, strict=True)}
        own = [word for word in words if len(word) >= _OWN_WORD and word not in _KNOWN_WORDS]
        if sum(map(len, own)) < _MIN_OWN_LETTERS:
            return rolled[:0]
    return rolled


def _is_number(first: NDArray[np.uint8]) -> NDArray[np.bool_]:
    is_number: NDArray[np.bool_] = (first >= ord("0")) & (first <= ord("9"))
    return is_number


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


class Structure:
    """The tokens of code without comments: words and symbols.

    Args:
        texts: Documents; no sequence goes on from one into the next.
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        plain = [COMMENTS.sub(b" ", text) for text in texts]
        joined = b"\n".join([*plain, b""]).translate(_UPPER)
        data = np.frombuffer(joined, np.uint8)
        starts, ends = find_words(data)
        is_symbol = np.frombuffer(joined.translate(_IS_SYMBOL), bool)
        is_token = is_symbol.copy()
        is_token[starts] = True
        places = np.flatnonzero(is_token)
        first, is_word = data.take(places), ~is_symbol.take(places)
        self._values = first * _SYMBOL
        self._values[is_word] = hash_words(data, starts, ends)
        known = _KNOWN.take((self._values >> _KNOWN_SHIFT).view(np.int64), mode="clip")
        is_known = (known == self._values) & is_word
        self._is_name = is_word & ~is_known & ~_is_number(first)
        anchors = np.flatnonzero(is_known)
        bounds = np.searchsorted(places, np.cumsum([len(text) + 1 for text in plain]))
        documents = np.searchsorted(bounds, anchors, side="right")
        inside = anchors + TOKENS <= bounds[documents]
        self._anchors = anchors[inside]
        self.documents: NDArray[np.int64] = documents[inside]
        """The document of each sequence, shape (A,)."""

    def hash_shapes(self) -> NDArray[np.uint64]:
        """Hashes the sequences that begin at known words, with all names alike; uint64, shape (A,)."""
        return self._hash(np.where(self._is_name, np.uint64(1), self._values))

    def hash_sequences(self) -> NDArray[np.uint64]:
        """Hashes the sequences that begin at known words; a name is the distance to its last place in the sequence."""
        names = np.flatnonzero(self._is_name)
        order = names[np.argsort(self._values[names], kind="stable")]
        is_same = self._values[order[1:]] == self._values[order[:-1]]
        distances = np.zeros(len(self._values), np.int64)
        distances[order[1:][is_same]] = (order[1:] - order[:-1])[is_same]
        return self._hash(self._values, distances)

    def _hash(self, values: NDArray[np.uint64], distances: NDArray[np.int64] | None = None) -> NDArray[np.uint64]:
        rolled = np.zeros(len(self._anchors), np.uint64)
        for place in range(TOKENS):
            at = self._anchors + place
            value = values[at]
            if distances is not None:
                near = distances[at]
                value = np.where(self._is_name[at], _DISTANCES[np.where(near <= place, near, 0)], value)
            rolled = rolled * _MULTIPLY + value
        return _finish(rolled)


def _finish(rolled: NDArray[np.uint64]) -> NDArray[np.uint64]:
    rolled ^= rolled >> np.uint64(32)
    mixed: NDArray[np.uint64] = rolled * _MULTIPLY
    return mixed


def _read_known_words() -> Iterable[bytes]:
    """Python's keywords and names, and those of other languages, which renaming leaves."""
    words = (Path(__file__).parent / "known_words.txt").read_text(encoding="utf-8").split()
    return {word.lower().encode() for word in (*keyword.kwlist, *dir(builtins), *words)}


_KNOWN_WORDS = frozenset(_read_known_words())
# By the first bits of the hash; of two words with the same, one is a name like others.
_KNOWN_SHIFT = np.uint64(64 - 16)
_KNOWN = np.zeros(1 << 16, np.uint64)
for _word in sorted(_KNOWN_WORDS):
    for _hash in hash_text(_word):
        _KNOWN[int(_hash >> _KNOWN_SHIFT)] = _hash
