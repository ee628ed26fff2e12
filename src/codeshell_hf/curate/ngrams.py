"""An n-gram language model with interpolated modified Kneser-Ney smoothing, trained on sorted arrays, stored as ARPA.

Words are numbers. An n-gram is a pair: the number of its first n - 1 words among the (n - 1)-grams, and its last word.
So each order is one sorted array of 64-bit pairs, in training and in scoring.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError

if TYPE_CHECKING:
    import kenlm

UNKNOWN, BEGIN, END = "<unk>", "<s>", "</s>"
MAX_ORDER = 6
_NEVER = -99.0  # ARPA's log10 probability of what is never predicted
_WORD_BITS = 24


@dataclass(frozen=True)
class NgramModel:
    """Probabilities and backoffs of n-grams.

    Args:
        words: The vocabulary, by number: `<unk>`, `<s>`, `</s>` and the rest.
        pairs: For each order from 2: the number of the first n - 1 words, shifted left by 24 bits, plus the last word's
            number; sorted, int64.
        probabilities: For each order from 1: log10 of the last word's probability, float32, in the order of `pairs`; by
            word for order 1.
        backoffs: For each order but the last: log10 of the backoff weight, in the same order.
    """

    words: Sequence[str]
    pairs: Sequence[NDArray[np.int64]]
    probabilities: Sequence[NDArray[np.float32]]
    backoffs: Sequence[NDArray[np.float32]]

    @property
    def order(self) -> int:
        """Length of the longest n-gram."""
        return len(self.probabilities)


def train(documents: Iterable[Sequence[str]], *, order: int, min_word_count: int = 1) -> NgramModel:
    """Trains a model on the words of documents, each between `<s>` and `</s>`.

    Args:
        order: 1 to 6.
        min_word_count: Rarer words become `<unk>`.

    Raises:
        DataError: If there is no word.

    Source:
        Chen and Goodman 1998, "An empirical study of smoothing techniques", section 3: three discounts per order, from
        counts of counts; Heafield et al. 2013, section 2, for adjusted counts and the interpolation with uniform.
    """
    ids, words = _number_words(documents, min_word_count)
    if len(words) <= 3:
        raise DataError("there are no words to train an n-gram model on; name sources with text")
    begin = 1
    # prefix[i] is the number of the n-gram that ends at i, or -1 if it would cross a <s>.
    pairs: list[NDArray[np.int64]] = []
    ends: list[NDArray[np.int64]] = [ids]
    counts = [np.bincount(ids, minlength=len(words))]
    for _ in range(2, order + 1):
        before = np.concatenate([[-1], ends[-1][:-1]])
        codes = np.where((before >= 0) & (ids != begin), before << _WORD_BITS | ids, -1)
        known, inverse, count = np.unique(codes, return_inverse=True, return_counts=True)
        skipped = int(known[0] == -1)
        pairs.append(known[skipped:])
        counts.append(count[skipped:])
        ends.append(inverse - skipped)
    return _estimate(words, ids, pairs, ends, counts)


def _number_words(documents: Iterable[Sequence[str]], min_word_count: int) -> tuple[NDArray[np.int64], list[str]]:
    numbers: dict[str, int] = {UNKNOWN: 0, BEGIN: 1, END: 2}
    pieces = []
    for document in documents:
        found = [numbers.setdefault(word, len(numbers)) for word in document]
        pieces.append(np.array([1, *found, 2], np.int64))
    if not pieces:
        return np.empty(0, np.int64), list(numbers)
    ids = np.concatenate(pieces)
    words = np.array(list(numbers), object)
    if len(words) >= 1 << _WORD_BITS:
        raise DataError(f"the sample has {len(words):,} words, more than 16,777,215; raise min_word_count")
    counts = np.bincount(ids, minlength=len(words))
    kept = counts >= min_word_count
    kept[:3] = True
    renumbered = np.where(kept, np.cumsum(kept) - 1, 0)
    return renumbered[ids], words[kept].tolist()


def _estimate(
    words: list[str],
    ids: NDArray[np.int64],
    pairs: list[NDArray[np.int64]],
    ends: list[NDArray[np.int64]],
    counts: list[NDArray[np.int64]],
) -> NgramModel:
    order = len(counts)
    # The n-gram without its first word is the (n - 1)-gram that ends at the same position.
    suffixes = [_first_at(ends[n], ends[n - 1], len(counts[n])) for n in range(1, order)]
    for n in range(order - 1):
        # Adjusted counts: shorter n-grams count the distinct words before them, except at the start of a document.
        follows = np.bincount(suffixes[n], minlength=len(counts[n]))
        starts = _begins(n, pairs, len(counts[n]))
        counts[n] = np.where(starts, counts[n], follows)
    counts[0][1] = 0  # <s> is never predicted
    probabilities: list[NDArray[np.float64]] = []
    backoffs: list[NDArray[np.float64]] = []
    for n in range(order):
        contexts = np.zeros(len(counts[0]), np.int64) if n == 0 else pairs[n - 1] >> _WORD_BITS
        size = 1 if n == 0 else len(counts[n - 1])
        discount = _discount(counts[n])
        total = np.bincount(contexts, counts[n], size)
        taken = np.bincount(contexts, discount, size)
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.where(total > 0, taken / np.maximum(total, 1e-300), 1.0)
            own = np.where(total[contexts] > 0, (counts[n] - discount) / total[contexts], 0.0)
        lower = np.full(len(counts[0]), 1 / (len(words) - 1)) if n == 0 else probabilities[-1][suffixes[n - 1]]
        probabilities.append(own + left[contexts] * lower)
        if n:
            backoffs.append(left)
    probabilities[0][1] = 0.0
    with np.errstate(divide="ignore"):
        logs = [np.maximum(np.log10(values), _NEVER).astype(np.float32) for values in probabilities]
        weights = [np.maximum(np.log10(values), _NEVER).astype(np.float32) for values in backoffs]
    return NgramModel(words, pairs, logs, weights)


def _first_at(keys: NDArray[np.int64], values: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    found = np.zeros(size, np.int64)
    held = keys >= 0
    found[keys[held]] = values[held]
    return found


def _begins(n: int, pairs: list[NDArray[np.int64]], size: int) -> NDArray[np.bool_]:
    """Which n-grams of order n + 1 begin with `<s>`."""
    begins = np.zeros(size if n == 0 else int((pairs[0] >> _WORD_BITS).max(initial=0)) + 1, bool)
    if n == 0:
        begins[1] = True
        return begins
    first = np.zeros(1 << 1, bool)
    first[1] = True
    for level in range(n):
        contexts = pairs[level] >> _WORD_BITS
        first = contexts == 1 if level == 0 else first[contexts]
    return first


def _discount(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The discount of each count: one of three, for counts of 1, 2, and 3 or more."""
    many = [int((counts == value).sum()) for value in range(1, 5)]
    discounts = [0.5, 1.0, 1.5]
    if all(many[:3]):
        share = many[0] / (many[0] + 2 * many[1])
        estimates = [place + 1 - (place + 2) * share * many[place + 1] / many[place] for place in range(3)]
        # Default values, if the sample is too small or unusual for the estimate.
        if all(0 <= value <= place + 1 for place, value in enumerate(estimates)):
            discounts = estimates
    taken: NDArray[np.float64] = np.minimum(np.select([counts == 1, counts == 2, counts > 2], discounts, 0.0), counts)
    return taken


def score(model: NgramModel, documents: Sequence[Sequence[str]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores documents between `<s>` and `</s>`: log10 probabilities and word counts, shape (D,); `</s>` is counted."""
    numbers = {word: number for number, word in enumerate(model.words)}
    lengths = np.array([len(document) + 1 for document in documents], np.int64)
    if not len(lengths):
        return np.empty(0), lengths
    look = numbers.get
    flat = [look(word, 0) for document in documents for word in (BEGIN, *document, END)]
    logs = score_numbers(model, np.array(flat, np.int64))
    bounds = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
    return np.add.reduceat(logs, bounds), lengths


def score_numbers(model: NgramModel, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Scores words by number.

    Args:
        ids: Concatenated documents, each starting with `<s>`, int64, shape (N,).

    Returns:
        log10 of each word's probability, 0 for `<s>`, shape (N,).
    """
    logs = model.probabilities[0][ids].astype(np.float64)
    begin = ids == 1
    ends = ids.copy()  # number of the n-gram that ends at each position, -1 if unknown
    for n in range(1, model.order):
        before = np.concatenate([[-1], ends[:-1]])
        before[begin] = -1
        weight = model.backoffs[n - 1]
        has_context = before >= 0
        codes = before << _WORD_BITS | ids
        pairs = model.pairs[n - 1]
        found = np.searchsorted(pairs, codes)
        np.minimum(found, len(pairs) - 1, out=found)
        is_found = has_context & (pairs[found] == codes) if len(pairs) else np.zeros(len(ids), bool)
        # A longer match replaces the probability; a known context without the word multiplies by its backoff.
        logs = np.where(has_context, logs + weight[np.maximum(before, 0)], logs)
        logs = np.where(is_found, model.probabilities[n][found] if len(pairs) else logs, logs)
        ends = np.where(is_found, found, -1)
    logs[begin] = 0.0
    return logs


def write_arpa(model: NgramModel, path: Path) -> None:
    """Writes a model as ARPA to a file that is complete or absent; a name in `.gz` is compressed."""
    temporary = path.with_name(f".{path.name}.tmp")
    with _open(temporary, "wt", is_compressed=path.suffix == ".gz") as file:
        sizes = [len(values) for values in model.probabilities]
        file.write("\\data\\\n" + "".join(f"ngram {n}={size}\n" for n, size in enumerate(sizes, 1)))
        texts: list[str] = list(model.words)
        for n, values in enumerate(model.probabilities):
            if n:
                pairs = model.pairs[n - 1]
                last = model.words
                texts = [
                    f"{texts[first]} {last[word]}"
                    for first, word in zip(
                        (pairs >> _WORD_BITS).tolist(), (pairs & (1 << _WORD_BITS) - 1).tolist(), strict=True
                    )
                ]
            file.write(f"\n\\{n + 1}-grams:\n")
            weights = model.backoffs[n].tolist() if n < model.order - 1 else None
            for place, (text, value) in enumerate(zip(texts, values.tolist(), strict=True)):
                file.write(f"{value:.7g}\t{text}" + (f"\t{weights[place]:.7g}\n" if weights else "\n"))
        file.write("\n\\end\\\n")
    temporary.replace(path)


def _open(path: Path, mode: str, *, is_compressed: bool) -> IO[str]:
    if is_compressed:
        return gzip.open(path, mode, encoding="utf-8", newline="\n")  # type: ignore[return-value]
    return path.open(mode, encoding="utf-8", newline="\n")


def read_arpa(path: Path) -> NgramModel:
    """Reads an ARPA file of any program, compressed or not; a `DataError` if it is not valid."""
    try:
        with _open(path, "rt", is_compressed=path.suffix == ".gz") as file:
            return _parse_arpa(line.rstrip("\n") for line in file)
    except (OSError, EOFError, UnicodeDecodeError, ValueError, KeyError, IndexError, StopIteration) as error:
        raise DataError(f"{path} cannot be read as ARPA ({error}); train one, or name another") from error


def _parse_arpa(lines: Iterator[str]) -> NgramModel:
    while next(lines).strip() != "\\data\\":
        pass
    sizes: list[int] = []
    line = next(lines)
    while not line.startswith("\\1-grams"):
        if line.startswith("ngram "):
            sizes.append(int(line.partition("=")[2]))
        line = next(lines)
    if not 1 <= len(sizes) <= MAX_ORDER:
        raise ValueError(f"order {len(sizes)} is not 1 to {MAX_ORDER}")
    numbers: dict[str, int] = {UNKNOWN: 0, BEGIN: 1, END: 2}
    rows: list[list[tuple[str, float, float]]] = []
    for n, size in enumerate(sizes, 1):
        if n > 1:
            while not next(lines).startswith(f"\\{n}-grams"):
                pass
        rows.append([_parse_row(next(lines), n) for _ in range(size)])
    for text, _, _ in rows[0]:
        # Some programs write <UNK>.
        numbers.setdefault(UNKNOWN if text == "<UNK>" else text, len(numbers))
    first = np.full((2, len(numbers)), [[_NEVER], [0.0]], np.float32)
    for text, value, weight in rows[0]:
        first[:, numbers.get(text, 0)] = value, weight
    probabilities, backoffs, pairs = [first[0]], [first[1]], list[NDArray[np.int64]]()
    for n, found in enumerate(rows[1:], 2):
        ids = np.array([[numbers[word] for word in text.split(" ")] for text, _, _ in found], np.int64).reshape(-1, n)
        place = ids[:, 0]
        for level in range(n - 2):
            place = _find(pairs[level], place << _WORD_BITS | ids[:, level + 1])
        codes = place << _WORD_BITS | ids[:, -1]
        order = np.argsort(codes, kind="stable")
        pairs.append(codes[order])
        probabilities.append(np.array([value for _, value, _ in found], np.float32)[order])
        backoffs.append(np.array([weight for _, _, weight in found], np.float32)[order])
    return NgramModel(list(numbers), pairs, probabilities, backoffs[:-1] if len(sizes) > 1 else [])


def _parse_row(line: str, n: int) -> tuple[str, float, float]:
    value, text, *weight = line.split("\t")
    if len(text.split(" ")) != n:
        raise ValueError(f"{line!r} is not a {n}-gram")
    return text, float(value), float(weight[0]) if weight else 0.0


def _find(pairs: NDArray[np.int64], codes: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.searchsorted(pairs, codes)
    if len(codes) and (found.max() >= len(pairs) or (pairs[found] != codes).any()):
        raise ValueError("the prefix of an n-gram is missing")
    return found


Scorer = Callable[[Sequence[Sequence[str]]], tuple[NDArray[np.float64], NDArray[np.int64]]]


def load_scorer(path: Path, *, prefers_kenlm: bool = True) -> Scorer:
    """Loads a model for scoring as `score` does, with kenlm if installed.

    Args:
        path: ARPA, or a KenLM binary, which only kenlm can read.
        prefers_kenlm: False scores ARPA with this module.

    Raises:
        DataError: If it cannot be read, or is a binary and kenlm is not installed.
    """
    with path.open("rb") as file:
        is_binary = file.read(5) == b"mmap "
    try:
        if not (prefers_kenlm or is_binary):
            raise ImportError
        import kenlm
    except ImportError as error:
        if is_binary:
            raise DataError(f"{path} is a KenLM binary; pip install kenlm, or name the ARPA file") from error
        model = read_arpa(path)
        return lambda documents: score(model, documents)
    try:
        engine = kenlm.Model(str(path), _quiet())
    except OSError as error:
        raise DataError(f"{path} cannot be read by kenlm; train one, or name another") from error

    def score_all(documents: Sequence[Sequence[str]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        logs = [engine.score(" ".join(document), bos=True, eos=True) for document in documents]
        return np.array(logs, np.float64), np.array([len(document) + 1 for document in documents], np.int64)

    return score_all


def _quiet() -> "kenlm.Config":
    """Settings of kenlm without a progress bar."""
    import kenlm

    config = kenlm.Config()
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    return config
