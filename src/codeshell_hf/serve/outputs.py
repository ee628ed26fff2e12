"""Outputs of requests as they come from the batching, whole or in pieces, for as long as the client is there."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .batching import Batching, Job, TooBusy
from .refusals import Refusal
from .row_text import PieceToken, RowEnd, TextPiece
from .sampling import RowSampling

Result = TypeVar("Result")


@dataclass
class ServedOutput:
    """One output so far.

    Args:
        text: Without a stop.
        tokens: Those that make the text.
        end: Why it ended.
        stop: The text that ended it, if one did.
        written: Number of tokens, with those of the stop.
    """

    text: str = ""
    tokens: list[PieceToken] = field(default_factory=list)
    end: RowEnd | None = None
    stop: str | None = None
    written: int = 0

    def add(self, piece: TextPiece) -> None:
        """Takes the next piece."""
        self.text += piece.text
        self.tokens += piece.tokens
        self.end, self.stop, self.written = piece.end, piece.stop, piece.written


class RunningOutputs:
    """The outputs of one prompt on their way; closing it frees their places.

    Raises:
        Refusal: If too many outputs wait.
    """

    def __init__(self, batching: Batching, ids: Sequence[int], sampling: RowSampling, choices: int = 1) -> None:
        loop = asyncio.get_running_loop()
        self.prompt_tokens = len(ids)
        self.outputs = [ServedOutput() for _ in range(choices)]
        self._pieces: asyncio.Queue[tuple[int, TextPiece]] = asyncio.Queue()
        self._batching = batching

        def pass_on(number: int, piece: TextPiece) -> None:
            loop.call_soon_threadsafe(self._pieces.put_nowait, (number, piece))

        self._job = Job(ids, sampling, choices, pass_on)
        try:
            batching.submit(self._job)
        except TooBusy as error:
            raise Refusal(str(error), code="server_busy", status=429) from error

    async def read(self) -> AsyncIterator[tuple[int, TextPiece]]:
        """Pieces with the number of their output, until all have ended; a `Refusal` if the model failed."""
        try:
            while any(output.end is None for output in self.outputs):
                number, piece = await self._pieces.get()
                if piece.error is not None:
                    raise Refusal(piece.error, code="model_failed", status=500)
                self.outputs[number].add(piece)
                yield number, piece
        finally:
            self.close()

    async def finish(self) -> list[ServedOutput]:
        """The outputs, once all have ended."""
        async for _ in self.read():
            pass
        return self.outputs

    def close(self) -> None:
        """Frees their places."""
        self._batching.cancel(self._job)


async def finish_all(running: Sequence[RunningOutputs], receive: Receive) -> list[list[ServedOutput]]:
    """The outputs of several prompts; `ClientDisconnect` if the client leaves before, which frees their places."""
    try:
        return await while_connected(receive, asyncio.gather(*(each.finish() for each in running)))
    finally:
        for each in running:
            each.close()


async def while_connected(receive: Receive, work: Awaitable[Result]) -> Result:
    """Awaits work, and cancels it if the client leaves.

    Raises:
        ClientDisconnect: If the client left.
    """

    async def wait_until_gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(wait_until_gone())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        for each in (task, gone):
            if not each.done():
                each.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


class EventStream(Response):
    """Server-sent events; ends, and closes where they come from, when the client leaves."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[str]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events."""

        async def write() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for event in self._events:
                await send({"type": "http.response.body", "body": f"data: {event}\n\n".encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await while_connected(receive, write())
        except (ClientDisconnect, OSError):  # nobody reads any more
            return
        finally:
            await _close(self._events)


async def _close(events: AsyncIterator[str]) -> None:
    close = getattr(events, "aclose", None)
    if close is not None:
        await close()


async def report_errors(events: AsyncIterator[str]) -> AsyncIterator[str]:
    """Events, and a last one with the error if there is one, since the status is sent already."""
    try:
        async for event in events:
            yield event
    except Refusal as refusal:
        yield dump(refusal.to_json())
    finally:
        await _close(events)


async def merge(running: Sequence[RunningOutputs]) -> AsyncIterator[tuple[int, int, TextPiece]]:
    """Pieces of several prompts as they come: the number of the prompt, that of its output, and the piece."""
    pieces: asyncio.Queue[tuple[int, int, TextPiece] | BaseException | None] = asyncio.Queue()

    async def forward(place: int, each: RunningOutputs) -> None:
        try:
            async for number, piece in each.read():
                pieces.put_nowait((place, number, piece))
        except Refusal as refusal:
            pieces.put_nowait(refusal)
        else:
            pieces.put_nowait(None)

    tasks = [asyncio.ensure_future(forward(place, each)) for place, each in enumerate(running)]
    try:
        left = len(tasks)
        while left:
            found = await pieces.get()
            if isinstance(found, BaseException):
                raise found
            if found is None:
                left -= 1
            else:
                yield found
    finally:
        for task in tasks:
            task.cancel()
        for each in running:
            each.close()


def dump(value: object) -> str:
    """JSON in one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
