"""Archives, read as streams."""

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Literal, cast

import pytest

from tests.curate.sources.reading import read_all
from tests.curate.toy_corpus import GOOD


def make_tar(path: Path, members: dict[str, bytes], compression: str = "gz") -> Path:
    with tarfile.open(path, cast(Literal["w:gz"], f"w:{compression}")) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link.py")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return path


MEMBERS = {"a/area.py": GOOD.encode(), "../../escape.py": b"x = 1\n", "/abs.py": b"x = 2\n", "big.py": b"x = 1\n" * 999}


@pytest.mark.parametrize("name", ["t.tar", "t.tar.gz", "t.tar.bz2", "t.tar.xz", "t.zip"])
def test_archives_are_read_and_nothing_is_written_outside(name: str, tmp_path: Path) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir()
    if name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in MEMBERS.items():
                archive.writestr(member, content)
    else:
        make_tar(path, MEMBERS, name.partition(".tar")[2].removeprefix("."))

    found = {key.partition("!")[2]: document for key, document in read_all("archives", path.parent).items()}

    assert found["a/area.py"].content == GOOD.encode()
    reasons = {key: document.reason for key, document in found.items()}
    assert reasons == {
        "a/area.py": None,
        "../../escape.py": "unsafe-path",
        "/abs.py": "unsafe-path",
        "big.py": "too-large",
        **({} if name.endswith("zip") else {"link.py": "link"}),
    }
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == [name]


def test_bombs_broken_and_locked_archives_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from codeshell_hf.curate.sources import bounds

    monkeypatch.setattr(bounds, "BOMB_BYTES", 1_000_000)
    make_tar(tmp_path / "bomb.tar.gz", {f"{n}.py": b"\0" * 1_000_000 for n in range(8)})
    whole = make_tar(tmp_path / "cut.tar.gz", {"a.py": GOOD.encode(), "b.py": os.urandom(9_000)}).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.zip").write_bytes(b"PK\3\4 and nothing more")

    found = {key: document.reason for key, document in read_all("archives", tmp_path).items()}

    assert found["s/bomb.tar.gz!"] == "archive-bomb"
    assert found["s/cut.tar.gz!"] == "corrupt-file"
    assert found["s/no.zip!"] == "corrupt-file"
