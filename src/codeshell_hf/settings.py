"""Turns YAML files and `section.key=value` overrides into frozen models of settings."""

import difflib
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from types import UnionType
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from .checkpoint_places import find_bundled
from .errors import SettingsError
from .manifest import Values

NEAR = 0.75  # similarity from which a key is taken for a misspelt one, as difflib counts it


class Section(BaseModel):
    """A part of a stage's settings: frozen; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


@dataclass(frozen=True)
class Input:
    """Marks a type of settings whose values name files or folders that a stage reads.

    Args:
        find: The path that a value names; `None` if it names none.
    """

    find: Callable[[Any], Path | None]


InputPath = Annotated[Path, Input(lambda path: path)]
"""A file or folder that a stage reads, as a type of settings."""
InputModel = Annotated[Path, AfterValidator(lambda path: Path(find_bundled(str(path)))), Input(lambda path: path)]
"""A model's folder that a stage reads; `codeshell-tiny` is the one of the package."""


def list_inputs(section: BaseModel, prefix: str = "") -> dict[str, Path]:
    """The files and folders that settings name and a stage reads, by places such as `mixture.0.shards`.

    A section that has a name stands in a list by it, as in `sources.own.path`.
    """
    inputs: dict[str, Path] = {}
    for name, info in type(section).model_fields.items():
        marks = [part for part in (*info.metadata, *unwrap(info.annotation)) if isinstance(part, Input)]
        inputs |= _find_inputs(getattr(section, name), f"{prefix}{name}", marks[0] if marks else None)
    return inputs


def _find_inputs(value: object, place: str, mark: Input | None) -> dict[str, Path]:
    if isinstance(value, BaseModel):
        return list_inputs(value, f"{place}.")
    if isinstance(value, Mapping | tuple):
        inputs: dict[str, Path] = {}
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            name = getattr(inner, "name", key) if isinstance(inner, BaseModel) else key
            inputs |= _find_inputs(inner, f"{place}.{name}", mark)
        return inputs
    path = mark.find(value) if mark is not None and value is not None else None
    return {} if path is None else {place: path}


class PrecisionSettings(Section):
    """Settings of every stage or section that computes."""

    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="of matrix products; auto takes bfloat16 if it is at least 1.2 times as fast as float32",
    )


class Loader(yaml.SafeLoader):
    """YAML in which `3e-4` is a number; in YAML 1.1 it is a text."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*)(\.[\d_]*)?[eE][-+]?\d+$"), list("-+0123456789")
)

SettingsModel = TypeVar("SettingsModel", bound=BaseModel)


def load_settings(model: type[SettingsModel], path: Path, overrides: Sequence[str] = ()) -> SettingsModel:
    """Reads and checks a stage's settings.

    `${python}` stands for the folder of the standard library, `${packages}` for that of installed packages. A path
    under `recipes/` that does not exist in the current folder is taken from the recipes of the YAML file.

    Args:
        model: The model of the settings; it must forbid unknown keys.
        path: The YAML file.
        overrides: Each `section.key=value` with a YAML value; they override the file.

    Raises:
        SettingsError: If the file or an override cannot be read, or a key or value is wrong; suggests the nearest key.
    """
    values = read_yaml(path)
    workspace = next((folder.parent for folder in path.resolve().parents if folder.name == "recipes"), Path())
    for override in overrides:
        place, sign, text = override.partition("=")
        if not sign or not place:
            raise SettingsError(f"override {override!r} has no '='; write section.key=value")
        set_value(values, place.split("."), parse_yaml(text, override))
    try:
        return model.model_validate(expand_paths(values, workspace))
    except ValidationError as error:
        raise SettingsError(explain(error, model, path, values, overrides)) from error


def read_yaml(path: Path) -> Values:
    """Reads a YAML file with keys and values; a `SettingsError` if it is missing, broken or not a mapping."""
    try:
        values = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); name a YAML file under recipes/") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is not a text file; name a YAML file under recipes/") from error
    if not isinstance(values, dict):
        raise SettingsError(f"{path} contains a {type(values).__name__}; write keys and values")
    return values


def parse_yaml(text: str, source: str) -> object:
    """Parses YAML; a `SettingsError`, which names `source`, if it does not parse."""
    try:
        values: object = yaml.load(text, Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise SettingsError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    return values


def set_value(values: Values, keys: Sequence[str], value: object) -> None:
    """Sets a value in nested mappings, in place; a `SettingsError` if a key leads through another value."""
    *sections, last = keys
    for section in sections:
        if values.get(section) is None:  # a section that was off
            values[section] = {}
        inner = values[section]
        if not isinstance(inner, dict):
            raise SettingsError(f"{'.'.join(keys)} leads through {section}, which is {inner!r} and not a section")
        values = inner
    values[last] = value


def expand_paths(value: object, workspace: Path) -> object:
    """Expands `${python}`, `${packages}` and paths under `recipes/` or `tokenizer/` that only `workspace` has."""
    if isinstance(value, Mapping):
        return {key: expand_paths(inner, workspace) for key, inner in value.items()}
    if isinstance(value, list):
        return [expand_paths(inner, workspace) for inner in value]
    if isinstance(value, str) and "${" in value:
        standard = sysconfig.get_paths()["stdlib"]
        return Template(value).safe_substitute(python=standard, packages=find_packages(value))
    if isinstance(value, str) and value.startswith(("recipes/", "tokenizer/")) and not Path(value).exists():
        return str(workspace / value) if (workspace / value).exists() else value
    return value


def find_packages(value: str) -> str:
    """The folder of `${packages}` in a value: the first for installed packages that has what the value names.

    An environment with `--system-site-packages` has several.
    """
    own = sysconfig.get_paths()["purelib"]
    name = value.partition("${packages}/")[2]
    folders = (own, *(folder for folder in sys.path if folder.endswith(("site-packages", "dist-packages"))))
    return next((folder for folder in folders if name and Path(folder, name).exists()), own)


def explain(
    error: ValidationError, model: type[BaseModel], path: Path, values: Values, overrides: Sequence[str] = ()
) -> str:
    """The first problem in one line: the value, who gave it, the rule and the fix."""
    # A missing key goes first: an unknown one is often the same, misspelt.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = [part for part in first["loc"] if isinstance(part, str)]
    # The alternatives of a union, which pydantic names by their types, are no part of the place.
    name = ".".join(str(part) for part in first["loc"] if "[" not in str(part)) or "settings"
    source = find_source(first["loc"], path, overrides)
    if first["type"] == "extra_forbidden":
        return explain_unknown(place, model, values, source)
    if first["type"] == "missing":
        return f"{name} is missing {source}; it has no default, so state it"
    if first["type"] in ("value_error", "assertion_error"):
        return f"{first['msg'].removeprefix('Value error, ')} ({source})"
    rule = first["msg"][0].lower() + first["msg"][1:]
    if first["input"] is None and ":" in name:
        rule = "it has no value; write a space after the colon"
    if first["type"] in ("tuple_type", "list_type"):
        rule = f"input should be a list; write [{first['input']}]"
    return f"{name} is {first['input']!r} {source}: {rule}"


def explain_unknown(place: Sequence[str], model: type[BaseModel], values: Values, where: str) -> str:
    """A line on an unknown key: the nearest in its section, or the place of the model or of the values that has it."""
    key, known = place[-1], known_keys(model, place[:-1])
    if difflib.get_close_matches(key, known, n=1, cutoff=NEAR):
        return unknown_key(key, known, where)
    elsewhere = suggest_place(key, [*list_places(model), *list_keys(values)], without=".".join(place))
    if elsewhere is not None:
        return f"unknown key {key!r} {where}; did you mean {elsewhere!r}?"
    section = next(list_places(model, is_open=True), None) if len(place) == 1 else None
    if section is not None and not difflib.get_close_matches(key, known, n=1, cutoff=0.5):
        return f"unknown key {key!r} {where}; what {section} takes is written {section}.{key}"
    return unknown_key(key, known, where)


def find_source(place: Sequence[str | int], path: Path, overrides: Sequence[str]) -> str:
    """Where the value at a place was given: "on the command line" or "in FILE"; both, if it may be either."""
    wanted = tuple(map(str, place))
    given = [tuple(override.partition("=")[0].split(".")) for override in overrides]
    if any(keys == wanted[: len(keys)] for keys in given) and wanted:
        return "on the command line"
    return f"in {path} with {overrides[0]}" if given and not wanted else f"in {path}"


def list_places(model: type[BaseModel], prefix: str = "", *, is_open: bool = False) -> Iterator[str]:
    """Every setting as it is written on the command line, such as `optimizer.learning_rate`.

    Args:
        model: A model of settings.
        prefix: Of its place, with a dot.
        is_open: Only sections of any keys, such as `trainer`.
    """
    for name, field in model.model_fields.items():
        if not is_open or field.annotation == dict[str, object]:
            yield f"{prefix}{name}"
        parts = (field.annotation, *(get_args(field.annotation) if is_union(field.annotation) else ()))
        for section in filter(is_model, parts):
            yield from list_places(section, f"{prefix}{name}.", is_open=is_open)


def list_keys(values: Values, prefix: str = "") -> Iterator[str]:
    """Every key of nested values, such as `trainer.learning_rate`."""
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from list_keys(value, f"{prefix}{key}.")


def suggest_place(key: str, places: Iterable[str], *, without: str) -> str | None:
    """The place whose last part is the key, or else nearly so; `None` if there is none."""
    by_last: dict[str, str] = {}
    for place in places:
        if place != without:
            by_last.setdefault(place.rpartition(".")[2], place)
    nearest = difflib.get_close_matches(key, by_last, n=1, cutoff=NEAR)
    return by_last[nearest[0]] if nearest else None


def is_union(annotation: object) -> bool:
    """Whether an annotation is such as `Section | None`."""
    return get_origin(annotation) in (Union, UnionType)


def unknown_key(key: str, known: Iterable[str], where: str) -> str:
    """A line on an unknown key, with the nearest known one; `where` is such as "in a.yaml"."""
    known = sorted(known)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    advice = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(known)}"
    return f"unknown key {key!r} {where}; {advice}"


def known_keys(model: type[BaseModel], place: Sequence[str]) -> list[str]:
    """The keys of the section at `place` in the model; empty if it has no model."""
    section: type[BaseModel] | None = model
    for key in place:
        field = section.model_fields.get(key) if section is not None else None
        if field is not None:
            section = next(filter(is_model, unwrap(field.annotation)), None)
    return list(section.model_fields) if section is not None else []


def unwrap(annotation: object) -> list[object]:
    """An annotation such as `list[Source] | None`, and all of its parts."""
    return [annotation, *(inner for part in get_args(annotation) for inner in unwrap(part))]


def is_model(value: object) -> TypeGuard[type[BaseModel]]:
    """Whether a value is a pydantic model class."""
    return isinstance(value, type) and issubclass(value, BaseModel)
