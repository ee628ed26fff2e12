"""tiktoken for any order of ids: the tokenizer's own ids, or none."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.text.ranked_encoder import make_ranked_encoder

TEXTS = [
    "def area(radius):\n    return 3.14159 * radius ** 2\n",
    "  返回两个数的和 12345 \t\n\n x",
    "<|endoftext|> and <fim_prefix>",
    "é🙂 ab",
    "",
]


def change(tokenizer: CodeShellTokenizer, edit: Callable[[dict[str, object]], None]) -> Tokenizer:
    """A tokenizer whose model, in its JSON, is edited."""
    values = json.loads(tokenizer.backend_tokenizer.to_str())
    values["added_tokens"] = []
    edit(values["model"])
    return Tokenizer.from_str(json.dumps(values))


def test_ids_are_the_tokenizers_in_whatever_order_they_are(tiny_tokenizer: CodeShellTokenizer) -> None:
    def reverse(model: dict[str, dict[str, int]]) -> None:
        last = max(model["vocab"].values())
        model["vocab"] = {token: last - index for token, index in model["vocab"].items()}

    backend = change(tiny_tokenizer, reverse)
    encoder = make_ranked_encoder(backend)

    for text in TEXTS:
        encoded = encoder.encode(text)
        assert encoded is not None
        assert encoded[0].tolist() == backend.encode(text).ids
        assert encoded[1][-1:].tolist() == [len(text.encode())][: len(text)]
    assert backend.encode(TEXTS[0]).ids != tiny_tokenizer.backend_tokenizer.encode(TEXTS[0]).ids


@pytest.mark.parametrize("text", ["a\x01b", "\U000e0000", "ab\u0850"])
def test_characters_that_the_vocabulary_lacks_are_left_to_the_tokenizer(
    tiny_tokenizer: CodeShellTokenizer, text: str
) -> None:
    """As in the released vocabulary, without the bytes of control characters and rare planes: 0x01, 0xf3, 0xe0."""
    from codeshell_hf.text.tiktoken_encoder import list_bytes

    letters = {byte: letter for letter, byte in list_bytes().items()}

    def drop(model: dict[str, Any]) -> None:
        for byte in (0x01, 0xF3, 0xE0, 0xC0, 0xFF):
            model["vocab"].pop(letters[byte])
        model["merges"] = [
            merge for merge in model["merges"] if not set("".join(merge)) & {letters[0xE0], letters[0xF3]}
        ]
        gone = [token for token in model["vocab"] if set(token) & {letters[0xE0], letters[0xF3]}]
        for token in gone:
            model["vocab"].pop(token)

    encoder = make_ranked_encoder(change(tiny_tokenizer, drop))

    assert encoder.encode(text) is None
    assert encoder.encode("a b 🙂 é 返") is not None


def test_a_token_that_its_merges_do_not_make_is_left_to_the_tokenizer(tiny_tokenizer: CodeShellTokenizer) -> None:
    """The text abc is listed as ab + c, but b + c is joined first and a + bc is no merge, so it is never made."""

    def edit(model: dict[str, object]) -> None:
        vocabulary = {token: index for index, token in enumerate([*_list_letters(), "bc", "ab", "abc"])}
        model["vocab"] = vocabulary
        model["merges"] = [["b", "c"], ["a", "b"], ["ab", "c"]]

    backend = change(tiny_tokenizer, edit)
    encoder = make_ranked_encoder(backend)

    assert backend.encode("abc").tokens == ["a", "bc"]
    assert encoder.encode("abc") is None
    encoded = encoder.encode("ab bc")
    assert encoded is not None
    assert encoded[0].tolist() == backend.encode("ab bc").ids


def _list_letters() -> list[str]:
    from codeshell_hf.text.tiktoken_encoder import list_bytes

    return list(list_bytes())


def test_other_kinds_of_vocabularies_are_refused(tiny_tokenizer: CodeShellTokenizer) -> None:
    values = json.loads(tiny_tokenizer.backend_tokenizer.to_str())
    values["normalizer"] = {"type": "NFC"}
    with pytest.raises(ValueError, match="not a byte-level BPE with a known split"):
        make_ranked_encoder(Tokenizer.from_str(json.dumps(values)))


RELEASED = Path(__file__).parents[3] / "shared" / "tokenizers" / "codeshell"


@pytest.mark.shared
@pytest.mark.skipif(not RELEASED.exists(), reason="the released tokenizer is not here")
def test_the_released_vocabulary_encodes_this_repository_alike() -> None:
    backend = CodeShellTokenizer.from_pretrained(RELEASED).backend_tokenizer
    encoder = make_ranked_encoder(backend)
    backend.encode_special_tokens = True
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path("src").rglob("*.py"))[:60]]

    encoded = [encoder.encode(text) for text in texts]

    assert sum(one is None for one in encoded) < 6
    for text, one in zip(texts, encoded, strict=True):
        assert one is None or one[0].tolist() == backend.encode(text, add_special_tokens=False).ids
