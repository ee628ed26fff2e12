"""Commits as documents."""

from pathlib import Path

from tests.curate.sources.reading import git, needs_git, read_all
from tests.curate.toy_corpus import write_files


@needs_git
def test_commits_are_messages_and_differences(checkout: Path) -> None:
    found = list(read_all("commits", checkout).values())

    assert [document.content.decode().split("\n")[0] for document in found] == [
        *("Add the area of a circle", "Take pi from math")
    ]
    assert "+    return math.pi * radius ** 2" in found[1].content.decode()
    assert {document.language for document in found} == {"git-commits"}
    assert {document.licence for document in found} == {"MIT"}


@needs_git
def test_a_commit_that_is_too_long_is_named_and_the_next_one_read(checkout: Path) -> None:
    write_files(checkout, {"big.txt": "word\n" * 3000})
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "Add much")
    write_files(checkout, {"small.txt": "one more\n"})
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "-m", "Add little")

    found = list(read_all("commits", checkout).values())

    assert [document.reason for document in found] == [None, None, "too-large", None]
    assert found[3].content.startswith(b"Add little")


@needs_git
def test_nothing_that_a_checkout_configures_is_run(checkout: Path, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    git(checkout, "config", "core.fsmonitor", f"touch {trap}; false")
    git(checkout, "config", "diff.external", f"touch {trap}; false")
    git(checkout, "config", "diff.x.textconv", f"touch {trap}; cat")
    write_files(checkout, {".gitattributes": "*.py diff=x\n"})

    read_all("commits", checkout)
    read_all("folder", checkout)

    assert not trap.exists()
