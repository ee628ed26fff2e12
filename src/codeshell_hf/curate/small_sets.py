"""Finds near duplicates among a few thousand texts in memory, as curation does among millions of documents."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .settings import NearDuplicates
from .shingles import find_sets, measure_jaccard, shingle, sign


@dataclass(frozen=True)
class NearCopy:
    """The place of an earlier text, and its Jaccard similarity."""

    place: int
    jaccard: float


def find_near_copies(texts: Sequence[str], near: NearDuplicates) -> list[NearCopy | None]:
    """For each text the most similar earlier one that stays, if it is similar enough.

    The first of similar texts stays; one that is near a text which goes, and near none that stays, stays too.
    """
    shingled = shingle([text.encode("utf-8", "replace") for text in texts])
    sets = find_sets(shingled)
    signatures = sign(shingled, bands=near.bands, rows=near.rows).tolist()
    buckets: dict[tuple[int, int], list[int]] = defaultdict(list)
    copies: list[NearCopy | None] = []
    for place, bands in enumerate(signatures):
        others = sorted({other for band in enumerate(bands) for other in buckets[band]})
        found = [NearCopy(other, measure_jaccard(sets[place], sets[other])) for other in others]
        best = max(found, key=lambda copy: copy.jaccard, default=None)
        copies.append(best if best is not None and best.jaccard >= near.min_jaccard else None)
        if copies[-1] is None:
            for band in enumerate(bands):
                buckets[band].append(place)
    return copies
