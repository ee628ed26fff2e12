"""accelerate's file and environment, read as accelerate writes them."""

from pathlib import Path

import pytest
import yaml

from codeshell_hf.errors import SettingsError
from codeshell_hf.train.sharding import Sharding, read_sharding

FILES = Path(__file__).parents[2] / "recipes" / "accelerate"


@pytest.fixture(autouse=True)
def without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)


@pytest.mark.parametrize(
    ("name", "expected", "shown"),
    [
        ("fsdp2", Sharding("fsdp2"), "FSDP2"),
        ("hsdp", Sharding("fsdp2", replicas=2), "FSDP2 in 2 replicas"),
        ("zero2", Sharding("zero", stage=2), "ZeRO-2"),
        ("zero3", Sharding("zero", stage=3), "ZeRO-3"),
    ],
)
def test_the_published_files_shard_as_they_are_called(name: str, expected: Sharding, shown: str) -> None:
    sharding, precision = read_sharding(FILES / f"{name}.yaml", precision="auto")

    assert (sharding, str(sharding), precision) == (expected, shown, "bfloat16")


@pytest.mark.parametrize("file", [None, FILES / "ddp.yaml", FILES / "cpu.yaml"])
def test_where_nothing_is_sharded_the_recipe_decides_on_precision(file: Path | None) -> None:
    assert read_sharding(file, precision="float32") == (Sharding("ddp"), "float32")
    assert str(Sharding("ddp")) == "DDP"


def test_a_launchers_environment_is_read_and_must_agree_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {
        "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_OFFLOAD_PARAMS": "false",
    }  # fmt: skip
    for name, value in launched.items():
        monkeypatch.setenv(name, value)

    assert read_sharding(None, precision="auto") == (Sharding("fsdp2"), "bfloat16")
    assert read_sharding(FILES / "fsdp2.yaml", precision="auto") == (Sharding("fsdp2"), "bfloat16")
    with pytest.raises(SettingsError, match="accelerate launch was given another file"):
        read_sharding(FILES / "zero3.yaml", precision="auto")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distributed_type": "FSDP"}, "asks for FSDP1; set fsdp_version to 2"),
        ({"distributed_type": "DEEPSPEED", "deepspeed_config": {"zero_stage": 1}}, "asks for ZeRO-1; set zero_stage"),
        ({"mixed_precision": "fp16"}, 'mixed_precision fp16; set it to bf16 or "no"'),
        ({"mixed_precision": "bf16"}, "another mixed_precision than float32; make them agree"),
        ([1], "cannot be read"),
    ],
)
def test_what_is_not_there_or_contradicts_the_recipe_is_refused(tmp_path: Path, values: object, message: str) -> None:
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(values))

    with pytest.raises(SettingsError, match=message):
        read_sharding(tmp_path / "file.yaml", precision="float32")
