"""The card is filled from manifests, and refuses figures that nobody measured."""

import json
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from codeshell_hf.errors import DataError
from codeshell_hf.publish.card import fill_template, make_fence, make_widget, write_cell, write_inline_code

HARD = "a\u2028b\u0085c\x7fd\ufeffe \U0001f600 \"q\" 'p' \\n 中文 # x: [1] %\n\ttab"


def test_templates_refuse_figures_that_nobody_measured() -> None:
    assert fill_template("{{ a }}", {"a": 1}, source="x") == "1"
    with pytest.raises(DataError, match=r"x cannot be filled .*'b' is undefined.*; run the stage that measures it"):
        fill_template("{{ b }}", {"a": 1}, source="x")


def test_metadata_is_the_same_after_yaml_reads_it(tmp_path: Path) -> None:
    """By the Hub's own reader, with what a model may write."""
    widget = make_widget(
        [{"kind": "completion", "prompt": HARD, "text": HARD}, {"kind": "chat", "prompt": "?", "text": ""}]
    )
    text = fill_template("---\nlicense: mit\nwidget: {{ w | json }}\n---\n# x\n", {"w": widget}, source="x")
    (tmp_path / "README.md").write_text(text, encoding="utf-8")

    assert yaml.safe_load(text.split("---\n")[1])["widget"] == widget
    assert ModelCard.load(tmp_path / "README.md").data.to_dict()["widget"] == widget
    assert widget[0] == {"text": HARD, "output": {"text": HARD}}
    assert widget[1] == {"messages": [{"role": "user", "content": "?"}], "output": {"text": ""}}
    assert json.loads(json.dumps(widget)) == widget


@pytest.mark.parametrize("text", ["x = 1", "```python\nx\n```", "a ` b", "`````", "`a`", "a\nb | c", "\\n", "``` `` `"])
def test_no_text_of_a_model_leaves_its_place_in_the_card(text: str) -> None:
    """By another reader of Markdown."""
    fence = make_fence(text)
    reader = MarkdownIt("commonmark").enable("table")

    (block, heading) = [
        token
        for token in reader.parse(f"{fence}text\n{text}\n{fence}\n\n# after\n")
        if token.type in ("fence", "heading_open")
    ]
    assert (block.content, heading.tag) == (f"{text}\n", "h1")
    (inline,) = [token for token in reader.parse(f"say: {write_inline_code(text)}") if token.type == "inline"]
    (code,) = [child.content for child in inline.children or () if child.type == "code_inline"]
    assert code == text.replace("\\", "\\\\").replace("\n", "\\n")
    row = reader.parse(f"| a | b |\n| --- | --- |\n| {write_cell(text)} | 7 |\n")
    assert [token.content for token in row if token.type == "inline"][-1] == "7"
