"""Notebooks as scripts and as structured text."""

import json
from pathlib import Path

from tests.curate.sources.reading import read_all
from tests.curate.toy_corpus import write_files


def test_notebooks_become_scripts_and_structured_text(tmp_path: Path) -> None:
    notebook = {
        "metadata": {"language_info": {"name": "python"}},
        "cells": [
            {"cell_type": "markdown", "source": ["# Title\n", "Words."]},
            {"cell_type": "code", "source": "%matplotlib inline\nprint(1)", "outputs": [{"text": ["1\n"]}]},
        ],
    }
    write_files(tmp_path, {"n.ipynb": json.dumps(notebook), "bad.ipynb": "{"})

    found = read_all("folder", tmp_path)

    assert found["s/n.ipynb#scripts"].content.decode() == "# # Title\n# Words.\n\n# %matplotlib inline\nprint(1)\n"
    assert found["s/n.ipynb#structured"].content.decode() == (
        "# Title\nWords.\n\n```python\n%matplotlib inline\nprint(1)\n```\n\n```output\n1\n```\n"
    )
    assert {found[f"s/bad.ipynb#{form}"].reason for form in ("scripts", "structured")} == {"corrupt-file"}
