"""Token shards: what was written is what is read."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codeshell_hf.errors import DataError
from codeshell_hf.text.shards import HEADER, INDEX, INDEX_SCHEMA, TOKENS, Header, TokenShards

DOCUMENTS = [("python", [5, 6, 7]), ("c", []), ("python", [8]), ("c", [9, 10])]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ids = np.array([token for _, tokens in DOCUMENTS for token in tokens], dtype=np.uint16)
    ends = np.cumsum([len(tokens) for _, tokens in DOCUMENTS])
    header = {
        "vocab_size": 320, "end_of_text": 0, "sentinels": [1, 2, 3], "tokenizer": "t",
        "documents": len(DOCUMENTS), "tokens": len(ids), "bytes": 40,
    }  # fmt: skip
    (tmp_path / HEADER).write_text(json.dumps(header))
    ids.tofile(tmp_path / TOKENS)
    columns = {
        "id": [str(number) for number in range(len(DOCUMENTS))],
        "language": [language for language, _ in DOCUMENTS],
        "source": ["s"] * len(DOCUMENTS),
        "bytes": [10] * len(DOCUMENTS),
        "end": ends.tolist(),
    }
    pq.write_table(pa.table(columns, schema=INDEX_SCHEMA), tmp_path / INDEX)
    return tmp_path


def test_documents_are_read_whole_and_in_order(folder: Path) -> None:
    shards = TokenShards(folder)

    assert [(language, ids.tolist()) for language, ids in zip(shards.languages, shards, strict=True)] == DOCUMENTS
    assert shards[3].tolist() == [9, 10]
    assert shards.count_tokens() == {"python": 4, "c": 2}


@pytest.mark.parametrize(("vocab_size", "width"), [(320, 2), (65_536, 2), (65_537, 4), (128_000, 4)])
def test_ids_take_the_bytes_that_they_need(vocab_size: int, width: int) -> None:
    assert Header(vocab_size, 0, None, "t").dtype.itemsize == width
    assert np.array([vocab_size - 1]).astype(Header(vocab_size, 0, None, "t").dtype)[0] == vocab_size - 1


def test_files_that_contradict_each_other_are_refused(folder: Path) -> None:
    with (folder / TOKENS).open("ab") as file:
        file.write(b"\0\0")

    with pytest.raises(DataError, match="holds 7 tokens where its header says 6"):
        TokenShards(folder)
