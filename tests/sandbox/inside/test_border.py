"""What crosses between a program and its tests: values by hand, and what is refused."""

import collections
import datetime
import decimal
import enum
import fractions
import io
import json
import math
from typing import Any, NamedTuple

import pytest

from codeshell_hf.sandbox.inside.border import (
    MAX_MESSAGE_BYTES,
    TO_OBJECTS_OF_PROGRAMS,
    TO_OBJECTS_OF_TESTS,
    Border,
    Malformed,
    Remote,
    RemoteObject,
    refresh,
)


def make_border(*, incoming: bytes = b"", is_of_tests: bool = True) -> Border:
    operations = TO_OBJECTS_OF_TESTS if is_of_tests else TO_OBJECTS_OF_PROGRAMS
    return Border(io.BytesIO(incoming), io.BytesIO(), operations)


def cross(value: object) -> Any:
    """A value from a program to its tests, as text."""
    return make_border().unpack(json.loads(json.dumps(make_border(is_of_tests=False).pack(value))))


def frame(*messages: object) -> bytes:
    texts = [json.dumps(message).encode() for message in messages]
    return b"".join(len(text).to_bytes(8, "little") + text for text in texts)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 1 << 63, -(1 << 5000), 0.1, -0.0, math.inf, "", "é\ud800\0", b"\xff", bytearray(b"x"),
        1 + 2j, [], [[1], (2,)], (), {1, 2}, frozenset((1,)), {}, {1: "a", (2, 3): [4]}, range(1, 9, 2),
        collections.deque([1]),
        collections.OrderedDict(a=1), collections.Counter("aab"), decimal.Decimal("0.10"), fractions.Fraction(1, 3),
        datetime.date(2024, 2, 29), datetime.datetime(2024, 1, 1, 1, tzinfo=datetime.UTC),
        datetime.timedelta(days=-1, microseconds=1), datetime.time(1, 2), ValueError, int,
    ],
    ids=repr,
)  # fmt: skip
def test_plain_values_arrive_as_what_they_are(value: object) -> None:
    found = cross(value)

    assert type(found) is type(value)
    assert found == value
    assert repr(found) == repr(value)


class Pair(NamedTuple):
    a: int
    b: list[int]


class Number(enum.IntEnum):
    ONE = 1


class Text(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __str__(self) -> str:
        return "other"

    __hash__ = str.__hash__


class Numbers(list[int]):
    def __iter__(self) -> Any:
        return iter((7, 8))

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Number.ONE, 1),
        (Text("x"), "x"),
        (Numbers([1]), [1]),
        (Pair(1, [2]), (1, [2])),
    ],
    ids=repr,
)
def test_a_subclass_arrives_as_its_plain_type(value: object, expected: object) -> None:
    found = cross(value)

    assert type(found) is type(expected)
    assert found == expected


@pytest.mark.parametrize(
    "packed",
    [
        {}, [], ["eval"], ["Remote", 1], [["list"]], ["yours", 0], ["yours", -1], ["yours", "0"], ["yours", True],
        ["mine", -1], ["builtin", "eval"], ["builtin", "type"], ["builtin", "__import__"], ["int", 1], ["range", "a"],
        ["Decimal", "x"], ["date", 1], ["dict", ["list"], 1], ["set", ["list"]], ["complex", {}], ["bytes", "\u1234"],
    ],
    ids=repr,
)  # fmt: skip
def test_nothing_else_is_rebuilt(packed: object) -> None:
    border = make_border(incoming=frame(["list", "value", packed, None]))
    border.lent.append("of the tests") if packed == ["yours", -1] else None

    with pytest.raises(Malformed):
        border.wait()


def test_depth_and_size_are_limited() -> None:
    deep: list[object] = []
    for _ in range(200):
        deep = ["list", deep] if deep else ["list"]
    with pytest.raises(Malformed, match="100 deep"):
        make_border(incoming=frame(["list", "value", deep, None])).wait()
    with pytest.raises(Malformed, match="bytes"):
        make_border(incoming=(MAX_MESSAGE_BYTES + 1).to_bytes(8, "little") + b"1").wait()
    with pytest.raises(EOFError):
        make_border(incoming=(9).to_bytes(8, "little") + b"1").wait()


def test_a_program_cannot_call_what_no_test_gave_it() -> None:
    called: list[object] = []
    call = ["tuple", ["tuple", 1], ["dict"]]
    border = make_border(
        incoming=frame(
            *[["list", "ask", "call", target, call] for target in (1, -1, True, "0", ["builtin", "int"])],
            *[["list", "ask", name, 0, call] for name in ("get", "set", "isinstance", "__class__")],
            ["list", "ask", "call", 0, call],
            ["list", "value", 2, None],
        )
    )
    border.pack(called.append)

    assert border.wait() == (2, None)
    assert called == [1]
    replies = border.outgoing.getvalue()  # type: ignore[attr-defined]
    assert replies.count(b'"raised"') == 9
    assert replies.count(b'"value"') == 1


def test_an_object_of_a_program_equals_itself_alone_and_has_no_attributes() -> None:
    border = make_border()
    first, again, other = (border.unpack(["mine", number]) for number in (1, 1, 2))

    assert first is again
    assert first != other
    assert first not in (0, True, "", None, [])
    assert isinstance(first, Remote)
    with pytest.raises(AttributeError):
        getattr(first, "starts" + "with")  # is not asked of the program
    border.remote_type = RemoteObject
    assert isinstance(border.unpack(["mine", 3]), RemoteObject)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ([1, [2], {3: [4]}], [[9], [2, 5], {3: [4, 6]}, 7]),
        ({"a": [1], "b": 2}, {"a": [1, 2]}),
        ({1}, {2}),
        (bytearray(b"a"), bytearray(b"bc")),
        (collections.deque([1]), collections.deque([2, 3])),
    ],
)
def test_changed_arguments_stay_the_objects_that_they_were(old: Any, new: Any) -> None:
    inner = [value for value in old if isinstance(value, list)]

    assert id(refresh(old, new)) == id(old)
    assert old == new
    assert all(any(value is kept for kept in old) for value in inner)
