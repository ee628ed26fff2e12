"""Nothing leaves the machine with a secret, a path of it, an unfinished card or a tokenizer that loses text."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.errors import DataError
from codeshell_hf.publish.push_checks import check_card, check_files, check_folder, check_tokenizer

ROOT = Path(__file__).parents[2]
TOKEN = "ghp_" + "a1B2" * 9  # in two parts, so that this file has none


def test_nothing_leaves_with_a_secret_or_a_path_of_this_machine(
    published: tuple[Path, CodeShellForCausalLM],
) -> None:
    folder, _ = published
    assert check_files(folder, [str(ROOT), str(Path.home())]) == []

    with (folder / "tokenizer.json").open("a") as file:  # a token that is a folder's name is no path
        file.write(f" {ROOT} ")
    (folder / "manifests").mkdir()
    (folder / "manifests" / "a.json").write_text(json.dumps({"x": 1, "path": f"{ROOT}/runs"}, indent=1))
    (folder / "notes.md").write_text(f"one\n{TOKEN}\n")
    save_file({"a": torch.ones(1)}, folder / "extra.safetensors", {"made_in": f"{ROOT}/here"})
    problems = check_files(folder, [str(ROOT)])

    assert problems == [
        f"extra.safetensors, line 1: names {ROOT}, a path of this machine",
        f"manifests/a.json, line 3: names {ROOT}, a path of this machine",
        "notes.md, line 2: looks like a GitHub Token",
    ]
    assert TOKEN[7:] not in "".join(problems)


@pytest.mark.parametrize("name", ["notes.yml", "LICENSE", "run.sh", ".env", "figure.svg", "data.csv", "a.bin"])
def test_a_secret_is_found_in_a_file_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\n" * (name == "a.bin") + f"key = {TOKEN}\n".encode())

    (problem,) = check_files(tmp_path, [])

    assert problem.startswith(f"{name}, line ")
    assert problem.endswith("looks like a GitHub Token")


def test_all_columns_of_text_of_a_data_set_are_searched(tmp_path: Path) -> None:
    columns = {
        "text": [f"open('{ROOT}/a')", "b"],
        "path": ["a.py", TOKEN],
        "repository": [str(ROOT), None],
        "n": [1, 2],
    }
    pq.write_table(pa.table(columns), tmp_path / "part.parquet")

    problems = check_files(tmp_path, [str(ROOT)])

    assert problems == [
        "part.parquet, column path: looks like a GitHub Token",
        f"part.parquet, column repository: names {ROOT}, a path of this machine",
    ]


CARD = """---
license: apache-2.0
language: [code]
library_name: transformers
pipeline_tag: text-generation
tags: [code]
model-index:
- name: m
  results:
  - task: {type: text-generation}
    dataset: {name: d, type: d}
    metrics: [{type: bits_per_byte, value: 1.5}]
---
# m
## What it can do
## Limits
## Training data
## Training
## Safety
## Ethical considerations
## Licence
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", None),
        ("## Safety\n", "", 'README.md has no section "Safety"'),
        ("license: apache-2.0\n", "", "README.md has no license in its metadata"),
        ("1.5", ".nan", "README.md gives bits_per_byte as nan, which is not a number"),
        ("## Limits", "## Limits\n{{ limits }}", "README.md still contains {{ limits }}"),
        ("## Limits", "## Limits\nTODO", "README.md still contains TODO"),
        ("## Limits", "## Limits\nIt has None", "README.md still contains None"),
        ("## Limits", "## Limits\n`{{ x }}`\n```text\nreturn None  # TODO\n```\n", None),
        ("license: apache", "license: [apache", "README.md has metadata that cannot be read"),
    ],
)
def test_cards_that_lack_something_are_found(old: str, new: str, problem: str | None) -> None:
    problems = check_card(CARD.replace(old, new, 1))

    assert problems == [] if problem is None else problems[0].startswith(problem)


def test_tokenizers_that_lose_text_are_found(
    tiny_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {"a.py": "def f():\n    return 'ü'\n"}
    assert check_tokenizer(tiny_tokenizer, texts) == []

    kept = tiny_tokenizer.decode
    monkeypatch.setattr(tiny_tokenizer, "decode", lambda ids: kept(ids).replace("    ", " "))
    assert check_tokenizer(tiny_tokenizer, texts)[0] == "a.py is changed by encoding and decoding"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("notes.md", TOKEN, "model/notes.md, line 1: looks like a GitHub Token"),
        ("notes.md", "see /data/private/x", "model/notes.md, line 1: names /data/private, a path of this machine"),
        ("README.md", CARD.replace("## Limits\n", ""), 'model/README.md has no section "Limits"'),
    ],
)
def test_a_problem_stops_a_push_and_says_which(tmp_path: Path, name: str, text: str, problem: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text(CARD)
    check_folder(folder, ["/data/private"], {})

    (folder / name).write_text(text)
    with pytest.raises(DataError) as refused:
        check_folder(folder, ["/data/private"], {})

    assert str(refused.value) == f"{problem}; nothing was pushed; fix it and run again"


def test_a_tokenizer_in_the_folder_is_tried_on_the_documents(
    tmp_path: Path, tiny_tokenizer: CodeShellTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_tokenizer.save_pretrained(tmp_path / "tokenizer")
    check_folder(tmp_path / "tokenizer", [], {"a.py": "x = 1\n"})
    monkeypatch.setattr(CodeShellTokenizer, "decode", lambda self, ids: "")

    with pytest.raises(
        DataError, match=r"tokenizer/a\.py is changed by encoding .* \(and 5 more\); nothing was pushed"
    ):
        check_folder(tmp_path / "tokenizer", [], {"a.py": "x = 1\n"})
