"""How a model and its optimisers are shared out over ranks: not at all, by torch's FSDP2, or by DeepSpeed's ZeRO.

The same code runs on GPUs and, over gloo, on CPUs, so that what is tested is what trains. Each engine answers to the
same few calls, and the loop does not know which it has.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel
from transformers import AutoModelForCausalLM
from transformers.utils import is_flash_attn_2_available

from ..configuration_codeshell import CodeShellConfig
from ..errors import CheckpointError, SettingsError
from ..modeling_codeshell import CodeShellForCausalLM, CodeShellRotaryEmbedding
from ..tokenization_codeshell import CodeShellTokenizer
from .loss import TrainedModel
from .optimizer import OptimizerOptions, groups, make_optimizers, set_learning_rate
from .weights import draw_weight, load_model

ZERO_STAGES = (2, 3)
_TAG = "shares"


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
            self.model.gradient_checkpointing_enable()
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
        """Makes it with the fastest attention that keeps documents apart."""
        is_there = self.device.type == "cuda" and self.options.is_bf16 and is_flash_attn_2_available()
        attention = "flash_attention_2" if is_there else "sdpa"
        model: CodeShellForCausalLM = AutoModelForCausalLM.from_config(
            self.config, attn_implementation=attention, dtype=torch.float32
        )
        return model

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

    @property
    def layout(self) -> str:
        """What a checkpoint must have been written by to be read here."""
        return "torch"

    def write(self, folder: Path, group: dist.ProcessGroup) -> Callable[[], object]:
        """Begins to write weights, moments and chance, by name and whatever the ranks; called on all of them.

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
            states.set_state_dict(
                self.inner, self.optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizers"]
            )
        except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
            raise CheckpointError(f"{folder} is of another model; remove it to begin anew") from error
        torch.set_rng_state(state["chance"])

    def _state(self) -> dict[str, Any]:
        weights, moments = states.get_state_dict(self.inner, self.optimizers)
        return {"model": weights, "optimizers": moments, "chance": torch.get_rng_state()}

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


class _GatedAdamW(torch.optim.AdamW):
    """AdamW that asks, each time DeepSpeed is about to step a share, whether it may."""

    gate: Callable[[], bool] = staticmethod(lambda: True)

    def step(self, closure: Any = None) -> Any:
        return super().step(closure) if self.gate() else None


class ZeroEngine(Engine):
    """DeepSpeed's ZeRO-2 or ZeRO-3, with torch's AdamW."""

    def __init__(self, *given: Any, sharding: Sharding, **named: Any) -> None:
        self.sharding = sharding
        try:
            import deepspeed
        except ImportError as error:
            raise SettingsError('ZeRO needs DeepSpeed; pip install "codeshell-hf[deepspeed]"') from error
        self._deepspeed = deepspeed
        super().__init__(*given, **named)

    @property
    def _shares_parameters(self) -> bool:
        return self.sharding.stage == ZERO_STAGES[-1]

    def _settings(self) -> dict[str, Any]:
        place = {"device": "cpu" if self.sharding.offloads else "none"}
        zero: dict[str, Any] = {"stage": self.sharding.stage, "offload_optimizer": place}
        if self._shares_parameters:
            zero["offload_param"] = place
        return {
            "train_micro_batch_size_per_gpu": self.options.micro_rows,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": self.options.max_norm or 0.0,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "bf16": {"enabled": self.options.is_bf16},
            "steps_per_print": 10**9,
        }

    def _build(self) -> CodeShellForCausalLM:
        if not self._shares_parameters:
            return super()._build()
        with self._deepspeed.zero.Init(config_dict_or_path=self._settings(), dtype=torch.float32):
            return self._make()

    def _share(self) -> None:
        if self._shares_parameters:  # used outside of its layer, by the loss
            self._deepspeed.zero.register_external_parameter(self.inner, self.model.lm_head.weight)

    def _fill(self, start: Start) -> None:
        if not self._shares_parameters:
            super()._fill(start)
            return
        first = dist.get_rank() == 0
        weights = load_model(start.folder, dtype=torch.float32).state_dict() if start.folder and first else {}
        for name, parameter in self.model.named_parameters():
            with self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
                if first:
                    new = weights[name] if weights else draw_weight(name, parameter, self.config, seed=start.seed)
                    parameter.copy_(new)

    def _optimize(self, optimizer: OptimizerOptions) -> None:
        if optimizer.name != "adamw":
            raise SettingsError(f"optimizer.name is {optimizer.name}, but ZeRO shares out AdamW alone; set it to adamw")
        (plain,) = make_optimizers(self.inner, optimizer)
        gated = _GatedAdamW(
            [{key: group[key] for key in ("params", "weight_decay", "peak")} for group in plain.param_groups],
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            eps=optimizer.epsilon,
        )
        self.module, *_ = self._deepspeed.initialize(
            model=self.inner, optimizer=gated, config=self._settings(), dist_init_required=False
        )
        if self.module.zero_optimization_stage() != self.sharding.stage:
            raise SettingsError(f"{self.sharding} was asked for, but DeepSpeed gives {type(self.module).__name__}")
        self.optimizers = [gated]

    def autocast(self) -> AbstractContextManager[Any]:
        """None: DeepSpeed keeps parameters in bfloat16 beside its float32 ones."""
        return nullcontext()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """As in `Engine`."""
        self.module.set_gradient_accumulation_boundary(is_last)
        self.module.backward(loss * self.ranks, scale_wrt_gas=False)
        if not is_last:
            self.module.step()

    def step(self, factor: float, allows: Callable[[float], bool]) -> tuple[float, bool]:
        """As in `Engine`; DeepSpeed itself skips a norm that is no number."""
        answers: list[tuple[float, bool]] = []

        def gate() -> bool:
            if not answers:
                # Set before the first share is stepped; DeepSpeed's own accessor is filled after the last.
                norm = float(self.module.optimizer._global_grad_norm)  # noqa: SLF001
                answers.append((norm, allows(norm)))
            return answers[0][1]

        self.optimizers[0].gate = gate  # type: ignore[attr-defined]
        set_learning_rate(self.module.optimizer.param_groups and [self.module.optimizer], factor)
        self.module.step()
        if not answers:
            answers.append((math.inf, allows(math.inf)))
        return answers[0]

    @property
    def learning_rate(self) -> float:
        """AdamW's rate of the last step."""
        return float(self.module.optimizer.param_groups[0]["lr"])

    @property
    def layout(self) -> str:
        """As in `Engine`: DeepSpeed's shares are read by as many ranks as wrote them."""
        return f"ZeRO-{self.sharding.stage} on {self.ranks} ranks"

    def write(self, folder: Path, group: dist.ProcessGroup) -> Callable[[], object]:
        """As in `Engine`; DeepSpeed is done when this returns."""
        self.module.save_checkpoint(str(folder), tag=_TAG, save_latest=False)
        dist.barrier(group)
        return lambda: None

    def read(self, folder: Path, group: dist.ProcessGroup) -> None:
        """As in `Engine`."""
        try:
            loaded, _ = self.module.load_checkpoint(str(folder), tag=_TAG)
        except Exception as error:  # DeepSpeed has no kind of its own
            raise CheckpointError(f"{folder} cannot be loaded ({' '.join(str(error).split())[:200]})") from error
        if loaded is None:
            raise CheckpointError(f"{folder} holds no checkpoint of DeepSpeed; remove it to begin anew")

    def save_whole(self, folder: Path, tokenizer: CodeShellTokenizer) -> None:
        """As in `Engine`."""
        parameters: Sequence[nn.Parameter] = list(self.model.parameters())
        weights: dict[str, Any] = {}
        with self._deepspeed.zero.GatheredParameters(parameters, modifier_rank=None):
            if dist.get_rank() == 0:
                weights = {
                    name: value.detach().float().cpu().clone() for name, value in self.model.state_dict().items()
                }
        self._write(folder, weights, tokenizer)


def make_engine(
    config: CodeShellConfig,
    start: Start,
    optimizer: OptimizerOptions,
    options: StepOptions,
    sharding: Sharding,
    *,
    device: torch.device,
) -> Engine:
    """Makes a model and shares it out over the ranks of the default process group.

    Args:
        config: The architecture.
        start: Where its weights come from.
        optimizer: What the optimisers are told.
        options: What a step does.
        sharding: How to share.
        device: This rank's.

    Returns:
        What the loop calls.

    Raises:
        CheckpointError: If the weights to start from cannot be loaded.
        SettingsError: If the model cannot be shared out so.
    """
    if sharding.kind == "fsdp2":
        return ShardedEngine(config, start, optimizer, options, device=device, sharding=sharding)
    if sharding.kind == "zero":
        return ZeroEngine(config, start, optimizer, options, device=device, sharding=sharding)
    return Engine(config, start, optimizer, options, device=device)
