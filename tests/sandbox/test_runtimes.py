"""What runtimes ask the system for is allowed: programs that use much of it, in each language that is installed."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from codeshell_hf.evaluate.toolchains import LANGUAGES, LIMITS, check_toolchains, find_folders, list_shown
from codeshell_hf.sandbox import CommandProgram, Program, open_sandbox
from tests.backends import BACKEND

pytestmark = pytest.mark.xdist_group("sandbox")
TEXT = (Path(__file__).parents[1] / "data" / "runtime_programs.txt").read_text(encoding="utf-8")
PROGRAMS = dict(zip(*[iter(re.split(r"^## (.+)\n", TEXT, flags=re.MULTILINE)[1:])] * 2, strict=True))


@pytest.mark.parametrize(
    "language", [pytest.param(name, marks=[] if name in ("python", "js") else pytest.mark.slow) for name in PROGRAMS]
)
def test_a_runtime_finds_all_it_asks_for(language: str) -> None:
    limits = replace(LIMITS, timeout_s=60)
    with open_sandbox(BACKEND, limits, workers=1, shown=list_shown()) as sandbox:
        if language == "python":
            [verdict] = sandbox.run([Program(PROGRAMS[language], strict=False)])
        else:
            found = LANGUAGES[language]
            if check_toolchains(sandbox, [language])[language] is None:
                pytest.skip(f"there is no {found.name} here ({found.package})")
            files = ((found.file, found.head + PROGRAMS[language]),)
            [verdict] = sandbox.run([CommandProgram(files, found.commands, folders=find_folders())])

    assert verdict.passed, verdict
    assert verdict.output.endswith("done\n"), verdict
