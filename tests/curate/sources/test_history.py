"""Histories of hostile repositories: nothing runs, nothing hangs, and the documents are what git says without them."""

import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from codeshell_hf.curate.settings import Source
from codeshell_hf.curate.sources import history, list_units, read_unit
from codeshell_hf.curate.sources.source import Document

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
LIMIT_S = 30
MESSAGES = ["Add the area", "Take pi from math\n\n\u4e2d\u6587 too."]


def git(folder: Path, *words: str, **variables: str) -> str:
    names = {f"GIT_{who}_{what}": "tester" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    clean = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    environment = {**os.environ, **names, **clean, **variables}
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=LIMIT_S).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "crawl" / "tool"
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet", "--initial-branch=main")
    for message, text in zip(MESSAGES, ("area = 3.14\n", "import math\narea = math.pi\n"), strict=True):
        (folder / "area.py").write_text(text)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", message)
    return folder


def read_commits(place: Path) -> list[Document]:
    """Reads all commits below a folder, in a thread that must end in time."""
    source = Source(name="s", kind="commits", path=str(place))
    documents: list[Document] = []

    def read() -> None:
        for unit in list_units(source):
            documents.extend(read_unit(source, unit, max_bytes=100_000))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    assert not thread.is_alive(), "reading hangs"
    return documents


def expect(repository: Path) -> list[bytes]:
    """What git itself says of each commit, before anything is tampered with."""
    hashes = git(repository, "log", "--reverse", "--format=%H").split()
    contents = []
    for name in hashes:
        message = git(repository, "log", "-1", "--format=%B", name).strip()
        change = git(repository, "diff-tree", "--root", "--patch", "--no-commit-id", "-r", name).strip("\n")
        contents.append(f"{message}\n\n{change}\n".encode())
    return contents


def configure(**settings: str) -> Callable[[Path, Path], None]:
    """Appends settings; TRAP in a value is a program that leaves a mark, PIPE a pipe that nobody writes to."""

    def tamper(repository: Path, trap: Path) -> None:
        program = trap.with_suffix(".sh")
        program.write_text(f"#!/bin/sh\ntouch {trap}\ncat\n")
        program.chmod(0o755)
        pipe = trap.with_suffix(".pipe")
        os.mkfifo(pipe)
        with (repository / ".git" / "config").open("a") as file:
            for name, value in settings.items():
                *section, key = name.split("__")
                title = section[0] if len(section) == 1 else f'{section[0]} "{section[1]}"'
                filled = value.replace("TRAP", str(program)).replace("PIPE", str(pipe))
                file.write(f"[{title}]\n\t{key} = {filled}\n")

    return tamper


def promise_a_blob(repository: Path, trap: Path) -> None:
    """A blob is missing, and a remote that must be asked for it runs a program."""
    blob = git(repository, "rev-parse", "HEAD~1:area.py").strip()
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    configure(
        core__sshCommand="TRAP",
        core__repositoryformatversion="1",
        extensions__partialClone="origin",
        remote__origin__url="ssh://example.invalid/x",
        remote__origin__promisor="true",
        remote__origin__partialclonefilter="blob:none",
    )(repository, trap)


def use_attributes(repository: Path, trap: Path) -> None:
    (repository / ".gitattributes").write_text("*.py diff=x filter=x\n")
    info = repository / ".git" / "info"
    info.mkdir(exist_ok=True)
    (info / "attributes").write_text("*.py diff=x -text filter=x\n")
    configure(diff__x__textconv="TRAP", diff__x__command="TRAP", filter__x__smudge="TRAP", filter__x__clean="TRAP")(
        repository, trap
    )


def hide_by_replacement(repository: Path, trap: Path) -> None:
    first = git(repository, "rev-parse", "HEAD~1").strip()
    git(repository, "replace", "HEAD", first)


def add_hooks(repository: Path, trap: Path) -> None:
    for name in ("post-index-change", "reference-transaction", "pre-auto-gc", "post-checkout", "fsmonitor-watchman"):
        hook = repository / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
        hook.chmod(0o755)


def break_the_configuration(repository: Path, trap: Path) -> None:
    (repository / ".git" / "config").write_bytes(b"[core\n\xff\x00 = [[[")


def pipe_at(name: str) -> Callable[[Path, Path], None]:
    def tamper(repository: Path, trap: Path) -> None:
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).unlink(missing_ok=True)
        os.mkfifo(repository / name)

    return tamper


HARMLESS: dict[str, Callable[[Path, Path], None]] = {
    "a monitor": configure(core__fsmonitor="TRAP"),
    "an external diff": configure(diff__external="TRAP"),
    "filters and conversions by attributes": use_attributes,
    "a pager": configure(core__pager="TRAP", pager__log="true"),
    "an editor and a helper": configure(core__editor="TRAP", credential__helper="!TRAP", core__askPass="TRAP"),
    "a proxy": configure(core__gitProxy="TRAP", core__alternateRefsCommand="TRAP"),
    "signatures": configure(log__showSignature="true", gpg__program="TRAP", gpg__ssh__program="TRAP"),
    "hooks elsewhere": configure(core__hooksPath="hooks"),
    "hooks": add_hooks,
    "an order of files from a pipe": configure(diff__orderFile="PIPE"),
    "an included pipe": configure(include__path="PIPE"),
    "attributes from a pipe": configure(core__attributesFile="PIPE", core__excludesFile="PIPE"),
    "a mail map from a pipe": configure(log__mailmap="true", mailmap__file="PIPE"),
    "another encoding of logs": configure(i18n__logOutputEncoding="UTF-16"),
    "another encoding of commits": configure(i18n__commitEncoding="UTF-16"),
    "no difference for the first commit": configure(log__showRoot="false"),
    "a format": configure(format__pretty="oneline", log__date="raw", log__decorate="full"),
    "other differences": configure(
        diff__noprefix="true", diff__context="0", diff__interHunkContext="50", diff__algorithm="patience"
    ),
    "colours": configure(color__ui="always", color__diff="always", diff__wsErrorHighlight="all"),
    "notes": configure(notes__displayRef="refs/notes/*", core__notesRef="refs/notes/x"),
    "another work tree": configure(core__worktree="/"),
    "big files": configure(core__bigFileThreshold="1", diff__renameLimit="1"),
    "the format of another git": configure(core__repositoryformatversion="99", extensions__unknown="true"),
    "a configuration that is none": break_the_configuration,
    "a replaced commit": hide_by_replacement,
    "a pipe as configuration": pipe_at(".git/config"),
    "a pipe as licence": pipe_at("LICENSE"),
    "a pipe as index": pipe_at(".git/index"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_nothing_of_a_repository_is_in_force_but_its_objects(repository: Path, tmp_path: Path, name: str) -> None:
    expected = expect(repository)
    trap = tmp_path / "sprung"
    HARMLESS[name](repository, trap)

    found = read_commits(repository.parent)

    assert [document.content for document in found] == expected
    assert [document.reason for document in found] == [None, None]
    assert not trap.exists()


def leave_by_a_link(repository: Path, trap: Path) -> None:
    shutil.move(repository / ".git", trap.parent / "private")
    (repository / ".git").write_text(f"gitdir: {trap.parent / 'private'}\n")


def leave_by_a_symbolic_link(repository: Path, trap: Path) -> None:
    shutil.move(repository / ".git" / "objects", trap.parent / "objects")
    (repository / ".git" / "objects").symlink_to(trap.parent / "objects")


def leave_by_a_reference(repository: Path, trap: Path) -> None:
    (repository / ".git" / "HEAD").write_text("ref: refs/../../../../etc/hostname\n")


def cut_a_blob(repository: Path, trap: Path) -> None:
    blob = git(repository, "rev-parse", "HEAD:area.py").strip()
    path = repository / ".git" / "objects" / blob[:2] / blob[2:]
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:10])


UNREADABLE: dict[str, Callable[[Path, Path], None]] = {
    "a blob that a remote promises": promise_a_blob,
    "a blob cut short": cut_a_blob,
    "a pipe as head": pipe_at(".git/HEAD"),
    "a pipe as branch": pipe_at(".git/refs/heads/main"),
    "a pipe as other stores": pipe_at(".git/objects/info/alternates"),
    "a pipe as pack": pipe_at(f".git/objects/pack/pack-{'0' * 40}.idx"),
    "a pipe as object": pipe_at(f".git/objects/00/{'0' * 38}"),
    "a folder of git's outside": leave_by_a_link,
    "objects outside": leave_by_a_symbolic_link,
    "a reference outside": leave_by_a_reference,
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_cannot_be_read_safely_is_one_document_with_its_reason(
    repository: Path, tmp_path: Path, name: str
) -> None:
    expected = expect(repository)
    shutil.copytree(repository, repository.with_name("well"))
    trap = tmp_path / "sprung"
    UNREADABLE[name](repository, trap)

    found = read_commits(repository.parent)

    assert not trap.exists()
    mine = [document for document in found if document.id.startswith("s/tool")]
    assert mine[-1].reason == "unreadable"
    assert {document.content for document in mine if document.reason is None} <= set(expected)
    others = [document for document in found if document.id.startswith("s/well")]
    assert [document.content for document in others] == expected


def test_git_is_stopped_when_it_writes_nothing(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(history, "IDLE_S", 0.5)

    found = read_commits(repository.parent)

    assert [(document.content, document.reason) for document in found] == [(b"", "unreadable")]


def test_a_new_commit_makes_another_version(repository: Path) -> None:
    source = Source(name="s", kind="commits", path=str(repository.parent))
    (before,) = list_units(source)
    (repository / "area.py").write_text("area = 3\n")
    git(repository, "commit", "--quiet", "-am", "Round")
    (loose,) = list_units(source)
    git(repository, "pack-refs", "--all")
    (packed,) = list_units(source)

    assert before.version != loose.version == packed.version == git(repository, "rev-parse", "HEAD").strip()
    assert len(read_commits(repository.parent)) == 3


def test_shallow_clones_submodules_and_sha256_are_read(repository: Path, tmp_path: Path) -> None:
    crawl = tmp_path / "more"
    crawl.mkdir()
    git(tmp_path, "clone", "--quiet", "--depth", "1", repository.as_uri(), str(crawl / "shallow"))
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), str(crawl / "bare.git"))
    git(crawl, "init", "--quiet", "--object-format=sha256", "--initial-branch=main", "sha256")
    (crawl / "sha256" / "b.py").write_text("b = 1\n")
    git(crawl / "sha256", "add", ".")
    git(crawl / "sha256", "commit", "--quiet", "-m", "Add b")
    git(crawl / "shallow", "worktree", "add", "--quiet", str(crawl / "tree"), "HEAD")

    found = read_commits(crawl)

    counts = {name: sum(document.id.startswith(f"s/{name}") for document in found) for name in ("shallow", "bare.git")}
    assert counts == {"shallow": 1, "bare.git": 2}
    assert [document.content.split(b"\n")[0] for document in found if document.id.startswith("s/sha256")] == [b"Add b"]
    assert sum(document.id.startswith("s/tree") for document in found) == 1
    assert all(document.reason is None for document in found)
