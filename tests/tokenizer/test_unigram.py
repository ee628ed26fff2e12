"""The unigram model is lossless."""

from pathlib import Path

from codeshell_hf import CodeShellTokenizer


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
