"""Folders of files, with and without checkouts."""

import os
from pathlib import Path
from typing import Any

import pytest

from codeshell_hf.curate.settings import Source
from codeshell_hf.curate.sources import list_units, read_unit
from tests.curate.sources.reading import needs_git, read_all
from tests.curate.toy_corpus import GOOD, write_files


@needs_git
def test_checkouts_carry_their_address_without_credentials_and_their_licence(checkout: Path) -> None:
    write_files(checkout.parent, {"loose.py": GOOD})

    found = read_all("folder", checkout.parent)

    assert found["s/tool/area.py"].repository == "https://example.org/owner/tool.git"
    assert found["s/tool/area.py"].licence == "MIT"
    assert found["s/tool/area.py"].path == "area.py"
    assert found["s/loose.py"].repository is None
    assert found["s/loose.py"].path == "loose.py"
    assert not any(".git/" in key for key in found)


def test_folders_that_cannot_be_read_pipes_and_loops_end_nothing(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"a.py": GOOD, "deep/b.py": GOOD})
    (folder / "loop").symlink_to(folder)
    (folder / "deep" / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.py")

    found = read_all("folder", folder)

    reasons = {key: document.reason for key, document in found.items()}
    assert reasons == {
        "s/a.py": None,
        "s/deep/b.py": None,
        "s/deep/up": "link",
        "s/loop": "link",
        "s/pipe.py": "not-a-file",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_rights_is_one_reason(tmp_path: Path) -> None:
    folder = write_files(tmp_path / "in", {"a.py": GOOD, "locked/b.py": GOOD})
    (folder / "locked").chmod(0)

    found = read_all("folder", folder)
    (folder / "locked").chmod(0o700)

    assert found["s/locked/"].reason == "unreadable"


def test_what_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_files(tmp_path / "in", {"a.py": GOOD, "locked/b.py": GOOD})
    real = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = read_all("folder", folder)

    assert {key: document.reason for key, document in found.items()} == {"s/a.py": None, "s/locked/": "unreadable"}


def test_a_file_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    source = Source(name="s", path=str(write_files(tmp_path, {"a.py": GOOD})))
    (unit,) = list_units(source)
    (tmp_path / "a.py").unlink()

    (document,) = read_unit(source, unit, max_bytes=10)

    assert document.reason == "unreadable"


def test_excluded_patterns_are_left_out(tmp_path: Path) -> None:
    write_files(tmp_path, {"tests/a.py": GOOD, "b.py": GOOD})

    assert sorted(read_all("folder", tmp_path, exclude=("tests/*",))) == ["s/b.py"]


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        (None, {"one/pkg/a.py": (None, "one/pkg/a.py"), "top.py": (None, "top.py")}),
        ("source", {"one/pkg/a.py": ("s", "one/pkg/a.py"), "top.py": ("s", "top.py")}),
        ("folder", {"one/pkg/a.py": ("one", "pkg/a.py"), "top.py": (None, "top.py")}),
    ],
)
def test_files_outside_of_a_checkout_belong_to_what_the_settings_say(
    tmp_path: Path, repository: str | None, expected: dict[str, tuple[str | None, str]]
) -> None:
    write_files(tmp_path, {"one/pkg/a.py": GOOD, "two/b.py": GOOD, "top.py": GOOD})

    found = read_all("folder", tmp_path, repository=repository)

    assert {path: (found[f"s/{path}"].repository, found[f"s/{path}"].path) for path in expected} == expected
    assert len({document.repository for document in found.values()}) == {None: 1, "source": 1, "folder": 3}[repository]


@needs_git
def test_a_checkout_in_a_folder_of_repositories_keeps_its_address(checkout: Path) -> None:
    found = read_all("folder", checkout.parent, repository="folder")

    assert found["s/tool/area.py"].repository == "https://example.org/owner/tool.git"
    assert found["s/tool/area.py"].path == "area.py"
