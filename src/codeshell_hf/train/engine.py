"""What the training loop calls, and the way that shares nothing: one process, or DDP over several."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM
from transformers.utils import is_flash_attn_2_available

from ..configuration_codeshell import CodeShellConfig
from ..errors import CheckpointError
from ..modeling_codeshell import CodeShellForCausalLM
from ..tokenization_codeshell import CodeShellTokenizer
from .attention import agrees_with_mask, register_attention
from .loss import TrainedModel
from .optimizer import OptimizerOptions, groups, make_optimizers, set_learning_rate
from .weights import draw_weight, load_model


@dataclass(frozen=True)
class Sharding:
    """What every rank holds.

    Args:
        kind: "ddp", all of it; "fsdp2", a share of parameters, gradients and moments; "zero", DeepSpeed's.
        stage: Of ZeRO: 2 shares gradients and moments, 3 parameters as well.
        replicas: Of FSDP2: so many groups of ranks hold the whole model each, shared out inside the group.
        reshards: Of FSDP2: whether a block's parameters are let go after its forward pass.
        offloads: Whether what is shared out lies in the host's memory.
    """

    kind: Literal["ddp", "fsdp2", "zero"] = "ddp"
    stage: int = 3
    replicas: int = 1
    reshards: bool = True
    offloads: bool = False

    def __str__(self) -> str:
        if self.kind == "ddp":
            return "DDP"
        name = f"ZeRO-{self.stage}" if self.kind == "zero" else "FSDP2"
        return (
            name
            + (f" in {self.replicas} replicas" if self.replicas > 1 else "")
            + (", offloaded" if self.offloads else "")
        )


@dataclass(frozen=True)
class StepOptions:
    """What a step does besides.

    Args:
        max_norm: Gradients are scaled down to it, `None` for never.
        is_bf16: Whether arithmetic is in bfloat16; weights and moments are float32 in any case.
        recomputes: Whether activations are recomputed in the backward pass rather than kept.
        compiles: Whether blocks are compiled, each by itself.
        micro_rows: Rows of a micro-batch, which DeepSpeed wants to know.
    """

    max_norm: float | None
    is_bf16: bool
    recomputes: bool = False
    compiles: bool = False
    micro_rows: int = 1


@dataclass(frozen=True)
class Start:
    """Where weights come from.

    Args:
        seed: Of new ones.
        folder: A checkpoint to go on from, a folder or a Hub name; `None` for new ones.
    """

    seed: int
    folder: str | None = None


class Engine:
    """A model whole on one rank or on several (DDP); its subclasses share it out.

    Args:
        config: The architecture.
        start: Where its weights come from.
        optimizer: What the optimisers are told.
        options: What a step does.
        device: This rank's.

    `module` is what a loop calls for losses, `model` the model inside.
    """

    def __init__(
        self,
        config: CodeShellConfig,
        start: Start,
        optimizer: OptimizerOptions,
        options: StepOptions,
        *,
        device: torch.device,
    ) -> None:
        self.config = config
        self.options = options
        self.ranks = dist.get_world_size()
        self.device = device
        self.model = self._build()
        self.model.train()
        if options.recomputes:
            self.model.activation_checkpointing_enable()
        if options.compiles:
            for block in self.model.transformer.h:
                block.compile()
        self.inner = TrainedModel(self.model)
        self._share()
        self._fill(start)
        self._optimize(optimizer)

    def __str__(self) -> str:
        return f"{type(self.module).__name__} of {type(next(self.model.parameters())).__name__}"

    def _build(self) -> CodeShellForCausalLM:
        """Makes the model, whatever is in its weights."""
        return self._make().to(self.device)

    def _make(self) -> CodeShellForCausalLM:
        model: CodeShellForCausalLM = AutoModelForCausalLM.from_config(
            self.config, attn_implementation=self._choose_attention(), dtype=torch.float32
        )
        return model

    def _choose_attention(self) -> str:
        """The fastest one that keeps documents apart."""
        is_half = self.device.type == "cuda" and self.options.is_bf16
        if is_half and is_flash_attn_2_available():
            return "flash_attention_2"
        if is_half and self.config.attn_pdrop == 0 and agrees_with_mask(self.config, self.device, torch.bfloat16):
            return register_attention()
        return "sdpa"

    def _share(self) -> None:
        """Shares the parameters out."""

    def _fill(self, start: Start) -> None:
        """Draws or loads the weights."""
        if start.folder is not None:
            self.model.load_state_dict(load_model(start.folder, dtype=torch.float32).state_dict())
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(draw_weight(name, parameter, self.config, seed=start.seed))

    def _optimize(self, optimizer: OptimizerOptions) -> None:
        """Makes the optimisers, and what the loop calls."""
        self.optimizers = make_optimizers(self.inner, optimizer)
        self.module: Any = self.inner
        if self.ranks > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.module = DistributedDataParallel(self.inner, device_ids=devices, gradient_as_bucket_view=True)

    def autocast(self) -> AbstractContextManager[Any]:
        """The arithmetic of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.is_bf16)

    def evaluation(self) -> AbstractContextManager[Any]:
        """The arithmetic of a measurement: exact on a CPU, as in training where FlashAttention knows no other."""
        return self.autocast() if self.device.type == "cuda" else nullcontext()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Adds up gradients.

        Args:
            loss: This rank's share of the step's loss.
            is_last: Whether this is the step's last micro-batch.
        """
        # Ranks' gradients are averaged, and a step's loss is their sum.
        (loss * self.ranks).backward()

    def hold_back(self, *, is_last: bool) -> AbstractContextManager[Any]:
        """Lets ranks exchange gradients once a step.

        Args:
            is_last: Whether this is the step's last micro-batch.

        Returns:
            A context for its forward and backward pass.
        """
        if is_last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()

    def step(self, factor: float, allows: Callable[[float], bool]) -> tuple[float, bool]:
        """Moves the weights, unless the norm of the gradients speaks against it.

        Args:
            factor: Share of the peak learning rates.
            allows: Decides by the norm.

        Returns:
            The norm before clipping, the same on all ranks, and whether the step was taken.
        """
        limit = self.options.max_norm if self.options.max_norm else math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        value = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
        is_taken = allows(value)
        set_learning_rate(self.optimizers, factor)
        for optimizer in self.optimizers:
            if is_taken:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return value, is_taken

    @property
    def learning_rate(self) -> float:
        """AdamW's rate of the last step."""
        return float(groups(self.optimizers)[0]["lr"])

    def write(self, folder: Path, group: dist.ProcessGroup) -> Callable[[], object]:
        """Begins to write weights, moments and chance, by name; any engine reads them, on any number of ranks.

        Args:
            folder: Where to; it is there.
            group: For what ranks have to tell each other meanwhile; the loop must not use it.

        Returns:
            What waits until all is written. The loop may go on at once.
        """
        future = async_save(self._state(), checkpoint_id=folder, process_group=group)
        wait: Callable[[], object] = future.result  # type: ignore[union-attr]
        return wait

    def read(self, folder: Path, group: dist.ProcessGroup) -> None:
        """Takes weights, moments and chance back.

        Args:
            folder: What `write` wrote.
            group: As there.

        Raises:
            CheckpointError: If it is of another model.
        """
        state = self._state()
        try:
            load(state, checkpoint_id=folder, process_group=group)
            self._restore(state)
        except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
            raise CheckpointError(f"{folder} is of another model; remove it to begin anew") from error
        torch.set_rng_state(state["chance"])

    def _state(self) -> dict[str, Any]:
        weights, moments = states.get_state_dict(self.inner, self.optimizers)
        return {"model": weights, "optimizers": moments, "chance": torch.get_rng_state()}

    def _restore(self, state: dict[str, Any]) -> None:
        states.set_state_dict(
            self.inner, self.optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizers"]
        )

    def save_whole(self, folder: Path, tokenizer: CodeShellTokenizer) -> None:
        """Saves the model as transformers reads it; called on all ranks, written by the first.

        Args:
            folder: Where to.
            tokenizer: Saved beside it.
        """
        options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights = states.get_model_state_dict(self.model, options=options)
        self._write(folder, weights, tokenizer)

    def _write(self, folder: Path, weights: dict[str, Any], tokenizer: CodeShellTokenizer) -> None:
        if self.config.tie_word_embeddings:  # gathered, it is a copy
            weights.pop("lm_head.weight", None)
        if dist.get_rank() == 0:
            self.model.save_pretrained(folder, state_dict=weights)
            tokenizer.save_pretrained(folder)
        dist.barrier()
