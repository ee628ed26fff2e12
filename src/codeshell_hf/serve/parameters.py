"""Parameters of requests. Unknown ones are ignored, as servers of these interfaces do; known ones are checked."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from .refusals import Refusal
from .sampling import RowSampling

MAX_STOPS = 64
MAX_STOP_CHARACTERS = 1_024
MAX_ALTERNATIVES = 20


def _list_stops(value: object) -> object:
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(stop, str) for stop in stops):
        raise ValueError("send a text or a list of texts")
    if len(stops) > MAX_STOPS or any(len(stop) > MAX_STOP_CHARACTERS for stop in stops):
        raise ValueError(f"send up to {MAX_STOPS} texts of up to {MAX_STOP_CHARACTERS} characters")
    return tuple(stop for stop in stops if stop)


def _drop_no_limit(value: object) -> object:
    """-1 means no limit, as in llama.cpp and its editors."""
    return None if value == -1 and not isinstance(value, bool) else value


def _check_ids(bias: dict[str, float]) -> dict[str, float]:
    if any(not (token.isascii() and token.isdigit() and len(token) < 10) for token in bias):
        raise ValueError("name tokens by their ids")
    return bias


Stops = Annotated[tuple[str, ...], BeforeValidator(_list_stops)]
Limit = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_drop_no_limit)]
PositiveLimit = Annotated[Annotated[int, Field(ge=1)] | None, BeforeValidator(_drop_no_limit)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Temperature = Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)]
Factor = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Penalty = Annotated[float, Field(ge=-2, le=2, allow_inf_nan=False)]
Bias = Annotated[dict[str, Annotated[float, Field(ge=-100, le=100)]], AfterValidator(_check_ids)]
Count = Annotated[int, Field(ge=0)]
Ids = list[Annotated[int, Field(ge=0)]]


class RequestPart(BaseModel):
    """A part of a request: types are as sent, so that "1" is not a number."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class StreamOptions(RequestPart):
    """Of OpenAI's interface."""

    include_usage: bool = False


class OpenAIParameters(RequestPart):
    """What chats and completions have in common in OpenAI's interface, with a few that vLLM and llama.cpp add."""

    model: str | None = None
    n: int = Field(default=1, ge=1)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    stop: Stops = ()
    seed: int | None = None
    temperature: Temperature = 1.0
    top_p: Probability = 1.0
    top_k: int = Field(default=0, ge=-1)
    min_p: Probability = 0.0
    repetition_penalty: Factor = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    logit_bias: Bias = {}

    def make_sampling(self, max_new_tokens: int | None, alternatives: int | None) -> RowSampling:
        """How a row is continued."""
        return RowSampling(
            max_new_tokens=max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias={int(token): value for token, value in self.logit_bias.items()},
            seed=self.seed,
            stops=self.stop,
            alternatives=alternatives,
        )


class ChatMessage(RequestPart):
    """A turn; its content is read by `prompts`."""

    role: str
    content: str | list[dict[str, object] | str] | None = None


class ChatParameters(OpenAIParameters):
    """Of `/v1/chat/completions`."""

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: PositiveLimit = None
    max_completion_tokens: PositiveLimit = None
    n_predict: Limit = None
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=MAX_ALTERNATIVES)

    @property
    def limit(self) -> int | None:
        """Longest answer; the newer name goes first."""
        named = (self.max_completion_tokens, self.max_tokens, self.n_predict)
        return next((limit for limit in named if limit is not None), None)


class CompletionParameters(OpenAIParameters):
    """Of `/v1/completions`."""

    prompt: str | Ids | list[str] | list[Ids]
    suffix: str | None = None
    max_tokens: Limit = 16
    logprobs: int | None = Field(default=None, ge=0, le=MAX_ALTERNATIVES)
    echo: bool = False
    best_of: int | None = None


class LlamaParameters(RequestPart):
    """What `/completion` and `/infill` of llama.cpp have in common, with its defaults."""

    n_predict: Limit = None
    stream: bool = False
    stop: Stops = ()
    seed: int = -1
    temperature: float = Field(default=0.8, le=100, allow_inf_nan=False)
    top_k: int = 40
    top_p: float = Field(default=0.95, ge=0, allow_inf_nan=False)
    min_p: Probability = 0.05
    repeat_penalty: Factor = 1.0
    repetition_penalty: Factor | None = None
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    n_probs: int = Field(default=0, ge=0, le=MAX_ALTERNATIVES)

    def make_sampling(self) -> RowSampling:
        """How a row is continued; a temperature below 0 is greedy, as in llama.cpp."""
        return RowSampling(
            max_new_tokens=self.n_predict,
            temperature=max(0.0, self.temperature),
            top_p=min(1.0, self.top_p),
            top_k=max(0, self.top_k),
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty or self.repeat_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed if self.seed >= 0 else None,
            stops=self.stop,
            alternatives=self.n_probs or None,
        )


class LlamaCompletionParameters(LlamaParameters):
    """Of `/completion`."""

    prompt: str | Ids | list[str] | list[Ids]


class ExtraFile(RequestPart):
    """Another file or part of one, put before the prefix."""

    text: str
    filename: str = ""


class InfillParameters(LlamaParameters):
    """Of `/infill`; `prompt` is text right before the middle, as editors send the line up to the cursor."""

    input_prefix: str
    input_suffix: str
    prompt: str = ""
    input_extra: list[ExtraFile] = []


class GenerateSettings(RequestPart):
    """`parameters` of TGI's requests, with its defaults."""

    max_new_tokens: int = Field(default=100, ge=0)
    do_sample: bool = False
    temperature: Temperature | None = None
    top_p: Probability | None = None
    top_k: Count | None = None
    repetition_penalty: Factor = 1.0
    frequency_penalty: Penalty = 0.0
    stop: Stops = ()
    seed: int | None = None
    truncate: int | None = Field(default=None, ge=1)
    return_full_text: bool = False
    details: bool = False
    best_of: int | None = None
    grammar: object = None

    def make_sampling(self) -> RowSampling:
        """How a row is continued: greedily, unless sampling or a setting of it is asked for."""
        is_sampled = self.do_sample or bool({self.temperature, self.top_p, self.top_k} - {None})
        return RowSampling(
            max_new_tokens=self.max_new_tokens,
            temperature=(1.0 if self.temperature is None else self.temperature) if is_sampled else 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            top_k=self.top_k or 0,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            stops=self.stop,
            alternatives=0,
        )


class GenerateParameters(RequestPart):
    """Of `/generate` and `/generate_stream` of TGI."""

    inputs: str
    parameters: GenerateSettings = GenerateSettings()
    stream: bool = False


_NO_TOOLS = "the model was not trained to call tools; turn them off in the client"
_NO_GRAMMAR = "output is not constrained here; leave it out, or serve a GGUF file"
UNSUPPORTED: Mapping[str, tuple[Sequence[object], str]] = MappingProxyType(
    {
        "tools": ([[]], _NO_TOOLS),
        "functions": ([[]], _NO_TOOLS),
        "tool_choice": (["none", "auto"], _NO_TOOLS),
        "function_call": (["none", "auto"], _NO_TOOLS),
        "response_format": ([{"type": "text"}], _NO_GRAMMAR),
        "grammar": ([""], _NO_GRAMMAR),
        "json_schema": ([], _NO_GRAMMAR),
        "modalities": ([["text"]], "the model writes text only; leave it out"),
        "audio": ([], "the model writes text only; leave it out"),
    }
)
"""Parameters that would change the answer and are refused: values of them that are harmless, and why."""


def read_generation_config(body: Mapping[str, object]) -> dict[str, object]:
    """A chat's body in which the `generation_config` that transformers' chat client sends has the usual names.

    It is JSON in a text, and what the body says itself goes first.
    """
    text = body.get("generation_config")
    try:
        config = json.loads(text) if isinstance(text, str) else {}
    except ValueError as error:
        raise Refusal("generation_config is not JSON; leave it out", param="generation_config") from error
    if not isinstance(config, dict):
        raise Refusal("generation_config is not an object; leave it out", param="generation_config")
    names = {"max_new_tokens": "max_tokens", **{name: name for name in ("temperature", "top_p", "top_k", "min_p")}}
    found = {names[name]: value for name, value in config.items() if name in names and value is not None}
    if config.get("do_sample") is False:
        found["temperature"] = 0.0
    return found | dict(body)


def refuse_unsupported(body: Mapping[str, object]) -> None:
    """Raises a `Refusal` for the first parameter that the server cannot follow."""
    for name, (harmless, reason) in UNSUPPORTED.items():
        value = body.get(name)
        if value is not None and value not in harmless:
            raise Refusal(f"{name} is not supported: {reason}", param=name, code="unsupported_parameter")
