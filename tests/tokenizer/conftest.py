"""Vocabularies that the tests of the builder share."""

import pytest

from codeshell_hf import CodeShellTokenizer
from tests.tokenizer.texts import CHINESE, CODE, draw
from tokenizer.bpe import train_vocabulary
from tokenizer.merged import count_uses, extend, prune
from tokenizer.settings import Continuation
from tokenizer.unigram import train_unigram
from tokenizer.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def base() -> Vocabulary:
    return train_vocabulary([*CODE, *CHINESE[:3]], size=1500)


@pytest.fixture(scope="session")
def merged(base: Vocabulary) -> Vocabulary:
    kept = prune(base, count_uses(base, CODE), size=1200, keep_first=400)
    return extend(kept, {"chinese": draw(CHINESE)}, Continuation(), size=2000)


@pytest.fixture(scope="session")
def unigram() -> CodeShellTokenizer:
    return train_unigram(lambda: [*CODE, *CHINESE], vocab_size=3000)
