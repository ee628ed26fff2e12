"""Ruff over many files."""

import importlib.util

import pytest

from codeshell_hf.curate import standards
from codeshell_hf.curate.standards import Standards, lint


def test_linting_many_files_at_once_gives_each_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, unused, unsafe = (
        "def f() -> int:\n    return 1\n",
        "import os\nimport sys\n",
        "def f(x):\n    return eval(x)\n",
    )

    found = [one for one in lint([clean, unused, unsafe, "def broken(:\n", "import os  # noqa\n"]) if one]

    assert found[0] == standards.Standards(0, 0)
    assert found[1].faults >= 2
    assert found[1].security_faults == 0
    assert found[2].security_faults == 1
    assert found[3].faults >= 1
    assert found[4].faults >= 1, "findings that a file ignores by noqa count"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert lint([clean]) == [None]


def test_a_file_that_the_linter_fails_on_costs_no_other_its_findings() -> None:
    texts = ["import os\n", "x = " + "-" * 100_000 + "1\n", "import re\n"]

    findings = lint(texts)

    assert findings[1] is None
    assert findings[0] == findings[2] == Standards(1, 0)
