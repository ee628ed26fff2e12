"""What the documents say: commands that exist, code that runs, and nothing of one machine."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.commands.main import COMMANDS
from codeshell_hf.settings import load_settings
from codeshell_hf.stages import STAGES
from codeshell_hf.stages.stage import Work, main
from recipes.with_trl import make_trainer_config
from tests.test_recipes import get_stage
from tests.test_tokenization_codeshell import save_as_released

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(path for name in ("tokenizer", "benchmarks", "recipes", "docs") for path in ROOT.glob(f"{name}/**/*.md")),
    ]
)
README = (ROOT / "README.md").read_text(encoding="utf-8")
YAMLS = sorted(path for path in (ROOT / "recipes").glob("*/*.yaml") if path.stem.split("-")[0] in STAGES)
GOLDEN = ROOT / "tests" / "data" / "golden" / "plain"


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_in_the_documents_exist(path: Path) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for line in "\n".join(blocks(path.read_text(encoding="utf-8"), "bash")).splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):  # variables that the command is given
            del words[0]
        if not words:
            continue
        if words[0] == "make":
            assert words[1] in targets, line
        for word in words:
            if word.endswith((".yaml", ".sh")):
                assert (ROOT / word.rpartition("=")[2]).is_file(), line
        if words[0] == "codeshell" and words[1] not in STAGES:
            assert words[1] in COMMANDS, line
        if words[0] == "codeshell" and words[1] in STAGES:
            words = ["python", "-m", f"recipes.{words[1]}", *words[2:]]
        if "-m" in words and words[words.index("-m") + 1].startswith("recipes."):
            stage = words[words.index("-m") + 1].removeprefix("recipes.")
            if stage not in STAGES:
                assert (ROOT / "recipes" / f"{stage.replace('.', '/')}.py").is_file(), line
                continue
            given = words[words.index("-m") + 2 :]
            # The settings of the command are read and checked, and nothing is written.
            code = main(get_stage(stage), [*(word for word in given if word != "--dry-run"), "--dry-run"])
            assert code == 0, line
        known = (
            "make",
            "sh",
            "codeshell",
            "python",
            "pip",
            "accelerate",
            "torchrun",
            "ray",
            "git",
            "docker",
            "vllm",
            "llama-server",
            "curl",
            "echo",
        )
        assert words[0] in known, line


def test_every_stage_has_its_row_in_the_list_of_stages() -> None:
    page = (ROOT / "docs" / "stages.md").read_text(encoding="utf-8")
    for stage in STAGES:
        assert f"| `{stage}` ([page]({stage}.md)) |" in page


def test_python_of_the_readme_runs_on_a_folder_in_the_released_format(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer
) -> None:
    """The README's block and those of docs/checkpoints.md, with tiny checkpoints under the released names."""
    for name in ("CodeShell-7B", "CodeShell-7B-Chat"):
        home = tmp_path / "WisdomShell" / name
        save_as_released(tiny_tokenizer, home, None)
        config = json.loads((GOLDEN / "config.json").read_text())
        (home / "config.json").write_text(json.dumps({**config, "model_type": "kclgpt", "n_positions": 512}))
        (home / "pytorch_model.bin").write_bytes((GOLDEN / "pytorch_model.bin").read_bytes())
    checkpoints = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    codes = [*blocks(README, "python"), *blocks(checkpoints, "python")]
    assert len(codes) == 4
    code = "\n".join(codes)

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )

    assert done.returncode == 0, done.stderr
    assert not [line for line in done.stderr.splitlines() if "warn" in line.lower()], done.stderr


def test_every_row_of_the_original_offer_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "comparison.md").read_text(encoding="utf-8")
    table = page.partition("## The original repository's offer\n")[2].partition("\n##")[0]
    rows = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("|")][2:]

    for original, _, tests in rows:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
        assert named, original
        for file, name in named:
            assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8"), name
    offered = "|".join(original for original, _, _ in rows)
    for offer in (
        "web", "terminal", "API", "int4", "llama.cpp", "VS Code", "IntelliJ", "fine-tuning", "evaluation", "Chinese",
    ):  # fmt: skip
        assert offer in offered


def test_no_file_names_a_machine() -> None:
    skipped = (".venv", ".git", "runs", "build")
    tracked = [
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*")
        if path.is_file() and not any(part in skipped or part.startswith(".") for part in path.relative_to(ROOT).parts)
    ]
    homes = re.compile(r"/(?:" + "|".join(["wor" + "k", "roo" + "t", "hom" + "e"]) + r")/[a-z.]")
    found = []
    for name in tracked:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".txt", ".sh", ".jinja") and path.exists():
            found += [f"{name}: {line}" for line in path.read_text(encoding="utf-8").splitlines() if homes.search(line)]
    assert found == []


def test_public_functions_have_docstrings() -> None:
    lacking = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        for node in [*tree.body, *(inner for owner in classes for inner in owner.body)]:
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            is_module_forward = path.name == "modeling_codeshell.py" and node.name == "forward"
            if not (is_module_forward or ast.get_docstring(node)):
                lacking.append(f"{path.name}:{node.name}")
    assert lacking == []


@pytest.mark.parametrize("path", YAMLS, ids=[f"{path.parent.name}-{path.stem}" for path in YAMLS])
def test_every_yaml_loads_against_the_installed_classes(path: Path, tmp_path: Path) -> None:
    stage = path.stem.split("-")[0]
    settings = load_settings(get_stage(stage).settings, path)

    if getattr(settings, "trainer", None):
        import trl

        name = {"sft": "SFT", "reward": "Reward", "dpo": "DPO"}.get(stage) or settings.method.upper()
        settings = settings.model_copy(update={"precision": "float32"})  # auto would look at the model
        config = make_trainer_config(getattr(trl, f"{name}Config"), settings, Work(tmp_path))
        assert not config.bf16
        assert config.learning_rate == settings.trainer["learning_rate"]
        assert {str(config.lr_scheduler_type.value), config.report_to[0] if config.report_to else "none"} == {
            settings.trainer["lr_scheduler_type"],
            "none",
        }
