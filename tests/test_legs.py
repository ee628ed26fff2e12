"""What CI runs beside the pinned set, how its outcome is told, and what pyproject.toml admits."""

import ast
import os
import re
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

from tests import legs

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = {"yaml": "pyyaml", "detect_secrets": "detect-secrets", "_pytest": "pytest"}


def list_imports(path: Path) -> set[str]:
    """Modules that this one imports anywhere, relative ones by their full name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = path.with_suffix("").parts
            parts = parts[parts.index("codeshell_hf") :] if "codeshell_hf" in parts else parts[len(ROOT.parts) :]
            base = ".".join(parts[: len(parts) - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return found


def list_packages(paths: list[Path]) -> set[str]:
    """What must be installed for these files to be imported, by the names of imports."""
    seen, todo, packages = set(), list(paths), set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in list_imports(path):
            parts = name.split(".")
            own = [
                found
                for home in (ROOT / "src", ROOT)
                for length in range(1, len(parts) + 1)
                for found in (
                    home.joinpath(*parts[:length]).with_suffix(".py"),
                    home.joinpath(*parts[:length]) / "__init__.py",
                )
                if found.exists()
            ]
            todo += own
            if not own:
                packages.add(parts[0])
    return {PACKAGES.get(name, name) for name in packages - set(sys.stdlib_module_names)}


def test_a_leg_installs_what_its_tests_import() -> None:
    tests = [ROOT / legs.find_test(name) for name in legs.TRANSFORMERS_TESTS]

    imported = list_packages([ROOT / "tests" / "conftest.py", *tests])

    assert {"torch", "tokenizers", "pydantic", "pyarrow"} <= imported, "the closure is followed"
    only_for_zero = {"deepspeed"}
    assert imported - {"tests"} - only_for_zero <= {*legs.TRANSFORMERS_NEEDS, "transformers"}


@pytest.mark.parametrize(
    ("requirement", "newest", "is_right", "advice"),
    [
        ("transformers>=5.19,<5.25", "5.24.0", True, ""),
        ("transformers>=5.19,<5.25", "5.24.3", True, ""),
        ("transformers>=5.19,<5.25", "5.25.0", True, "passes and is not admitted yet: write transformers>=5.19,<5.26 "),
        ("transformers>=5.19,<6", "5.24.0", False, "admits releases after 5.24.0 that nobody ran; write .*<5.25 in"),
        ("transformers>=5.19,<5.26", "5.24.0", False, "admits releases after 5.24.0 that nobody ran"),
        ("transformers>=5.19,<6.1", "6.0.0", True, ""),
    ],
)
def test_only_releases_that_were_run_are_admitted(requirement: str, newest: str, is_right: bool, advice: str) -> None:
    found, said = legs.judge_bound(requirement, newest)

    assert found is is_right
    assert re.search(advice, said)
    assert bool(said) == bool(advice)


def test_extras_admit_no_transformers_that_the_package_does_not() -> None:
    legs.parse_bounds(legs.read_requirement())
    for extra, requirements in PROJECT["optional-dependencies"].items():
        for requirement in requirements:
            if re.match(r"transformers\b", requirement):
                assert "<" not in requirement, f"{extra}: the upper bound is written once, among the dependencies"


def test_every_python_that_is_named_is_looked_for() -> None:
    named = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), flags=re.MULTILINE)

    assert sorted(named, reverse=True) == sorted(legs.PYTHONS, reverse=True)
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_ci_runs_the_oldest_and_the_newest_release_and_another_python() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert "then make legs;" in script
    assert "LEGS ?= oldest newest python\n" in makefile


def test_a_python_is_one_that_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, version in (("python3.12", "3.12"), ("python3.14", "3.13")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python3.13").write_text("#!/bin/sh\necho no such version >&2; exit 127\n", encoding="utf-8")
    (tmp_path / "python3.13").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))

    assert legs.find_python("3.12") == str(tmp_path / "python3.12")
    assert legs.find_python("3.13") is None
    assert legs.find_python("3.14") is None, "which is another by its own word"


def test_without_another_python_the_leg_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(legs, "find_python", lambda version: None)

    assert legs.run_leg("python") == 0
    assert re.search(r"no Python 3\.\d+ or 3\.\d+ .* the light tests ran on 3\.\d+ alone", capsys.readouterr().out)
    assert legs.run_leg("python3.12") == 1, "what was asked for by name must be there"


def test_an_unknown_leg_is_refused() -> None:
    with pytest.raises(SystemExit, match="leg is 'nightly'; use oldest, newest"):
        legs.run_leg("nightly")


@pytest.mark.parametrize("files", [["test_modeling_common.py"], ["test_tokenization_common.py"], [], None])
def test_tests_are_taken_from_a_source_distribution_that_holds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str] | None
) -> None:
    source = tmp_path / "transformers-9.9.9"
    (source / "tests").mkdir(parents=True)
    (source / "setup.py").write_text("from setuptools import setup\nsetup(name='transformers', version='9.9.9')\n")
    for name in files or []:
        (source / "tests" / name).write_text("")
    (tmp_path / "index").mkdir()
    if files is not None:
        with tarfile.open(tmp_path / "index" / "transformers-9.9.9.tar.gz", "w:gz") as archive:
            archive.add(source, source.name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    (tmp_path / "leg").mkdir()

    if files is None:
        with pytest.raises(SystemExit, match=r"transformers 9.9.9 could not be downloaded; run the leg again"):
            legs.fetch_tests(tmp_path / "leg", sys.executable, "9.9.9")
        return
    found = legs.fetch_tests(tmp_path / "leg", sys.executable, "9.9.9")

    if files == ["test_modeling_common.py"]:
        assert found == tmp_path / "leg" / "transformers-9.9.9" / "tests"
        assert not (found.parent / "setup.py").exists()
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "leg"))
        assert legs.fetch_tests(tmp_path / "leg", sys.executable, "9.9.9") == found, "and is not fetched again"
    else:
        assert found is None


@pytest.mark.slow
def test_what_failed_is_named(tmp_path: Path) -> None:
    texts = {
        "one": "def test_right():\n    pass\ndef test_wrong():\n    assert 1 == 2\n",
        "two": "import nothing_such\n",
    }
    for name, text in texts.items():
        (tmp_path / f"test_{name}.py").write_text(text)

    failed = legs.run_tests(tmp_path, sys.executable, ["--noconftest", str(tmp_path)], {})
    (tmp_path / "test_two.py").unlink()
    stopped = legs.run_tests(tmp_path, sys.executable, ["--noconftest", str(tmp_path), "-k", "nothing"], {})

    # Their modules are named from pytest's root on, wherever this folder lies from there.
    assert {name.rpartition(".")[2] for name in failed} == {"test_one::test_wrong", "test_two"}
    assert stopped == ["pytest itself, with exit code 5"]
