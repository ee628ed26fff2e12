"""The reference model under FSDP2, as TRL's trainers make it."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.distributed.fsdp import FSDPModule, fully_shard

from codeshell_hf import CodeShellForCausalLM
from codeshell_hf.align.reference import ShardsReference
from codeshell_hf.presets import make_config
from recipes.with_accelerate import join_ranks


class PlainTrainer:
    """As much of TRL's trainers as a reference needs: it is set, and then sharded as one unit."""

    def __init__(self, model: CodeShellForCausalLM, *, is_fsdp: bool) -> None:
        plugin = SimpleNamespace(
            fsdp_version=2, reshard_after_forward=True, mixed_precision_policy=None, cpu_offload=None
        )
        self.is_fsdp_enabled = is_fsdp
        self.accelerator = SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin), torch_device_mesh=None)
        self.ref_model: Any = model
        if is_fsdp:
            self.ref_model = fully_shard(self.ref_model)


class Trainer(ShardsReference, PlainTrainer):
    pass


@pytest.mark.parametrize("is_fsdp", [True, False])
def test_under_fsdp2_each_block_of_the_reference_is_gathered_by_itself(*, is_fsdp: bool) -> None:
    config = make_config("nano", vocab_size=300, n_embd=32, n_head=2, num_query_groups=2, n_layer=3, n_inner=64)
    model = CodeShellForCausalLM(config).eval()
    ids = torch.arange(12).view(1, 12)
    with torch.no_grad(), join_ranks():
        expected = model(ids).logits

        reference = Trainer(model, is_fsdp=is_fsdp).ref_model

        assert [isinstance(block, FSDPModule) for block in reference.transformer.h] == [is_fsdp] * 3
        assert isinstance(reference, FSDPModule) is is_fsdp
        torch.testing.assert_close(reference(ids).logits, expected)
        if is_fsdp:  # what the blocks hold is not the root's to gather
            groups = reference._get_fsdp_state()._fsdp_param_group
            assert len(groups.fsdp_params) == len({*model.parameters()}) - sum(
                len([*block.parameters()]) for block in model.transformer.h
            )


def test_a_trainer_without_a_reference_has_none() -> None:
    trainer = Trainer.__new__(Trainer)
    trainer.is_fsdp_enabled = True

    trainer.ref_model = None

    assert trainer.ref_model is None
