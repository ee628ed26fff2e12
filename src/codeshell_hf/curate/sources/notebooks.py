"""Jupyter notebooks as scripts and as structured text, two of the corpora in the report's Table 1."""

import json
from collections.abc import Mapping
from typing import Any

from ..languages import find_language

# A cell may be anything; `convert_notebook` handles malformed ones.
Json = Mapping[str, Any]
FORMS = ("jupyter-scripts", "jupyter-structured")
_OUTPUT_CHARACTERS = 1_000
_COMMENTS = {"r": "#", "julia": "#", "python": "#", "scala": "//", "javascript": "//", "typescript": "//"}


def convert_notebook(content: bytes, form: str) -> str | None:
    """Converts an `.ipynb` file to text; `None` if it is not a notebook.

    Args:
        content: The file.
        form: "jupyter-scripts": code, with text cells and magic commands as comments. "jupyter-structured": Markdown
            with fenced code and text outputs, each cut at 1,000 characters.
    """
    try:
        notebook = json.loads(content)
        cells = notebook["cells"] if "cells" in notebook else notebook["worksheets"][0]["cells"]
        language = _name_kernel(notebook)
        write = _write_script if form == FORMS[0] else _write_structured
        parts = [part for cell in cells if (part := write(cell, language))]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return None
    return "\n\n".join(parts) + "\n" if parts else ""


def _name_kernel(notebook: Json) -> str:
    metadata = notebook.get("metadata", {})
    named = metadata.get("language_info", {}).get("name") or metadata.get("kernelspec", {}).get("language")
    return find_language(named) or "python"


def _source(cell: Json) -> str:
    text = cell.get("source", cell.get("input", ""))
    return ("".join(text) if isinstance(text, list) else str(text)).strip("\n")


def _write_script(cell: Json, language: str) -> str:
    mark, text = _COMMENTS.get(language, "#"), _source(cell)
    if cell["cell_type"] == "code":
        if text.startswith("%%"):
            return "\n".join(f"{mark} {line}".rstrip() for line in text.split("\n"))
        return "\n".join(f"{mark} {line}" if line.startswith(("%", "!")) else line for line in text.split("\n"))
    return "\n".join(f"{mark} {line}".rstrip() for line in text.split("\n")) if text else ""


def _write_structured(cell: Json, language: str) -> str:
    text = _source(cell)
    if cell["cell_type"] != "code":
        return text
    if not text:
        return ""
    output = "".join(map(_text_of, cell.get("outputs", []))).strip("\n")
    block = f"```{language}\n{text}\n```"
    return f"{block}\n\n```output\n{output[:_OUTPUT_CHARACTERS]}\n```" if output else block


def _text_of(output: Json) -> str:
    text = output.get("text") or output.get("data", {}).get("text/plain", "")
    return "".join(text) if isinstance(text, list) else str(text)
