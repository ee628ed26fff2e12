"""New weights."""

from collections.abc import Callable

import pytest
import torch

from codeshell_hf import CodeShellConfig
from codeshell_hf.train.weights import draw_weight


def test_new_weights_depend_on_their_names_and_the_seed_alone(make_config: Callable[..., CodeShellConfig]) -> None:
    config = make_config(n_layer=8)
    like = torch.empty(300, 40)

    drawn = draw_weight("transformer.h.0.mlp.c_fc.weight", like, config, seed=0)
    torch.manual_seed(5)
    assert torch.equal(drawn, draw_weight("transformer.h.0.mlp.c_fc.weight", like, config, seed=0))
    assert not torch.equal(drawn, draw_weight("transformer.h.1.mlp.c_fc.weight", like, config, seed=0))
    assert not torch.equal(drawn, draw_weight("transformer.h.0.mlp.c_fc.weight", like, config, seed=1))
    assert drawn.std().item() == pytest.approx(config.initializer_range, rel=0.05)
    narrow = draw_weight("transformer.h.0.mlp.c_proj.weight", like, config, seed=0)
    assert narrow.std().item() == pytest.approx(config.initializer_range / 4, rel=0.05)
    assert draw_weight("transformer.ln_f.weight", like[0], config, seed=0).unique().tolist() == [1.0]
    assert draw_weight("transformer.ln_f.bias", like[0], config, seed=0).unique().tolist() == [0.0]
