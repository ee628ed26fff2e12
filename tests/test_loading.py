"""Loading checkpoints."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from codeshell_hf.errors import CheckpointError
from codeshell_hf.loading import load_model
from tests.conftest import DATA
from tests.hub import serve_hub, visit_hub

GOLDEN = DATA / "golden" / "plain"


def test_weights_that_are_missing_broken_or_of_another_shape_are_one_clear_error(tmp_path: Path) -> None:
    model = load_model(str(GOLDEN), dtype=torch.float32)
    with pytest.raises(CheckpointError, match="none does not exist; name a folder"):
        load_model(str(tmp_path / "none"), dtype=torch.float32)

    model.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="name a complete CodeShell checkpoint"):
        load_model(str(tmp_path), dtype=torch.float32)

    weights.write_bytes(whole)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"n_inner": 192', '"n_inner": 160'))
    with pytest.raises(CheckpointError, match="name a complete CodeShell checkpoint"):
        load_model(str(tmp_path), dtype=torch.float32)
    (tmp_path / "config.json").write_text(
        config.replace('"n_layer": 3', '"n_layer": 4').replace(
            '"full_attention"\n  ]', '"full_attention",\n    "full_attention"\n  ]'
        )
    )
    with pytest.raises(CheckpointError, match=r"lacks .*h\.3\."):
        load_model(str(tmp_path), dtype=torch.float32)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/nano/publish/model", "does not exist; run `codeshell run nano`, which writes runs/nano/publish/model"),
        ("nothing", "nothing does not exist; name a folder, or name a model on the Hub as OWNER/NAME"),
        ("a/b/c/d", "a/b/c/d does not exist"),
        ("weights.safetensors", "is a file and no folder with a model; name the folder that it is in"),
        ("model.gguf", "is a file and no folder with a model; codeshell serve passes it to llama.cpp"),
        ("empty", "empty has no config.json, so it is no model; name a folder with config.json"),
        ("outer", "outer has no config.json, so it is no model; outer/publish/model has one"),
    ],
)
def test_what_is_no_checkpoint_is_told_without_asking_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("codeshell_hf.loading.get_session", None)  # whoever asks fails
    for file in ("weights.safetensors", "model.gguf", "outer/publish/model/config.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    (tmp_path / "empty").mkdir()

    with pytest.raises(CheckpointError) as caught:
        load_model(name, dtype=torch.float32)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_that_is_away_is_told_at_once_and_in_one_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there

    started = time.monotonic()
    with pytest.raises(
        CheckpointError, match=r"owner/name is no folder here and was not downloaded, and http://127\.0"
    ):
        load_model("owner/name", dtype=torch.float32)

    assert time.monotonic() - started < 10
    assert caplog.records == []


def test_a_name_that_the_hub_does_not_know_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Another process, since the address of the Hub is read when its client is imported."""
    program = (
        "import torch; from codeshell_hf.loading import load_model; from codeshell_hf.errors import CheckpointError\n"
        "try: load_model('owner/nothing', dtype=torch.float32)\nexcept CheckpointError as error: print('TOLD', error)"
    )
    with serve_hub() as (_, address):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=False,
            env=visit_hub(address, tmp_path),
        )

    assert "TOLD owner/nothing is neither a folder here nor a model on the Hub" in done.stdout, done.stderr
