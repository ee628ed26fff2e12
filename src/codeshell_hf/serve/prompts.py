"""Turns requests into prompts.

Special tokens in messages and in the parts of an infill are ordinary text; in raw prompts they are live.
"""

from collections.abc import Mapping, Sequence

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ..errors import DataError
from ..text.chat import Message, encode_prompt
from .parameters import ChatMessage, InfillParameters
from .refusals import Refusal

RawPrompt = str | Sequence[int]
INFILL_ROOM = 2  # the answer to an infill has at least the context divided by this


class PromptEncoder:
    """Encodes prompts for one model.

    Args:
        tokenizer: Of the model.
        context: Positions of the model.
        rows: Rows of its embedding.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, context: int, rows: int) -> None:
        self.tokenizer = tokenizer
        self.context = context
        self.rows = rows

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        """Encodes a conversation up to the start of the answer; a `Refusal` if the format has no place for a turn."""
        turns = [_read_turn(message, number) for number, message in enumerate(messages)]
        questions = [turn["content"] for turn in turns if turn["role"] == "user"]
        if not questions or not questions[-1].strip():
            raise Refusal("messages have no question; add a turn of the user with text", param="messages")
        try:
            ids = encode_prompt(self.tokenizer, turns)
        except (TemplateError, DataError, ValueError) as error:
            raise Refusal(f"messages do not fit the chat format: {error}", param="messages") from error
        return self._check_length(ids, "messages")

    def encode_raw(self, prompt: RawPrompt, param: str, *, truncate: int | None = None) -> list[int]:
        """Encodes a text, in which special tokens are live, or checks ids.

        Args:
            prompt: The text or the ids.
            param: Its name in the request.
            truncate: Keeps this many of the last tokens.

        Raises:
            Refusal: If it is empty, too long or has ids beyond the vocabulary.
        """
        if not prompt:
            raise Refusal(f"{param} is empty; send a text or tokens", param=param)
        if isinstance(prompt, str):
            ids = list(self.tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"])
        else:
            ids = list(prompt)
            self.check_ids(ids, param)
        return self._check_length(ids if truncate is None else ids[-truncate:], param)

    def encode_infill(self, before: str, after: str, param: str, *, max_new_tokens: int | None) -> list[int]:
        """Encodes what stands before and after a middle, cut at the outer ends so that the middle has room.

        Raises:
            Refusal: If the vocabulary has no tokens for it.
        """
        most = self.context // INFILL_ROOM
        room = self.context - min(most, max(1, most if max_new_tokens is None else max_new_tokens))
        try:
            ids: list[int] = self.tokenizer.encode_infilling(before, after, max_tokens=max(room, 4))
        except (ValueError, AttributeError) as error:
            raise Refusal(f"{param} cannot be filled in: {error}", param=param, code="unsupported_parameter") from error
        return self._check_length(ids, param)

    def check_ids(self, ids: Sequence[int], param: str) -> None:
        """A `Refusal` for an id that the model has no row for."""
        if ids and max(ids) >= self.rows:
            raise Refusal(
                f"{param} has token {max(ids)}, and the vocabulary {self.rows}; send smaller ids", param=param
            )

    def _check_length(self, ids: list[int], param: str) -> list[int]:
        if len(ids) >= self.context:
            raise Refusal(
                f"{param} has {len(ids)} tokens, and the context {self.context} for it and the answer; send less",
                param=param,
                code="context_length_exceeded",
            )
        return ids


def join_infill(parameters: InfillParameters) -> tuple[str, str]:
    """What stands before a middle (other files, the prefix, the line up to the cursor), and what stands after it."""
    extra = "".join(f"{file.text}\n" for file in parameters.input_extra)
    return extra + parameters.input_prefix + parameters.prompt, parameters.input_suffix


def list_prompts(prompt: str | Sequence[int] | Sequence[str] | Sequence[Sequence[int]]) -> list[RawPrompt]:
    """The prompts of a request that has one or several of them."""
    if isinstance(prompt, str) or not prompt:
        return [prompt]  # type: ignore[list-item]
    if isinstance(prompt[0], int):
        return [prompt]  # type: ignore[list-item]
    return list(prompt)  # type: ignore[arg-type]


def _read_turn(message: ChatMessage, number: int) -> Message:
    place = f"messages.{number}"
    content = message.content
    if content is None:
        if message.role != "assistant":
            raise Refusal(f"{place}.content is missing; write the turn's text", param=f"{place}.content")
        content = ""
    if not isinstance(content, str):
        content = "".join(_read_part(part, f"{place}.content.{index}") for index, part in enumerate(content))
    return {"role": message.role, "content": content}


def _read_part(part: Mapping[str, object] | str, place: str) -> str:
    if isinstance(part, str):
        return part
    kind, text = part.get("type"), part.get("text")
    if kind not in ("text", "input_text"):
        raise Refusal(
            f"{place} is of type {str(kind)[:40]!r}, and the model reads text only; leave it out", param=place
        )
    if not isinstance(text, str):
        raise Refusal(f"{place} has no text; write it", param=place)
    return text
