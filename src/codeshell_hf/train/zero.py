"""Shares by DeepSpeed's ZeRO-2 or ZeRO-3."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import CheckpointError, SettingsError
from ..modeling_codeshell import CodeShellForCausalLM
from ..tokenization_codeshell import CodeShellTokenizer
from .engine import TAG, Engine, Sharding, Start
from .optimizer import OptimizerOptions, make_optimizers, set_learning_rate
from .weights import draw_weight, load_model

ZERO_STAGES = (2, 3)


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
        self.module.save_checkpoint(str(folder), tag=TAG, save_latest=False)
        dist.barrier(group)
        return lambda: None

    def read(self, folder: Path, group: dist.ProcessGroup) -> None:
        """As in `Engine`."""
        try:
            loaded, _ = self.module.load_checkpoint(str(folder), tag=TAG)
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
