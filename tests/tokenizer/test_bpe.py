"""BPE behind a split, within words and across them."""

import json
from collections import Counter
from itertools import pairwise
from typing import cast

import pytest
from tokenizers import Tokenizer

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.pack.encoder import choose_encoder
from codeshell_hf.text.pre_tokenizers import ACROSS_WORDS, SplitName, name_split
from codeshell_hf.text.tiktoken_encoder import TiktokenEncoder
from tests.tokenizer.texts import CHINESE, CODE, HELD_OUT_CODE
from tokenizer.bpe import join_words, train_across_words, train_bpe, train_vocabulary
from tokenizer.vocabulary import Merge, to_bytes


def show(tokenizer: CodeShellTokenizer, text: str) -> list[str]:
    return [to_bytes(token).decode("utf-8", errors="replace") for token in tokenizer.tokenize(text)]


def merge_by_hand(words: Counter[tuple[str, ...]], steps: int) -> list[Merge]:
    """BPE as its definition has it: the pair that is most frequent joins."""
    merges: list[Merge] = []
    for _ in range(steps):
        pairs: Counter[Merge] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        # Of equally frequent ones the first by its bytes, of which a space is the lowest here.
        best = min(pairs, key=lambda pair: (-pairs[pair], [letter.replace("Ġ", " ") for letter in pair]))
        merges.append(best)
        words = Counter({join_pair(word, best): count for word, count in words.items()})
    return merges


def join_pair(word: tuple[str, ...], pair: Merge) -> tuple[str, ...]:
    if len(word) < 2:
        return word
    if word[:2] == pair:
        return ("".join(pair), *join_pair(word[2:], pair))
    return (word[0], *join_pair(word[1:], pair))


@pytest.mark.parametrize("split", ["starcoder", "gpt4"])
def test_no_entry_crosses_a_border_of_its_split(split: SplitName) -> None:
    tokenizer = train_bpe([*CODE, *CHINESE[:3]], vocab_size=3000, split=split)

    ids = tokenizer.get_vocab()
    entries = [to_bytes(token).decode("utf-8", errors="ignore") for token in ids if ids[token] < 2980]
    ours = tokenizer.backend_tokenizer.pre_tokenizer
    for entry in entries:
        if "\ufffd" not in entry and entry.isprintable():
            assert len(ours.pre_tokenize_str(entry)) <= 1, entry
    assert not any(sum(letter.isdigit() for letter in entry) > 1 for entry in entries)
    assert name_split(json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"]) == split
    assert tokenizer.decode(tokenizer.encode_text(HELD_OUT_CODE)) == HELD_OUT_CODE


def test_gpt4s_split_takes_a_sign_into_the_word_and_line_ends_into_the_punctuation() -> None:
    texts = ["self.value = other.value(x)\n\n\n" * 50]

    ours = train_bpe(texts, vocab_size=400, split="gpt4")
    starcoders = train_bpe(texts, vocab_size=400, split="starcoder")

    assert show(ours, "self.value") == ["self", ".value"]
    assert ")\n\n\n" in show(ours, texts[0])
    assert show(starcoders, "self.value") == ["self", ".", "value"]


HARD_TEXTS = (
    "  1 22\t333\n\n  4",
    "it's we'll I'D you'VE",
    "<fim_prefix>a|<end>|",
    "",
    "\u3000　 ａ１ ²³ Ⅻ",
    "e\u0301 👩‍💻\r\n\r\n ",
)


@pytest.mark.parametrize("split", ["starcoder", "gpt4", "across words"])
def test_tiktoken_gives_the_same_ids_behind_each_split(split: str) -> None:
    """It is compared on none of the texts that decided for it."""
    if split == "across words":
        tokenizer = train_across_words(lambda stage: [*CODE, *CHINESE[:3]], vocab_size=3000, across=300, split="gpt4")
    else:
        tokenizer = train_bpe([*CODE, *CHINESE[:3]], vocab_size=3000, split=cast(SplitName, split))
    texts = [HELD_OUT_CODE, *CHINESE[3:6], *HARD_TEXTS]

    encoder, choice = choose_encoder(tokenizer, ["x = 1"])

    assert choice == "encodes with tiktoken: the same ids on 1 documents"
    assert isinstance(encoder, TiktokenEncoder)
    # Special tokens in a text are text, which only a backend without them says by itself.
    values = json.loads(tokenizer.backend_tokenizer.to_str())
    plain = Tokenizer.from_str(json.dumps(values | {"added_tokens": []}))
    for text, ids in zip(texts, encoder(texts)["input_ids"], strict=True):
        assert list(ids) == plain.encode(text).ids, text


def test_entries_join_words_as_bpe_by_hand_has_it() -> None:
    """The first stage has no merge here, so that the second is plain BPE over what lies between borders."""
    pieces = Counter({"ab c": 5, "b c d": 4, "abc": 3})
    texts = ["12".join([piece] * count) for piece, count in pieces.items()]
    words = train_vocabulary([], size=256)

    joined = join_words(words, texts, size=256 + 3)

    byte_level = Counter({tuple(piece.replace(" ", "Ġ")): count for piece, count in pieces.items()})
    assert list(joined.merges) == merge_by_hand(byte_level, 3)
    assert joined.merges == (("Ġ", "c"), ("b", "Ġc"), ("a", "bĠc"))


def test_a_vocabulary_across_words_joins_some_and_loses_nothing() -> None:
    read: list[str] = []

    def texts(stage: str) -> list[str]:
        read.append(stage)
        return [*CODE, *CHINESE[:3]]

    within = train_bpe(texts(""), vocab_size=3000, split="gpt4")
    across = train_across_words(texts, vocab_size=3000, across=800, split="gpt4")

    assert read[1:3] == ["within words", "across words"]
    assert len(across) == len(within) == 3000
    shared = train_vocabulary(texts(""), size=3000 - 20 - 800, split="gpt4").tokens
    ids = across.get_vocab()
    assert [ids[token] for token in shared] == list(range(len(shared)))
    entries = [to_bytes(token).decode("utf-8", errors="ignore") for token in ids if ids[token] < 2980]
    assert sum(" " in entry.strip() for entry in entries) > 200
    assert not any(letter.isdigit() for entry in entries if len(entry) > 1 for letter in entry)
    assert across.decode(across.encode_text(HELD_OUT_CODE)) == HELD_OUT_CODE
    lengths = [sum(len(tokenizer.encode_text(text)) for text in texts("")) for tokenizer in (across, within)]
    assert lengths[0] < 0.98 * lengths[1]
    assert name_split(json.loads(across.backend_tokenizer.to_str())["pre_tokenizer"]) == ACROSS_WORDS


def test_too_little_text_or_room_for_entries_across_words_is_refused() -> None:
    with pytest.raises(DataError, match=r"give \d+ entries across words of 808; give more texts or lower"):
        train_across_words(lambda stage: ["def f(x): return x"], vocab_size=1096, across=800, split="gpt4")
    with pytest.raises(SettingsError, match="set it to 276 or more"):
        train_across_words(lambda stage: CODE, vocab_size=300, across=100, split="gpt4")
