"""What crosses between a program and its tests: plain values by their exact type, and numbers for other objects.

The two are separate processes with a pipe in each direction. A message is JSON behind its length. A value in it is
null, true, false, a number, a text, or a list of a type's name and its parts; sizes and depths are limited. Only the
types of this file are rebuilt, and no code of the other side runs for it. So whatever a program sends, even in raw
bytes, the tests compare an exact int, text or list. A subclass of a plain type arrives as that type.

An object that is not a plain value stays where it is. The other side gets its number, as a `Remote`: it can be called,
iterated, indexed and measured, and equals only itself. None of these tells the program what a test expects. Attributes
would (`answer.startswith(expected)`), so only tests that use a class of the program have them, as `RemoteObject`.
"""

from __future__ import annotations

import builtins
import collections
import importlib
import json
import operator
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, BinaryIO

MAX_MESSAGE_BYTES = 1 << 24
MAX_DEPTH = 100
LENGTH_BYTES = 8
MAX_PLAIN_INTEGER = 1 << 63  # larger ones are hexadecimal, whose length is not limited

SCALARS = frozenset((bool, type(None), str, float))
SEQUENCES: dict[type, str] = {kind: kind.__name__ for kind in (list, tuple, set, frozenset, collections.deque)}
MAPPINGS: dict[type, str] = {
    kind: kind.__name__ for kind in (dict, collections.OrderedDict, collections.Counter, collections.defaultdict)
}
MUTABLE = (list, set, collections.deque, bytearray, *MAPPINGS)
PARTS: dict[type, Callable[[Any], list[object]]] = {
    bytes: lambda value: [value.decode("latin-1")],
    bytearray: lambda value: [value.decode("latin-1")],
    complex: lambda value: [value.real, value.imag],
    range: lambda value: [value.start, value.stop, value.step],
}
MAKERS: dict[str, Callable[..., object]] = {
    "int": lambda text: int(text, 16),
    "bytes": lambda text: text.encode("latin-1"),
    "bytearray": lambda text: bytearray(text, "latin-1"),
    "complex": complex,
    "range": range,
    **{name: kind for kind, name in SEQUENCES.items()},
    **{name: kind for kind, name in MAPPINGS.items()},
    "defaultdict": lambda items: collections.defaultdict(None, items),
}
# Types of modules that are imported only when one of them arrives.
STANDARD: dict[str, tuple[str, Callable[[Any], list[object]], str]] = {
    "Decimal": ("decimal", lambda value: [str(value)], ""),
    "Fraction": ("fractions", lambda value: [str(value)], ""),
    "date": ("datetime", lambda value: [value.isoformat()], "fromisoformat"),
    "time": ("datetime", lambda value: [value.isoformat()], "fromisoformat"),
    "datetime": ("datetime", lambda value: [value.isoformat()], "fromisoformat"),
    "timedelta": ("datetime", lambda value: [value.days, value.seconds, value.microseconds], ""),
}
# A subclass of a plain type is copied by that type's own methods.
COPIES: dict[type, Callable[[Any], object]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
    bytes: lambda value: bytes(memoryview(value)),
    list: lambda value: list(list.__iter__(value)),
    tuple: lambda value: tuple(tuple.__iter__(value)),
    dict: lambda value: dict(dict.items(value)),
    set: lambda value: set(set.__iter__(value)),
    frozenset: lambda value: frozenset(frozenset.__iter__(value)),
}
# What a program may give its tests of Python's own; in their process, others such as eval would run its code.
PLAIN_TYPES = frozenset(kind.__name__ for kind in (bool, bytearray, complex, range, *COPIES))
# What one side may do with an object of the other. Attributes belong to the program's objects alone.
TO_OBJECTS_OF_TESTS: Mapping[str, Callable[..., object]] = {
    "call": lambda thing, arguments, named: thing(*arguments, **named),
    "iter": iter,
    "next": next,
    "len": len,
    "item": operator.getitem,
}
TO_OBJECTS_OF_PROGRAMS: Mapping[str, Callable[..., object]] = {
    **TO_OBJECTS_OF_TESTS,
    "bool": bool,
    "str": str,
    "repr": repr,
    "get": getattr,
    "set": setattr,
    "put": operator.setitem,
    "isinstance": isinstance,
}


class Malformed(BaseException):
    """The other side sent something that is not a message; tests that expect an error do not catch it."""


class Remote:
    """An object of the other side, by its number."""

    __slots__ = ("_border", "_number")
    _border: Border
    _number: int

    def __init__(self, border: Border, number: int) -> None:
        object.__setattr__(self, "_border", border)
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: object, **named: object) -> object:
        """Calls it; arguments that it changes in place are changed here, too."""
        return self._border.ask("call", self, arguments, named)

    def __iter__(self) -> Any:
        """An iterator of the other side."""
        return self._border.ask("iter", self)

    def __next__(self) -> object:
        """The iterator's next value."""
        return self._border.ask("next", self)

    def __len__(self) -> Any:
        """Its length."""
        return self._border.ask("len", self)

    def __getitem__(self, key: object) -> object:
        """The value at a key."""
        return self._border.ask("item", self, key)

    def __bool__(self) -> Any:
        """Its truth."""
        return self._border.ask("bool", self)

    def __str__(self) -> Any:
        """Its text."""
        return self._border.ask("str", self)

    def __repr__(self) -> Any:
        """Its representation."""
        return self._border.ask("repr", self)


class RemoteObject(Remote):
    """A `Remote` with attributes."""

    __slots__ = ()

    def __getattr__(self, name: str) -> object:
        """An attribute; those of Python's protocols are not passed on."""
        if name.startswith("__"):
            raise AttributeError(name)
        return self._border.ask("get", self, name)

    def __setattr__(self, name: str, value: object) -> None:
        """Sets an attribute."""
        self._border.ask("set", self, name, value)

    def __setitem__(self, key: object, value: object) -> None:
        """Sets the value at a key."""
        self._border.ask("put", self, key, value)

    def __instancecheck__(self, value: object) -> Any:
        """Whether an object of the same side is an instance of it."""
        return isinstance(value, Remote) and self._border.ask("isinstance", value, self)


class Border:
    """One side of the border.

    Args:
        incoming: Messages of the other side.
        outgoing: Messages to it.
        operations: What the other side may do with objects of this one.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO, operations: Mapping[str, Callable[..., object]]) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.operations = operations
        self.is_of_tests = operations is TO_OBJECTS_OF_TESTS
        self.remote_type: type[Remote] = Remote
        self.lent: list[object] = []
        self._numbers: dict[int, int] = {}
        self._remotes: dict[int, Remote] = {}
        self._errors: dict[str, type[Exception]] = {}

    def ask(self, operation: str, remote: Remote, *operands: Any) -> object:
        """Has the other side do something with an object of its own, and returns the result or raises its error."""
        self.send(["ask", operation, find_number(remote), operands])
        result, changed = self.wait()
        if operation == "call" and changed is not None:
            arguments, named = operands
            for old, new in zip(list_changeable(arguments, named), changed):  # noqa: B905 - Python 3.9 has no strict
                refresh(old, new)
        return result

    def wait(self) -> tuple[object, Any]:
        """Answers until the reply comes.

        Returns:
            The result, and the arguments if the call changed them.
        """
        while True:
            kind, *parts = self.receive()
            if kind == "value" and len(parts) == 2:
                return parts[0], parts[1]
            if kind == "raised" and len(parts) == 2:
                raise self.make_error(*parts)
            if kind != "ask" or len(parts) != 3:
                raise Malformed(str(kind))
            self.answer(*parts)

    def answer(self, operation: str, number: int, operands: Any) -> None:
        """Does what the other side asks for with a lent object, and sends the result or the error's type."""
        changed = None
        try:
            thing = self.lent[check_number(number)]
            given = list_changeable(*operands) if operation == "call" else []
            before = self.pack(given)
            result = self.operations[operation](thing, *operands)
            if given and self.pack(given) != before:
                changed = given
            packed = self.pack(["value", result, changed])
        except Exception as error:
            packed = self.pack(["raised", list_error_names(type(error)), [str(part) for part in error.args[:4]]])
        self.write(packed)

    def serve(self) -> None:
        """Answers until the other side ends."""
        while True:
            _, operation, number, operands = self.receive()
            self.answer(operation, number, operands)

    def send(self, message: list[object]) -> None:
        """Packs and writes a message."""
        self.write(self.pack(message))

    def write(self, packed: object) -> None:
        """Writes a packed message."""
        text = json.dumps(packed).encode()
        self.outgoing.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        self.outgoing.flush()

    def receive(self) -> list[Any]:
        """Reads a message.

        Raises:
            EOFError: If the other side has ended.
            Malformed: If it is not a message.
        """
        length = int.from_bytes(self.incoming.read(LENGTH_BYTES), "little")
        if not length:
            raise EOFError
        if length > MAX_MESSAGE_BYTES:
            raise Malformed(f"{length} bytes")
        text = self.incoming.read(length)
        if len(text) < length:
            raise EOFError
        try:
            message = self.unpack(json.loads(text))
        except Exception as error:
            raise Malformed(str(error)) from error
        if type(message) is not list or not message:
            raise Malformed("no list")
        return message

    def pack(self, value: Any, depth: int = MAX_DEPTH) -> object:
        """Turns a value into JSON's types; objects that are not plain become numbers."""
        kind = type(value)
        if kind in SCALARS:
            return value
        if kind is int:
            return value if -MAX_PLAIN_INTEGER < value < MAX_PLAIN_INTEGER else ["int", hex(value)]
        if depth == 0:
            raise ValueError(f"a value is nested more than {MAX_DEPTH} deep")
        if kind in SEQUENCES:
            return [SEQUENCES[kind], *[self.pack(item, depth - 1) for item in value]]
        if kind in MAPPINGS:
            return [MAPPINGS[kind], *[self.pack(item, depth - 1) for pair in value.items() for item in pair]]
        if kind in PARTS:
            return [kind.__name__, *PARTS[kind](value)]
        if issubclass(kind, Remote):
            return ["yours", find_number(value)]
        if kind.__name__ in STANDARD and kind.__module__ == STANDARD[kind.__name__][0]:
            return [kind.__name__, *STANDARD[kind.__name__][1](value)]
        for base, copy in COPIES.items():
            if issubclass(kind, base):
                return self.pack(copy(value), depth)
        return self._pack_object(value)

    def _pack_object(self, value: Any) -> object:
        if isinstance(value, type) and issubclass(value, BaseException):
            return ["error", *list_error_names(value)]
        name = getattr(value, "__name__", None)
        if type(name) is str and getattr(builtins, name, None) is value and (self.is_of_tests or name in PLAIN_TYPES):
            return ["builtin", name]
        is_lent = not self.is_of_tests or callable(value) or hasattr(value, "__next__")
        if not is_lent or isinstance(value, ModuleType):
            raise TypeError(f"{type(value).__name__} is not a plain value")
        if id(value) not in self._numbers:
            self._numbers[id(value)] = len(self.lent)
            self.lent.append(value)
        return ["mine", self._numbers[id(value)]]

    def unpack(self, packed: Any, depth: int = MAX_DEPTH) -> Any:
        """Rebuilds a value; any error means that it was not packed by `pack`."""
        if type(packed) is not list:
            if type(packed) is dict:
                raise ValueError("no object of JSON is a value")
            return packed
        if depth < 0:
            raise ValueError(f"nested more than {MAX_DEPTH} deep")
        name, *parts = packed
        if name == "yours":
            return self.lent[check_number(parts[0])]
        if name == "mine":
            number = check_number(parts[0])
            if number not in self._remotes:
                self._remotes[number] = self.remote_type(self, number)
            return self._remotes[number]
        if name == "error":
            return self.find_error(parts)
        if name == "builtin":
            if self.is_of_tests and parts[0] not in PLAIN_TYPES:
                raise ValueError(f"{parts[0]!r} is not for tests to call")
            return getattr(builtins, parts[0])
        if name in STANDARD:
            module, _, maker = STANDARD[name]
            kind = getattr(importlib.import_module(module), name)
            return getattr(kind, maker)(*parts) if maker else kind(*parts)
        if name in MAPPINGS.values():
            items = [self.unpack(part, depth - 1) for part in parts]
            return MAKERS[name](dict(zip(items[::2], items[1::2])))  # noqa: B905 - Python 3.9 has no strict
        if name in SEQUENCES.values():
            return MAKERS[name]([self.unpack(part, depth - 1) for part in parts])
        return MAKERS[name](*parts)

    def find_error(self, names: list[str]) -> type[Exception]:
        """The exception of these names: a built-in one, and classes of the program below it."""
        base = getattr(builtins, names[-1])
        found = base if isinstance(base, type) and issubclass(base, Exception) else RuntimeError
        for name in reversed(names[: -1 if found is base else None]):
            found = self._errors.setdefault(name, type(name, (found,), {}))
        return found

    def make_error(self, names: list[str], parts: list[str]) -> Exception:
        """Makes an exception of the other side, with its arguments as texts."""
        found = self.find_error(names)
        return found.__new__(found, *parts)  # some take other arguments


def list_error_names(kind: type[BaseException]) -> list[str]:
    """The names of an exception's class and of those above it, up to the first built-in one."""
    names = []
    for each in kind.__mro__:
        names.append(each.__name__)
        if each.__module__ == "builtins":
            break
    return names


def list_changeable(arguments: Any, named: Any) -> list[object]:
    """Arguments that a call may change in place."""
    return [value for value in (*arguments, *named.values()) if type(value) in MUTABLE or type(value) is tuple]


def find_number(remote: Remote) -> int:
    """The number of an object of the other side."""
    number: int = object.__getattribute__(remote, "_number")
    return number


def check_number(number: object) -> int:
    """A number that the other side may name; a `ValueError` for others."""
    if type(number) is not int or number < 0:
        raise ValueError(f"{number!r} is not the number of an object")
    return number


def refresh(old: Any, new: Any) -> object:
    """Changes a value in place into a copy of it that the program changed; returns it, or the copy if it is another."""
    if type(old) is not type(new):
        return new
    if isinstance(old, list):
        old[:] = [refresh(*pair) for pair in zip(old, new)] + new[len(old) :]  # noqa: B905
    elif isinstance(old, dict):
        items = {key: refresh(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(items)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif isinstance(old, bytearray):
        old[:] = new
    elif isinstance(old, collections.deque):
        old.clear()
        old.extend(new)
    elif isinstance(old, tuple):
        for pair in zip(old, new):  # noqa: B905
            refresh(*pair)
    else:
        return new
    return old
