"""What is shown of data before anything is trained."""

import json
from pathlib import Path

import numpy as np
import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.align import preview
from codeshell_hf.align.preview import mark_loss, preview_pairs, preview_places
from codeshell_hf.errors import DataError
from codeshell_hf.text.chat_encoder import EncodedArrays
from codeshell_hf.text.settings import Reading

TURNS = [
    {"role": "user", "content": "q"}, {"role": "assistant", "content": "bad", "weight": 0},
    {"role": "user", "content": "p"}, {"role": "assistant", "content": "good"},
]  # fmt: skip


def test_tokens_with_a_loss_stand_between_marks(tiny_tokenizer: CodeShellTokenizer) -> None:
    ids = np.array([tiny_tokenizer.encode_text(letter)[0] for letter in "abcd"], np.uint32)

    for has_loss, text in (
        ([0, 1, 1, 0], "a⟦bc⟧d"),
        ([1, 0, 0, 1], "⟦a⟧bc⟦d⟧"),
        ([0] * 4, "abcd"),
        ([1] * 4, "⟦abcd⟧"),
    ):
        assert mark_loss(tiny_tokenizer, EncodedArrays(ids, np.array(has_loss, np.bool_))) == text


def test_a_row_is_shown_with_and_without_a_tokenizer(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": TURNS, "id": 1}) + "\n")

    without = preview_places([str(path)], Reading(), tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    shown = preview_places([str(path), str(tmp_path / "missing"), "hub:a/b@v"], Reading(), tmp_path / "model")

    start = f"{path}: a row, with its loss between ⟦ and ⟧: "
    assert without[-1] == f"{start}user: q assistant: bad user: p assistant: ⟦good⟧"
    assert shown == [
        f"{path}: rows by form: messages (1)",
        f"{path}: changed 1 conversations with answers that carry no loss",
        f"{path}: fields that nothing uses: id (1)",
        f"{start}## human:q|<end>|## assistant: bad|<end>|## human:p|<end>|## assistant:⟦ good|<end>|<|endoftext|>⟧",
        "hub:a/b@v is downloaded when the stage runs",
    ]


def test_a_large_file_is_read_in_part_and_a_bad_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "PREVIEWED_ROWS", 2)
    path = tmp_path / "rows.jsonl"
    path.write_text((json.dumps({"messages": TURNS}) + "\n") * 2 + "{\n")

    lines = preview_places([str(path)], Reading(), tmp_path)

    assert lines[0] == f"{path} (its first 2 rows): rows by form: messages (2)"
    path.write_text("{}\n")
    with pytest.raises(DataError, match=r"line 1 of .* has no messages"):
        preview_places([str(path)], Reading(max_bad_rows=0), tmp_path)


def test_a_pair_is_shown_with_what_was_dropped(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "q", "chosen": "g", "rejected": "b", "id": 1}, {"prompt": "q", "chosen": "g", "rejected": "g"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    assert preview_pairs([str(path), str(tmp_path / "missing"), "hub:a/b@v"], Reading()) == [
        f"{path}: rows by form: pairs (2)",
        f"{path}: fields that nothing uses: id (1)",
        f"{path}: 1 without a pair because chosen equals rejected",
        f"{path}: a pair: user: q chosen: ⟦g⟧ rejected: ⟦b⟧",
        "hub:a/b@v is downloaded when the stage runs",
    ]
