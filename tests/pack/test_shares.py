"""What several machines packed becomes the shards that one would have written."""

import json
import shutil
from pathlib import Path

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.stages.stage import main
from recipes.pack import STAGE
from tests.pack.test_encoding import write_curated


@pytest.fixture
def home(tmp_path: Path, tiny_tokenizer: CodeShellTokenizer) -> Path:
    """Documents in five files, a tokenizer, and settings that pack each file into a part."""
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    splits = ["train", "train", "train", "held-out", "train"]
    rows = [
        [{"id": f"{n}", "text": f"x = {n}\n" * 9, "split": split, "language": "abcab"[n]}]
        for n, split in enumerate(splits)
    ]
    write_curated(tmp_path / "curated", rows)
    (tmp_path / "pack.yaml").write_text(
        f"output: {tmp_path}/out\ndocuments: {tmp_path}/curated\ntokenizer: {tmp_path}/tokenizer\npart_bytes: 1\n"
        "row_tokens: [16]\n"
    )
    return tmp_path


def pack(home: Path, output: str, *more: str) -> int:
    return main(STAGE, [str(home / "pack.yaml"), f"output={home}/{output}", *more])


def read_all(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_joined_shares_are_byte_for_byte_what_one_machine_packs(home: Path) -> None:
    assert pack(home, "whole") == 0
    for number in (1, 2, 3):
        assert pack(home, f"share-{number}", f"share=[{number}, 3]") == 0
    shares = ", ".join(f"{home}/share-{number}" for number in (1, 2, 3))

    assert pack(home, "joined", f"shares=[{shares}]") == 0

    assert read_all(home / "joined") == read_all(home / "whole")
    linked = home / "joined" / "train" / "00000.ds"
    assert linked.stat().st_ino == (home / "share-1" / "train" / "00000.ds").stat().st_ino, "no token is written twice"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            ["shares=[HOME/share-2, HOME/share-1]"],
            "share [[2, 2], [1, 2]]; name those of [[1, 2], [2, 2]]",
        ),
        (["shares=[HOME/share-1]"], "packed with share [[1, 2]]; name those of [[1, 1]]"),
        (["shares=[HOME/share-1, HOME/curated]"], "curated holds no finished output of pack"),
        (["shares=[HOME/share-1]", "share=[1, 2]"], "share and shares are both set"),
        (["share=[3, 2]"], "share is [3, 2]; its first number is at most its second"),
    ],
)
def test_shares_that_are_not_all_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    for number in (1, 2):
        assert pack(home, f"share-{number}", f"share=[{number}, 2]") == 0

    assert pack(home, "joined", *(one.replace("HOME", str(home)) for one in more)) == 2

    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "part_bytes=100000",
            "share-1 was packed with part_bytes 1 and HOME/share-2 with 100000; pack one of them again",
        ),
        ("perturbation={rate: 0.5}", "share-1 was packed with perturbation None and HOME/share-2 with {'rate': 0.5, "),
        ("splits=[train]", "share-1 was packed with splits ['train', 'held-out'] and HOME/share-2 with ['train']"),
        ("tokenizer=HOME/other", "share-1 and the other shares were packed with 2 tokenizers; use one"),
        ("documents=HOME/shorter", "share-1 and HOME/share-2 were packed from different documents; pack them again"),
    ],
)
def test_shares_that_were_packed_otherwise_are_refused(
    home: Path, capsys: pytest.CaptureFixture[str], more: str, message: str
) -> None:
    shutil.copytree(home / "tokenizer", home / "other")
    path = home / "other" / "tokenizer.json"
    values = json.loads(path.read_text(encoding="utf-8"))
    values["model"]["merges"].reverse()
    path.write_text(json.dumps(values), encoding="utf-8")
    write_curated(home / "shorter", [[{"id": str(n), "text": f"y = {n}\n"}] for n in range(5)])
    assert pack(home, "share-1", "share=[1, 2]") == 0
    assert pack(home, "share-2", "share=[2, 2]", more.replace("HOME", str(home))) == 0

    assert pack(home, "joined", f"shares=[{home}/share-1, {home}/share-2]") == 2

    assert message.replace("HOME", str(home)) in capsys.readouterr().err


def test_shares_of_other_machines_may_name_other_folders_workers_and_rows(home: Path) -> None:
    for name in ("tokenizer", "curated"):
        shutil.copytree(home / name, home / "elsewhere" / name)
    elsewhere = (
        f"documents={home}/elsewhere/curated",
        f"tokenizer={home}/elsewhere/tokenizer",
        "workers=1",
        "row_tokens=[32]",
    )
    assert pack(home, "share-1", "share=[1, 2]") == 0
    assert pack(home, "share-2", "share=[2, 2]", *elsewhere) == 0

    assert pack(home, "joined", f"shares=[{home}/share-1, {home}/share-2]") == 0
