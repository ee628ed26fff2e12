"""The tokenizer stage."""

import json
from pathlib import Path

import pytest

from codeshell_hf.stages.stage import main
from recipes.tokenizer import STAGE
from tests.tokenizer.texts import ROOT
from tokenizer import report


def test_the_same_texts_give_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "TRIED_CHARACTERS", report.TRIED_CHARACTERS[::50])
    built = []
    chinese = ROOT / "tokenizer" / "data" / "chinese-python-docs.jsonl"
    for index in range(2):
        output = tmp_path / str(index)
        code = main(
            STAGE,
            [
                str(ROOT / "recipes/nano/tokenizer.yaml"),
                f"output={output}",
                f"sources=[{{name: code, path: {ROOT}/src/codeshell_hf/pack}}, {{name: chinese, path: {chinese}}}]",
                "sample_bytes=300000",
                "merged.extend_with=[chinese]",
                "merged.trained_size=900",
                "merged.base_size=800",
                "merged.keep_first=300",
                "vocab_size=1100",
                "documents=null",
                f"measure_on=[{{name: wing, path: {ROOT}/src/codeshell_hf/publish}}]",
            ],
        )
        assert code == 0
        built.append((output / "tokenizer.json").read_bytes())
        written = json.loads((output / "report.json").read_text())
        assert written["table"][0]["dead_tokens"] == written["table"][0]["lossy_characters"] == 0
        assert (output / "report.svg").read_text().startswith("<svg")

    assert built[0] == built[1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["kind=bpe"], "state the section merged for kind merged, and for no other"),
        (["bpe.split=gpt4"], "state the section bpe for kind bpe, and for no other"),
        (["kind=bpe", "merged=null", "bpe.across_words=4096"], "bpe.across_words is 4096 of 4096 entries; lower it"),
        (["merged.extend_with=[klingon]"], "merged.extend_with is ['klingon']; name some of"),
        (["merged.base=x.json"], "state either merged.base or merged.trained_size"),
        (["merged.keeps=all-but-chinese"], "state merged.base_size for keeps most-used"),
    ],
)
def test_contradicting_settings_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert main(STAGE, [str(ROOT / "recipes/nano/tokenizer.yaml"), f"output={tmp_path}/out", *more]) == 2
    assert message in capsys.readouterr().err
