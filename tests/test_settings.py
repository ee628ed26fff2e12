"""Settings: what is read, what wins, and what a wrong key or value is answered."""

import importlib
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import BaseModel, Field

from codeshell_hf.errors import SettingsError
from codeshell_hf.settings import (
    Input,
    InputPath,
    Section,
    is_model,
    list_inputs,
    load_settings,
    parse_yaml,
    unwrap,
)
from codeshell_hf.stages import STAGES


class Inner(Section):
    row_tokens: int = Field(gt=0)


class Example(Section):
    output: str
    rate: float = 0.5
    pack: Inner | None = None
    sources: tuple[Inner, ...] = ()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "example.yaml"
    path.write_text(text)
    return path


def test_overrides_win_and_are_read_as_yaml(tmp_path: Path) -> None:
    path = write(tmp_path, "output: a\nrate: 3e-4\npack: {row_tokens: 8}\n")

    settings = load_settings(Example, path, ["pack.row_tokens=16", "output=b"])

    assert settings == Example(output="b", rate=3e-4, pack=Inner(row_tokens=16))


@pytest.mark.parametrize(("text", "expected"), [("3e4", 3e4), ("1e-3", 1e-3), ("2.5E+1", 25.0), ("-4e0", -4.0)])
def test_numbers_with_an_exponent_are_numbers(text: str, expected: float) -> None:
    assert parse_yaml(text, "here") == expected  # a text would be unequal


def test_a_section_that_is_off_can_be_filled_from_the_command_line(tmp_path: Path) -> None:
    settings = load_settings(Example, write(tmp_path, "output: a\npack: null\n"), ["pack.row_tokens=4"])

    assert settings.pack == Inner(row_tokens=4)


def test_places_of_the_interpreter_are_filled_in(tmp_path: Path) -> None:
    settings = load_settings(Example, write(tmp_path, "output: ${python}/x\n"))

    assert settings.output == f"{sysconfig.get_paths()['stdlib']}/x"


def test_packages_are_found_wherever_they_are_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment with `--system-site-packages` has several folders of packages; its own goes first."""
    own, system = tmp_path / "own" / "site-packages", tmp_path / "system" / "dist-packages"
    for folder in (own / "torch", system / "torch", system / "networkx", tmp_path / "mine" / "pip"):
        folder.mkdir(parents=True)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"stdlib": "/lib", "purelib": str(own)})
    monkeypatch.setattr(sys, "path", [str(tmp_path / "mine"), str(own), str(system)])

    def read(value: str) -> str:
        return str(load_settings(Example, write(tmp_path, f"output: {value}\n")).output)

    assert read("${packages}/torch") == str(own / "torch")
    assert read("${packages}/networkx") == str(system / "networkx")
    assert read("${packages}/pip") == str(own / "pip"), "what is nowhere is missed where it is looked for first"


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("output: a\nrat: 1\n", [], "unknown key 'rat' in .*example.yaml; did you mean 'rate'?"),
        ("output: a\npack: {row_length: 8}\n", [], "unknown key 'row_length' in .*; did you mean 'row_tokens'?"),
        ("output: a\nsources: [{row_length: 8}]\n", [], "unknown key 'row_length' in .*; did you mean 'row_tokens'?"),
        # a mistyped key is also missing under its right name; the mistake is what is reported
        ("outputt: a\n", [], "unknown key 'outputt' in .*; did you mean 'output'?"),
        ("output: a\nzzz: 1\n", [], "unknown key 'zzz' in .*; known are output, pack, rate, sources"),
        ("rate: 1\n", [], "output is missing in .*; it has no default, so state it"),
        ("output: a\npack: {row_tokens: 0}\n", [], "pack.row_tokens is 0 in .*: input should be greater than 0"),
        ("output: a\nrate: much\n", [], "rate is 'much' in .*: input should be a valid number"),
        ("output: [a\n", [], "is not YAML"),
        ("- a\n", [], "contains a list; write keys and values"),
        (
            "output: a\n",
            ["row_tokens=8"],
            "unknown key 'row_tokens' on the command line; did you mean 'pack.row_tokens'?",
        ),
        ("output: a\nrow_tokens: 8\n", ["rate=2"], "unknown key 'row_tokens' in .*; did you mean 'pack.row_tokens'?"),
        ("output: a\n", ["rate=much"], "rate is 'much' on the command line: input should be a valid number"),
        ("output: a\nrate: much\n", ["output=b"], "rate is 'much' in .*example.yaml: input"),
        ("output: a\n", ["sources=x"], r"sources is 'x' on the command line: input should be a list; write \[x\]"),
        ("output: a\n", ["rate"], "override 'rate' has no '='; write section.key=value"),
        ("output: a\n", ["rate.x=1", "rate.x.y=2"], "leads through x, which is 1 and not a section"),
    ],
)
def test_wrong_settings_get_one_line_with_the_mend(
    tmp_path: Path, text: str, overrides: list[str], message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        load_settings(Example, write(tmp_path, text), overrides)

    assert "\n" not in str(caught.value)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere.yaml cannot be read"):
        load_settings(Example, tmp_path / "nowhere.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"binary.yaml is not a text file"):
        load_settings(Example, tmp_path / "binary.yaml")


def locate(name: str) -> Path | None:
    return Path(name) if name.endswith(".py") else None


class Shards(Section):
    shards: InputPath
    cache: Path = Path("cache")


class Named(Section):
    name: str
    path: InputPath


class Reading(Section):
    sources: tuple[Named, ...] = ()
    documents: InputPath | None = None
    mixture: tuple[Shards, ...] = ()
    files: dict[str, InputPath | Inner] = Field(default_factory=dict)
    prompts: tuple[InputPath, ...] = ()
    rules: tuple[Annotated[str, Input(locate)], ...] = ()


def test_inputs_are_the_marked_paths_by_their_place() -> None:
    settings = Reading.model_validate(
        {
            "sources": [{"name": "own", "path": "s"}],
            "mixture": [{"shards": "a"}, {"shards": "b", "cache": "c"}],
            "files": {"x": "d", "y": {"row_tokens": 1}},
            "prompts": ["one/prompts.jsonl", "two/prompts.jsonl"],
            "rules": ["dense", "mine.py"],
        }
    )

    assert list_inputs(settings) == {
        "sources.own.path": Path("s"),
        "mixture.0.shards": Path("a"),
        "mixture.1.shards": Path("b"),
        "files.x": Path("d"),
        "prompts.0": Path("one/prompts.jsonl"),
        "prompts.1": Path("two/prompts.jsonl"),
        "rules.1": Path("mine.py"),
    }
    assert list_inputs(Reading(documents=Path("e"))) == {"documents": Path("e")}


def list_unmarked(model: type[BaseModel]) -> Iterator[str]:
    """The fields with paths that are no inputs, in a model and its sections."""
    for name, info in model.model_fields.items():
        parts = [*info.metadata, *unwrap(info.annotation)]
        if Path in parts and not any(isinstance(part, Input) for part in parts):
            yield name
        for part in filter(is_model, parts):
            yield from list_unmarked(part)


@pytest.mark.parametrize("stage", STAGES)
def test_every_path_that_a_stage_reads_is_an_input(stage: str) -> None:
    settings = importlib.import_module(f"recipes.{stage}").Settings

    # What is written, what is reused, and accelerate's file, which does not change the result.
    assert set(list_unmarked(settings)) <= {"output", "cache", "kept", "accelerate"}
