"""The configuration: names, defaults, old keys and refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from codeshell_hf import CodeShellConfig, CodeShellForCausalLM


def test_defaults_are_the_released_seven_billion() -> None:
    config = CodeShellConfig()

    assert (config.n_layer, config.n_embd, config.n_head, config.num_query_groups) == (42, 4096, 32, 8)
    assert (config.n_inner, config.n_positions, config.vocab_size) == (16384, 8192, 70144)
    assert config.tie_word_embeddings is True
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}


def test_standard_names_read_and_write_the_released_fields() -> None:
    config = CodeShellConfig(
        hidden_size=64, num_attention_heads=8, num_hidden_layers=3, num_key_value_heads=2, intermediate_size=96
    )
    config.max_position_embeddings = 128

    assert (config.n_embd, config.n_head, config.n_layer, config.num_query_groups, config.n_inner) == (64, 8, 3, 2, 96)
    assert config.n_positions == 128
    assert config.hidden_act == config.activation_function == "gelu_pytorch_tanh"


CANONICAL = {
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "hidden_act": "gelu",
}
RELEASED = {
    "n_embd": 64, "n_head": 8, "n_layer": 3, "num_query_groups": 2, "n_inner": 96, "n_positions": 128,
    "activation_function": "gelu",
}  # fmt: skip


def test_dictionaries_have_both_names_and_files_the_released_one(tmp_path: Path) -> None:
    config = CodeShellConfig(**RELEASED)

    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())

    assert config.to_dict().items() >= (CANONICAL | RELEASED).items()
    assert written.items() >= RELEASED.items()
    assert not CANONICAL.keys() & written.keys()
    for again in (
        AutoConfig.from_pretrained(tmp_path),
        CodeShellConfig(**CANONICAL),
        CodeShellConfig(**config.to_dict()),
    ):
        again._name_or_path = config._name_or_path
        again.architectures = config.architectures
        assert again.to_diff_dict() == config.to_diff_dict()


@pytest.mark.parametrize(
    ("canonical", "released"),
    [
        ({"hidden_size": 128}, {"n_embd": 256}),
        ({"hidden_size": 128}, {"n_embd": 4096}),
        ({"hidden_size": 4096}, {"n_embd": 256}),
        ({"num_key_value_heads": 8}, {"num_query_groups": 4}),
        ({"hidden_act": "swiglu"}, {"activation_function": "gelu_pytorch_tanh"}),
    ],
)
def test_two_values_for_one_field_are_a_contradiction(canonical: dict, released: dict) -> None:
    (name, value), (alias, other) = *canonical.items(), *released.items()

    with pytest.raises(ValueError, match=f"{name} is {value} and {alias} is {other}, but both are names of one value"):
        CodeShellConfig(**canonical, **released)
    assert getattr(CodeShellConfig(**canonical, **{alias: value}), name) == value


@pytest.mark.parametrize("name", ["num_hidden_layers", "n_layer"])
@pytest.mark.parametrize("layers", [1, 5])
@pytest.mark.parametrize("window", [None, 8])
def test_layers_follow_a_depth_that_is_set_later(
    make_config: Callable[..., CodeShellConfig], name: str, layers: int, window: int | None
) -> None:
    config = make_config(sliding_window=window)

    setattr(config, name, layers)
    model = CodeShellForCausalLM(config)

    even = "full_attention" if window is None else "sliding_attention"
    assert config.layer_types == ([even, "full_attention"] * 3)[:layers]
    assert len(model.transformer.h) == layers
    assert model(torch.arange(1, 12)[None]).logits.isfinite().all()


def test_layers_follow_a_window_that_is_set_later(make_config: Callable[..., CodeShellConfig]) -> None:
    config = make_config(n_layer=3)

    config.sliding_window = 4

    assert config.layer_types == ["sliding_attention", "full_attention", "sliding_attention"]


@pytest.mark.parametrize(
    ("later", "message"),
    [
        ({"n_layer": 4}, "layer_types names 2 layers, but num_hidden_layers is 4; give one type a layer"),
        ({"n_head": 5}, "n_embd is 32, which 5 heads do not divide"),
    ],
)
def test_what_is_set_later_and_cannot_be_computed_is_refused(
    make_config: Callable[..., CodeShellConfig], later: dict, message: str
) -> None:
    config = make_config(sliding_window=4, layer_types=["full_attention", "sliding_attention"])

    for name, value in later.items():
        setattr(config, name, value)

    with pytest.raises(ValueError, match=message):
        CodeShellForCausalLM(config)


def test_types_are_checked_under_either_name() -> None:
    for name in ("n_layer", "num_hidden_layers"):
        with pytest.raises(Exception, match="num_hidden_layers"):
            CodeShellConfig(**{name: "two"})


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ({"rope_scaling": None}, {"rope_type": "default", "rope_theta": 10000.0}),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, {"rope_type": "linear", "factor": 2.0}),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, {"rope_type": "dynamic", "factor": 4.0}),
        ({"rope_theta": 500000.0}, {"rope_theta": 500000.0}),
    ],
)
def test_old_rope_keys_are_read(old: dict, expected: dict) -> None:
    assert expected.items() <= CodeShellConfig(**old).rope_parameters.items()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"position_embedding_type": "learned_absolute"}, "rotary positions only; set position_embedding_type"),
        ({"n_embd": 100, "n_head": 32}, "n_embd is 100, which 32 heads do not divide"),
        ({"n_embd": 96, "n_head": 32, "num_query_groups": 8}, "n_embd / n_head is 3"),
        ({"n_head": 32, "num_query_groups": 5}, "num_query_groups is 5, which does not divide n_head 32"),
        ({"num_query_groups": 0}, "num_query_groups is 0"),
        ({"n_layer": 2, "layer_types": ["sliding_attention"] * 2}, "but sliding_window is None"),
        ({"sliding_window": 0}, "sliding_window is 0"),
        ({"n_layer": 1, "layer_types": ["chunked_attention"]}, "layer_types holds 'chunked_attention'"),
        ({"n_layer": 3, "layer_types": ["full_attention"] * 2}, "num_hidden_layers"),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "give one flat dictionary"),
    ],
)
def test_what_the_model_cannot_compute_is_refused(wrong: dict, message: str) -> None:
    with pytest.raises(Exception, match=message):
        CodeShellConfig(**wrong)


def test_ungrouped_attention_means_a_group_for_each_head() -> None:
    assert CodeShellConfig(group_query_attention=False).num_query_groups == 32
    assert CodeShellConfig(num_query_groups=None).num_query_groups == 32


def test_released_config_keys_are_accepted_and_the_type_is_rewritten(tmp_path: Path) -> None:
    released = {
        "model_type": "kclgpt",
        "architectures": ["CodeShellForCausalLM"],
        "activation_function": "gelu_pytorch_tanh",
        "attention_softmax_in_fp32": True,
        "attn_pdrop": 0.1,
        "group_query_attention": True,
        "n_inner": None,
        "num_query_groups": 8,
        "position_embedding_type": "rope",
        "rope_scaling": None,
        "scale_attn_weights": True,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.30.2",
    }
    (tmp_path / "config.json").write_text(json.dumps(released))

    config = AutoConfig.from_pretrained(tmp_path)
    config.save_pretrained(tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())

    assert isinstance(config, CodeShellConfig)
    assert config.attn_pdrop == 0.1
    assert config.n_inner == 16384
    assert saved["model_type"] == "codeshell"
    assert saved["tie_word_embeddings"] is True
    assert saved["dtype"] == "bfloat16"
    # llama.cpp's converter reads exactly these
    assert {"n_positions", "n_embd", "n_head", "n_layer", "num_query_groups", "layer_norm_epsilon"} <= saved.keys()
