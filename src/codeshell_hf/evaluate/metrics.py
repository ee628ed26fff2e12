"""Metrics as plain functions: pass@k, exact match, edit similarity and BLEU."""

import difflib
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..text.intervals import RESAMPLES, bootstrap_interval

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU

CODE_TOKEN = re.compile(r"\w+|[^\w\s]")


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The unbiased estimate of the probability that one of k samples is correct.

    Raises:
        ValueError: If k or `correct` is more than `samples`.

    Source:
        Chen et al. 2021, arXiv:2107.03374, section 2.1.

    >>> round(pass_at_k(5, 1, 2), 3)
    0.4
    """
    if not 0 <= correct <= samples or not 1 <= k <= samples:
        raise ValueError(f"{correct} correct of {samples} samples, k = {k}; give at least k samples")
    if samples - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / number for number in range(samples - correct + 1, samples + 1))


def is_exact(written: str, reference: str) -> bool:
    """Whether two texts are equal apart from white space at both ends."""
    return written.strip() == reference.strip()


def edit_similarity(written: str, reference: str) -> float:
    """The similarity of two texts by their common blocks of characters, 0 to 1.

    >>> edit_similarity("return a", "return b")
    0.875
    """
    return difflib.SequenceMatcher(None, written.strip(), reference.strip(), autojunk=False).ratio()


def code_bleu_like(written: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Corpus BLEU of code, split into words and single symbols, 0 to 1, and sacreBLEU's signature. It is not CodeBLEU.

    Source:
        Post 2018, arXiv:1804.08771.
    """
    metric = _make_bleu()
    score = metric.corpus_score(list(map(_split_code, written)), [list(map(_split_code, references))]).score / 100
    return score, f"{metric.get_signature()}|words:\\w+ or one sign"


def code_bleu_interval(
    written: Sequence[str], references: Sequence[str], *, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """The bootstrap interval of `code_bleu_like`, resampled over texts.

    BLEU is not a mean, but a function of summed counts, so that each text is only split and counted once.
    """
    metric = _make_bleu()
    scores = [
        metric.corpus_score([_split_code(text)], [[_split_code(reference)]])
        for text, reference in zip(written, references, strict=True)
    ]
    counts = np.array([[*score.counts, *score.totals, score.sys_len, score.ref_len] for score in scores])

    def score_resamples(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([_score_counts(metric, counts[indices].sum(axis=0).tolist()) for indices in drawn])

    return bootstrap_interval(len(counts), score_resamples, resamples=resamples)


def _make_bleu() -> "BLEU":
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(tokenize="none", force=True, smooth_method="exp")


def _split_code(text: str) -> str:
    return " ".join(CODE_TOKEN.findall(text))


def _score_counts(metric: "BLEU", counts: list[int]) -> float:
    """BLEU from matches and n-grams by their order, and the words of texts and references."""
    *ngrams, written, referred = counts
    matches, totals = ngrams[: metric.max_ngram_order], ngrams[metric.max_ngram_order :]
    return metric.compute_bleu(matches, totals, written, referred, smooth_method=metric.smooth_method).score / 100
