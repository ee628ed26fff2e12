"""Tokenizers side by side."""

import json
import sysconfig
from pathlib import Path

import pytest

from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS
from tests.conftest import SHARED
from tests.pack.test_encoding import write_curated
from tests.tokenizer.texts import CODE, HELD_OUT_CHINESE, ROOT
from tokenizer import report
from tokenizer.bpe import wrap_backend
from tokenizer.corpus import read_source, sample
from tokenizer.merged import count_uses, drop_chinese, drop_unfit, extend, prune
from tokenizer.report import TRIED_CHARACTERS, compare, load_any
from tokenizer.report import main as report_main
from tokenizer.settings import Continuation, TextSource
from tokenizer.vocabulary import (
    Vocabulary,
    find_dead_tokens,
    read_vocabulary,
)


def test_tokenizers_that_exist_are_compared_from_the_command_line(
    tmp_path: Path, merged: Vocabulary, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "TRIED_CHARACTERS", TRIED_CHARACTERS[::50])
    code = ROOT / "src" / "codeshell_hf" / "publish"
    (tmp_path / "chinese.txt").write_text(HELD_OUT_CHINESE[:3000])
    for name, vocabulary in (("one", merged), ("two", Vocabulary(merged.merges[:500]))):
        vocabulary.make_backend(SPECIAL_TOKENS).save(str(tmp_path / f"{name}.json"))
    texts = [f"--on=chinese={tmp_path}/chinese.txt", f"--on=code={code}"]
    given = [f"{name}={tmp_path}/{name}.json" for name in ("one", "two")]

    assert report_main([*given, *texts, f"--output={tmp_path}/report", "--parallel=chinese=code"]) == 0
    printed = capsys.readouterr().out
    assert report_main(["one", *texts]) == 2
    assert "'one' has no '='; write NAME=PATH" in capsys.readouterr().err
    assert report_main([*given, *texts, "--parallel=chinese=klingon"]) == 2
    assert "--parallel names ['klingon']; name two of --on's ['chinese', 'code']" in capsys.readouterr().err

    table = {row["tokenizer"]: row for row in json.loads((tmp_path / "report" / "report.json").read_text())["table"]}
    text = "".join(read_source(code))
    backend = merged.make_backend(SPECIAL_TOKENS)
    tokens = sum(len(backend.encode(document)) for document in read_source(code))
    assert table["one"]["chars_per_token.code"] == pytest.approx(len(text) / tokens, abs=1e-4)
    assert table["one"]["bytes_per_token"]["code"] == pytest.approx(len(text.encode()) / tokens, abs=1e-4)
    chinese = len(backend.encode(HELD_OUT_CHINESE[:3000], add_special_tokens=False))
    assert table["one"]["parity"] == {"chinese/code": round(chinese / tokens, 4)}
    assert table["two"]["words_cut_differently"]["code"] > 0.05
    assert "words that two cuts differently from one: chinese" in printed
    assert "| one | 2,020 |" in printed
    assert "entries used of two: all" in printed


@pytest.mark.shared
@pytest.mark.slow
def test_vocabularies_built_on_starcoders_hold_their_claims() -> None:
    """Against the released tokenizer, on texts of hands that neither it nor we built on."""
    folder = SHARED / "tokenizers"
    if not folder.exists():
        pytest.skip("StarCoder's and the released vocabulary are not beside this checkout")
    corpora = SHARED / "corpora"
    english = list(read_source(corpora / "english-python-docs.train.jsonl.gz"))
    names = ("chinese-python-docs", "chinese-java-guide")
    sources = [TextSource(name=name, path=corpora / f"{name}.train.jsonl.gz") for name in names]
    chinese = sample(sources, sample_bytes=1, once=names)
    starcoder = read_vocabulary(folder / "starcoder")
    fit = drop_unfit(starcoder)
    pruned = prune(fit, count_uses(fit, [*english, *CODE]), size=30_000, keep_first=22_000)
    settings = Continuation(floor="chinese", max_characters=4)
    exact = settings.model_copy(update={"new_merges": "chinese"})
    built = {
        "literal": extend(pruned, chinese, settings, size=70_000),
        "exact": extend(drop_chinese(starcoder), chinese, exact, size=70_000),
    }
    for vocabulary in built.values():
        assert find_dead_tokens(vocabulary.make_backend(), vocabulary.tokens) == []
        assert len(vocabulary) == 70_000
    tokenizers = {name: vocabulary.make_backend(SPECIAL_TOKENS) for name, vocabulary in built.items()}
    tokenizers |= {name: load_any(folder / name) for name in ("starcoder", "codeshell")}
    unseen = {
        "vue": list(read_source(corpora / "chinese-vue-docs.test.jsonl.gz")),
        "database": list(read_source(corpora / "chinese-database-docs.test.jsonl.gz")),
        "english": list(read_source(corpora / "english-python-docs.test.jsonl.gz")),
        "code": list(read_source(Path(sysconfig.get_paths()["stdlib"]) / "asyncio")),
    }

    table = {row["tokenizer"]: row for row in compare(tokenizers, unseen, base="starcoder")}
    rows = {
        name: {key: value for key, value in row.items() if isinstance(value, int | float)}
        for name, row in table.items()
    }

    for name in built:
        covered, use = table[name]["characters_covered"], table[name]["entries_used"]
        assert isinstance(covered, dict)
        assert isinstance(use, dict)
        assert covered["GB/T 2312 level 1"] >= 3740 / 3755
        assert covered["Chinese punctuation"] == 1
        # 27 % where it was measured: these texts are too few, of too few hands, for the 60 % of a million characters.
        assert use["not of the base"] > 0.2
        for corpus in unseen:
            assert rows[name][f"chars_per_token.{corpus}"] > rows["codeshell"][f"chars_per_token.{corpus}"]
        assert rows[name]["lossy_characters"] == 0
    for corpus in ("english", "code"):
        exact_rate, wanted = (rows[name][f"chars_per_token.{corpus}"] for name in ("exact", "starcoder"))
        assert round(exact_rate, 3) == round(wanted, 3)
    assert rows["codeshell"]["lossy_characters"] >= 28
    assert rows["codeshell"]["dead_tokens"] == 938
    assert len(TRIED_CHARACTERS) > 20_000


def test_held_out_documents_and_other_texts_are_measured(tmp_path: Path, merged: Vocabulary) -> None:
    rows = [
        {"id": "a", "text": "trained on"},
        {"id": "b", "text": "x = 1\n", "split": "held-out"},
        {"id": "c", "text": "int main;\n", "split": "held-out", "language": "c"},
    ]
    documents = write_curated(tmp_path / "curated", [rows])
    (tmp_path / "other.txt").write_text("other text")
    tokenizer = wrap_backend(merged.make_backend(SPECIAL_TOKENS))

    corpora, measures = report.read_corpora(
        tokenizer, documents, [TextSource(name="other", path=tmp_path / "other.txt")]
    )

    assert corpora == {"held-out": ["x = 1\n", "int main;\n"], "other": ["other text"]}
    texts = {"python": "x = 1\n", "c": "int main;\n"}
    tokens = {language: len(tokenizer.encode_text(text)) for language, text in texts.items()}
    assert measures["characters_per_token"] == {
        "all": 16 / sum(tokens.values()), "c": 10 / tokens["c"], "python": 6 / tokens["python"]
    }  # fmt: skip
