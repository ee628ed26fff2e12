"""Checks before a push: secrets, this machine's paths, the card, the tokenizer."""

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open

from ..credentials import find_credentials
from ..errors import DataError
from ..tokenization_codeshell import SPECIAL_TOKENS, CodeShellTokenizer
from .dataset import list_texts

VOCABULARIES = ("tokenizer.json", "vocab.json")  # in which "/home" may be a token
SECTIONS = ("What it can do", "Limits", "Training data", "Training", "Safety", "Ethical considerations", "Licence")
METADATA = ("license", "language", "library_name", "pipeline_tag", "tags")
HARD_TEXTS = (
    "def f(x):\n\treturn x  \n\r\n    \n",
    "面积 = 3.14159 * r ** 2  # 中文，标点。\n",
    "emoji 🧑‍💻 and e\u0301 and \ufeff and \u2028 and \x00 end",
    " ".join(SPECIAL_TOKENS),
    "|<end>|## human:## assistant: ",
)


def check_folder(folder: Path, paths: Iterable[str], texts: Mapping[str, str]) -> None:
    """Checks a folder before it is pushed.

    Args:
        folder: A model, a tokenizer or a data set; a folder called "model" needs a complete card.
        paths: This machine's paths, which must not be in it.
        texts: Documents by name, which the folder's tokenizer, if any, must decode unchanged.

    Raises:
        DataError: For a secret, a path, an incomplete card, or a tokenizer that loses text.
    """
    problems = check_files(folder, paths)
    if folder.name == "model":
        problems += check_card((folder / "README.md").read_text(encoding="utf-8"))
    if (folder / "tokenizer.json").exists():
        problems += check_tokenizer(CodeShellTokenizer.from_pretrained(folder), texts)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise DataError(f"{folder.name}/{problems[0]}{more}; nothing was pushed; fix it and run again")


def check_files(folder: Path, paths: Iterable[str]) -> list[str]:
    """Finds secrets and this machine's paths in every file of a folder.

    It reads the metadata of safetensors, all text columns of Parquet, and all other UTF-8 files. The documents of a
    data set may contain any path, but their other columns may not.

    Returns:
        One line per problem, without the secret itself.
    """
    private_paths = list(paths)
    problems = []
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".parquet":
            problems += _check_table(path, name, private_paths)
            continue
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                text = str(file.metadata() or {})
        else:
            text = path.read_bytes().decode("utf-8", "replace")
        problems += [f"{name}, line {found.line}: looks like a {found.kind}" for found in find_credentials(text)]
        for private in private_paths:
            if private in text and path.name not in VOCABULARIES:
                line = text[: text.index(private)].count("\n") + 1
                problems.append(f"{name}, line {line}: names {private}, a path of this machine")
    return problems


def _check_table(path: Path, name: str, private_paths: Iterable[str]) -> list[str]:
    problems = []
    for column, values in list_texts(pq.read_table(path)).items():
        for value in values:
            problems += [f"{name}, column {column}: looks like a {found.kind}" for found in find_credentials(value)]
            if column != "text":
                problems += [
                    f"{name}, column {column}: names {private}, a path of this machine"
                    for private in private_paths
                    if private in value
                ]
    return problems


def check_card(text: str) -> list[str]:
    """Finds missing sections, missing metadata and unfilled placeholders in a model card, one line each."""
    try:
        card = ModelCard(text)
    except (ValueError, yaml.YAMLError) as error:
        return [f"README.md has metadata that cannot be read ({' '.join(str(error).split())[:160]})"]
    problems = [f"README.md has no {key} in its metadata" for key in METADATA if not getattr(card.data, key, None)]
    results = getattr(card.data, "eval_results", None) or []
    if not results:
        problems.append("README.md has no evaluation results in its metadata")
    problems += [
        f"README.md gives {result.metric_type} as {result.metric_value!r}, which is not a number"
        for result in results
        if not isinstance(result.metric_value, (int, float)) or not math.isfinite(result.metric_value)
    ]
    headings = re.findall(r"^#+ (.+)$", card.text, flags=re.MULTILINE)
    problems += [
        f'README.md has no section "{section}"'
        for section in SECTIONS
        if not any(heading.startswith(section) for heading in headings)
    ]
    # The model's samples are code blocks, and may contain None.
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", card.text, flags=re.DOTALL)
    for leftover in re.findall(r"\{\{.*?\}\}|\bTODO\b|\bNone\b", prose):
        problems.append(f"README.md still contains {leftover}")
    return problems


def check_tokenizer(tokenizer: CodeShellTokenizer, texts: Mapping[str, str]) -> list[str]:
    """Finds texts that encoding and decoding changes, one line each; `HARD_TEXTS` are added."""
    problems = []
    named = {**texts, **{f"hard text {number}": text for number, text in enumerate(HARD_TEXTS, 1)}}
    for name, text in named.items():
        ids = tokenizer.encode_text(text)
        if tokenizer.decode(ids) != text:
            problems.append(f"{name} is changed by encoding and decoding")
        if set(ids) & set(tokenizer.all_special_ids):
            problems.append(f"{name} was encoded with special tokens")
    return problems
