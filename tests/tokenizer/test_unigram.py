"""The unigram model is lossless, has the characters of every script, and knows where its bytes stand."""

from pathlib import Path

from codeshell_hf import CodeShellTokenizer
from tests.tokenizer.texts import CHINESE, CODE
from tokenizer.characters import CHINESE_PUNCTUATION, list_level_one
from tokenizer.unigram import choose_characters, train_unigram


def test_unigram_keeps_spaces_digits_and_literal_bytes(unigram: CodeShellTokenizer, tmp_path: Path) -> None:
    text = "    if x2 < 1024:\n\t\treturn '<0x0A> \u2581 <fim_prefix>'  \r\n"
    unigram.save_pretrained(tmp_path)
    again = CodeShellTokenizer.from_pretrained(tmp_path)

    ids = again.encode_text(text)

    assert ids == unigram.encode_text(text)
    assert again.decode(ids) == text
    tokens = again.convert_ids_to_tokens(ids)
    assert [token for token in tokens if any(c.isdigit() for c in token) and len(token.strip()) > 1] == [
        token for token in tokens if token.startswith("<0x")
    ]
    assert max(ids) < len(again) - 20
    assert again.encode_infilling("a", "b")[0] == again.convert_tokens_to_ids("<fim_prefix>")
    assert len(again) == 3000


def test_the_bytes_of_unknown_characters_stand_where_they_do(unigram: CodeShellTokenizer) -> None:
    text = "x = 1\n\t😀ꙮ\n\ny"

    encoding = unigram.backend_tokenizer.encode(text, add_special_tokens=False)

    written = [b""] * len(text)
    for token, (start, end) in zip(encoding.tokens, encoding.offsets, strict=True):
        if token.startswith("<0x"):
            assert end == start + 1
            written[start] += bytes([int(token[3:5], 16)])
        else:
            assert text[start:end] == token
    for character, found in zip(text, written, strict=True):
        assert found in (b"", character.encode())
    assert written[5] == b"\n"
    assert written[7] == "😀".encode()


def test_characters_are_covered_script_by_script() -> None:
    rare = "爱狗疫" + "ж" * 2
    texts = ["latin letters " * 100_000, rare, "罕" * 20]

    chosen = choose_characters(texts, most=10_000)

    assert set("latinersж罕") <= set(chosen)
    assert set(list_level_one()) | set(CHINESE_PUNCTUATION) <= set(chosen)
    assert len(choose_characters(texts, most=5)) == 5
    assert "爱" not in choose_characters(["letters"], most=10_000)
    # Latin letters alone are 99.9996 % of these characters.
    assert choose_characters(["abcde" * 100_000 + "ж" * 2], most=10) == ["a", "b", "c", "d", "e", "ж"]


def test_a_mix_that_is_mostly_code_keeps_its_chinese_characters() -> None:
    built = train_unigram(lambda: [*CODE, *CHINESE], vocab_size=7800)

    encodings = built.backend_tokenizer.encode_batch(list(list_level_one()))

    assert sum(len(encoding.ids) == 1 for encoding in encodings) >= 3740
