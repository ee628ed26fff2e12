"""The systems' architectures: exact sizes, on the meta device."""

import pytest
import torch

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.errors import SettingsError
from codeshell_hf.presets import PRESETS, count_parameters, make_config

# Exact number of parameters, and billions that the source states.
SIZES = {
    "codeshell-7b": (7_688_048_640, 7.69),
    "codeshell-small": (1_201_188_864, 1.2),
    "code-34b-zero3": (33_969_700_864, 34),
    "code-34b-fsdp": (34_005_862_400, 34),
    "general-65b-zero3": (65_481_621_504, 65),
    "instruct-65b-fsdp": (65_818_066_944, 65),
    "nano": (2_368_640, 0.00237),
}


@pytest.mark.parametrize("name", PRESETS)
def test_each_system_has_exactly_its_parameters(name: str) -> None:
    config = make_config(name)
    with torch.device("meta"):
        model = CodeShellForCausalLM(config)
        model.tie_weights()

    exact, billions = SIZES[name]
    assert sum(parameter.numel() for parameter in model.parameters()) == exact
    assert count_parameters(config) == exact
    assert exact / 1e9 == pytest.approx(billions, rel=0.03)


def test_dropout_is_off_everywhere() -> None:
    for name in PRESETS:
        config = make_config(name)
        assert config.attn_pdrop == config.embd_pdrop == config.resid_pdrop == 0


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("codeshell-8b", {}, "unknown key 'codeshell-8b' in model.preset; did you mean 'codeshell-7b'?"),
        ("nano", {"n_layers": 2}, "unknown key 'n_layers' in model; did you mean 'n_layer'?"),
        ("nano", {"n_head": 5}, "n_embd is 192, which 5 heads do not divide"),
        ("nano", {"n_layer": "two"}, "n_layer"),
    ],
)
def test_wrong_systems_get_one_line(name: str, changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        make_config(name, **changes)

    assert "\n" not in str(caught.value)
