"""Words of code."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from codeshell_hf.curate.ngrams import (
    score,
    train,
)
from codeshell_hf.curate.words import load_splitter, split_code
from codeshell_hf.errors import DataError

ROOT = Path(__file__).parents[2]


SAMPLE = [split_code(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "src" / "codeshell_hf").glob("*.py"))]


@given(st.text(max_size=80))
def test_words_have_no_white_space_and_lose_nothing_else(text: str) -> None:
    words = split_code(text)

    assert all(word and not any(map(str.isspace, word)) for word in words)
    letters = [character for character in text if not character.isspace()]
    assert len("".join(word for word in words if word[0] != "¶" or "¶" in text)) >= len(letters)


def test_a_tokenizer_can_split_and_a_missing_one_is_named(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator([" ".join(words) for words in SAMPLE], trainers.BpeTrainer(vocab_size=300))
    tokenizer.save(str(tmp_path / "tokenizer.json"))

    words = load_splitter(str(tmp_path))("def area(radius):\n\treturn 3.14 * radius\n")

    assert len(words) > 5
    assert not any(map(str.isspace, "".join(words)))
    assert math.isfinite(score(train([words, words], order=2), [words])[0][0])
    with pytest.raises(DataError, match=r"cannot be read as a tokenizer; name one, or set words to code"):
        load_splitter(str(tmp_path / "none"))
