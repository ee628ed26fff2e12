"""Sharding with torch's FSDP2: weights, gradients and optimiser states, over all ranks or within replicas."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import SettingsError
from ..loading import load_model
from ..modeling_codeshell import CodeShellForCausalLM, CodeShellRotaryEmbedding
from .engine import Engine
from .optimizer import make_optimizers
from .settings import OptimizerSettings
from .weights import draw_weight


class ShardedEngine(Engine):
    """FSDP2: each block is gathered when it is needed; embedding, output layer and last norm are one group."""

    def _build(self) -> CodeShellForCausalLM:
        with torch.device("meta"):  # no rank ever holds the whole model
            return self._make()

    def _shard(self) -> None:
        sharding = self.options.sharding
        replicas = sharding.replicas
        if self.ranks % replicas:
            raise SettingsError(f"{self.ranks} ranks do not make {replicas} replicas; set a divisor")
        shape = (self.ranks,) if replicas == 1 else (replicas, self.ranks // replicas)
        names = ("shard",) if replicas == 1 else ("replicate", "shard")
        mesh = init_device_mesh(self.device.type, shape, mesh_dim_names=names)
        self._shard_over(mesh, mesh)

    def _shard_over(self, blocks: DeviceMesh, ends: DeviceMesh) -> None:
        """Shards the blocks over one mesh, and embedding, output layer and last norm over another or the same."""
        sharding = self.options.sharding
        # Shards stay float32; gathered parameters are bfloat16.
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if self.options.precision.is_bf16 else None, reduce_dtype=torch.float32
        )
        offload: OffloadPolicy = CPUOffloadPolicy() if sharding.offloads else OffloadPolicy()
        for block in self.model.transformer.h:
            fully_shard(
                block, mesh=blocks, reshard_after_forward=sharding.reshards, mp_policy=policy, offload_policy=offload
            )
        fully_shard(self.inner, mesh=ends, mp_policy=policy, offload_policy=offload)
        place = torch.device("cpu") if sharding.offloads else self.device
        self.inner.to_empty(device=place)
        # `to_empty` leaves buffers undefined, and the frequencies are buffers.
        self.model.transformer.rotary_emb = CodeShellRotaryEmbedding(self.config).to(self.device)
        is_tied = self.model.lm_head.weight is self.model.transformer.wte.weight
        if is_tied != self.config.tie_word_embeddings or not all(
            isinstance(parameter, DTensor) for parameter in self.model.parameters()
        ):
            raise SettingsError("FSDP2 was requested, but parameters are not sharded, or no longer tied")

    def _init_weights(self) -> None:
        if self.start_from is not None:
            first = dist.get_rank() == 0
            weights = load_model(self.start_from, dtype=torch.float32).state_dict() if first else {}
            weights = {name: self._order_rows(name, whole) for name, whole in weights.items()}
            options = states.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
            states.set_model_state_dict(self.model, weights, options=options)
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                like = torch.empty(parameter.shape, dtype=parameter.dtype, device=parameter.device)
                whole = self._order_rows(name, draw_weight(name, like, self.config, seed=self.seed))
                placed = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
                parameter.copy_(placed)

    def _order_rows(self, name: str, whole: Tensor) -> Tensor:
        """A whole parameter as it is sharded: here unchanged."""
        return whole

    def _make_optimizers(self, optimizer: OptimizerSettings) -> None:
        self.optimizers = make_optimizers(self.inner, optimizer, self.options.precision.orthogonalization)
        self.module = self.inner

    def autocast(self) -> AbstractContextManager[object]:
        """None: FSDP2 casts the parameters that it gathers."""
        return nullcontext()
