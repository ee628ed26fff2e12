"""Metrics as plain functions: pass@k, exact match, edit similarity and BLEU."""

import difflib
import math
import re
from collections.abc import Sequence

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
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(tokenize="none", force=True, smooth_method="exp")
    split = [" ".join(CODE_TOKEN.findall(text)) for text in written]
    against = [" ".join(CODE_TOKEN.findall(text)) for text in references]
    score = metric.corpus_score(split, [against]).score / 100
    return score, f"{metric.get_signature()}|words:\\w+ or one sign"
