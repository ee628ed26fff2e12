"""accelerate's file and environment, read as accelerate writes them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from codeshell_hf import CodeShellConfig
from codeshell_hf.errors import SettingsError
from codeshell_hf.train.sharding import Sharding, check_model, read_sharding

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
        (
            {"distributed_type": "DEEPSPEED", "parallelism_config": {"parallelism_config_tp_size": 2}},
            "parallelism_config_tp_size 2, but distributed_type DEEPSPEED; set it to FSDP",
        ),
        ({"parallelism_config": {"parallelism_config_cp_size": 2}}, "but distributed_type NO; set it to FSDP, as in"),
    ],
)
def test_what_is_not_there_or_contradicts_the_recipe_is_refused(tmp_path: Path, values: object, message: str) -> None:
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(values))

    with pytest.raises(SettingsError, match=message):
        read_sharding(tmp_path / "file.yaml", precision="float32")


def test_the_published_mesh_is_read_from_its_file_and_from_the_launchers_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = Sharding("fsdp2", tensor=2, context=2)
    assert read_sharding(FILES / "mesh.yaml", precision="auto") == (expected, "bfloat16")
    assert (str(expected), expected.together, expected.row_pieces) == ("FSDP2, tp 2, cp 2", 4, 8)
    launched = {
        "ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2",
        "FSDP_RESHARD_AFTER_FORWARD": "true", "PARALLELISM_CONFIG_DP_REPLICATE_SIZE": "1",
        "PARALLELISM_CONFIG_DP_SHARD_SIZE": "2", "PARALLELISM_CONFIG_TP_SIZE": "2", "PARALLELISM_CONFIG_CP_SIZE": "2",
    }  # fmt: skip
    for name, value in launched.items():
        monkeypatch.setenv(name, value)

    assert read_sharding(FILES / "mesh.yaml", precision="auto") == (expected, "bfloat16")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tp", 0, "has parallelism_config_tp_size 0; set it to 1 or more ranks"),
        ("cp", "two", "has parallelism_config_cp_size two; set it to 1 or more ranks"),
        ("sp", 2, "sequence parallelism .sp_size 2., which is DeepSpeed's; set parallelism_config_cp_size"),
    ],
)
def test_sizes_of_a_mesh_that_cannot_be_are_refused(tmp_path: Path, name: str, value: object, message: str) -> None:
    values = yaml.safe_load((FILES / "mesh.yaml").read_text())
    values["parallelism_config"] |= {f"parallelism_config_{name}_size": value}
    (tmp_path / "file.yaml").write_text(yaml.safe_dump(values))

    with pytest.raises(SettingsError, match=message):
        read_sharding(tmp_path / "file.yaml", precision="auto")


@pytest.mark.parametrize(
    ("changes", "sharding", "message"),
    [
        ({}, Sharding("fsdp2", tensor=8), "the model has 4 heads, which tp 8 does not divide; set"),
        ({"num_query_groups": 1}, Sharding("fsdp2", tensor=2), "has 1 query groups, which tp 2 does not divide"),
        ({"n_inner": 63}, Sharding("fsdp2", tensor=2), r"63 numbers inside the MLP \(n_inner\), which tp 2 does not"),
        ({}, Sharding("fsdp2", context=3), "rows of 64 tokens, which cp 3 and tp 1 do not divide into 6 parts"),
        ({}, Sharding("fsdp2", context=32, tensor=2), "into 128 parts; set row_tokens to a multiple of 128"),
        ({"attn_pdrop": 0.1}, Sharding("fsdp2", context=2), "attention over cp 2 drops nothing; set it to 0"),
    ],
)
def test_models_and_rows_that_do_not_divide_are_refused(
    make_config: Callable[..., CodeShellConfig], changes: dict[str, object], sharding: Sharding, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        check_model(make_config(**changes), sharding, [384, 64])


def test_models_and_rows_that_divide_are_taken(make_config: Callable[..., CodeShellConfig]) -> None:
    check_model(make_config(), Sharding("fsdp2", tensor=2, context=8), [64])
    check_model(make_config(num_query_groups=1, attn_pdrop=0.1), Sharding("fsdp2", replicas=3), [7])
