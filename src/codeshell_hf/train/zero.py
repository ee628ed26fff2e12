"""Sharding with DeepSpeed's ZeRO-2 or ZeRO-3."""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import SettingsError
from ..loading import load_model
from ..modeling_codeshell import CodeShellForCausalLM, CodeShellRotaryEmbedding
from ..tokenization_codeshell import CodeShellTokenizer
from .engine import Engine, StateDict
from .operator import build_operator
from .optimizer import make_optimizers, set_learning_rate
from .settings import OptimizerSettings
from .sharding import ZERO_STAGES
from .weights import draw_weight

MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's names


class _GatedAdamW(torch.optim.AdamW):
    """AdamW that steps a shard only if `gate` allows it."""

    gate: Callable[[], bool] = staticmethod(lambda: True)

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        return super().step(closure) if self.gate() else None


def _broadcast(value: Tensor, owner: int, device: torch.device) -> Tensor:
    whole = value.to(device)
    dist.broadcast(whole, src=owner)
    return whole


class ZeroEngine(Engine):
    """DeepSpeed's ZeRO-2 or ZeRO-3, with torch's AdamW."""

    def _prepare(self) -> None:
        try:
            import deepspeed
        except ImportError as error:
            raise SettingsError('ZeRO needs DeepSpeed; pip install "codeshell-hf[deepspeed]"') from error
        self._deepspeed = deepspeed
        if self.device.type == "cpu":
            build_operator()

    @property
    def _shards_parameters(self) -> bool:
        return self.options.sharding.stage == ZERO_STAGES[-1]

    def _settings(self) -> dict[str, object]:
        place = {"device": "cpu" if self.options.sharding.offloads else "none"}
        zero: dict[str, object] = {"stage": self.options.sharding.stage, "offload_optimizer": place}
        if self._shards_parameters:
            zero["offload_param"] = place
        return {
            "train_micro_batch_size_per_gpu": self.options.micro_rows,
            "gradient_accumulation_steps": 1,
            "gradient_clipping": self.max_gradient_norm or 0.0,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,
            "bf16": {"enabled": self.options.precision.is_bf16},
            "steps_per_print": 10**9,
        }

    def _build(self) -> CodeShellForCausalLM:
        if not self._shards_parameters:
            return super()._build()
        # On a device without float16, Init overrides its argument `dtype`, but not these settings.
        with self._deepspeed.zero.Init(config_dict_or_path=self._settings()):
            model = self._make()
        # Within Init, frequencies are in the parameters' dtype, which is too coarse for far positions.
        model.transformer.rotary_emb = CodeShellRotaryEmbedding(self.config).to(self.device)
        return model

    def _shard(self) -> None:
        if self._shards_parameters:  # the loss uses it outside of its layer
            self._deepspeed.zero.register_external_parameter(self.inner, self.model.lm_head.weight)

    def _init_weights(self) -> None:
        if not self._shards_parameters:
            super()._init_weights()
            return
        folder = self.start_from
        first = dist.get_rank() == 0
        weights = load_model(folder, dtype=torch.float32).state_dict() if folder and first else {}
        for name, parameter in self.model.named_parameters():
            with self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0), torch.no_grad():
                if first:
                    like = torch.empty(parameter.shape, device=parameter.device)  # drawn in float32
                    new = weights[name] if weights else draw_weight(name, like, self.config, seed=self.seed)
                    parameter.copy_(new)

    def _make_optimizers(self, optimizer: OptimizerSettings) -> None:
        (plain,) = make_optimizers(self.inner, optimizer)
        names = {parameter: name for name, parameter in self.inner.named_parameters()}
        self._groups = [
            group | {"params": [names[parameter] for parameter in group["params"]]} for group in plain.param_groups
        ]
        gated = _GatedAdamW(
            [{key: group[key] for key in ("params", "weight_decay", "peak")} for group in plain.param_groups],
            lr=optimizer.learning_rate,
            betas=optimizer.betas,
            eps=optimizer.epsilon,
        )
        self._engine, *_ = self._deepspeed.initialize(
            model=self.inner, optimizer=gated, config=self._settings(), dist_init_required=False
        )
        self.module = self._engine
        if self._engine.zero_optimization_stage() != self.options.sharding.stage:
            raise SettingsError(
                f"{self.options.sharding} was requested, but DeepSpeed gives {type(self.module).__name__}"
            )
        wanted = torch.bfloat16 if self.options.precision.is_bf16 else torch.float32
        if found := {parameter.dtype for parameter in self.model.parameters()} - {wanted}:
            raise SettingsError(f"{wanted} was requested, but DeepSpeed keeps parameters in {found.pop()}")
        self.optimizers = [gated]

    def autocast(self) -> AbstractContextManager[object]:
        """None: DeepSpeed has bfloat16 copies of the float32 parameters."""
        return nullcontext()

    def backward(self, loss: Tensor, *, is_last: bool) -> None:
        """As in `Engine`."""
        self._engine.set_gradient_accumulation_boundary(is_last)
        self._engine.backward(loss * self.ranks, scale_wrt_gas=False)
        if not is_last:
            self._engine.step()

    def step(self, factor: float, allows: Callable[[float], bool]) -> tuple[float, bool]:
        """As in `Engine`; DeepSpeed itself skips steps with a non-finite norm."""
        decisions: list[tuple[float, bool]] = []

        def gate() -> bool:
            if not decisions:
                # Set before the first shard steps; DeepSpeed's public accessor is set after the last.
                norm = float(self._engine.optimizer._global_grad_norm)  # noqa: SLF001
                decisions.append((norm, allows(norm)))
            return decisions[0][1]

        self.optimizers[0].gate = gate  # type: ignore[attr-defined]
        set_learning_rate(self._engine.optimizer.param_groups and [self._engine.optimizer], factor)
        self._engine.step()
        if not decisions:
            decisions.append((math.inf, allows(math.inf)))
        return decisions[0]

    @property
    def learning_rate(self) -> float:
        """AdamW's rate of the last step."""
        return float(self._engine.optimizer.param_groups[0]["lr"])

    def _state(self) -> StateDict:
        """State that any engine can read: full tensors, each on one rank, in CPU memory."""
        self._make_moments()
        weights: dict[str, Tensor] = {}
        moments: dict[str, dict[str, Tensor]] = {}
        get_moment = self._deepspeed.utils.safe_get_full_optimizer_state
        for names, parameter, owner in self._assign_owners():
            whole = self._deepspeed.utils.safe_get_full_fp32_param(parameter)
            parts = {key: get_moment(parameter, key) for key in MOMENTS}
            if owner == dist.get_rank():
                weights |= dict.fromkeys(names, whole.cpu())
                moments[names[0]] = {"step": self._count_steps(), **{key: part.cpu() for key, part in parts.items()}}
        rate = {"lr": self.learning_rate}
        return {
            "model": weights,
            "optimizers": {"state": moments, "param_groups": [group | rate for group in self._groups]},
        }

    def _restore(self, state: StateDict) -> None:
        weights, moments = state["model"], state["optimizers"]["state"]
        steps = torch.zeros((), device=self.device)
        for names, parameter, owner in self._assign_owners():
            # On other ranks than the owner, a buffer of the same shape.
            like = torch.empty(getattr(parameter, "ds_shape", parameter.shape), device=self.device)
            self._set_weight(parameter, _broadcast(weights.get(names[0], like), owner, self.device))
            mine = moments.get(names[0], {})
            for key in MOMENTS:
                self._set_shard(parameter, _broadcast(mine.get(key, like), owner, self.device), key)
            if mine:
                steps.copy_(mine["step"])
        dist.all_reduce(steps, op=dist.ReduceOp.MAX)
        for moment in self.optimizers[0].state.values():
            moment["step"].fill_(float(steps))

    def _assign_owners(self) -> Iterator[tuple[list[str], nn.Parameter, int]]:
        """Every parameter with its names and the rank that saves it; ranks save about equally many numbers."""
        names: dict[nn.Parameter, list[str]] = {}
        for name, parameter in self.inner.named_parameters(remove_duplicate=False):
            names.setdefault(parameter, []).append(name)
        loads = [0] * self.ranks
        for parameter, known_as in names.items():
            owner = loads.index(min(loads))
            loads[owner] += math.prod(getattr(parameter, "ds_shape", parameter.shape))
            yield known_as, parameter, owner

    def _make_moments(self) -> None:
        """Creates each shard's moments, which AdamW otherwise does in its first step."""
        inner = self._engine.optimizer
        state = self.optimizers[0].state
        shards = (
            inner.fp32_partitioned_groups_flat if self._shards_parameters else inner.single_partition_of_fp32_groups
        )
        for number, shard in enumerate(shards):
            if not state.get(shard):
                state[shard] = {"step": torch.tensor(0.0), **{key: torch.zeros_like(shard.data) for key in MOMENTS}}
            if not self._shards_parameters:
                self._deepspeed.utils.lazy_init_hp_params_optimizer_state(inner.bit16_groups[number], shard, state)

    def _count_steps(self) -> Tensor:
        (steps,) = {float(moment["step"]) for moment in self.optimizers[0].state.values()}
        return torch.tensor(steps)

    def _set_weight(self, parameter: nn.Parameter, whole: Tensor) -> None:
        """Sets both the parameter and its float32 master copy."""
        gathered = (
            self._deepspeed.zero.GatheredParameters([parameter], modifier_rank=0)
            if self._shards_parameters
            else nullcontext()
        )
        with gathered, torch.no_grad():
            parameter.copy_(whole)
        self._set_shard(parameter, whole)

    def _set_shard(self, parameter: nn.Parameter, whole: Tensor, key: str | None = None) -> None:
        """Sets this rank's shard of a float32 parameter, or of one of its moments."""
        tools = self._deepspeed.utils
        if not self._shards_parameters:
            if key is None:
                tools.safe_set_full_fp32_param(parameter, whole)
            else:
                tools.safe_set_full_optimizer_state(parameter, whole, key)
            return
        size = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
        padded = torch.nn.functional.pad(whole.flatten(), (0, size * self.ranks - whole.numel()))
        shard = padded[size * dist.get_rank() :][:size]
        if key is None:
            tools.safe_set_local_fp32_param(parameter, shard)
        else:
            tools.safe_set_local_optimizer_state(parameter, shard, key)

    def save_whole(self, folder: Path, tokenizer: CodeShellTokenizer) -> None:
        """As in `Engine`."""
        parameters = list(self.model.parameters())
        weights: StateDict = {}
        with self._deepspeed.zero.GatheredParameters(parameters, modifier_rank=None):
            if dist.get_rank() == 0:
                weights = {
                    name: value.detach().float().cpu().clone() for name, value in self.model.state_dict().items()
                }
        self._save(folder, weights, tokenizer)
