"""OpenAI's interface: chats, completions, models."""

import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .outputs import EventStream, RunningOutputs, ServedOutput, dump, finish_all, merge, report_errors
from .parameters import (
    ChatParameters,
    CompletionParameters,
    OpenAIParameters,
    read_generation_config,
    refuse_unsupported,
)
from .prompts import RawPrompt, list_prompts
from .refusals import Refusal
from .row_text import PieceToken
from .sampling import ChosenToken, RowSampling
from .service import Service

Values = dict[str, Any]


class OpenAIApi:
    """Handlers of requests in OpenAI's interface."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def list_models(self, request: Request) -> Response:
        """`GET /v1/models`."""
        return JSONResponse({"object": "list", "data": [self._describe()]})

    async def get_model(self, request: Request) -> Response:
        """`GET /v1/models/{name}`."""
        name = request.path_params["name"]
        if name != self.service.name:
            raise Refusal(
                f"there is no model {name[:80]!r}; ask for {self.service.name!r}", code="model_not_found", status=404
            )
        return JSONResponse(self._describe())

    async def load_model(self, request: Request) -> Response:
        """`POST /load_model`, which transformers' chat client asks first."""
        await self.service.read(request)

        async def report() -> AsyncIterator[str]:
            yield dump({"status": "ready", "model": self.service.name, "cached": True})

        return EventStream(report())

    def _describe(self) -> Values:
        return {
            "id": self.service.name,
            "object": "model",
            "created": self.service.started,
            "owned_by": "codeshell-hf",
            "max_model_len": self.service.encoder.context,
        }

    async def chat(self, request: Request) -> Response:
        """`POST /v1/chat/completions`."""
        body = await self.service.read(request)
        refuse_unsupported(body)
        asked = self.service.parse(ChatParameters, read_generation_config(body))
        alternatives = asked.top_logprobs if asked.logprobs else None
        sampling = asked.make_sampling(self.service.limit(asked.limit), alternatives)
        self._check(asked, sampling, 1)
        ids = await self.service.encode(self.service.encoder.encode_chat, asked.messages)
        running = [self.service.run(ids, sampling, asked.n)]
        head = _make_head("chatcmpl", "chat.completion", self.service.name)
        if asked.stream:
            head["object"] = "chat.completion.chunk"
            return EventStream(report_errors(self._stream_chat(asked, running, head)))
        (outputs,) = await finish_all(running, request.receive)
        choices = [
            {
                "index": number,
                "message": {"role": "assistant", "content": output.text.lstrip(), "refusal": None},
                "logprobs": self._list_logprobs(output.tokens) if asked.logprobs else None,
                "finish_reason": output.end,
            }
            for number, output in enumerate(outputs)
        ]
        return JSONResponse({**head, "choices": choices, "usage": _count(running)})

    async def _stream_chat(
        self, asked: ChatParameters, running: Sequence[RunningOutputs], head: Values
    ) -> AsyncIterator[str]:
        usage = {"usage": None} if asked.stream_options.include_usage else {}

        def make_chunk(number: int, delta: Values, logprobs: Values | None, end: str | None) -> str:
            choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": end}
            return dump({**head, "choices": [choice], **usage})

        for number in range(asked.n):
            yield make_chunk(number, {"role": "assistant", "content": ""}, None, None)
        has_begun = [False] * asked.n
        async for _, number, piece in merge(running):
            text = piece.text if has_begun[number] else piece.text.lstrip()
            has_begun[number] = has_begun[number] or bool(text)
            logprobs = self._list_logprobs(piece.tokens) if asked.logprobs and piece.tokens else None
            if text or logprobs:
                yield make_chunk(number, {"content": text}, logprobs, None)
            if piece.end:
                yield make_chunk(number, {}, None, piece.end)
        if asked.stream_options.include_usage:
            yield dump({**head, "choices": [], "usage": _count(running)})
        yield "[DONE]"

    async def complete(self, request: Request) -> Response:
        """`POST /v1/completions`: a `suffix` is what the completion is to lead to."""
        body = await self.service.read(request)
        refuse_unsupported(body)
        asked = self.service.parse(CompletionParameters, body)
        sampling = asked.make_sampling(self.service.limit(asked.max_tokens), asked.logprobs)
        prompts = list_prompts(asked.prompt)
        self._check(asked, sampling, len(prompts))
        if asked.best_of not in (None, asked.n):
            raise Refusal(f"best_of is {asked.best_of}; leave it out, or set it to n", param="best_of")
        if asked.echo and (asked.logprobs is not None or asked.suffix):
            raise Refusal("echo has no log probabilities and no suffix; leave out one of them", param="echo")
        encoded = [await self._encode_completion(prompt, asked.suffix, sampling.max_new_tokens) for prompt in prompts]
        echoes = [
            "" if not asked.echo else prompt if isinstance(prompt, str) else self.service.tokenizer.decode(prompt)
            for prompt in prompts
        ]
        running = self.service.run_all(encoded, sampling, asked.n)
        head = _make_head("cmpl", "text_completion", self.service.name)
        if asked.stream:
            return EventStream(report_errors(self._stream_completions(asked, running, echoes, head)))
        outputs = await finish_all(running, request.receive)
        choices = [
            {
                "index": place * asked.n + number,
                "text": echoes[place] + output.text,
                "logprobs": self._table_logprobs(output.tokens, 0) if asked.logprobs is not None else None,
                "finish_reason": output.end,
            }
            for place, of_prompt in enumerate(outputs)
            for number, output in enumerate(of_prompt)
        ]
        return JSONResponse({**head, "choices": choices, "usage": _count(running)})

    async def _encode_completion(self, prompt: RawPrompt, suffix: str | None, limit: int | None) -> list[int]:
        encoder = self.service.encoder
        if not suffix:
            return await self.service.encode(encoder.encode_raw, prompt, "prompt")
        if not isinstance(prompt, str):
            raise Refusal("suffix needs a prompt of text; send no tokens", param="suffix")
        return await self.service.encode(encoder.encode_infill, prompt, suffix, "suffix", max_new_tokens=limit)

    async def _stream_completions(
        self, asked: CompletionParameters, running: Sequence[RunningOutputs], echoes: Sequence[str], head: Values
    ) -> AsyncIterator[str]:
        usage = {"usage": None} if asked.stream_options.include_usage else {}

        def make_chunk(number: int, text: str, logprobs: Values | None, end: str | None) -> str:
            choice = {"index": number, "text": text, "logprobs": logprobs, "finish_reason": end}
            return dump({**head, "choices": [choice], **usage})

        for place, echo in enumerate(echoes):
            for number in range(asked.n if echo else 0):
                yield make_chunk(place * asked.n + number, echo, None, None)
        offsets: dict[int, int] = {}
        async for place, number, piece in merge(running):
            index = place * asked.n + number
            logprobs = None
            if asked.logprobs is not None and piece.tokens:
                logprobs = self._table_logprobs(piece.tokens, offsets.get(index, 0))
                offsets[index] = offsets.get(index, 0) + sum(len(token.text) for token in piece.tokens)
            if piece.text or logprobs or piece.end:
                yield make_chunk(index, piece.text, logprobs, piece.end)
        if asked.stream_options.include_usage:
            yield dump({**head, "choices": [], "usage": _count(running)})
        yield "[DONE]"

    def _check(self, asked: OpenAIParameters, sampling: RowSampling, prompts: int) -> None:
        most = self.service.settings.max_choices
        if asked.n * prompts > most:
            param = "n" if asked.n > 1 else "prompt"
            raise Refusal(
                f"{prompts} prompts with n {asked.n} are more than {most} outputs; send several requests", param=param
            )
        self.service.encoder.check_ids(list(sampling.logit_bias), "logit_bias")

    def _describe_token(self, token: int, logprob: float) -> Values:
        text = self.service.tokenizer.decode([token])
        known = None if "\ufffd" in text else list(text.encode())
        return {"token": text, "logprob": logprob, "bytes": known}

    def _list_logprobs(self, tokens: Sequence[PieceToken]) -> Values:
        """As in chats."""
        content = [
            {
                **self._describe_token(token.chosen.id, _get_logprob(token.chosen)),
                "top_logprobs": [self._describe_token(*alternative) for alternative in token.chosen.alternatives],
            }
            for token in tokens
        ]
        return {"content": content, "refusal": None}

    def _table_logprobs(self, tokens: Sequence[PieceToken], offset: int) -> Values:
        """As in completions; `offset` is the place of the first token's text."""
        decode = self.service.tokenizer.decode
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token.text)
        return {
            "tokens": [decode([token.chosen.id]) for token in tokens],
            "token_logprobs": [token.chosen.logprob for token in tokens],
            "top_logprobs": [
                {decode([alternative]): logprob for alternative, logprob in token.chosen.alternatives}
                for token in tokens
            ],
            "text_offset": offsets,
        }


def _get_logprob(chosen: ChosenToken) -> float:
    return 0.0 if chosen.logprob is None else chosen.logprob


def _make_head(prefix: str, kind: str, model: str) -> Values:
    return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}


def _count(running: Sequence[RunningOutputs]) -> Values:
    """Tokens of a request's prompts and outputs."""
    prompt = sum(each.prompt_tokens for each in running)
    outputs: list[ServedOutput] = [output for each in running for output in each.outputs]
    written = sum(output.written for output in outputs)
    return {"prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}
