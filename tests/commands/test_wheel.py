"""In an empty folder, with the wheel alone: the recipes are written, run, and a released checkpoint is converted."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.backends import BACKEND
from tests.test_recipes import SMALL, write_corpus

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("wheel")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, since building writes into the folder."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "build", "*.egg-info", "__pycache__"))
    target = source.parent / "wheels"
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(target),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the wheel, which sees the packages beside it, but not the checkout."""
    home = tmp_path_factory.mktemp("bare") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    python = home / "bin" / "python"
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True, env=without_paths())
    (packages,) = home.glob("lib/python*/site-packages")
    # Without the editable install, whose own .pth is not read through this one.
    (packages / "others.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n", encoding="utf-8")
    return python


def without_paths() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def call(python: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(python.parent / "codeshell"), *command],
        cwd=folder, capture_output=True, text=True, check=False, timeout=500,
        env={**without_paths(), "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip


def test_the_wheel_holds_the_recipes_and_nothing_of_a_build(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    held = {name.removeprefix("codeshell_hf/_workspace/") for name in names if "/_workspace/" in name}
    tracked = subprocess.run(
        ["git", "ls-files", "recipes", "tokenizer"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert held == {name for name in tracked if (ROOT / name).is_file()}
    tiny = "codeshell_hf/codeshell-tiny"
    assert {f"{tiny}/{name}" for name in ("model.safetensors", "tokenizer.json", "README.md", "LICENSE", "NOTICE")} <= {
        *names
    }
    assert f"{tiny}/manifests/evaluate.json" in names
    assert {"codeshell_hf/publish/model_card.md.jinja", "codeshell_hf/publish/data_card.md.jinja"} <= set(names)


def test_nano_runs_in_an_empty_folder(python: Path, tmp_path: Path) -> None:
    write_corpus(tmp_path / "data" / "corpus")
    folder = tmp_path / "mine"
    folder.mkdir()
    toy = [
        f"{stage}.{option.replace('HOME', str(tmp_path / 'data'))}"
        for stage, options in SMALL.items()
        for option in options
    ]
    toy.append(f"curate.sources=[{{name: corpus, path: {tmp_path / 'data' / 'corpus'}}}]")

    packaged = call(python, folder, "curate", "recipes/nano/curate.yaml", "--dry-run")
    written = call(python, folder, "init", ".")
    done = call(python, folder, "run", "nano", "--sandbox", BACKEND, *toy)

    assert packaged.returncode == 0, packaged.stderr
    assert "codeshell: using the recipes of codeshell-hf in" in packaged.stderr
    assert "_workspace/recipes/nano/data/tasks-held-out.jsonl" in packaged.stdout
    assert written.returncode == 0, written.stderr
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "codeshell: using the recipes of this folder" in done.stderr
    assert (folder / "runs" / "nano" / "publish" / "index.html").is_file()
    assert str(tmp_path) not in (folder / "runs" / "nano" / "publish" / "manifests" / "curate.json").read_text()


@pytest.mark.parametrize("script", ["codeshell", "codeshell-hf"])
def test_the_first_answer_needs_neither_a_download_nor_a_network(python: Path, tmp_path: Path, script: str) -> None:
    """By both names of the command; a connection would end in an error."""
    done = subprocess.run(
        [python.parent / script, "chat", "--prompt", "Write `f(x)` that returns x plus 2.", "--max-new-tokens", "24"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500,
        env={**without_paths(), "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("def f(x):")
    assert "no model was named: this is codeshell-tiny" in done.stderr


def test_a_released_checkpoint_is_converted(python: Path, tmp_path: Path, released: Path) -> None:
    done = call(python, tmp_path, "convert", str(released), "new")

    assert done.returncode == 0, done.stderr[-3000:]
    assert "loads without codeshell_hf" in done.stdout
