"""A checkout for the tests of sources."""

from pathlib import Path

import pytest

from tests.curate.sources.reading import git
from tests.curate.toy_corpus import GOOD, write_files


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of two commits under the MIT licence."""
    folder = tmp_path / "owner" / "tool"
    licence = (
        "Permission is hereby granted, free of charge, to any person. "
        "The above copyright notice and this permission notice shall be included."
    )
    write_files(folder, {"area.py": GOOD, "LICENSE": licence})
    git(folder, "init", "--quiet", "--initial-branch=main")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "Add the area of a circle")
    (folder / "area.py").write_text(GOOD.replace("3.14159", "math.pi"))
    git(folder, "commit", "--quiet", "-am", "Take pi from math\n\nIt is more exact.")
    git(folder, "remote", "add", "origin", "https://user:secret@example.org/owner/tool.git")
    return folder
