"""Pushing: what leaves is whole, and a push that dies changes nothing."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.errors import DataError
from codeshell_hf.publish.folder import probe
from codeshell_hf.publish.hub import push_folder, push_folders
from codeshell_hf.publish.settings import PushSettings
from tests.hub import Hub, serve_hub, visit_here, visit_hub

Published = tuple[Path, CodeShellForCausalLM]


@pytest.fixture
def published(published: Published) -> Published:
    """In several shards."""
    folder, model = published
    model.save_pretrained(folder, max_shard_size="200KB")
    return folder, model


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub() as (hub, address):
        visit_here(address, monkeypatch)
        yield hub


def push(folder: Path, repository: str = "me/tiny", **options: object) -> str:
    settings = PushSettings.model_validate({"repository": "me/unused", **options})
    return push_folder(folder, repository, settings)


def read(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_attributes(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != ".gitattributes"}


def test_a_push_is_one_commit_with_every_file(published: Published, hub: Hub) -> None:
    folder, _ = published

    address = push(folder)

    assert address.startswith("http://127.0.0.1")
    assert hub.commits == 1
    assert hub.private == {"me/tiny": True}
    assert len([name for name in hub.repositories["me/tiny"] if name.endswith(".safetensors")]) > 1
    assert without_attributes(hub.repositories["me/tiny"]) == read(folder)


@pytest.mark.slow
def test_what_was_pushed_loads_by_name_without_the_package(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    with serve_hub() as (_, address):
        visit_here(address, monkeypatch)
        push(folder)
        loaded = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True, text=True, check=False, timeout=120,
            env=visit_hub(address, tmp_path / "other"), cwd=tmp_path,
        )  # fmt: skip

    assert loaded.returncode == 0, loaded.stderr[-2000:]
    assert float(loaded.stdout.split("PROBE ")[1]) == pytest.approx(probe(model)[0], abs=1e-5)


def test_a_push_that_dies_leaves_the_repository_as_it_was_and_resumes(
    published: Published, hub: Hub, tmp_path: Path
) -> None:
    folder, _ = published
    blobs = [path for path in folder.glob("*.safetensors") if path.stat().st_size > 100_000]
    assert len(blobs) >= 2
    (tmp_path / "first").mkdir()
    for name in ("notes.txt", "model-00009-of-00009.safetensors"):
        (tmp_path / "first" / name).write_text("before\n")
    push(tmp_path / "first")
    before = dict(hub.repositories["me/tiny"])
    hub.fails_after_uploads = 1

    with pytest.raises(DataError, match=r"me/tiny refuses .*uploaded files are kept"):
        push(folder)

    assert hub.repositories["me/tiny"] == before
    assert (hub.commits, hub.uploads) == (1, 1)
    hub.fails_after_uploads = None
    push(folder)
    assert hub.uploads == len(blobs)  # none was sent twice
    assert hub.commits == 2
    # Another's file stays; a shard of other weights is deleted by the same commit.
    assert without_attributes(hub.repositories["me/tiny"]) == {**read(folder), "notes.txt": b"before\n"}


def test_branches_and_pull_requests_leave_the_main_branch_alone(published: Published, hub: Hub) -> None:
    folder, _ = published

    push(folder, revision="v1", private=False)
    push(folder, revision="v1")
    request = push(folder, pull_request=True)

    store = hub.stores["me/tiny"]
    assert not store.private
    assert without_attributes(store.branches["main"]) == {}
    assert without_attributes(store.branches["v1"]) == read(folder)
    assert without_attributes(store.branches["refs/pr/2"]) == read(folder)
    assert "/discussions/2" in request


def test_each_folder_goes_to_its_own_repository_the_model_last(published: Published, hub: Hub, tmp_path: Path) -> None:
    folders = {"model": published[0], "dataset": tmp_path / "data", "tokenizer": tmp_path / "tokenizer"}
    for name in ("data", "tokenizer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.txt").write_text(name)
    settings = PushSettings(repository="me/model", dataset="me/data")

    lines = push_folders(folders, settings)

    assert [line.split(" pushed to ")[0] for line in lines] == ["dataset", "model"]  # no repository for the tokenizer
    assert set(hub.repositories) == {"datasets/me/data", "me/model"}


def test_a_push_that_is_refused_is_one_line(published: Published, hub: Hub) -> None:
    with pytest.raises(DataError, match=r"^no/such/name refuses .*hf auth login") as refused:
        push(published[0], "no/such/name")

    assert "\n" not in str(refused.value)


def test_a_server_that_is_not_there_is_one_line(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **options: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(HfApi, "create_repo", fail)

    with pytest.raises(DataError, match=r"me/tiny refuses \(no route\); log in with `hf auth login`"):
        push(published[0])
