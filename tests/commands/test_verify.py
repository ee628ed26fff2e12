"""`codeshell verify` reads shards whole, also those that are too large to be read when they are opened."""

from pathlib import Path

import pytest

from codeshell_hf.commands.main import main
from codeshell_hf.text import shards
from tests.pack.letters import make_shards


def test_whole_shards_pass_and_a_flipped_byte_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "CHECKED_WHEN_OPENED", 0)
    make_shards(tmp_path / "a", ["some text"])
    make_shards(tmp_path / "b", ["more text"])

    assert main(["verify", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / name}: 9 files are as they were written" for name in ("a", "b")
    ]

    path = tmp_path / "b" / "00000.ds"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    assert main(["verify", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert f"verify: error: {path} is damaged" in capsys.readouterr().err
