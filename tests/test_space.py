"""The template of a Space: its files, and what it answers with the model that comes with the package."""

import importlib.util
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from huggingface_hub import SpaceCard

ROOT = Path(__file__).parents[1]
SPACE = ROOT / "space"


@pytest.fixture(scope="module")
def app() -> Iterator[ModuleType]:
    """The program, as a Space imports it; the tiny model is its default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MODEL", raising=False)
        spec = importlib.util.spec_from_file_location("space_app", SPACE / "app.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    sys.modules.pop("space_app", None)


def test_the_metadata_is_read_by_the_hub_and_names_files_that_exist() -> None:
    data = SpaceCard.load(SPACE / "README.md").data

    assert (data.sdk, data.license) == ("gradio", "apache-2.0")
    assert (SPACE / str(data.app_file)).is_file()
    metadata = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert len(metadata["short_description"]) <= 60  # the Hub's limit
    assert isinstance(metadata["python_version"], str), "3.10 as a number would be 3.1"
    assert (SPACE / "requirements.txt").read_text(encoding="utf-8") == "codeshell-hf\n"


@pytest.mark.slow
def test_it_answers_with_the_turns_before(app: ModuleType) -> None:
    texts = list(app.answer("Write `f(x)` that returns x plus 2.", [], 24))
    history = [
        {"role": "user", "content": "Write `f(x)` that returns x plus 2."},
        {"role": "assistant", "content": [{"type": "text", "text": texts[-1]}]},
        {"role": "user", "content": "stopped before an answer"},
    ]

    assert texts[-1].startswith("def f(x):")
    assert all(later.startswith(text) for text, later in pairwise(texts)), "it grows"
    assert not [text for text in texts if "|<end>|" in text]
    assert app.pair_turns(history) == [("Write `f(x)` that returns x plus 2.", texts[-1])]
    assert list(app.answer("And x plus 3?", history, 8))


@pytest.mark.slow
def test_it_fills_in_at_the_mark(app: ModuleType) -> None:
    filled = app.fill_in("def add(a, b):\n    return <cursor>\n\nprint(add(1, 2))\n", 8)

    assert filled.startswith("def add(a, b):\n    return ")
    assert filled.endswith("\n\nprint(add(1, 2))\n")
    assert "<cursor>" not in filled
    assert app.fill_in("x = 1\n", 2).startswith("x = 1\n")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio")
def test_the_page_can_be_made(app: ModuleType) -> None:
    demo = app.make_demo()

    assert {"fill_in"} <= {function.api_name for function in demo.fns.values()}
