"""Settings of pretraining."""

from typing import Literal

from pydantic import Field, model_validator

from ..settings import InputPath, Section

AttentionName = Literal[
    "auto", "varlen", "varlen_fa4", "flex_attention", "flash_attention_2", "flash_attention_3", "sdpa"
]


DecayShape = Literal["cosine", "linear", "1-sqrt"]
MomentFormat = Literal["float32", "bfloat16", "8bit"]
Fp8Scaling = Literal["tensorwise", "rowwise"]


class ModelSettings(Section):
    """The model to train."""

    preset: str = Field(default="nano", description="an architecture of codeshell_hf.presets")
    start_from: str | None = Field(default=None, description="weights to continue from: a folder or a Hub name")
    changes: dict[str, object] = Field(default_factory=dict, description="config fields that differ from the preset")


class BatchSettings(Section):
    """The batch size in tokens."""

    global_tokens: int = Field(gt=0, description="tokens of a step, over all ranks")
    micro_tokens: int = Field(gt=0, description="tokens of one forward pass of one rank")


class PhaseSettings(Section):
    """A part of the run with one row length."""

    until_fraction: float = Field(gt=0, le=1, description="share of all tokens at which it ends")
    row_tokens: int = Field(gt=1, description="tokens of a row")


class ScheduleSettings(Section):
    """Length of the run, row lengths and learning rates."""

    total_tokens: int = Field(gt=0, description="tokens of the whole run")
    max_epochs: float | None = Field(default=None, gt=0, description="a run of more passes over the data is refused")
    warmup_tokens: int = Field(ge=0, description="tokens until the peak learning rate")
    floor_fraction: float = Field(default=0.1, ge=0, le=1, description="last learning rate as a share of the peak")
    decay: DecayShape = Field(default="cosine", description="how the learning rate falls: cosine, linear or 1-sqrt")
    decay_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of all tokens, the last, in which it falls; before, it is the peak",
    )
    phases: tuple[PhaseSettings, ...] = Field(description="row lengths, in order", min_length=1)

    @model_validator(mode="after")
    def _check_warmup(self) -> "ScheduleSettings":
        if self.warmup_tokens >= self.total_tokens:
            raise ValueError(
                f"schedule.warmup_tokens is {self.warmup_tokens}, but the run ends after {self.total_tokens}; "
                "set it to less"
            )
        return self

    @property
    def phase_ends(self) -> list[tuple[float, int]]:
        """Share of all tokens at which each phase ends, and its row length."""
        return [(phase.until_fraction, phase.row_tokens) for phase in self.phases]

    @property
    def row_lengths(self) -> list[int]:
        """Tokens of a row, by phase."""
        return [phase.row_tokens for phase in self.phases]


class OptimizerSettings(Section):
    """How weights are updated."""

    name: Literal["adamw", "muon"] = Field(default="adamw", description="muon: for the matrices of the blocks")
    learning_rate: float = Field(gt=0, description="AdamW's peak")
    matrix_learning_rate: float | None = Field(default=None, gt=0, description="Muon's peak")
    betas: tuple[float, float] = Field(default=(0.9, 0.95), description="AdamW's decay rates")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's term in the denominator")
    weight_decay: float = Field(default=0.1, ge=0, description="for matrices")
    moments: MomentFormat = Field(default="float32", description="how AdamW's moments of matrices are stored")
    weights: Literal["float32", "bfloat16"] = Field(
        default="float32", description="how matrices are stored; bfloat16 is for one GPU with little memory"
    )
    max_gradient_norm: float | None = Field(default=1.0, gt=0, description="gradients are clipped to it")
    z_loss: float = Field(
        default=0.0, ge=0, description="weight of the squared logarithm of the softmax's sum, 1e-4 for example"
    )

    @model_validator(mode="after")
    def _check_weights(self) -> "OptimizerSettings":
        if self.weights != "float32" and self.name != "adamw":
            raise ValueError(
                f"optimizer.weights is {self.weights}, which {self.name} does not update; set optimizer.name: adamw or "
                "optimizer.weights: float32"
            )
        return self

    @property
    def is_compact(self) -> bool:
        """Whether anything of AdamW's is stored in less than float32."""
        return (self.moments, self.weights) != ("float32", "float32")


class ComputeSettings(Section):
    """How the model is computed."""

    gradient_checkpointing: bool = Field(default=False, description="recompute activations to save memory")
    compiles: bool | None = Field(default=None, description="compile blocks and loss; null: on a GPU")
    attention: AttentionName = Field(default="auto", description="implementation; auto: the fastest that can be used")
    fp8: Fp8Scaling | None = Field(
        default=None,
        description="scales of the blocks' products in 8 bits: tensorwise or rowwise; null: none in 8 bits",
    )


class CheckpointSettings(Section):
    """When the run is saved."""

    every_steps: int = Field(default=1000, gt=0, description="steps between checkpoints")
    keep: int = Field(default=2, gt=0, description="how many of the newest are kept")
    keep_every_steps: int | None = Field(
        default=None, gt=0, description="checkpoints at multiples of it are never deleted"
    )


class EvaluationSettings(Section):
    """What is measured on held-out documents."""

    every_steps: int | None = Field(
        default=None, gt=0, description="steps between evaluations; the first and last are always done"
    )
    max_bytes_per_language: int = Field(default=200_000, gt=0, description="held-out bytes of a language")
    shards: InputPath | None = Field(
        default=None, description="output of pack with held-out documents; null for the training shards' own"
    )
    exports: bool = Field(default=False, description="save the model for transformers at each evaluation")
    keep_exports: int | None = Field(
        default=None,
        gt=0,
        description="how many of the newest are kept, besides those still to be evaluated; null: all",
    )
    benchmarks: InputPath | None = Field(
        default=None, description="settings of evaluate, run on each export in the background"
    )

    @model_validator(mode="after")
    def _check_exports(self) -> "EvaluationSettings":
        if self.benchmarks is not None and not (self.exports and self.every_steps):
            raise ValueError(
                f"evaluation.benchmarks is {self.benchmarks}, but nothing is exported for them; set "
                "evaluation.exports: true and evaluation.every_steps"
            )
        return self


class GuardSettings(Section):
    """Which steps are skipped."""

    max_norm_ratio: float | None = Field(
        default=20.0, gt=1, description="limit of a gradient norm, as a multiple of the running mean"
    )
    warmup_steps: int = Field(default=100, ge=0, description="steps before the limit applies")
    max_skips: int = Field(
        default=10, gt=0, description="after so many skipped steps in a row, the run rolls back to a checkpoint"
    )
    max_rollbacks: int = Field(default=3, ge=0, description="after so many rollbacks the run fails")
