"""Reads bodies of requests: JSON of bounded size, and the parameters in it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from .refusals import Refusal

Body = dict[str, object]
Parameters = TypeVar("Parameters", bound=BaseModel)
_SHOWN = 80  # characters of a wrong value


async def read_body(request: Request, *, max_bytes: int, timeout_s: float) -> Body:
    """Reads a request's JSON object.

    Raises:
        Refusal: If it is too long or too slow, or no JSON object of valid text.
        ClientDisconnect: If the client is gone.
    """
    too_long = Refusal(f"the body is longer than {max_bytes} bytes; send less", code="body_too_large", status=413)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > max_bytes:
        raise too_long
    received = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.stream():
                received += part
                if len(received) > max_bytes:
                    raise too_long
    except TimeoutError as error:
        raise Refusal(f"the body did not arrive within {timeout_s:g} seconds; send it faster", status=408) from error
    return parse_body(bytes(received))


def parse_body(received: bytes) -> Body:
    """Parses a JSON object whose texts can be written as UTF-8; a `Refusal` if it is not one."""
    try:
        text = received.decode("utf-8-sig")
        body = json.loads(text, parse_constant=_refuse_constant)
        json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Refusal("a text has half of a surrogate pair, such as \\ud800; send both halves") from error
    except UnicodeDecodeError as error:
        raise Refusal(f"the body is not UTF-8 (byte {error.start}); encode it as UTF-8") from error
    except RecursionError as error:
        raise Refusal("the body is nested too deeply; send a plain object") from error
    except ValueError as error:
        raise Refusal(f"the body is not JSON ({str(error)[:_SHOWN]}); send a JSON object") from error
    if not isinstance(body, dict):
        raise Refusal(f"the body is a JSON {_name_kind(body)}; send an object")
    return body


def parse_parameters(model: type[Parameters], body: Mapping[str, object]) -> Parameters:
    """Checks parameters, of which null ones count as absent; a `Refusal` for the first wrong one."""
    try:
        return model.model_validate(_drop_nulls(body))
    except ValidationError as error:
        found = error.errors()
        rule = found[0]["msg"].removeprefix("Value error, ")
        same = [each["loc"] for each in found if each["loc"][0] == found[0]["loc"][0]]
        # Each kind that a value may be has an error; what their places share is the value's.
        place = [part for part, *others in zip(*same, strict=False) if all(other == part for other in others)]
        name = ".".join(map(str, place))
        if found[0]["type"] == "missing":
            raise Refusal(f"{name} is missing; send it", param=name) from error
        shown = _show(_look_up(body, place))
        if len(same) > 1:
            raise Refusal(f"{name} is {shown}, which is of a wrong type", param=name) from error
        raise Refusal(f"{name} is {shown}: {rule[0].lower()}{rule[1:]}", param=name) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _drop_nulls(body: Mapping[str, object]) -> Body:
    return {
        key: _drop_nulls(value) if isinstance(value, dict) else value
        for key, value in body.items()
        if value is not None
    }


def _name_kind(value: object) -> str:
    kinds = {list: "array", str: "string", bool: "boolean", int: "number", float: "number", type(None): "null"}
    return kinds[type(value)]


def _look_up(body: Any, place: Sequence[int | str]) -> object:
    for part in place:
        body = body[part]
    return body


def _show(value: object) -> str:
    shown = json.dumps(value, ensure_ascii=False, default=str)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
