"""Settings of alignment: adapters, rewards, sampling, and the judge."""

from typing import Annotated, Literal

from pydantic import Field

from ..extensions import Reference
from ..settings import InputModel, InputPath, Section
from ..text.settings import JudgeSettings


class AdapterSettings(Section):
    """A low-rank adapter (LoRA) in place of all weights."""

    r: int = Field(default=16, gt=0, description="rank")
    alpha: int = Field(default=32, gt=0, description="scaling; the adapter is multiplied by alpha / r")
    dropout: float = Field(default=0.0, ge=0, lt=1, description="dropout before the adapter")
    target_modules: str | tuple[str, ...] = Field(
        default="all-linear", description="names such as c_attn, or all-linear"
    )
    quantization: Literal["4bit"] | None = Field(
        default=None, description="4bit loads the frozen weights as NF4 (QLoRA), which needs a GPU and bitsandbytes"
    )
    merge: bool = Field(default=True, description="also write the model with the adapter merged into it")


class PolicySettings(Section):
    """The model that is trained."""

    model: InputModel = Field(description="folder of the model to start from, with its tokenizer")
    adapter: AdapterSettings | None = Field(default=None, description="null trains all weights")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = Field(
        default="auto", description="auto uses FlashAttention 2 on a GPU if it is installed, else SDPA"
    )


class WeightedSettings(Section):
    """Settings of every reward."""

    weight: float = Field(default=1.0, description="0 measures and does not train")


class ModelRewardSettings(WeightedSettings):
    """The score of a reward model."""

    kind: Literal["model"]
    path: InputPath = Field(description="output of the reward stage: its model folder")


class TestsRewardSettings(WeightedSettings):
    """1 if the prompt's tests pass in the sandbox."""

    __test__ = False  # not a test class of pytest

    kind: Literal["tests"]
    share: bool = Field(default=False, description="the share of its assertions that pass, instead of all or nothing")


class ExactRewardSettings(WeightedSettings):
    """1 if the final answer is that of the conversation, such as the number behind GSM8K's ####."""

    kind: Literal["exact"]


class JudgeRewardSettings(WeightedSettings, JudgeSettings):
    """The score of a judge model behind a server, from 0 to 1."""

    kind: Literal["judge"]


class FormatRewardSettings(WeightedSettings):
    """1 if the answer stops by itself and parses as Python."""

    kind: Literal["format"]


class LengthRewardSettings(WeightedSettings):
    """Down to -1 for long answers."""

    kind: Literal["length"]
    soft_tokens: int = Field(gt=0, description="length without a penalty")


class FunctionRewardSettings(WeightedSettings):
    """A user's function, as TRL calls it."""

    kind: Literal["function"]
    function: Reference = Field(description="folder/file.py:name, or module:name")


RewardSettings = Annotated[
    ModelRewardSettings
    | TestsRewardSettings
    | ExactRewardSettings
    | JudgeRewardSettings
    | FormatRewardSettings
    | LengthRewardSettings
    | FunctionRewardSettings,
    Field(discriminator="kind"),
]


class MeasureSettings(Section):
    """How rewards are measured on held-out prompts before and after training."""

    prompts: tuple[InputPath, ...] = Field(min_length=1, description="conversations; their last answer is not used")
    per_prompt: int = Field(default=4, gt=0, description="answers to each")
    max_new_tokens: int = Field(gt=0, description="a longer answer counts as unfinished")
    max_prompt_tokens: int | None = Field(
        default=None, gt=0, description="longer prompts are left out; null takes all with room for an answer"
    )
    temperature: float = Field(default=1.0, ge=0, description="of sampling; 0 takes the likeliest token")
    batch_size: int = Field(default=64, gt=0, description="answers at a time")
    copy_from: tuple[InputPath, ...] = Field(
        default=(),
        description="what the model was tuned on, of which the answer to the most similar prompt is measured, too",
    )


class EnvironmentSettings(Section):
    """A tool `run`, with which a model runs its program in the sandbox before it answers."""

    shown_tests: int = Field(default=1, ge=0, description="tests of the prompt that a program is run with")
    max_calls: int = Field(default=2, gt=0, description="programs that are run before the answer")


class SampleSettings(Section):
    """How answers are sampled for preference pairs."""

    per_prompt: int = Field(default=8, gt=1, description="answers to each prompt")
    max_new_tokens: int = Field(gt=0, description="a longer answer counts as unfinished")
    temperature: float = Field(default=1.0, gt=0, description="of sampling")
    batch_size: int = Field(default=64, gt=0, description="answers at a time")
