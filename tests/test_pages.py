"""Every command that the README and the pages print, run as printed, in a checkout whose nano recipes are toys.

A line that cannot be run here says what it needs, in a comment; servers are run by tests of their own.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from codeshell_hf.commands.main import main as codeshell
from codeshell_hf.manifest import Values
from codeshell_hf.settings import read_yaml
from tests.backends import BACKEND
from tests.hub import serve_hub, visit_hub
from tests.test_documents import blocks
from tests.test_recipes import SMALL, write_corpus
from tests.warm import warm_python

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NEEDS = re.compile(
    r"#\s*needs (a GPU|GPUs|vLLM|llama\.cpp|a released checkpoint|an endpoint|Docker|torchao|a Ray cluster|the peers)\b"
)
COVERED = {
    "make demo": "codeshell run nano is what it runs",
    "make legs": "beside the tests in CI",
    "make test": "this is it",
    "make check": "beside the tests in CI",
    "make toolchains": "installs system packages",
    "codeshell serve": "tests/commands/test_serve.py",
    "codeshell chat runs/nano/publish/model http": "tests/commands/test_serve.py",
    "llama-server": "tests/commands/test_serve.py, where llama.cpp is installed",
    "git clone": "is how this got here",
    "cd ": "is where this is",
    "curl ": "tests/commands/test_serve.py asks the same",
    "pip install": "names extras that exist",
    "codeshell init .": "tests/commands/test_wheel.py",
}

pytestmark = pytest.mark.xdist_group("commands")
# What was run once need not be again; the first of these made the checkout, by the others.
RUN = {"codeshell run nano"}
RUN |= {f"codeshell {path.stem} recipes/nano/{path.name}" for path in (ROOT / "recipes" / "nano").glob("*.yaml")} - {
    "codeshell rlhf-tests recipes/nano/rlhf-tests.yaml"
}


def read_commands(path: Path) -> list[str]:
    """The lines of a page's bash blocks, continued ones joined, without comments of their own line."""
    text = "\n".join(blocks(path.read_text(encoding="utf-8"), "bash")).replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def strip_comment(command: str) -> str:
    return command.partition(" # ")[0].strip()


COMMANDS = list(dict.fromkeys(line for path in PAGES for line in read_commands(path)))


def set_value(values: Values, key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
    values[last] = value


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which `codeshell run nano` takes a minute, and was run."""
    toy = tmp_path_factory.mktemp("toy") / "checkout"
    toy.mkdir()
    for name in ("recipes", "tokenizer", "benchmarks"):
        shutil.copytree(ROOT / name, toy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "constraints.txt", "Makefile"):
        shutil.copy(ROOT / name, toy / name)
    (toy / "src").symlink_to(ROOT / "src")
    write_corpus(toy / "corpus")
    for path in (toy / "recipes" / "nano").glob("*.yaml"):
        stage = path.stem.split("-")[0]
        values = read_yaml(path)
        for option in SMALL[stage]:
            key, _, value = option.replace("HOME", str(toy)).partition("=")
            set_value(values, key, yaml.safe_load(value))
        if stage == "pretrain":  # rows of whole blocks of four bits
            values["model"]["changes"] |= {"n_embd": 64, "n_inner": 128}
            values["batch"] = {"global_tokens": 4096, "micro_tokens": 2048}  # pages name tokens, and steps take time
        if stage == "curate":
            values["sources"] = [{"name": "corpus", "path": str(toy / "corpus")}]
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    done = run(toy, "codeshell run nano", dict(os.environ), is_warm=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return toy


def run(
    checkout: Path, command: str, environment: dict[str, str], *, is_warm: bool = True
) -> subprocess.CompletedProcess[str]:
    environment = {
        **environment,
        "PYTHONPATH": f"{checkout}:{ROOT / 'src'}",
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        **({"SANDBOX": "none"} if BACKEND == "none" else {}),
    }
    python = warm_python(environment) if is_warm else sys.executable
    if is_warm:
        environment["PYTHON_EXEC"] = python  # which torchrun calls
    # The console script of the installed package, with this Python and this checkout.
    script = checkout / ".bin" / ("warm" if is_warm else "cold") / "codeshell"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f'#!/bin/sh\nexec "{python}" -m codeshell_hf "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    folders = [script.parent, Path(python).parent, Path(sys.executable).parent, os.environ["PATH"]]
    return subprocess.run(
        ["bash", "-c", command],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
        input="add\n",
        env={**environment, "PATH": ":".join(map(str, folders))},
    )


def test_every_command_is_run_or_says_what_it_needs() -> None:
    assert len(COMMANDS) > 30
    extras = re.findall(r"^([\w-]+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in COMMANDS:
        words = re.findall(r"codeshell-hf\[(.*?)\]|\.\[(.*?)\]", line)
        for name in ",".join("".join(pair) for pair in words).split(","):
            assert not name or name in extras, line
        assert "# needs" not in line or NEEDS.search(line), f"{line}: says a need that nobody knows"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_run_as_printed(checkout: Path, tmp_path: Path, page: Path) -> None:
    """In their order, since later ones may need what earlier ones made."""
    for command in read_commands(page):
        if NEEDS.search(command) or command.startswith(tuple(COVERED)) or strip_comment(command) in RUN:
            continue
        if "repository=" not in command:
            done = run(checkout, command, dict(os.environ))
        else:
            with serve_hub() as (hub, address):
                done = run(checkout, command, visit_hub(address, tmp_path / "home"))
                assert hub.commits or "nothing to do" in done.stdout, command
        RUN.add(strip_comment(command))
        assert done.returncode == 0, command + "\n" + done.stdout[-2000:] + done.stderr[-3000:]


LIGHT = ("codeshell plan ", "codeshell programs ", "codeshell --help")  # commands that read no output of a stage


def test_plans_of_the_pages_run_as_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest of the commands needs a system that was run; these are tried in every run of the tests."""
    monkeypatch.chdir(ROOT)
    lines = [strip_comment(line) for line in COMMANDS if line.startswith(LIGHT) and not NEEDS.search(line)]
    assert len(lines) > 2
    for line in lines:
        try:
            code = codeshell(shlex.split(line)[1:])
        except SystemExit as stopped:  # of --help
            code = int(stopped.code or 0)
        assert code == 0, line + capsys.readouterr().err


def test_every_stage_has_a_page_that_names_all_its_settings() -> None:
    """A page that leaves a setting out, or names one that is gone, is stale."""
    from codeshell_hf.stages import STAGES
    from tests.test_recipes import get_stage

    for stage in STAGES:
        text = (ROOT / "docs" / f"{stage}.md").read_text(encoding="utf-8")
        fields = get_stage(stage).settings.model_fields.keys() - {"output", "seed"}
        assert [name for name in sorted(fields) if f"`{name}" not in text] == [], stage
        named = re.findall(r"^\| `([a-z_]+)[`.:]", text, flags=re.MULTILINE)
        assert named, stage
        assert [name for name in named if name not in {*fields, "output", "seed"}] == [], stage


@pytest.mark.slow
def test_python_of_the_pages_runs_in_the_checkout(checkout: Path) -> None:
    """Blocks that name what the demo wrote; those that name a release are run by test_documents.py."""
    codes = [code for path in PAGES[1:] for code in blocks(path.read_text(encoding="utf-8"), "python")]
    chosen = [code for code in codes if "runs/nano" in code and not NEEDS.search(code)]
    assert chosen
    for code in chosen:
        (checkout / "block.py").write_text(code, encoding="utf-8")
        done = run(checkout, "python block.py", dict(os.environ))
        assert done.returncode == 0, done.stderr[-3000:]
