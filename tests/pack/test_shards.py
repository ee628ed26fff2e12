"""Shards give back what went in."""

from pathlib import Path

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.pack.shards import join_shards, write_shards
from codeshell_hf.text.shards import Header, TokenShards
from tests.pack.common import END, SENTINELS, Letters, make_shards


def test_shards_give_back_every_document(shards: TokenShards, tmp_path: Path) -> None:
    assert [chr(int(tokens[0])) for tokens in shards] == [chr(33 + index) for index in range(60)]
    assert shards.header.tokens == sum(len(tokens) for tokens in shards) == (tmp_path / "tokens.bin").stat().st_size / 2
    assert shards.bytes.tolist() == [len(tokens) for tokens in shards]


def test_real_tokenizer_keeps_literal_special_tokens_as_text(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    text = "print('<|endoftext|>', '<fim_middle>')\n"
    header = Header(len(tiny_tokenizer), tiny_tokenizer.eos_token_id, None, "hash")
    write_shards([{"id": "a", "language": "python", "source": "own", "text": text}], tiny_tokenizer, header, tmp_path)

    tokens = TokenShards(tmp_path)[0]

    assert tokens.max() < len(tiny_tokenizer) - 20
    assert tiny_tokenizer.decode(tokens) == text


def test_pieces_are_laid_end_to_end(tmp_path: Path) -> None:
    pieces = []
    for number, texts in enumerate((["aa", "bbb"], [], ["c"])):
        make_shards(tmp_path / f"{number}", texts) if texts else write_shards(
            [], Letters(), Header(320, END, SENTINELS, "hash"), _made(tmp_path / f"{number}")
        )
        pieces.append(tmp_path / f"{number}")

    header = join_shards(pieces, _made(tmp_path / "all"))

    shards = TokenShards(tmp_path / "all")
    assert (header.documents, header.tokens, header.bytes) == (3, 6, 6)
    assert ["".join(map(chr, tokens)) for tokens in shards] == ["aa", "bbb", "c"]
    assert not any(piece.exists() for piece in pieces)
    write_shards([], Letters(), Header(320, END, None, "hash"), _made(tmp_path / "empty"))
    with pytest.raises(DataError, match="no document has a token"):
        join_shards([tmp_path / "empty"], _made(tmp_path / "none"))


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
