"""Continues BPE from a base vocabulary, on the words of several sources in flat arrays.

Pairs are ranked by a mean over the sources, so that no single source dominates, and merged in rounds: the threshold
falls, and all pairs above it are merged at once, except where a better pair overlaps. Pairs are first counted in hash
buckets, and exactly only if their bucket reaches the threshold, which keeps memory at the size of the words.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from codeshell_hf.processors import count_usable_cpus

from .characters import is_chinese, write_bytes
from .settings import Continuation
from .vocabulary import Merge, Vocabulary, to_bytes
from .words import LINE_END, Words, drop_single

MIN_BITS, MAX_BITS = 12, 21  # log2 of the number of buckets
WHOLE, NEW_WRITING, SPACE = 1, 2, 4
SCORED_TOGETHER = 1 << 15
DISCOUNT = 1.0  # subtracted from each count, since a single occurrence in a source may be noise
STEP = 0.75  # ratio of thresholds of consecutive rounds, in terms of frequency
MIN_REMAINING = 0.9  # share of the threshold that a pair must keep after better pairs that overlap it are merged
UNRANKED = np.iinfo(np.int32).max
Places = NDArray[np.int32]  # positions in one part, which has fewer than 2**31 tokens
Ranks = NDArray[np.int32]


def count_weighted(values: NDArray[Any], weights: NDArray[np.unsignedinteger], size: int) -> NDArray[np.float64]:
    """Sums the weights of each value from 0 to `size` - 1."""
    return cast(NDArray[np.float64], np.bincount(values, weights, size))


@dataclass(frozen=True)
class WordSource:
    """The words of a source.

    Args:
        weight: Relative weight in the mean over the sources.
        words: Arrays of its words; `continue_merges` takes them out, so that memory holds none of them twice.
    """

    weight: float
    words: list[Words]


@dataclass(frozen=True)
class Ranking:
    """Combines counts in several sources into one score.

    Args:
        weights: Weight of each source, with a sum of 1.
        totals: Tokens of each source before any merge.
        exponent: As `Continuation.source_exponent`.
        min_sources: As `Continuation.min_sources`.
    """

    weights: NDArray[np.float64]
    totals: NDArray[np.float64]
    exponent: float
    min_sources: int

    def score(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores counts of shape (S, N), S sources, as shape (N,); monotonic in every count."""
        scores = np.empty(counts.shape[1])
        for start in range(0, len(scores), SCORED_TOGETHER):
            repeated = np.maximum(counts[:, start : start + SCORED_TOGETHER] - DISCOUNT, 0)
            frequencies = repeated / self.totals[:, None]
            is_broad = (repeated > 0).sum(0) >= self.min_sources
            scores[start : start + SCORED_TOGETHER] = self.weights @ frequencies**self.exponent * is_broad
        return scores


class Entries:
    """Tokens by id, with the traits that decide whether two may merge."""

    def __init__(self, working: Vocabulary, continuation: Continuation, *, new: int) -> None:
        self.tokens = list(working.tokens)
        self.ids = {token: index for index, token in enumerate(self.tokens)}
        self._continuation = continuation
        self._traits = np.zeros(len(self.tokens) + new, np.uint8)
        self._lengths = np.zeros(len(self.tokens) + new, np.uint8)
        for token in self.tokens:
            self._describe(token)
        self.lock(LINE_END)

    def _describe(self, token: str) -> None:
        try:
            text = to_bytes(token).decode("utf-8")
        except UnicodeDecodeError:
            return  # an incomplete character
        chinese = self._continuation.new_merges == "chinese"
        is_new = any(map(is_chinese, text)) if chinese else not text.isascii()
        self._traits[self.ids[token]] = WHOLE | (NEW_WRITING if is_new else 0) | (SPACE if text.isspace() else 0)
        self._lengths[self.ids[token]] = min(len(text), 127)

    def add(self, token: str) -> int:
        """Adds a token if it is new, and returns its id."""
        if token not in self.ids:
            self.ids[token] = len(self.tokens)
            self.tokens.append(token)
            self._describe(token)
        return self.ids[token]

    def find(self, text: str) -> int:
        """Finds the id of a text that is one token."""
        return self.ids[write_bytes(text)]

    def lock(self, text: str) -> None:
        """Excludes a text, which is one token, from merges."""
        self._traits[self.find(text)] &= ~np.uint8(WHOLE)

    def unlock(self, text: str) -> None:
        """Allows merges of a text that was locked."""
        self._traits[self.find(text)] |= WHOLE

    def is_new_writing(self, text: str) -> bool:
        """Whether a text, which is one token, is in the script that new merges must contain."""
        return bool(self._traits[self.find(text)] & NEW_WRITING)

    def may_merge(self, tokens: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether each token of shape (T,) may merge with the next, as shape (T - 1,).

        Both must be complete characters, one of them in the new script; the first must not be a space, and the result
        must not be too long.
        """
        traits, lengths = self._traits[tokens], self._lengths[tokens]
        left, right = traits[:-1], traits[1:]
        allowed = (left & right & WHOLE) | ((left | right) & NEW_WRITING) | (left & SPACE)
        fits = lengths[:-1] + lengths[1:] <= self._continuation.max_characters
        return cast(NDArray[np.bool_], fits & (allowed == WHOLE | NEW_WRITING))


@dataclass(frozen=True)
class SourcePart:
    """Words of one source, by its number."""

    source: int
    words: Words


@dataclass(frozen=True)
class Counted:
    """How often the pairs of a part occur that may score well enough.

    Args:
        source: The part's.
        pairs: Distinct, left id << 32 | right id, ascending, shape (P,).
        counts: Of each, shape (P,).
    """

    source: int
    pairs: NDArray[np.int64]
    counts: NDArray[np.float64]


@dataclass(frozen=True)
class Located:
    """Where the ranked pairs of a part occur, some of which overlap.

    Args:
        places: Positions of their left tokens, shape (P,), ascending.
        ranks: The rank of each, shape (P,).
    """

    part: SourcePart
    places: Places
    ranks: Ranks

    def count(self, size: int) -> NDArray[np.float64]:
        """Counts the merges of each of `size` ranks."""
        places, ranks = choose_places(self.places, self.ranks)
        return count_weighted(ranks, self.part.words.counts[places], size)

    def merge(self, new_ranks: Ranks, products: NDArray[np.int32]) -> SourcePart:
        """Replaces pairs by their products, and drops words that have become one token.

        Args:
            new_ranks: For each rank, its place in `products`, or `UNRANKED` for pairs that do not merge.
        """
        ranks = new_ranks[self.ranks]
        places, ranks = choose_places(self.places[ranks < UNRANKED], ranks[ranks < UNRANKED])
        words = self.part.words
        tokens = words.tokens.copy()
        tokens[places] = products[ranks]
        stays = np.ones(len(tokens), np.bool_)
        stays[places + 1] = False
        return SourcePart(self.part.source, drop_single(Words(tokens[stays], words.counts[stays])))


def continue_merges(
    base: Vocabulary, working: Vocabulary, spelled: dict[str, tuple[Merge, ...]], sources: Sequence[WordSource],
    continuation: Continuation, *, size: int, floor: Sequence[str] = (), show_progress: bool = False,
) -> Vocabulary:  # fmt: skip
    """Continues a vocabulary with characters, and then with merges of complete characters.

    Args:
        base: The vocabulary to continue.
        working: The base with all characters of `spelled`, with which the words are encoded.
        spelled: For each character, the merges after the base's that make it one token.
        sources: The words of each source.
        continuation: Settings of new entries.
        size: Final number of entries; there are fewer if the words have no more pairs.
        floor: Characters that become entries first, even if they are rare.
        show_progress: Whether to show a bar.

    Returns:
        The base's merges, then those of characters, then those of pairs in the order in which they were found.
    """
    growth = Growth(base, working, spelled, sources, continuation, size)
    for character in floor:
        growth.admit(character)
    with (
        ThreadPoolExecutor(count_usable_cpus()) as pool,
        tqdm(desc="extend", total=size, initial=len(growth.entered), unit="entry", disable=not show_progress) as bar,
    ):
        while len(growth.entered) < size and growth.grow(pool):
            bar.update(len(growth.entered) - bar.n)
    return Vocabulary((*base.merges, *growth.character_merges, *growth.merges))


class Growth:
    """A growing vocabulary, and the words as encoded with it."""

    def __init__(
        self, base: Vocabulary, working: Vocabulary, spelled: dict[str, tuple[Merge, ...]],
        sources: Sequence[WordSource], continuation: Continuation, size: int,
    ) -> None:  # fmt: skip
        self.entered = set(base.tokens)
        self.character_merges: dict[Merge, None] = {}
        self.merges: list[Merge] = []
        self._size, self._spelled = size, spelled
        self._entries = Entries(working, continuation, new=size)
        self._parts = [SourcePart(number, words) for number, source in enumerate(sources) for words in source.words]
        uses = np.zeros((len(sources), len(working)))
        for part in self._parts:
            uses[part.source] += count_weighted(part.words.tokens, part.words.counts, len(working))
        weights = np.array([source.weight for source in sources])
        least = min(continuation.min_sources, len(sources))
        self._ranking = Ranking(weights / weights.sum(), uses.sum(1), continuation.source_exponent, least)
        self._bits = int(np.clip(np.log2(uses.sum(1).max() + 1), MIN_BITS, MAX_BITS))
        self._threshold = np.inf
        # The lowest score of a pair that occurs twice in one source.
        self._least = float((self._ranking.weights / self._ranking.totals**self._ranking.exponent).min())
        missing = [character for character, merges in spelled.items() if merges]
        self._waiting = self._rank_characters(missing, uses)
        for character in missing:
            self._entries.lock(character)
        whole, self._parts = self._parts, []
        for source in sources:
            source.words.clear()
        while whole:
            part = whole.pop()
            self._parts.append(SourcePart(part.source, drop_single(part.words)))

    def _rank_characters(self, characters: Sequence[str], uses: NDArray[np.float64]) -> list[tuple[float, str]]:
        """Ranks characters of the new script, the best last, by tokens saved: a pair saves one, a character more."""
        written = [character for character in characters if self._entries.is_new_writing(character)]
        saved = np.array([len(self._spelled[character]) for character in written])
        scores = self._ranking.score(uses[:, [self._entries.find(character) for character in written]] * saved)
        return [(float(scores[index]), written[index]) for index in np.argsort(scores, kind="stable")]

    def admit(self, character: str) -> None:
        """Adds a character as an entry, if there is room for all its merges."""
        merges = self._spelled.get(character, ())
        made = {left + right for left, right in merges}
        if merges and len(self.entered | made) <= self._size:
            self.entered |= made
            self.character_merges |= dict.fromkeys(merges)
            self._entries.unlock(character)

    def grow(self, pool: ThreadPoolExecutor) -> bool:
        """Runs one round, and returns whether another may find more pairs."""
        sums = np.zeros((len(self._ranking.weights), 1 << self._bits))
        sources = [part.source for part in self._parts]  # not the parts, which are to be freed when they are merged
        for source, filled in zip(sources, pool.map(self._fill_buckets, self._parts), strict=True):
            sums[source] += filled
        bounds = self._ranking.score(sums)
        best = max(float(bounds.max()), self._waiting[-1][0] if self._waiting else 0.0)
        if best <= 0:
            return False
        self._threshold = min(self._threshold, best) * STEP**self._ranking.exponent
        while self._waiting and self._waiting[-1][0] >= self._threshold:
            self.admit(self._waiting.pop()[1])
        counted = list(pool.map(self._count_pairs, self._parts, repeat(bounds >= self._threshold)))
        return self._merge(pool, counted) > 0 or self._threshold > self._least

    def _fill_buckets(self, part: SourcePart) -> NDArray[np.float64]:
        places, buckets = self._hash_pairs(part.words)
        return count_weighted(buckets, part.words.counts[places], 1 << self._bits)

    def _hash_pairs(self, words: Words) -> tuple[Places, NDArray[np.uint32]]:
        places = np.flatnonzero(self._entries.may_merge(words.tokens)).astype(np.int32)
        return places, self._hash(words.tokens[places], words.tokens[places + 1])

    def _hash(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> NDArray[np.uint32]:
        mixed = left.astype(np.uint32) * np.uint32(0x9E3779B1)
        mixed += right.astype(np.uint32) * np.uint32(0x85EBCA6B)
        mixed ^= mixed >> np.uint32(15)
        mixed *= np.uint32(0x2C1B3C6D)
        return mixed >> np.uint32(32 - self._bits)

    def _read_pairs(self, words: Words, is_wanted: NDArray[np.bool_]) -> tuple[Places, NDArray[np.int64]]:
        """The positions and pairs whose buckets are wanted."""
        places, buckets = self._hash_pairs(words)
        places = places[is_wanted[buckets]]
        return places, words.tokens[places].astype(np.int64) << 32 | words.tokens[places + 1]

    def _count_pairs(self, part: SourcePart, is_heavy: NDArray[np.bool_]) -> Counted:
        places, written = self._read_pairs(part.words, is_heavy)
        pairs, pair_of_place = np.unique(written, return_inverse=True)
        return Counted(part.source, pairs, count_weighted(pair_of_place, part.words.counts[places], len(pairs)))

    def _locate(self, part: SourcePart, ranked: NDArray[np.int64]) -> Located:
        """Finds ranked pairs again, of which there are few; the places of all pairs would take more than the words."""
        is_wanted = np.zeros(1 << self._bits, np.bool_)
        is_wanted[self._hash(ranked >> 32, ranked & 0xFFFFFFFF)] = True
        places, written = self._read_pairs(part.words, is_wanted)
        order = np.argsort(ranked)
        index = np.minimum(np.searchsorted(ranked[order], written), max(len(ranked) - 1, 0))
        is_ranked = ranked[order][index] == written if len(ranked) else np.zeros(len(written), np.bool_)
        return Located(part, places[is_ranked], order[index[is_ranked]].astype(np.int32))

    def _merge(self, pool: ThreadPoolExecutor, counted: Sequence[Counted]) -> int:
        pairs = np.unique(np.concatenate([one.pairs for one in counted]))
        counts = np.zeros((len(self._ranking.weights), len(pairs)))
        for one in counted:
            counts[one.source, np.searchsorted(pairs, one.pairs)] += one.counts
        scores = self._ranking.score(counts)
        ranked = np.flatnonzero(scores >= self._threshold)
        ranked = pairs[ranked[np.lexsort((pairs[ranked], -scores[ranked]))]]
        # Pairs are counted again without overlaps with better pairs; those with too few left wait for a later round.
        located = list(pool.map(self._locate, self._parts, repeat(ranked)))
        left = np.zeros((len(self._ranking.weights), len(ranked)))
        sources = [one.source for one in self._parts]
        for source, remaining in zip(sources, pool.map(Located.count, located, repeat(len(ranked))), strict=True):
            left[source] += remaining
        kept = np.flatnonzero(self._ranking.score(left) >= self._threshold * MIN_REMAINING**self._ranking.exponent)
        products = self._enter(ranked[kept])
        new_ranks = np.full(len(ranked), UNRANKED, np.int32)
        new_ranks[kept[: len(products)]] = np.arange(len(products))
        merged = pool.map(Located.merge, located, repeat(new_ranks), repeat(products))
        located.clear()  # each part is freed when it is merged
        self._parts.clear()
        self._parts.extend(merged)
        return len(products)

    def _enter(self, ranked: NDArray[np.int64]) -> NDArray[np.int32]:
        products: list[int] = []
        for pair in ranked.tolist():
            left, right = self._entries.tokens[pair >> 32], self._entries.tokens[pair & 0xFFFFFFFF]
            if len(self.entered) >= self._size:
                break
            self.merges.append((left, right))
            self.entered.add(left + right)
            products.append(self._entries.add(left + right))
        return np.array(products, np.int32)


def choose_places(places: Places, ranks: Ranks) -> tuple[Places, Ranks]:
    """Resolves overlaps of adjacent positions: chooses those that merge if lower ranks merge first."""
    chosen: list[tuple[Places, Ranks]] = []
    while len(places):
        touches = places[1:] == places[:-1] + 1
        before, after = (np.full(len(places), UNRANKED, np.int32) for _ in range(2))
        before[1:][touches] = ranks[:-1][touches]
        after[:-1][touches] = ranks[1:][touches]
        wins = (ranks < before) & (ranks <= after)
        chosen.append((places[wins], ranks[wins]))
        is_out = wins.copy()
        is_out[1:] |= wins[:-1] & touches
        is_out[:-1] |= wins[1:] & touches
        places, ranks = places[~is_out], ranks[~is_out]
    if not chosen:
        return places, ranks
    return np.concatenate([one for one, _ in chosen]), np.concatenate([one for _, one in chosen])
