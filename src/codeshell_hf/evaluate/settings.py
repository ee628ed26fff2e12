"""Settings of evaluation."""

from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..extensions import NameOrReference
from ..sandbox import Program
from ..settings import Input, InputModel, InputPath, Section
from ..text.infilling_dialects import DialectName
from ..text.settings import JudgeSettings, ServerSettings


class EndpointSettings(ServerSettings):
    """A model that is evaluated behind a server."""

    infilling: DialectName = Field(
        default="starcoder", description="the model's sentinels of infilling, unless tokenizer names its vocabulary"
    )
    tokenizer: InputPath | None = Field(default=None, description="tokenizer.json of the model, for its sentinels")
    calls_at_once: int = Field(default=16, gt=0, description="concurrent requests")


class ProgramSettings(Section):
    """Programs that another harness generated."""

    programs: dict[str, InputPath] = Field(description="by task: bigcode's generations.json, or EvalPlus' .jsonl")


class CopySettings(Section):
    """A baseline that answers each chat with the answer to the most similar request of a model's training data."""

    copy_from: tuple[InputPath, ...] = Field(min_length=1, description="conversations that the models were tuned on")


class LoadingSettings(Section):
    """How models are loaded and asked."""

    batch_size: int = Field(default=32, gt=0, description="answers at a time")
    attention: str | None = Field(default=None, description="transformers' name; by default its own choice")
    device_map: str | None = Field(
        default=None, description="auto spreads the model over all GPUs; by default one device"
    )


ModelSettings = InputModel | EndpointSettings | ProgramSettings | CopySettings


def _find_data(data: str) -> Path | None:
    return None if data.startswith("hub:") else Path(data)


class TaskSettings(Section):
    """A benchmark and its protocol."""

    profile: NameOrReference = Field(description="the protocol, by name and version, or folder/file.py:name")
    data: Annotated[str, Input(_find_data)] = Field(
        description="a file, a folder of files, or hub:OWNER/NAME@REVISION/FILE"
    )
    samples: int | None = Field(
        default=None, gt=0, description="answers to each problem, in place of the profile's number"
    )
    max_new_tokens: int | None = Field(default=None, gt=0, description="of an answer, in place of the profile's limit")
    timeout_s: float | None = Field(
        default=None, gt=0, description="of a Python program, in place of the profile's limit"
    )
    since: date | None = Field(default=None, description="only problems from this day on, such as 2024-08-01")
    until: date | None = Field(default=None, description="only problems up to this day")
    packages: InputPath | None = Field(
        default=None, description="folder of packages that programs may import, such as a site-packages"
    )
    max_problems: int | None = Field(default=None, gt=0, description="only so many of each language, the first ones")
    strict: bool = Field(
        default=Program.strict,
        description="run Python tests in another process than the program; false as in harnesses",
    )


class HarnessSettings(Section):
    """Tasks of lm-evaluation-harness."""

    mmlu: InputPath | None = Field(default=None, description="folder with test/ and dev/ of SUBJECT_*.csv")
    gsm8k: InputPath | None = Field(default=None, description="test.jsonl, with train.jsonl beside it")
    max_items: int | None = Field(default=None, gt=0, description="of each subject")


class PreferenceSettings(JudgeSettings):
    """Answers that a judge compares with those of one of the models."""

    against: str = Field(description="the model that the others are compared with")
    requests: InputPath = Field(description="JSON Lines with id, language, prompt and kind")
    max_new_tokens: int = Field(default=256, gt=0, description="of an answer")


class BitsPerByteSettings(Section):
    """How well held-out text is predicted."""

    max_bytes_per_language: int = Field(default=100_000, gt=0, description="held-out bytes of a language")
    window_tokens: int = Field(gt=1, description="longest input")


class HeldOutLineSettings(Section):
    """Whether single lines of held-out files are filled in exactly."""

    per_language: int = Field(default=50, gt=0, description="lines of each language, at most")
    max_prompt_tokens: int = Field(gt=8, description="longer prompts are cut on both sides")


class MemorisationSettings(Section):
    """Whether training files are reproduced verbatim."""

    documents: int = Field(default=100, gt=0, description="training files, at most")
    prompt_characters: int = Field(default=200, gt=0, description="length of the prompt")
    reference_characters: int = Field(default=100, gt=0, description="length that has to be reproduced exactly")
