"""The interfaces of llama.cpp and TGI that editors use: CodeShell's own plug-ins, llama.vscode, Continue."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .outputs import EventStream, RunningOutputs, ServedOutput, dump, finish_all, merge, report_errors
from .parameters import (
    GenerateParameters,
    InfillParameters,
    LlamaCompletionParameters,
    LlamaParameters,
    refuse_unsupported,
)
from .prompts import join_infill, list_prompts
from .refusals import Refusal
from .row_text import PieceToken
from .service import Service

Values = dict[str, Any]


class EditorApi:
    """Handlers of requests of editors."""

    def __init__(self, service: Service) -> None:
        self.service = service

    # llama.cpp

    async def complete(self, request: Request) -> Response:
        """`POST /completion`."""
        body = await self.service.read(request)
        refuse_unsupported(body)
        asked = self.service.parse(LlamaCompletionParameters, body)
        prompts = list_prompts(asked.prompt)
        if len(prompts) > self.service.settings.max_choices or (asked.stream and len(prompts) > 1):
            raise Refusal(
                f"prompt has {len(prompts)} prompts; send several requests, or up to "
                f"{self.service.settings.max_choices} without stream",
                param="prompt",
            )
        encoder = self.service.encoder
        encoded = [await self.service.encode(encoder.encode_raw, prompt, "prompt") for prompt in prompts]
        answers = await self._answer_llama(request, asked, encoded, is_stream=asked.stream)
        if isinstance(answers, Response):
            return answers
        return JSONResponse(answers[0] if len(answers) == 1 else answers)

    async def infill(self, request: Request) -> Response:
        """`POST /infill`: JSON, or events if `stream` asks for them or `repetition_penalty` is sent.

        Only CodeShell's own plug-ins send `repetition_penalty`, and they read events without asking for them.
        """
        body = await self.service.read(request)
        refuse_unsupported(body)
        asked = self.service.parse(InfillParameters, body)
        before, after = join_infill(asked)
        encode, limit = self.service.encoder.encode_infill, asked.n_predict
        ids = await self.service.encode(encode, before, after, "input_prefix", max_new_tokens=limit)
        is_stream = asked.stream or ("stream" not in body and asked.repetition_penalty is not None)
        answers = await self._answer_llama(request, asked, [ids], is_stream=is_stream)
        return answers if isinstance(answers, Response) else JSONResponse(answers[0])

    async def _answer_llama(
        self, request: Request, asked: LlamaParameters, prompts: Sequence[Sequence[int]], *, is_stream: bool
    ) -> Response | list[Values]:
        running = self.service.run_all(prompts, asked.make_sampling())
        if is_stream:
            return EventStream(report_errors(self._stream_llama(asked, running)))
        outputs = await finish_all(running, request.receive)
        return [
            self._describe_end(asked, each, output, number) | {"content": output.text}
            for number, (each, (output,)) in enumerate(zip(running, outputs, strict=True))
        ]

    async def _stream_llama(self, asked: LlamaParameters, running: Sequence[RunningOutputs]) -> AsyncIterator[str]:
        (each,) = running
        async for _, _, piece in merge(running):
            if piece.text and not piece.end:
                content: Values = {"index": 0, "content": piece.text, "stop": False, "id_slot": 0, "multimodal": False}
                content["tokens"] = [token.chosen.id for token in piece.tokens]
                if asked.n_probs:
                    content["completion_probabilities"] = self._list_probabilities(piece.tokens)
                yield dump(content)
            elif piece.end:
                yield dump(self._describe_end(asked, each, each.outputs[0], 0) | {"content": piece.text})

    def _describe_end(self, asked: LlamaParameters, each: RunningOutputs, output: ServedOutput, index: int) -> Values:
        kind = "limit" if output.end == "length" else "word" if output.stop else "eos"
        # The end of a turn is the model's own end and not a word of the request.
        word = output.stop if output.stop in asked.stop else None
        end: Values = {
            "index": index,
            "tokens": [],
            "id_slot": 0,
            "stop": True,
            "model": self.service.name,
            "tokens_predicted": output.written,
            "tokens_evaluated": each.prompt_tokens,
            "generation_settings": asked.model_dump(exclude={"prompt", "input_prefix", "input_suffix", "input_extra"}),
            "has_new_line": "\n" in output.text,
            "truncated": False,
            "stop_type": "eos" if kind == "word" and word is None else kind,
            "stopping_word": word or "",
            "tokens_cached": each.prompt_tokens + output.written,
            "timings": {"prompt_n": each.prompt_tokens, "predicted_n": output.written},
        }
        if asked.n_probs:
            end["completion_probabilities"] = self._list_probabilities(output.tokens)
        return end

    def _list_probabilities(self, tokens: Sequence[PieceToken]) -> list[Values]:
        def describe(token: int, logprob: float | None) -> Values:
            text = self.service.tokenizer.decode([token])
            return {"id": token, "token": text, "bytes": list(text.encode()), "logprob": logprob}

        return [
            describe(token.chosen.id, token.chosen.logprob)
            | {"top_logprobs": [describe(*alternative) for alternative in token.chosen.alternatives]}
            for token in tokens
        ]

    async def describe_llama(self, request: Request) -> Response:
        """`GET /props`."""
        context = self.service.encoder.context
        return JSONResponse(
            {
                "default_generation_settings": {"n_ctx": context},
                "total_slots": self.service.settings.max_rows,
                "model_alias": self.service.name,
                "chat_template": self.service.tokenizer.chat_template or "",
            }
        )

    # TGI

    async def generate(self, request: Request) -> Response:
        """`POST /generate`."""
        asked = self.service.parse(GenerateParameters, await self._read_tgi(request))
        running = [await self._run_tgi(asked)]
        if asked.stream:
            return EventStream(report_errors(self._stream_tgi(asked, running)))
        ((output,),) = await finish_all(running, request.receive)
        answer: Values = {"generated_text": self._join(asked, output.text)}
        if asked.parameters.details:
            answer["details"] = {
                **_describe_tgi_end(output),
                "prefill": [],
                "tokens": [self._describe_tgi_token(token, token.text) for token in output.tokens],
            }
        return JSONResponse(answer)

    async def generate_stream(self, request: Request) -> Response:
        """`POST /generate_stream`."""
        asked = self.service.parse(GenerateParameters, await self._read_tgi(request))
        return EventStream(report_errors(self._stream_tgi(asked, [await self._run_tgi(asked)])))

    async def _read_tgi(self, request: Request) -> Values:
        body = await self.service.read(request)
        parameters = body.get("parameters")
        if isinstance(parameters, dict):
            refuse_unsupported(parameters)
            if parameters.get("best_of") not in (None, 1):
                raise Refusal("best_of is not supported; leave it out", param="parameters.best_of")
        return body

    async def _run_tgi(self, asked: GenerateParameters) -> RunningOutputs:
        encode, cut = self.service.encoder.encode_raw, asked.parameters.truncate
        ids = await self.service.encode(encode, asked.inputs, "inputs", truncate=cut)
        return self.service.run(ids, asked.parameters.make_sampling())

    async def _stream_tgi(self, asked: GenerateParameters, running: Sequence[RunningOutputs]) -> AsyncIterator[str]:
        (each,) = running
        index = 0
        async for _, _, piece in merge(running):
            if not (piece.text or piece.end):
                continue
            index += 1
            output = each.outputs[0]
            last = piece.tokens[-1] if piece.tokens else None  # an end without text is that of the end token
            event: Values = {
                "index": index,
                "token": self._describe_tgi_token(last, piece.text),
                "generated_text": self._join(asked, output.text) if piece.end else None,
                "details": _describe_tgi_end(output) if piece.end else None,
            }
            yield dump(event)

    def _join(self, asked: GenerateParameters, text: str) -> str:
        return asked.inputs + text if asked.parameters.return_full_text else text

    def _describe_tgi_token(self, token: PieceToken | None, text: str) -> Values:
        if token is None:
            return {"id": self.service.tokenizer.eos_token_id or 0, "text": text, "logprob": None, "special": True}
        return {"id": token.chosen.id, "text": text, "logprob": token.chosen.logprob, "special": False}

    async def describe_tgi(self, request: Request) -> Response:
        """`GET /info`."""
        context = self.service.encoder.context
        return JSONResponse(
            {
                "model_id": self.service.name,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": self.service.settings.max_rows + self.service.settings.max_waiting,
                "max_best_of": 1,
                "max_stop_sequences": 64,
                "max_input_tokens": context - 1,
                "max_total_tokens": context,
            }
        )


def _describe_tgi_end(output: ServedOutput) -> Values:
    reason = "length" if output.end == "length" else "stop_sequence" if output.stop else "eos_token"
    return {"finish_reason": reason, "generated_tokens": output.written, "seed": None}
