"""The reference model of TRL's trainers under FSDP2, sharded by block as the policy is."""

from typing import TYPE_CHECKING

from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import PreTrainedModel

if TYPE_CHECKING:
    from transformers import Trainer
else:
    Trainer = object


class ShardsReference(Trainer):  # type: ignore[misc, unused-ignore]  # mixed into a class of TRL, which is not typed
    """Mixed into TRL's trainers: shards each block of the reference under FSDP2.

    TRL itself shards the reference as one unit, so that each of its forward passes gathers the whole model: 131 GB for
    65B parameters in bfloat16. It leaves blocks alone that are sharded already, and then only shards what remains.
    """

    @property
    def ref_model(self) -> PreTrainedModel | None:
        """The reference; `None` if there is none."""
        return self.__dict__.get("_reference")

    @ref_model.setter
    def ref_model(self, model: PreTrainedModel | None) -> None:
        """Shards the blocks of a reference before the trainer wraps the rest."""
        if model is not None and self.is_fsdp_enabled and not isinstance(model, FSDPModule):
            shard_blocks(model, self)
        self.__dict__["_reference"] = model


def shard_blocks(model: PreTrainedModel, trainer: "Trainer") -> None:
    """Shards the blocks of a model by FSDP2, as accelerate does those of the policy."""
    accelerator = trainer.accelerator
    plugin = accelerator.state.fsdp_plugin
    if plugin.fsdp_version != 2:
        return
    mesh = getattr(accelerator, "torch_device_mesh", None)
    for block in model.base_model.h:
        fully_shard(
            block,
            mesh=None if mesh is None else mesh[tuple(accelerator.parallelism_config.fsdp_dim_names)],
            reshard_after_forward=plugin.reshard_after_forward,
            mp_policy=plugin.mixed_precision_policy or MixedPrecisionPolicy(),
            **({} if plugin.cpu_offload is None else {"offload_policy": plugin.cpu_offload}),
        )
