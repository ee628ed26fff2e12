"""Tensor and context parallelism beside FSDP2: ranks that compute the same rows have different positions of them."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from ..errors import SettingsError
from ..modeling_codeshell import CodeShellForCausalLM
from ..text.bits_per_byte import score_targets
from ..tokenization_codeshell import CodeShellTokenizer
from .batches import MicroBatch, move, to_tensors
from .context_parallel import GatheredKeys, check_kernel, register_context_attention
from .engine import StateDict
from .fsdp import ShardedEngine
from .loss import IGNORED, TrainedModel, count_held_positions, sum_target_losses
from .mesh import Mesh, count_copies, make_mesh
from .tensor_parallel import FUSED, order_fused_rows, split_block, split_positions

BY_LENGTHS = ("auto", "varlen")  # what `attention` may be with context parallelism

# It advises against gathers over two dimensions of a mesh; here they are those of a checkpoint, and not of a step.
logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)


@dataclass(frozen=True)
class WholeRows:
    """Rows that all ranks have, as a `MicroBatch`."""

    input_ids: NDArray[np.int64]
    position_ids: NDArray[np.int64]
    labels: NDArray[np.int64]


class MeshModel(TrainedModel):
    """A causal language model whose loss is of this rank's positions alone."""

    def __init__(self, model: CodeShellForCausalLM, mesh: Mesh, *, compiles: bool, z_loss: float) -> None:
        super().__init__(model, compiles=compiles, z_loss=z_loss)
        self.mesh = mesh

    def cut(self, rows: MicroBatch, device: torch.device, *, with_lengths: bool = False) -> dict[str, object]:
        """This rank's positions of whole rows, as arguments of `forward`.

        Args:
            with_lengths: As in `to_tensors`; without context parallelism alone.
        """
        slicer = self.mesh.slicer
        row_tokens = rows.input_ids.shape[1]
        targets = slicer.cut_targets(rows.labels)
        if slicer.contexts == 1:
            return {**to_tensors(rows, device, with_lengths=with_lengths), **move({"labels": targets}, device)}
        places, keys = slicer.find_places(row_tokens), slicer.find_keys(rows.position_ids)
        arrays: dict[str, NDArray[np.integer]] = {
            "input_ids": np.ascontiguousarray(rows.input_ids[:, places]),
            "position_ids": np.ascontiguousarray(rows.position_ids[:, places]),
            "labels": targets,
        }
        lengths: dict[str, NDArray[np.integer]] = {
            "order": slicer.find_order(row_tokens),
            "queries": keys.queries,
            "keys": keys.keys,
            "places": keys.places,
        }
        gathered = GatheredKeys(group=self.mesh.context, row_tokens=row_tokens, **move(lengths, device))
        return {**move(arrays, device), "gathered_keys": gathered}

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor,
        labels: Tensor,
        *,
        reduction: Literal["sum", "none"] = "sum",
        **kwargs: object,
    ) -> Tensor:
        """The sum of the losses at this rank's positions, a float32 scalar.

        Args:
            input_ids: What `cut` made of it, shape (B, T / C), int64.
            labels: The tokens that this rank's positions predict, shape (B, T / C / P), int64.
            reduction: With "none", `input_ids` and `labels` are whole rows, the same on all ranks that compute them,
                and the result is the loss of each token but the first, shape (B, T - 1), without gradients.
            kwargs: The rest of what `cut` made, passed on to the model.
        """
        if reduction == "none":
            return self._measure(input_ids)
        hidden = self.model.transformer(input_ids=input_ids, use_cache=False, **kwargs).last_hidden_state
        held = count_held_positions(self.config.vocab_size, self.config.n_embd, input_ids.device)
        weight = self.model.lm_head.weight
        return sum_target_losses(
            hidden, weight, labels, held_positions=held, compiles=self.compiles, z_loss=self.z_loss
        )

    @torch.no_grad()
    def _measure(self, ids: Tensor) -> Tensor:
        """The loss of each token but the first, shape (B, T - 1), of rows of any length."""
        slicer = self.mesh.slicer
        B, T = ids.shape
        padded = -(-T // self.mesh.row_pieces) * self.mesh.row_pieces
        whole, labels = np.zeros((B, padded), np.int64), np.full((B, padded), IGNORED)
        whole[:, :T] = labels[:, :T] = ids.cpu().numpy()
        inputs = self.cut(WholeRows(whole, np.tile(np.arange(padded), (B, 1)), labels), ids.device)
        targets = cast(Tensor, inputs.pop("labels"))
        hidden = self.model.transformer(use_cache=False, **inputs).last_hidden_state
        own = score_targets(hidden, self.model.lm_head, targets).contiguous()

        parts = own.new_empty(self.mesh.together.size() * B, own.shape[1])
        dist.all_gather_into_tensor(parts, own, group=self.mesh.together)
        losses = own.new_empty(B, padded)
        for part, places in zip(parts.chunk(self.mesh.together.size()), slicer.list_own_places(padded), strict=True):
            losses[:, torch.from_numpy(places)] = part
        return losses[:, : T - 1]


class MeshEngine(ShardedEngine):
    """FSDP2 over what tensor and context parallelism leave of the ranks."""

    inner: MeshModel

    def _prepare(self) -> None:
        self.mesh = make_mesh(self.options.sharding, dist.get_world_size(), self.device.type)

    @property
    def _compiles_unasked(self) -> bool:
        return False  # not yet run with collectives inside of blocks

    def _wrap(self, *, compiles: bool, z_loss: float) -> TrainedModel:
        return MeshModel(self.model, self.mesh, compiles=compiles, z_loss=z_loss)

    def _choose_attention(self) -> str:
        if self.options.sharding.context == 1:
            return super()._choose_attention()
        if self.options.compute.attention not in BY_LENGTHS:
            raise SettingsError(
                f"attention is {self.options.compute.attention}, but cp {self.options.sharding.context} attends by "
                "document lengths; set attention: auto"
            )
        if self.device.type == "cuda":
            heads = self.config.num_attention_heads
            check_kernel(heads, self.config.num_key_value_heads or heads, self.config.hidden_size // heads, self.device)
        return register_context_attention()

    def _shard(self) -> None:
        blocks = self.model.transformer.h
        if self.mesh.tensor.size() > 1:
            split_positions(blocks[0], self.mesh.tensor)
            for block in blocks:
                split_block(block, self.mesh.tensor)
        self._shard_over(self.mesh.blocks, self.mesh.ends)
        for module in self.inner.modules():
            if isinstance(module, FSDPModule):
                # Sums: blocks and ends are averaged over different numbers of ranks otherwise. gloo has no other way.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def make_inputs(self, batch: MicroBatch) -> dict[str, object]:
        """This rank's positions of the rows."""
        return self.inner.cut(batch, self.device, with_lengths=self.takes_lengths)

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """As in `Engine`; gradients are summed over ranks."""
        loss.backward()  # type: ignore[no-untyped-call]

    def _clip(self, limit: float) -> float:
        """Scales the gradients; each number counts once in the norm, however many ranks have it."""
        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad.to_local() for parameter in parameters]
        copies = torch.tensor([count_copies(parameter, self.ranks) for parameter in parameters], device=self.device)
        norms = torch.stack(torch._foreach_norm(gradients)).to(self.device)  # noqa: SLF001 - as torch's own clipping
        total = (norms.square() / copies).sum()
        dist.all_reduce(total)
        norm = math.sqrt(total) if math.isfinite(total) else math.inf
        if norm > limit:
            torch._foreach_mul_(gradients, limit / (norm + 1e-6))
        return norm

    # The fused projection's rows are in another order where they are split; checkpoints and exports have the model's.

    def _order_rows(self, name: str, whole: Tensor) -> Tensor:
        if not name.endswith(FUSED):
            return whole
        return whole[order_fused_rows(self.config, self.mesh.tensor.size()).to(whole.device)]

    def _restore_rows(self, name: str, whole: Tensor) -> Tensor:
        if not name.endswith(FUSED):
            return whole
        return whole[order_fused_rows(self.config, self.mesh.tensor.size()).argsort().to(whole.device)]

    def _state(self) -> StateDict:
        def restore(name: str, value: DTensor) -> DTensor:
            whole = self._restore_rows(name, value.full_tensor())
            return distribute_tensor(whole, self.mesh.ranks, [Shard(0)], src_data_rank=None)

        return self._map_fused(super()._state(), restore)

    def _restore(self, state: StateDict) -> None:
        def order(name: str, value: DTensor) -> DTensor:
            like = cast(DTensor, self.inner.get_parameter(name))
            whole = self._order_rows(name, value.full_tensor())
            return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)

        super()._restore(self._map_fused(state, order))

    def _map_fused(self, state: StateDict, change: Callable[[str, DTensor], DTensor]) -> StateDict:
        """A state with its fused projections and their moments changed, one after the other."""
        if self.mesh.tensor.size() == 1:
            return state
        weights, moments = dict(state["model"]), dict(state["optimizers"]["state"])
        for name in weights:
            if name.endswith(FUSED):
                weights[name] = change(name, weights[name])
                moments[name] = {
                    key: change(name, value) if isinstance(value, DTensor) else value
                    for key, value in moments.get(name, {}).items()
                }
        return {"model": weights, "optimizers": {**state["optimizers"], "state": moments}}

    def save_whole(self, folder: Path, tokenizer: CodeShellTokenizer) -> None:
        """As in `Engine`."""
        options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = cast(dict[str, Tensor], states.get_model_state_dict(self.model, options=options))
        self._save(folder, {name: self._restore_rows(name, whole) for name, whole in weights.items()}, tokenizer)
