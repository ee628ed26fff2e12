"""The stream of a run: which shards it is drawn from, and what each rank reads."""

import json
from pathlib import Path

import numpy as np
import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.pack import row_stream
from codeshell_hf.pack.datatrove import DatatroveShards
from codeshell_hf.pack.layout import Phase
from codeshell_hf.pack.mixture import Mixture
from codeshell_hf.pack.row_stream import open_rows, open_shards, read_step
from codeshell_hf.pack.rows import Rows
from codeshell_hf.pack.settings import DataSettings, InfillingSettings, MixtureSettings
from codeshell_hf.pack.shard_writer import TextDocument, make_header, write_shards
from codeshell_hf.text.shards import TokenShards
from tests.pack.letters import make_shards


@pytest.fixture
def home(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> Path:
    """A tokenizer and shards that were packed with it."""
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    (tmp_path / "pack" / "train").mkdir(parents=True)
    rows = [TextDocument(id=str(n), language="python", source="own", text=f"x = {n}\n") for n in range(9)]
    header = make_header(tiny_tokenizer, tmp_path / "tokenizer")
    write_shards(rows, tiny_tokenizer, header, tmp_path / "pack" / "train")
    return tmp_path


def make_data(home: Path, **changes: object) -> DataSettings:
    return DataSettings(shards=home / "pack", tokenizer=home / "tokenizer", **changes)


def test_the_training_split_of_packed_shards_is_opened(home: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    shards = open_shards(home / "pack", home / "tokenizer", tiny_tokenizer)

    assert isinstance(shards, TokenShards)
    assert [tiny_tokenizer.decode(ids) for ids in shards] == [f"x = {n}\n" for n in range(9)]


def test_a_copied_tokenizer_is_the_same_and_an_exchanged_one_is_refused(
    home: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    (home / "tokenizer").rename(home / "moved")
    path = home / "moved" / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))

    path.write_text(json.dumps(values, indent=3), encoding="utf-8")
    assert len(open_shards(home / "pack", home / "moved", tiny_tokenizer)) == 9

    values["model"]["merges"].reverse()
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError, match=r"pack was packed with another tokenizer than .*moved"):
        open_shards(home / "pack", home / "moved", tiny_tokenizer)


def test_the_folder_of_a_split_is_opened_with_all_that_is_checked_of_packed_shards(
    home: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    split = home / "pack" / "train"

    opened = open_shards(split, home / "tokenizer", tiny_tokenizer)

    assert isinstance(opened, TokenShards)
    assert [tiny_tokenizer.decode(ids) for ids in opened] == [f"x = {n}\n" for n in range(9)]
    assert set(opened.languages) == {"python"}

    tokens = bytearray((split / "00000.ds").read_bytes())
    tokens[0] ^= 1
    (split / "00000.ds").write_bytes(tokens)
    with pytest.raises(DataError, match=r"00000\.ds is damaged"):
        open_shards(split, home / "tokenizer", tiny_tokenizer)
    tokens[0] ^= 1
    (split / "00000.ds").write_bytes(tokens)
    path = home / "tokenizer" / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model"]["merges"].reverse()
    path.write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(DataError, match=r"train was packed with another tokenizer"):
        open_shards(split, home / "tokenizer", tiny_tokenizer)


def test_a_folder_of_datatroves_files_is_opened_as_such(home: Path, tiny_tokenizer: CodeShellTokenizer) -> None:
    (home / "foreign").mkdir()
    np.array([65, 66, tiny_tokenizer.eos_token_id], "<u2").tofile(home / "foreign" / "00000.ds")
    np.array([3], "<u8").tofile(home / "foreign" / "00000.ds.index")

    shards = open_shards(home / "foreign", home / "tokenizer", tiny_tokenizer)

    assert isinstance(shards, DatatroveShards)
    assert shards[0].tolist() == [65, 66]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_a_step_micro_batch_by_micro_batch(tmp_path: Path, ranks: int) -> None:
    rows = Rows(make_shards(tmp_path, ["abcdefg" * 40] * 9), seed=0, phases=[Phase(0, 8)], infilling=None)

    read = [read_step(rows, 64, 8 * 16, 16, rank, ranks) for rank in range(ranks)]

    assert all(len(batches) == 8 // ranks for batches in read)
    found = [batches[turn].input_ids for turn in range(8 // ranks) for batches in read]
    assert np.array_equal(np.concatenate(found), rows.read(64, 16).input_ids)


def test_what_joins_with_longer_rows_is_drawn_from_then(home: Path) -> None:
    joining = MixtureSettings(shards=home / "pack", share=0.25, min_row_tokens=16)

    rows = open_rows(make_data(home, mixture=(joining,)), [(0, 8), (1600, 16)], seed=0)

    assert isinstance(rows, Mixture)
    drawn = [[one.count_epochs(0) for one in rows.streams], [rows._count(100 + 1024, n) for n in (0, 1)]]
    assert drawn == [[0, 0], [100 + 768, 256]]


def test_the_last_phase_may_have_a_mixture_of_its_own(home: Path) -> None:
    """As for annealing: rows of the same length, other shares."""
    broad = MixtureSettings(shards=home / "pack", share=0.25)
    fine = MixtureSettings(shards=home / "pack", share=0.5, from_phase=2)

    rows = open_rows(make_data(home, mixture=(broad, fine)), [(0, 8), (1600, 8)], seed=0)

    assert isinstance(rows, Mixture)
    before = [rows._count(200, number) for number in range(3)]
    assert before[2] == 0
    assert sum(before) == 200
    drawn = [rows._count(200 + 1024, number) - count for number, count in enumerate(before)]
    assert drawn == [256, 256, 512]
    late = MixtureSettings(shards=home / "pack", share=0.5, from_phase=3)
    with pytest.raises(SettingsError, match=r"pack is used in none of the 2 phases; lower from_phase \(3\)"):
        open_rows(make_data(home, mixture=(late,)), [(0, 8), (1600, 8)], seed=0)


def test_cuts_by_syntax_need_tree_sitter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_stream, "find_spec", lambda name: None)
    infilling = InfillingSettings(cuts={"syntax": 0.5, "line": 0.5})

    with pytest.raises(DataError, match=r'pip install "codeshell-hf\[curate\]"'):
        open_rows(make_data(home, infilling=infilling), [(0, 8)], seed=0)


def test_cuts_whose_shares_are_not_one_together_are_refused() -> None:
    with pytest.raises(ValueError, match=r"infilling.cuts is .*; let each share be 0 or more, and all together 1"):
        InfillingSettings(cuts={"line": 0.5})
