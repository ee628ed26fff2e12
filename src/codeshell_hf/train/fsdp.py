"""Shares by torch's FSDP2: weights, gradients and optimisers, over all ranks or within replicas."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import SettingsError
from ..modeling_codeshell import CodeShellForCausalLM, CodeShellRotaryEmbedding
from .engine import Engine, Sharding, Start
from .optimizer import OptimizerOptions, make_optimizers
from .weights import draw_weight, load_model


class ShardedEngine(Engine):
    """FSDP2: blocks are gathered when they are needed; embedding, output layer and last norm are a group together."""

    def __init__(self, *given: Any, sharding: Sharding, **named: Any) -> None:
        self._sharding = sharding
        super().__init__(*given, **named)

    def _build(self) -> CodeShellForCausalLM:
        with torch.device("meta"):  # no rank ever holds all of it
            return self._make()

    def _share(self) -> None:
        replicas = self._sharding.replicas
        if self.ranks % replicas:
            raise SettingsError(f"{self.ranks} ranks make no {replicas} replicas; set their number to a divisor")
        shape = (self.ranks,) if replicas == 1 else (replicas, self.ranks // replicas)
        names = ("shard",) if replicas == 1 else ("replicate", "shard")
        mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=names)
        # Shares stay float32; what is gathered and computed with is bfloat16.
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if self.options.is_bf16 else None, reduce_dtype=torch.float32
        )
        offload: OffloadPolicy = CPUOffloadPolicy() if self._sharding.offloads else OffloadPolicy()
        given: Any = {"mesh": mesh, "mp_policy": policy, "offload_policy": offload}
        for block in self.model.transformer.h:
            fully_shard(block, reshard_after_forward=self._sharding.reshards, **given)
        fully_shard(self.inner, **given)
        place = torch.device("cpu") if self._sharding.offloads else self.device
        self.inner.to_empty(device=place)
        # Its frequencies are no parameters, and were lost with the rest.
        self.model.transformer.rotary_emb = CodeShellRotaryEmbedding(self.config).to(self.device)
        is_tied = self.model.lm_head.weight is self.model.transformer.wte.weight
        if is_tied != self.config.tie_word_embeddings or not all(
            isinstance(parameter, DTensor) for parameter in self.model.parameters()
        ):
            raise SettingsError("FSDP2 was asked for, but parameters are whole on every rank or not tied as they were")

    def _fill(self, start: Start) -> None:
        if start.folder is not None:
            first = dist.get_rank() == 0
            weights = load_model(start.folder, dtype=torch.float32).state_dict() if first else {}
            options = states.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
            states.set_model_state_dict(self.model, weights, options=options)
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                like = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
                whole = draw_weight(name, like, self.config, seed=start.seed)
                placed = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
                parameter.copy_(placed)

    def _optimize(self, optimizer: OptimizerOptions) -> None:
        self.optimizers = make_optimizers(self.inner, optimizer)
        self.module = self.inner

    def autocast(self) -> AbstractContextManager[Any]:
        """None: FSDP2 casts what it gathers."""
        return nullcontext()
