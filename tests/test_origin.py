"""Date, device, repository and commit of an output."""

import importlib.metadata
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from codeshell_hf import origin


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of one commit, laid out as ours."""
    package = tmp_path / "src" / "codeshell_hf"
    package.mkdir(parents=True)
    for name in ("pyproject.toml", "src/codeshell_hf/a.py"):
        (tmp_path / name).write_text("x = 1\n", encoding="utf-8")
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b.c commit -qm one", "tag v1"):
        subprocess.run(["git", "-C", tmp_path, *command.split()], check=True)
    return package


def test_the_commit_is_gits_and_says_if_files_were_changed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    head = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    monkeypatch.setenv("GIT_DIR", "/nowhere")  # as in a hook

    assert origin.find_commit(checkout) == head
    (checkout / "new.py").write_text("", encoding="utf-8")
    assert origin.find_commit(checkout) == head
    (checkout / "a.py").write_text("x = 2\n", encoding="utf-8")
    assert origin.find_commit(checkout) == f"{head}-modified"


def test_an_installed_package_has_no_commit_but_that_which_pip_installed(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in an environment that lies within somebody's repository."""
    installed = tmp_path / "venv" / "site-packages" / "codeshell_hf"
    installed.mkdir(parents=True)
    texts: list[str | None] = [None, json.dumps({"vcs_info": {"vcs": "git", "commit_id": "abc"}}), '{"dir_info": {}}']

    def find(name: str) -> SimpleNamespace:
        return SimpleNamespace(read_text=lambda file: texts[0] if file == "direct_url.json" else None)

    monkeypatch.setattr(importlib.metadata, "distribution", find)
    found = []
    while texts:
        found.append(origin.find_commit(installed))
        del texts[0]

    assert found == [None, "abc", None]
    assert checkout.parents[1] == tmp_path


def test_without_git_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert origin.find_commit(checkout) is None


def test_the_device_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A Processor 9000\n" * 2, encoding="utf-8")
    monkeypatch.setattr(origin, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(origin, "count_usable_cpus", lambda: 3)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert origin.name_device() == "A Processor 9000, 3 cores"
    monkeypatch.setattr(origin, "CPU_INFO", tmp_path / "missing")
    assert origin.name_device().endswith(", 3 cores")

    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "NVIDIA H100")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert origin.name_device() == "8 x NVIDIA H100"


def test_an_origin_has_the_date_in_utc_and_the_repository() -> None:
    found = origin.describe_origin("abc")

    date = datetime.strptime(str(found["date"]), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - date) < timedelta(minutes=1)
    assert found["commit"] == "abc"
    assert str(found["repository"]).startswith("https://github.com/")


def test_the_package_may_have_no_front_door(tmp_path: Path) -> None:
    """`codeshell_hf` without `__init__.py`, and so without a file, as where torch cannot be had."""
    package = tmp_path / "codeshell_hf"
    package.mkdir()
    for part in Path(origin.__file__).parent.glob("[a-z]*"):
        (package / part.name).symlink_to(part)
    program = "import codeshell_hf.origin as origin, codeshell_hf; print(codeshell_hf.__file__, origin.find_commit())"
    environment = {"PYTHONPATH": str(tmp_path)}

    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    assert done.stdout == "None None\n", done.stderr
