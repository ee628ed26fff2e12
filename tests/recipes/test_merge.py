"""Merging a kept adapter later."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codeshell_hf import CodeShellTokenizer
from recipes import merge
from tests.recipes.toy_alignment import pair_settings, rlhf_settings, run, sft_settings

pytestmark = pytest.mark.xdist_group("alignment")


def test_a_kept_adapter_is_merged_later_by_a_command(
    aligned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = sft_settings(aligned, tmp_path / "out", max_steps=3)
    assert run("sft", {**settings, "adapter": {"r": 4, "alpha": 8}}, tmp_path) == 0
    (tmp_path / "out" / "model").rename(tmp_path / "at-once")

    assert merge.main([str(tmp_path / "out" / "adapter"), str(tmp_path / "later")]) == 0

    at_once, later = (load_file(tmp_path / name / "model.safetensors") for name in ("at-once", "later"))
    assert at_once.keys() == later.keys()
    assert all(torch.equal(at_once[key], later[key]) for key in later)
    assert CodeShellTokenizer.from_pretrained(tmp_path / "later").eos_token
    assert merge.main([str(tmp_path / "out" / "adapter"), str(tmp_path / "later")]) == 2
    assert merge.main([str(tmp_path), str(tmp_path / "other")]) == 2
    shutil.rmtree(tmp_path / "later")
    config = tmp_path / "out" / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(aligned / "base"), str(tmp_path / "gone")))
    assert merge.main([str(tmp_path / "out" / "adapter"), str(tmp_path / "later")]) == 2
    errors = capsys.readouterr().err
    assert "exists already" in errors
    assert "has no readable adapter_config.json" in errors
    assert f"cannot be merged into {tmp_path}/gone" in errors


@pytest.mark.slow
def test_adapters_train_in_every_stage(aligned: Path, tmp_path: Path) -> None:
    stages = {"reward": pair_settings, "dpo": pair_settings, "rlhf": rlhf_settings}
    for stage, make in stages.items():
        settings = {**make(aligned, tmp_path / stage), "adapter": {"r": 4, "alpha": 8}}
        assert run(stage, settings, tmp_path) == 0, stage
        assert (tmp_path / stage / "adapter" / "adapter_model.safetensors").exists()
        merged = load_file(tmp_path / stage / "model" / "model.safetensors")
        assert ("score.weight" in merged) == (stage == "reward")
