"""The stage pack."""

import json
from pathlib import Path

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.manifest import hash_folder
from codeshell_hf.stages.stage import main
from codeshell_hf.text.shards import TokenShards
from recipes.pack import STAGE
from tests.pack.test_encoding import write_curated


def test_the_stage_packs_each_split_and_reports_how_rows_are_used(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    rows = [{"id": f"{n}", "text": f"x = {n}\n" * 9, "split": "held-out" if n == 3 else "train"} for n in range(8)]
    documents = write_curated(tmp_path / "curated", [rows])
    settings = tmp_path / "pack.yaml"
    settings.write_text(
        f"output: {tmp_path}/out\ndocuments: {documents}\ntokenizer: {tmp_path}/tokenizer\nrow_tokens: [64]\n"
    )

    assert main(STAGE, [str(settings)]) == 0

    printed = capsys.readouterr().out
    counts = json.loads((tmp_path / "out" / "manifest.json").read_text())["counts"]
    assert "encodes with tiktoken: the same ids on 8 documents" in printed
    assert "rows of 64: " in printed
    assert {split: counts[split]["documents"] for split in counts} == {"train": 7, "held-out": 1}
    assert counts["train"]["tokens"] == sum(map(len, TokenShards(tmp_path / "out" / "train")))
    assert counts["train"]["tokens_by_language"] == {"python": counts["train"]["tokens"]}
    files = [f"00000{ending}" for ending in (".ds", ".ds.index", ".ds.metadata", ".parquet")]
    columns = [f"{name}.npy" for name in ("bytes", "checksums", "ends", "languages", "lengths")]
    assert sorted(path.name for path in (tmp_path / "out" / "train").iterdir()) == [*files, *columns, "shards.json"]
    outputs = json.loads((tmp_path / "out" / "manifest.json").read_text())["outputs"]
    assert outputs == hash_folder(tmp_path / "out")


def test_conversations_are_packed_as_fine_tuning_writes_them(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chat format written out by hand, its special tokens in messages as text, and one end of text."""
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    first = {"messages": [{"role": "user", "content": "Say <|endoftext|>"}, {"role": "assistant", "content": "no"}]}
    second = {"conversations": [{"from": "human", "value": "x\u2028y?"}, {"from": "gpt", "value": "面 = 1"}]}
    lines = [json.dumps(row, ensure_ascii=False) for row in (first, second)]
    (tmp_path / "talks.jsonl").write_text("\n\n".join(lines), encoding="utf-8")
    (tmp_path / "more.jsonl").write_text(lines[0], encoding="utf-8")
    settings = tmp_path / "pack.yaml"
    settings.write_text(
        f"output: {tmp_path}/out\nconversations: [{tmp_path}/talks.jsonl, {tmp_path}/more.jsonl]\n"
        f"tokenizer: {tmp_path}/tokenizer\nsplits: [train]\nrow_tokens: [64]\npart_bytes: 1\n"
    )

    assert main(STAGE, [str(settings)]) == 0

    shards = TokenShards(tmp_path / "out" / "train")
    expected = [
        "## human:Say <|endoftext|>|<end>|## assistant: no|<end>|",
        "## human:x\u2028y?|<end>|## assistant: 面 = 1|<end>|",
    ]
    expected.append(expected[0])
    assert [tiny_tokenizer.decode(ids) for ids in shards] == expected
    assert all(tiny_tokenizer.eos_token_id not in ids.tolist() for ids in shards)
    assert shards.bytes.tolist() == [len(text.encode()) for text in expected]
    assert list(shards.read_ids()) == ["talks.jsonl@0", "talks.jsonl@1", "more.jsonl@0"]
    assert [part.documents for part in shards.parts] == [2, 1]
    assert "conversation" in capsys.readouterr().out
    assert main(STAGE, [str(settings)]) == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["documents=x"], "state either documents or conversations"),
        (["conversations=[]"], "state either documents or conversations"),
        (["splits=[train, held-out]"], "but no conversation is held out; set splits: [train]"),
        (["perturbation={rate: 0.1}"], "conversations and perturbation are both set"),
        (["share=[1, 2]"], "conversations and share are both set"),
    ],
)
def test_what_conversations_cannot_have_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    settings = tmp_path / "pack.yaml"
    settings.write_text(f"output: {tmp_path}/out\nconversations: [x.jsonl]\ntokenizer: t\nsplits: [train]\n")

    assert main(STAGE, [str(settings), *more]) == 2

    assert message in capsys.readouterr().err
