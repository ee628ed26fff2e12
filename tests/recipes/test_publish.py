"""The publish stage: what is written, what is checked before a push, and what a dry run shows."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from codeshell_hf import CodeShellForCausalLM, CodeShellTokenizer
from codeshell_hf.manifest import Manifest, read_manifest
from codeshell_hf.publish import card, folder, page
from codeshell_hf.publish.folder import LoadResult, probe, save_folder
from codeshell_hf.stages.stage import main
from recipes.publish import STAGE
from tests.hub import serve_hub, visit_here
from tests.publish.test_push_checks import CARD, TOKEN


@pytest.fixture
def settings(
    tmp_path: Path,
    tiny_model: Callable[..., CodeShellForCausalLM],
    tiny_tokenizer: CodeShellTokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A tiny model and one stage. Card and page, which a whole run fills, are short texts."""
    end = tiny_tokenizer.eos_token_id
    save_folder(tiny_model(eos_token_id=end, bos_token_id=end, pad_token_id=end), tiny_tokenizer, tmp_path / "tiny")
    (tmp_path / "curate" / "documents").mkdir(parents=True)
    row = {"id": "a", "text": "x = 1\n", "split": "held-out"}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "curate" / "documents" / "part-00000.parquet")
    sources = {"sources": [{"name": "s", "path": f"{tmp_path}/private"}]}
    Manifest("curate", "f", {}, sources, "c", counts={"documents": 1}).write(tmp_path / "curate")

    def load(place: Path, samples: object) -> LoadResult:
        return LoadResult(["return x"], probe(CodeShellForCausalLM.from_pretrained(place)), [], [])

    monkeypatch.setattr(folder, "load_without_package", load)
    monkeypatch.setattr(card, "describe_model", lambda *given, model: {"vocabulary": 320})
    monkeypatch.setattr(card, "write_card", lambda place, values: (place / "README.md").write_text(CARD))
    monkeypatch.setattr(page, "make_page", lambda values, stages: f"<p>{tmp_path}/private</p>")
    values = {
        "model": f"{tmp_path}/tiny",
        "stages": {"curate": f"{tmp_path}/curate"},
        "card": {"name": "tiny", "published": "base"},
        "samples": [{"kind": "completion", "prompt": "def f(x):"}],
        "output": f"{tmp_path}/out",
    }
    (tmp_path / "publish.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "publish.yaml"


def test_what_is_pushed_names_no_path_of_this_machine(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve_hub() as (hub, address):
        visit_here(address, monkeypatch)
        assert main(STAGE, [str(settings), "push.repository=me/tiny", "push.tokenizer=me/tokenizer"]) == 0

    pushed = hub.repositories["me/tiny"]
    assert json.loads(pushed["manifests/curate.json"])["settings"]["sources"][0]["path"] == ".../private"
    assert pushed["index.html"] == b"<p>.../private</p>"
    assert not [name for name, data in pushed.items() if str(tmp_path).encode() in data]
    assert b'from_pretrained("me/tokenizer"' in hub.repositories["me/tokenizer"]["README.md"]
    assert "320 entries" in hub.repositories["me/tokenizer"]["README.md"].decode()
    printed = capsys.readouterr().out
    assert "completion: def f(x):\n  | return x\n" in printed
    assert "model pushed to http" in printed
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.measures == {"largest_logit_difference": 0.0, "texts": ["return x"]}


@pytest.mark.parametrize("planted", [TOKEN, "see PRIVATE/x"])
def test_a_planted_secret_or_path_stops_a_push(
    settings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], planted: str
) -> None:
    """In a file whose paths are not replaced."""
    text = planted.replace("PRIVATE", f"{tmp_path}/private")

    def write(place: Path, values: object) -> None:
        (place / "README.md").write_text(CARD)
        (place / "notes.txt").write_text(text)

    monkeypatch.setattr(card, "write_card", write)
    with serve_hub() as (hub, address):
        visit_here(address, monkeypatch)
        assert main(STAGE, [str(settings), "push.repository=me/tiny"]) == 2

    assert hub.repositories == {}
    assert "model/notes.txt, line 1: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_shows_the_tree_and_where_it_would_go(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    push = "push={repository: me/tiny, dataset: me/data, revision: v1, pull_request: true}"

    assert main(STAGE, [str(settings), push, "--dry-run"]) == 0

    printed = capsys.readouterr().out
    assert "me/tiny/\n" in printed
    for name in ("README.md", "modeling_codeshell.py", "manifests/curate.json"):
        assert f"{name:<42}made" in printed
    assert "a pull request on branch v1, private if new" in printed
    assert "me/data/  data set, 1 parts, " in printed
