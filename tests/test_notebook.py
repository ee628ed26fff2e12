"""The notebook that fine-tunes and serves: its cells are programs of the public interface, and run in order."""

import ast
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from codeshell_hf.commands.main import COMMANDS
from codeshell_hf.stages import STAGES

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "docs" / "finetune.ipynb").read_text(encoding="utf-8"))
CELLS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_the_notebook_is_in_the_format_and_holds_no_output() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert NOTEBOOK["metadata"]["kernelspec"]["language"] == "python"
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(ids) == len(set(ids))
    for cell in NOTEBOOK["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


def test_cells_are_programs_that_import_what_is_public() -> None:
    imported = set()
    for text in CELLS:
        for node in ast.walk(ast.parse(text)):  # no magic of a shell
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert not alias.name.startswith("_")
                    assert hasattr(module, alias.name), alias.name
                    imported.add(alias.name)
            elif isinstance(node, ast.Import):
                assert all(alias.name.partition(".")[0] in sys.stdlib_module_names for alias in node.names)
    assert {"CodeShellConfig", "CodeShellForCausalLM"} <= imported


def test_commands_of_the_notebook_exist() -> None:
    calls = [
        [word.value for word in node.args if isinstance(word, ast.Constant)]
        for text in CELLS
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "codeshell"
    ]

    assert [call[0] for call in calls] == ["init", "sft", "sft"]
    for call in calls:
        assert call[0] in {*COMMANDS, *STAGES}
        assert all((ROOT / word).is_file() for word in call if str(word).endswith(".yaml"))
    assert "--dry-run" in calls[1]


@pytest.mark.slow
def test_the_notebook_runs_from_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "cells.py").write_text("\n\n".join(CELLS), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "TQDM_DISABLE": "1", "OMP_NUM_THREADS": "1"}

    done = subprocess.run(
        [sys.executable, "cells.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "40 conversations" in done.stdout
    assert "⟦" in done.stdout
    assert "'completion_tokens'" in done.stdout
    assert (tmp_path / "lora-notebook" / "sft" / "adapter").is_dir()
