"""Pushing: what must not leave does not, what leaves is whole, and a push that dies changes nothing."""

import json
import smtplib
import subprocess
import sys
import textwrap
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from codeshell_hf.credentials import find_credentials
from codeshell_hf.errors import DataError
from codeshell_hf.publish.checks import check_card, check_files, check_tokenizer
from codeshell_hf.publish.dataset import make_dataset_folder
from codeshell_hf.publish.folder import probe, save_folder
from codeshell_hf.publish.hub import push_folder
from codeshell_hf.publish.settings import PushSettings
from tests.hub import serve_hub, visit_hub

ROOT = Path(__file__).parents[2]


@pytest.fixture
def published(tmp_path: Path, tiny_model, tiny_tokenizer) -> tuple[Path, torch.nn.Module]:
    end = tiny_tokenizer.eos_token_id
    model = tiny_model(n_embd=64, eos_token_id=end, bos_token_id=end, pad_token_id=end)
    save_folder(model, tiny_tokenizer, tmp_path / "model", max_shard_size="200KB")
    return tmp_path / "model", model


def push(
    address: str, home: Path, folder: Path, repository: str = "me/tiny", *options: str, kind: str = "model"
) -> subprocess.CompletedProcess[str]:
    """Pushes in a process of its own, since the Hub's client reads its address when it is imported."""
    script = f"""
        import sys
        from pathlib import Path
        from codeshell_hf.errors import DataError
        from codeshell_hf.publish.hub import push_folder
        from codeshell_hf.publish.settings import PushSettings
        try:
            settings = PushSettings(repository="me/tiny", {", ".join(options)})
            print("PUSHED", push_folder(Path(sys.argv[1]), "{repository}", settings, kind="{kind}"))
        except DataError as error:
            sys.exit(f"REFUSED {{error}}")
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(folder)],
        capture_output=True, text=True, check=False, timeout=120, env=visit_hub(address, home),
    )  # fmt: skip


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_attributes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != ".gitattributes"}


def test_push_goes_through_the_hub_protocol_and_comes_back(published, tmp_path: Path) -> None:
    folder, model = published
    script = (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "import sys; sys.modules['codeshell_hf'] = None\n"
        "import torch\n"
        "model = AutoModelForCausalLM.from_pretrained('me/tiny', trust_remote_code=True)\n"
        "AutoTokenizer.from_pretrained('me/tiny', trust_remote_code=True)\n"
        "ids = torch.arange(16)[None] % model.config.vocab_size\n"
        "print('PROBE', float(model.eval()(ids).logits[0, -1, 0]))\n"
    )
    with serve_hub() as (hub, address):
        done = push(address, tmp_path / "home", folder, "me/tiny")
        assert done.returncode == 0, done.stderr[-2000:]
        loaded = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True, text=True, check=False, timeout=120,
            env=visit_hub(address, tmp_path / "other"), cwd=tmp_path,
        )  # fmt: skip

    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert "PUSHED http" in done.stdout
    assert hub.commits == 1
    assert hub.private == {"me/tiny": True}
    assert len([name for name in hub.repositories["me/tiny"] if name.endswith(".safetensors")]) > 1
    assert without_attributes(hub.repositories["me/tiny"]) == read(folder)
    assert float(loaded.stdout.split("PROBE ")[1]) == pytest.approx(probe(model)[0], abs=1e-5)


def test_a_push_that_dies_leaves_the_repository_as_it_was_and_goes_on(published, tmp_path: Path) -> None:
    folder, _ = published
    blobs = [path for path in folder.glob("*.safetensors") if path.stat().st_size > 100_000]
    assert len(blobs) >= 2
    with serve_hub() as (hub, address):
        (tmp_path / "first").mkdir()
        for name in ("notes.txt", "model-00009-of-00009.safetensors"):
            (tmp_path / "first" / name).write_text("before\n")
        assert push(address, tmp_path / "home", tmp_path / "first", "me/tiny").returncode == 0
        before = dict(hub.repositories["me/tiny"])
        hub.fails_after_uploads = 1
        broken = push(address, tmp_path / "home", folder, "me/tiny")
        sent = hub.uploads

        assert broken.returncode == 1
        assert "REFUSED me/tiny refuses" in broken.stderr
        assert "what was sent is kept" in broken.stderr
        assert hub.repositories["me/tiny"] == before
        assert hub.commits == 1
        assert sent == 1
        hub.fails_after_uploads = None
        assert push(address, tmp_path / "home", folder, "me/tiny").returncode == 0

    assert hub.uploads == len(blobs)  # none was sent twice
    assert hub.commits == 2
    # What somebody put there stays; a shard of other weights goes with the same commit.
    assert without_attributes(hub.repositories["me/tiny"]) == {**read(folder), "notes.txt": b"before\n"}


def test_branches_and_pull_requests_leave_the_main_branch_alone(published, tmp_path: Path) -> None:
    folder, _ = published
    with serve_hub() as (hub, address):
        branch = push(address, tmp_path / "home", folder, "me/tiny", "revision='v1'", "private=False")
        again = push(address, tmp_path / "home", folder, "me/tiny", "revision='v1'")
        request = push(address, tmp_path / "home", folder, "me/tiny", "pull_request=True")
        store = hub.stores["me/tiny"]

    for done in (branch, again, request):
        assert done.returncode == 0, done.stderr[-2000:]
    assert not store.private
    assert without_attributes(store.branches["main"]) == {}
    assert without_attributes(store.branches["v1"]) == read(folder)
    assert without_attributes(store.branches["refs/pr/2"]) == read(folder)
    assert "/discussions/2" in request.stdout


def test_a_push_that_is_refused_is_one_line(published, tmp_path: Path) -> None:
    folder, _ = published
    with serve_hub() as (_, address):
        done = push(address, tmp_path / "home", folder, "no/such/name")

    assert done.returncode == 1
    assert "no/such/name refuses" in done.stderr.splitlines()[-1]


def test_a_server_that_is_not_there_is_one_line(published, tmp_path: Path, monkeypatch) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setattr(HfApi, "create_repo", lambda *args, **options: (_ for _ in ()).throw(OSError("no route")))

    with pytest.raises(DataError, match=r"me/tiny refuses \(no route\); log in with `hf auth login`"):
        push_folder(published[0], "me/tiny", PushSettings(repository="me/tiny"))


SECRETS = {
    "AWS Access Key": "key = 'AKIA" + "ABCDEFGHIJKLMNOP'",
    "GitHub Token": "token: ghp_" + "a1B2" * 9,
    "Hugging Face token": "HF_TOKEN=hf_" + "aBcD" * 9,
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "Slack Token": "xoxb-" + "123456789012-123456789012-abcdefghijklmnopqrstuvwx",
    "Basic Auth Credentials": "https://someone:s3cr3t@example.org/x",
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
}


@pytest.mark.parametrize("kind", SECRETS)
def test_secrets_are_found_with_their_line(kind: str) -> None:
    text = f"x = 1\n{SECRETS[kind]}\nsha = '{'0123456789abcdef' * 4}'\n"

    found = list(find_credentials(text))
    assert (2, kind) in [(secret.line, secret.kind) for secret in found]
    assert {secret.line for secret in found} == {2}


def test_prefilter_loses_nothing_that_the_detectors_find() -> None:
    """On this project's own files, the standard library's mailers and testers, and the secrets above."""
    files = [*ROOT.glob("tests/*.py"), *ROOT.glob("src/**/*.py"), Path(smtplib.__file__), Path(urllib.request.__file__)]
    text = "\n".join([*(path.read_text(encoding="utf-8") for path in files), *SECRETS.values()])
    filtered = list(find_credentials(text))

    assert len(filtered) >= len(SECRETS)
    assert filtered == list(find_credentials(text, looks_everywhere=True))


def test_nothing_leaves_with_a_secret_or_a_path_of_this_machine(published) -> None:
    folder, _ = published
    assert check_files(folder, [str(ROOT), str(Path.home())]) == []

    with (folder / "tokenizer.json").open("a") as file:  # a token that is a folder's name is no path
        file.write(f" {ROOT} ")
    (folder / "manifests").mkdir()
    (folder / "manifests" / "a.json").write_text(json.dumps({"x": 1, "path": f"{ROOT}/runs"}, indent=1))
    (folder / "notes.md").write_text(f"one\n{SECRETS['GitHub Token']}\n")
    save_file({"a": torch.ones(1)}, folder / "extra.safetensors", {"made_in": f"{ROOT}/here"})
    problems = check_files(folder, [str(ROOT)])

    assert problems == [
        f"extra.safetensors, line 1: names {ROOT}, a path of this machine",
        f"manifests/a.json, line 3: names {ROOT}, a path of this machine",
        "notes.md, line 2: looks like a GitHub Token",
    ]
    assert SECRETS["GitHub Token"][7:] not in "".join(problems)


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
        ("1.5", ".nan", "README.md gives bits_per_byte as nan, which is no number"),
        ("## Limits", "## Limits\n{{ limits }}", "README.md still holds {{ limits }}"),
        ("## Limits", "## Limits\nTODO", "README.md still holds TODO"),
        ("## Limits", "## Limits\nIt has None", "README.md still holds None"),
        ("## Limits", "## Limits\n`{{ x }}`\n```text\nreturn None  # TODO\n```\n", None),
        ("license: apache", "license: [apache", "README.md has metadata that cannot be read"),
    ],
)
def test_cards_that_lack_something_are_found(old: str, new: str, problem: str | None) -> None:
    problems = check_card(CARD.replace(old, new, 1))

    assert problems == [] if problem is None else problems[0].startswith(problem)


def test_tokenizers_that_lose_text_are_found(tiny_tokenizer, monkeypatch) -> None:
    texts = {"a.py": "def f():\n    return 'ü'\n"}
    assert check_tokenizer(tiny_tokenizer, texts) == []

    kept = tiny_tokenizer.decode
    monkeypatch.setattr(tiny_tokenizer, "decode", lambda ids: kept(ids).replace("    ", " "))
    assert check_tokenizer(tiny_tokenizer, texts)[0] == "a.py does not come back from the tokenizer as it went in"


def make_curated(folder: Path) -> Path:
    (folder / "documents").mkdir(parents=True)
    rows: list[dict[str, Any]] = [
        {"id": f"s/{index}", "text": f"x = {index}\n", "language": "python", "split": "train" if index else "held-out"}
        for index in range(6)
    ]
    rows[3]["text"] = SECRETS["GitHub Token"]
    for part in range(2):
        pq.write_table(
            pa.Table.from_pylist(rows[3 * part : 3 * part + 3]), folder / "documents" / f"part-0000{part}.parquet"
        )
    return folder


def test_data_sets_are_pushed_by_split_without_secrets_and_load_by_name(tmp_path: Path) -> None:
    counts = {
        "documents_before": 9,
        "documents_after": 6,
        "bytes_before": 90,
        "bytes_after": 60,
        "dropped": {"empty": 3},
    }
    row = {"language": "python", "documents_after": 6, "bytes_after": 60, "share_after": 1.0}
    values = {**counts, "languages": [row], "name": "m", "license": "other", "repository": "me/data", "sources": ["s"]}

    made = make_dataset_folder(make_curated(tmp_path / "curate"), tmp_path / "data", values)

    assert made == {"train": 4, "held_out": 1, "left_out": 1}
    assert "1 documents that seem to hold a secret were left out" in (tmp_path / "data" / "README.md").read_text()
    script = (
        "from datasets import load_dataset\n"
        "data = load_dataset('me/data')\n"
        "print('ROWS', {name: sorted(split['id']) for name, split in data.items()})\n"
    )
    with serve_hub() as (hub, address):
        done = push(address, tmp_path / "home", tmp_path / "data", "me/data", kind="dataset")
        assert done.returncode == 0, done.stderr[-2000:]
        loaded = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True, text=True, check=False, timeout=120, env=visit_hub(address, tmp_path / "home"),
        )  # fmt: skip

    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert "ROWS {'train': ['s/1', 's/2', 's/4', 's/5'], 'held_out': ['s/0']}" in loaded.stdout
    assert hub.private == {"datasets/me/data": True}
