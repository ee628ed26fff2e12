"""The training loop's interface to a model: here unsharded, in one process or with DDP over several.

The same code runs on GPUs and, over gloo, on CPUs, so that tests cover what trains. The loop calls the same methods of
every engine.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import AsyncSaveResponse, async_save
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.torch_version import TorchVersion
from transformers import AutoModelForCausalLM

from ..configuration_codeshell import CodeShellConfig
from ..errors import CheckpointError, RunFailed
from ..loading import load_model
from ..modeling_codeshell import CodeShellForCausalLM, CodeShellRotaryEmbedding
from ..precision import Precision
from ..tokenization_codeshell import CodeShellTokenizer
from .attention import VARLEN, register_attention
from .attention_choice import AttentionTrial, choose_attention, find_fastest
from .batches import MicroBatch, to_tensors
from .compact_adamw import CompactAdamW
from .fp8 import convert_blocks
from .loss import TrainedModel
from .optimizer import groups, make_optimizers, set_learning_rate
from .ranks import WRITING_TIMEOUT
from .settings import ComputeSettings, OptimizerSettings
from .sharding import Sharding, check_fp8, check_optimizer
from .weights import draw_weight

_USES_STAGERS_ONCE = TorchVersion(torch.__version__) < "2.13"
FLOAT32, WHOLE = Precision("float32"), Sharding()
StateDict = dict[str, Any]  # nested, with tensors and plain values, as torch's checkpoints expect


@dataclass(frozen=True)
class EngineOptions:
    """What an engine needs besides the architecture, its weights and the optimiser.

    Args:
        compute: Attention, compiling, and whether activations are recomputed.
        precision: Of matrix products; how weights and moments are stored is in `OptimizerSettings`.
        micro_rows: Rows of a micro-batch, which DeepSpeed needs.
        sharding: How the model is spread over the ranks.
    """

    compute: ComputeSettings = field(default_factory=ComputeSettings)
    precision: Precision = FLOAT32
    micro_rows: int = 1
    sharding: Sharding = WHOLE


def make_engine(
    config: CodeShellConfig,
    optimizer: OptimizerSettings,
    options: EngineOptions,
    *,
    device: torch.device,
    seed: int,
    start_from: str | None = None,
) -> "Engine":
    """Makes a model and shards it over the ranks of the default process group.

    Args:
        seed: Of new weights.
        start_from: A checkpoint to start from, a folder or a Hub name; `None` for new weights.

    Raises:
        CheckpointError: If the weights to start from cannot be loaded.
        SettingsError: If the model cannot be sharded this way.
    """
    kind = Engine
    if options.sharding.together > 1:
        from .mesh_engine import MeshEngine

        kind = MeshEngine
    elif options.sharding.kind == "fsdp2":
        from .fsdp import ShardedEngine

        kind = ShardedEngine
    elif options.sharding.kind == "zero":
        from .zero import ZeroEngine

        kind = ZeroEngine
    return kind(config, optimizer, options, device=device, seed=seed, start_from=start_from)


def _to_autocast_dtype(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Keeps the residual stream in bfloat16 under autocast, as FSDP2 and ZeRO do, whose parameters are bfloat16.

    In float32, norms and residual sums move twice the memory.
    """
    kind = output.device.type
    return output.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else output


def _round_matrices(model: nn.Module) -> None:
    """Stores matrices in bfloat16, with gradients summed in float32."""
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.bfloat16()
            parameter.grad_dtype = torch.float32


def renew_stager(used: DefaultStager | None, options: StagingOptions) -> DefaultStager:
    """What copies the next checkpoint to pinned memory: the last one's, with its buffers, where torch allows that.

    In torch 2.11 each copy ends what the stager needs for another, which fails with `KeyError: <class 'type'>`.
    Releases between it and 2.13 were not tried.
    """
    if used is not None and not _USES_STAGERS_ONCE:
        return used
    if used is not None:
        used.close()
    return DefaultStager(options)


class Engine:
    """An unsharded model on one rank, or replicated over several (DDP); subclasses shard it.

    The loop calls `module` for losses; `inner` is `module` without a wrapper, `model` the model inside it.
    """

    module: nn.Module

    def __init__(
        self,
        config: CodeShellConfig,
        optimizer: OptimizerSettings,
        options: EngineOptions,
        *,
        device: torch.device,
        seed: int,
        start_from: str | None,
    ) -> None:
        self.config = config
        self.options = options
        self.seed = seed
        self.device = device
        self.start_from = start_from
        check_optimizer(optimizer, options.sharding, dist.get_world_size(), is_bf16=options.precision.is_bf16)
        check_fp8(config, options.compute.fp8, options.sharding)
        self._prepare()
        self.max_gradient_norm = optimizer.max_gradient_norm
        self.ranks = dist.get_world_size()
        self.attention_trials: list[AttentionTrial] = []
        self.attention = self._choose_attention()  # before the model, which may be built on the meta device
        self.model = self._build()
        self.model.train()
        self.model.transformer.wte.register_forward_hook(_to_autocast_dtype)
        if options.compute.fp8 is not None:
            convert_blocks(self.model, options.compute.fp8, device)
        if options.compute.gradient_checkpointing:
            self.model.activation_checkpointing_enable()
        compiles = self._compiles_unasked if options.compute.compiles is None else options.compute.compiles
        if compiles:
            for block in self.model.transformer.h:
                block.compile()
        self.inner = self._wrap(compiles=compiles and device.type == "cuda", z_loss=optimizer.z_loss)
        self._shard()
        self._init_weights()
        self._has_rounded_weights = optimizer.weights != "float32"
        if self._has_rounded_weights:
            _round_matrices(self.model)
        self._make_optimizers(optimizer)
        self._stager: DefaultStager | None = None
        self._staged: Callable[[], object] = lambda: None

    def __str__(self) -> str:
        return f"{type(self.module).__name__} of {type(next(self.model.parameters())).__name__}"

    def _prepare(self) -> None:
        """Prepares what the ranks and this machine need."""

    def _build(self) -> CodeShellForCausalLM:
        """Makes the model; its weights are set later, so none are drawn here, which takes minutes for the 7B."""
        with torch.device("meta"):
            model = self._make()
        model.to_empty(device=self.device)
        model.tie_weights()
        # `to_empty` leaves buffers undefined, and the frequencies are buffers.
        model.transformer.rotary_emb = CodeShellRotaryEmbedding(self.config).to(self.device)
        return model

    def _make(self) -> CodeShellForCausalLM:
        model: CodeShellForCausalLM = AutoModelForCausalLM.from_config(
            self.config, attn_implementation=self.attention, dtype=torch.float32
        )
        return model

    @property
    def _compiles_unasked(self) -> bool:
        """Whether blocks are compiled if the settings say nothing."""
        return self.device.type == "cuda"

    def _wrap(self, *, compiles: bool, z_loss: float) -> TrainedModel:
        """The model with its loss."""
        return TrainedModel(self.model, compiles=compiles, z_loss=z_loss)

    def _choose_attention(self) -> str:
        """The requested attention, or the fastest that keeps packed documents separate."""
        if self.options.compute.attention != "auto":
            register_attention()
            return self.options.compute.attention
        if self.device.type != "cuda" or not self.options.precision.is_bf16:
            return "sdpa"
        self.attention_trials = choose_attention(self.config, self.device)
        trials = [self.attention_trials] * self.ranks
        dist.all_gather_object(trials, self.attention_trials)
        return find_fastest(trials)

    def _shard(self) -> None:
        """Shards the parameters."""

    def _init_weights(self) -> None:
        """Draws or loads the weights."""
        if self.start_from is not None:
            self.model.load_state_dict(load_model(self.start_from, dtype=torch.float32).state_dict())
            return
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(draw_weight(name, parameter, self.config, seed=self.seed))

    def _make_optimizers(self, optimizer: OptimizerSettings) -> None:
        """Makes the optimisers and `module`."""
        self.optimizers = make_optimizers(self.inner, optimizer, self.options.precision.orthogonalization)
        self.module = self.inner
        if self.ranks > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            self.module = DistributedDataParallel(self.inner, device_ids=devices, gradient_as_bucket_view=True)

    @property
    def takes_lengths(self) -> bool:
        """Whether attention needs document lengths; the loop then passes them."""
        return self.attention.startswith(VARLEN) or "flash" in self.attention

    def make_inputs(self, batch: MicroBatch) -> dict[str, object]:
        """The arguments of `module` for a micro-batch, on the device."""
        return {**to_tensors(batch, self.device, with_lengths=self.takes_lengths)}

    def autocast(self) -> AbstractContextManager[object]:
        """The autocast of a forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.precision.is_bf16)

    def evaluation(self) -> AbstractContextManager[object]:
        """The autocast of an evaluation.

        None on a CPU with float32 weights. Otherwise that of training, which FlashAttention and bfloat16 weights need.
        """
        return self.autocast() if self.device.type == "cuda" or self._has_rounded_weights else nullcontext()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """Accumulates the gradients of this rank's share of the step's loss; `is_last` for the last micro-batch."""
        # DDP and FSDP2 average gradients over ranks; the step's loss is the sum over ranks.
        (loss * self.ranks).backward()  # type: ignore[no-untyped-call]

    def no_sync(self) -> AbstractContextManager[object]:
        """Skips the gradients' all-reduce, for all micro-batches of a step but the last."""
        return self.module.no_sync() if isinstance(self.module, DistributedDataParallel) else nullcontext()

    def drop_gradients(self) -> None:
        """Drops what `backward` has accumulated."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self, factor: float, allows: Callable[[float], bool]) -> tuple[float, bool]:
        """Clips the gradients and updates the weights, if `allows` accepts the gradient norm.

        Args:
            factor: Learning rates as a share of their peaks.
            allows: Decides from the norm.

        Returns:
            The norm before clipping, the same on all ranks, and whether the step was taken.
        """
        limit = self.max_gradient_norm or math.inf
        value = self._clip(limit)
        is_taken = allows(value)
        self._staged()
        set_learning_rate(self.optimizers, factor)
        for optimizer in self.optimizers:
            if is_taken:
                optimizer.step()
        self.drop_gradients()
        return value, is_taken

    def _clip(self, limit: float) -> float:
        """Scales the gradients down to a norm, and returns their norm before."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    @property
    def learning_rate(self) -> float:
        """AdamW's learning rate in the last step."""
        return float(groups(self.optimizers)[0]["lr"])

    def write(self, folder: Path, group: dist.ProcessGroup) -> Callable[[], object]:
        """Starts to write weights and moments; any engine can read them, on any number of ranks.

        Args:
            folder: An empty folder.
            group: A process group that nothing else uses until the files are written.

        Returns:
            A function that waits for the files. The loop may continue at once: on a GPU all is copied to pinned memory
            while the next step's gradients are computed, and `step` waits for the copy.
        """
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)  # the copies are made on another stream
            self._stager = renew_stager(self._stager, StagingOptions(use_shared_memory=False))
        saved = async_save(self._state(), checkpoint_id=folder, process_group=group, async_stager=self._stager)
        if isinstance(saved, AsyncSaveResponse):
            self._staged = saved.staging_completion.exception  # which is raised where the files are waited for
            saved = saved.upload_completion
        wait: Callable[[], object] = saved.result
        return wait

    def read(self, folder: Path, group: dist.ProcessGroup) -> None:
        """Reads what `write` wrote.

        Raises:
            CheckpointError: If it is of another model.
        """
        state, peaks = self._state(), [group["peak"] for group in groups(self.optimizers)]
        try:
            load(state, checkpoint_id=folder, process_group=group)
            self._restore(state)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError, KeyError, CheckpointException) as error:
            raise CheckpointError(f"{folder} is of another model or release; remove it to start over") from error
        for entry, peak in zip(groups(self.optimizers), peaks, strict=True):
            entry["peak"] = peak  # the settings', which may have changed since

    def _state(self) -> StateDict:
        for optimizer in self.optimizers:
            if isinstance(optimizer, CompactAdamW):
                optimizer.prepare()
        weights, moments = states.get_state_dict(self.inner, self.optimizers)
        return {"model": weights, "optimizers": moments}

    def _restore(self, state: StateDict) -> None:
        states.set_state_dict(
            self.inner, self.optimizers, model_state_dict=state["model"], optim_state_dict=state["optimizers"]
        )

    def save_whole(self, folder: Path, tokenizer: CodeShellTokenizer) -> None:
        """Saves model and tokenizer in transformers' format; all ranks call it, the first writes."""
        options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
        weights: StateDict = states.get_model_state_dict(self.model, options=options)
        if self._has_rounded_weights:  # one dtype, as transformers reads it
            weights = {name: weight.bfloat16() for name, weight in weights.items()}
        self._save(folder, dict(weights), tokenizer)

    def _save(self, folder: Path, weights: StateDict, tokenizer: CodeShellTokenizer) -> None:
        if self.config.tie_word_embeddings:  # gathered weights are copies
            weights.pop("lm_head.weight", None)
        faults: list[str | None] = [None]
        if dist.get_rank() == 0:
            try:
                self.model.save_pretrained(folder, state_dict=weights)
                tokenizer.save_pretrained(folder)
            except (OSError, SafetensorError) as error:
                faults[0] = f"{folder} cannot be written ({error}); make room and run the same command again"
        group = dist.new_group(backend="gloo", timeout=WRITING_TIMEOUT)
        dist.broadcast_object_list(faults, group=group)
        dist.destroy_process_group(group)
        if faults[0] is not None:  # on all ranks, which would wait for the first
            raise RunFailed(faults[0])
