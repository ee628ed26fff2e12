"""Loading checkpoints."""

from pathlib import Path

import pytest
import torch

from codeshell_hf.errors import CheckpointError
from codeshell_hf.loading import load_model
from tests.conftest import DATA

GOLDEN = DATA / "golden" / "plain"


def test_weights_that_are_missing_broken_or_of_another_shape_are_one_clear_error(tmp_path: Path) -> None:
    model = load_model(str(GOLDEN), dtype=torch.float32)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
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
