"""The tokenizer builder: nothing is lost, nothing is dead, and what was to stay as it was does."""

import gzip
import json
import random
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import DataError, SettingsError
from codeshell_hf.pack.encoder import choose_encoder
from codeshell_hf.stages.stage import main
from codeshell_hf.tokenization_codeshell import SPECIAL_TOKENS
from recipes.tokenizer import STAGE
from tests.conftest import SHARED
from tests.hub import serve_hub, visit_hub
from tokenizer.bpe import train_bpe, train_vocabulary, wrap_backend
from tokenizer.corpus import TextSource, read_source, sample, take_share
from tokenizer.merged import count_uses, drop_chinese, extend, has_chinese, prune
from tokenizer.report import TRIED_CHARACTERS, compare, load_any
from tokenizer.report import main as report_main
from tokenizer.transplant import Transplant, count_rows, measure_bits, transplant
from tokenizer.unigram import train_unigram
from tokenizer.vocabulary import (
    BYTES,
    Vocabulary,
    find_dead_tokens,
    find_lossy_characters,
    parse_vocabulary,
    read_vocabulary,
)

ROOT = Path(__file__).parents[1]
CODE = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.py"))]
CHINESE = list(read_source(ROOT / "tokenizer" / "data" / "chinese-python-docs.jsonl"))
HELD_OUT_CHINESE = CHINESE.pop()
HELD_OUT_CODE = (ROOT / "recipes" / "pretrain.py").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def base() -> Vocabulary:
    return train_vocabulary([*CODE, *CHINESE[:3]], size=1500)


@pytest.fixture(scope="module")
def merged(base: Vocabulary) -> Vocabulary:
    kept = prune(base, count_uses(base, CODE), size=1200, keep_first=400)
    return extend(kept, CHINESE, size=2000)


@pytest.fixture(scope="module")
def unigram() -> CodeShellTokenizer:
    return train_unigram([*CODE, *CHINESE], vocab_size=3000)


def test_pruned_vocabulary_is_closed_and_keeps_what_is_used_most(base: Vocabulary) -> None:
    uses = count_uses(base, CODE)

    pruned = prune(base, uses, size=1200, keep_first=400)

    made = set(BYTES)
    for left, right in pruned.merges:
        assert {left, right} <= made
        made.add(left + right)
    assert len(pruned) == len(made) == 1200
    assert pruned.merges[:400] == base.merges[:400]
    assert set(pruned.merges) <= set(base.merges)
    ranks = {token: rank for rank, token in enumerate(sorted(base.tokens, key=lambda t: -uses[base.tokens.index(t)]))}
    dropped = [ranks[token] for token in set(base.tokens) - set(pruned.tokens)]
    assert min(dropped) > 600


def test_words_of_kept_tokens_are_cut_as_before(base: Vocabulary) -> None:
    pruned = prune(base, count_uses(base, CODE), size=1200, keep_first=400)
    before, after = base.make_backend(), pruned.make_backend()
    kept = set(pruned.tokens)
    words = {HELD_OUT_CODE[start:end] for _, (start, end) in before.pre_tokenizer.pre_tokenize_str(HELD_OUT_CODE)}

    same = 0
    for word in words:
        tokens = before.encode(word, add_special_tokens=False).tokens
        if set(tokens) <= kept:
            assert after.encode(word, add_special_tokens=False).tokens == tokens
            same += 1
    assert same > 300


@pytest.mark.parametrize("new_merges", ["beyond-ascii", "chinese"])
def test_new_merges_leave_ascii_as_it_was(base: Vocabulary, new_merges: str) -> None:
    kept = drop_chinese(base)
    extended = extend(kept, CHINESE, size=len(kept) + 500, new_merges=new_merges)
    ascii_text = HELD_OUT_CODE.encode("ascii", errors="ignore").decode()
    texts = [ascii_text, "“quotes” – dashes… naïve café"] if new_merges == "chinese" else [ascii_text]

    for text in texts:
        assert extended.make_backend().encode(text).tokens == base.make_backend().encode(text).tokens
    assert len(extended.make_backend().encode(HELD_OUT_CHINESE)) < 0.8 * len(
        kept.make_backend().encode(HELD_OUT_CHINESE)
    )


def test_merged_vocabulary_has_no_dead_token_and_ids_in_merge_order(merged: Vocabulary) -> None:
    backend = merged.make_backend(SPECIAL_TOKENS)

    assert find_dead_tokens(backend, merged.tokens) == []
    assert [backend.id_to_token(index) for index in range(len(merged))] == merged.tokens
    assert merged.tokens[:256] == list(BYTES)
    assert [backend.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(2000, 2020))
    products = {left + right for left, right in merged.merges}
    assert products == set(merged.tokens) - set(BYTES)


def test_the_whole_basic_plane_and_controls_survive(merged: Vocabulary, unigram: CodeShellTokenizer) -> None:
    plane = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]

    assert find_lossy_characters(merged.make_backend(SPECIAL_TOKENS), plane) == []
    assert find_lossy_characters(unigram.backend_tokenizer, plane) == []


@given(text=st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_survives_every_kind(merged: Vocabulary, unigram: CodeShellTokenizer, text: str) -> None:
    for tokenizer in (wrap_backend(merged.make_backend(SPECIAL_TOKENS)), unigram):
        assert tokenizer.decode(tokenizer.encode_text(text)) == text


def test_unigram_keeps_spaces_digits_and_literal_bytes(unigram: CodeShellTokenizer, tmp_path: Path) -> None:
    text = "    if x2 < 1024:\n\t\treturn '<0x0A> \u2581 <fim_prefix>'  \r\n"
    unigram.save_pretrained(tmp_path)
    again = CodeShellTokenizer.from_pretrained(tmp_path)

    ids = again.encode_text(text)

    assert ids == unigram.encode_text(text)
    assert again.decode(ids) == text
    tokens = again.convert_ids_to_tokens(ids)
    assert [token for token in tokens if any(c.isdigit() for c in token) and len(token.strip()) > 1] == [
        token for token in tokens if token.startswith("<0x")
    ]
    assert max(ids) < len(again) - 20
    assert again.encode_infilling("a", "b")[0] == again.convert_tokens_to_ids("<fim_prefix>")
    assert len(again) == 3000


def test_the_same_texts_give_the_same_file(tmp_path: Path) -> None:
    built = []
    chinese = ROOT / "tokenizer" / "data" / "chinese-python-docs.jsonl"
    for index in range(2):
        output = tmp_path / str(index)
        code = main(
            STAGE,
            [
                str(ROOT / "recipes/nano/tokenizer.yaml"),
                f"output={output}",
                f"sources=[{{name: code, path: {ROOT}/src}}, {{name: chinese, path: {chinese}}}]",
                "sample_bytes=300000",
                "merged.extend_with=[chinese]",
                "merged.trained_size=900",
                "merged.base_size=800",
                "merged.keep_first=300",
                "vocab_size=1100",
                "documents=null",
                f"measure_on=[{{name: recipes, path: {ROOT}/recipes}}]",
            ],
        )
        assert code == 0
        built.append((output / "tokenizer.json").read_bytes())
        report = json.loads((output / "report.json").read_text())
        assert report["table"][0]["dead_tokens"] == report["table"][0]["lossy_characters"] == 0
        assert (output / "report.svg").read_text().startswith("<svg")

    assert built[0] == built[1]


def test_tiktoken_gives_the_same_ids_and_is_chosen(merged: Vocabulary) -> None:
    tokenizer = wrap_backend(merged.make_backend(SPECIAL_TOKENS))
    texts = [*CODE[:20], *CHINESE[:5], "  1 22\t333\n\n  4", "it's we'll I'D <fim_prefix>", "", "\u3000　 ａ１ ²³"]

    encoder, choice = choose_encoder(tokenizer, texts)

    assert choice == f"encodes with tiktoken: the same ids on {len(texts)} documents"
    expected = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert encoder(texts)["input_ids"] == expected


def test_tiktoken_is_passed_by_where_it_cannot_be_exact(merged: Vocabulary, unigram: CodeShellTokenizer) -> None:
    values = json.loads(merged.make_backend(SPECIAL_TOKENS).to_str())
    shuffled = list(values["model"]["vocab"])
    random.Random(0).shuffle(shuffled)
    values["model"]["vocab"] = {token: index for index, token in enumerate(shuffled)}
    from tokenizers import Tokenizer

    released_like = wrap_backend(Tokenizer.from_str(json.dumps(values)))

    for tokenizer, reason in ((released_like, "ids are not in the order"), (unigram, "is Unigram, and tiktoken knows")):
        encoder, choice = choose_encoder(tokenizer, CODE[:3])
        assert encoder is tokenizer
        assert reason in choice


def test_transplanted_rows_are_copied_or_pieced(tiny_model) -> None:
    old = train_bpe(CODE, vocab_size=600)
    new = wrap_backend(extend(train_vocabulary(CODE, size=500), CHINESE, size=700).make_backend(SPECIAL_TOKENS))
    model = tiny_model(vocab_size=count_rows(len(old)))
    before = model.transformer.wte.weight.detach().clone()

    moved = transplant(model, old, new)

    after = model.transformer.wte.weight
    shared = set(old.get_vocab()) & set(new.get_vocab())
    assert moved == Transplant(len(shared), 720 - len(shared), 768 - 720)
    assert model.lm_head.weight is after
    assert after.shape == (768, 32)
    for token in list(shared)[:50]:
        assert torch.equal(after[new.get_vocab()[token]], before[old.get_vocab()[token]])
    token = next(token for token in new.get_vocab() if token not in old.get_vocab())
    pieces = [piece.id for piece in old.backend_tokenizer.model.tokenize(token)]
    torch.testing.assert_close(after[new.get_vocab()[token]], before[pieces].mean(0))
    assert model(torch.tensor([new.encode_text("def f(x):")])).logits.shape[-1] == 768


@pytest.mark.parametrize("tied", [True, False])
def test_transplanting_a_reordered_vocabulary_changes_nothing_but_ids(tiny_model, tied: bool) -> None:
    old = train_bpe(CODE, vocab_size=492)
    vocabulary = parse_vocabulary(json.loads(old.backend_tokenizer.to_str()), "old")
    values = json.loads(vocabulary.make_backend(SPECIAL_TOKENS).to_str())
    order = list(values["model"]["vocab"])[::-1]
    values["model"]["vocab"] = {token: index for index, token in enumerate(order)}
    from tokenizers import Tokenizer

    new = wrap_backend(Tokenizer.from_str(json.dumps(values)))
    model = tiny_model(vocab_size=512, tie_word_embeddings=tied)
    text = HELD_OUT_CODE[:2000]
    before = measure_bits(model, old, text)

    moved = transplant(model, old, new)

    assert moved.pieced == 0
    assert new.encode_text(text) != old.encode_text(text)
    # Padded rows, which the release never trained either, are all that differs.
    assert measure_bits(model, new, text) == pytest.approx(before, rel=0.02)


def test_sources_of_every_kind_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("plain 文本")
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n\n{"messages": [{"content": "q"}, {"content": "a"}]}\n')
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write('{"text": "packed"}\n')
    pq.write_table(pa.table({"text": ["p", "q"]}), tmp_path / "d.parquet")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "x.py").write_text("x = 1")
    (tmp_path / "code" / "x.c").write_text("int x;")
    (tmp_path / "code" / "x.bin").write_bytes(b"\xff")

    read = {
        name: list(read_source(tmp_path / name)) for name in ("a.txt", "b.jsonl", "c.jsonl.gz", "d.parquet", "code")
    }

    assert list(read.values()) == [["plain 文本"], ["one", "q\na"], ["packed"], ["p", "q"], ["int x;", "x = 1"]]
    assert list(read_source(tmp_path / "code", "python")) == ["x = 1"]


def test_weights_are_shares_of_the_sample(tmp_path: Path) -> None:
    for name, lines in (("large", 1000), ("small", 10)):
        text = "".join(json.dumps({"text": f"{index:010d}"}) + "\n" for index in range(lines))
        (tmp_path / f"{name}.jsonl").write_text(text)
    sources = [TextSource(name, tmp_path / f"{name}.jsonl", weight) for name, weight in (("large", 3), ("small", 1))]

    drawn = {name: list(draw()) for name, draw in sample(sources, sample_bytes=2000).items()}

    assert sum(map(len, drawn["large"])) == pytest.approx(1500, abs=10)
    assert sum(map(len, drawn["small"])) == pytest.approx(500, abs=10)
    assert max(map(int, drawn["large"])) > 900  # spread over the whole
    assert len(list(take_share((str(n) for n in range(1000)), 0.1))) == pytest.approx(100, abs=5)


def test_a_base_comes_from_the_hub_by_name(tmp_path: Path, base: Vocabulary) -> None:
    script = (
        "import sys\n"
        "from tokenizer.vocabulary import find_base, read_vocabulary\n"
        "print(len(read_vocabulary(find_base(sys.argv[1]))))\n"
    )
    with serve_hub() as (hub, address):
        hub.add("some/base", {"tokenizer.json": base.make_backend().to_str().encode()})
        environment = visit_hub(address, tmp_path)
        found, missing = (
            subprocess.run(
                [sys.executable, "-c", script, name],
                cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env=environment,
            )
            for name in ("some/base", "no/base")
        )  # fmt: skip

    assert found.stdout.strip() == str(len(base)), found.stderr
    assert "base no/base is no file here and not to be had from the Hub" in missing.stderr


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": {"type": "Unigram", "vocab": []}}, "is 'Unigram' and no BPE with merges"),
        ([], "is 'list' and no BPE"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": ["a b c"]}}, "must have two operands"),
        ({"model": {"type": "BPE", "vocab": {}, "merges": ["a b", "ab cd"]}}, "merge 1 of x needs 'cd'"),
    ],
)
def test_bases_that_are_no_bpe_are_refused(wrong: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_vocabulary(wrong, "x")


def test_wrong_sizes_and_texts_are_one_line_with_the_mend(base: Vocabulary, tmp_path: Path) -> None:
    uses = np.zeros(len(base), np.int64)
    with pytest.raises(DataError, match=r"base_size is 500; it must lie between 656 .* and the 1500 entries"):
        prune(base, uses, size=500, keep_first=400)
    with pytest.raises(DataError, match=r"hold no Chinese; name Chinese texts under merged.extend_with"):
        extend(base, ["plain ascii"] * 5, size=1600)
    with pytest.raises(DataError, match="new entries of 90000; name more of them or lower vocab_size"):
        extend(base, CHINESE[:1], size=91500)
    with pytest.raises(DataError, match="lower base_size or raise vocab_size"):
        extend(base, CHINESE, size=1000)
    with pytest.raises(SettingsError, match="set it to 532 or more"):
        train_unigram(CODE, vocab_size=300)
    with pytest.raises(DataError, match=r"SentencePiece made no 49980 pieces .*; give more texts or lower vocab_size"):
        train_unigram(CODE[:1], vocab_size=50000)
    for name, data, message in (
        ("x.txt", b"\xff\xfe", "is not UTF-8 at byte 0; convert it"),
        ("x.jsonl", b"{", r"line 1 of .* is not JSON"),
        ("y.jsonl", b'{"a": 1}', "has neither text nor messages"),
        ("x.parquet", b"PAR1", "is no Parquet file with a column text"),
        ("x.docx", b"PK", "is of no known kind"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            list(read_source(tmp_path / name))
    with pytest.raises(DataError, match="does not exist; name a file or folder of texts"):
        list(read_source(tmp_path / "none"))
    with pytest.raises(DataError, match=r"cannot be read"):
        read_vocabulary(tmp_path / "none.json")
    with pytest.raises(DataError, match="is no tokenizer that can be read"):
        load_any(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["kind=bpe"], "state the section merged for kind merged, and for no other"),
        (["merged.extend_with=[klingon]"], "merged.extend_with is ['klingon']; name some of"),
        (["merged.base=x.json"], "state either merged.base or merged.trained_size"),
        (["merged.keeps=all-but-chinese"], "state merged.base_size for keeps most-used"),
    ],
)
def test_contradicting_settings_are_refused(tmp_path: Path, capsys, more: list[str], message: str) -> None:
    assert main(STAGE, [str(ROOT / "recipes/nano/tokenizer.yaml"), f"output={tmp_path}/out", *more]) == 2
    assert message in capsys.readouterr().err


def test_chinese_is_told_from_other_writing() -> None:
    letters = {byte: letter for letter, byte in BYTES.items()}

    def write(text: str) -> str:
        return "".join(letters[byte] for byte in text.encode("utf-8"))

    assert all(has_chinese(write(text)) for text in ("中", "a中", "。", "，", "한"))
    assert not any(has_chinese(write(text)) for text in ("abc", "é", "“", "…", "я", "═"))


def test_tokenizers_that_exist_are_compared_from_the_command_line(tmp_path: Path, merged: Vocabulary, capsys) -> None:
    for name, vocabulary in (("one", merged), ("two", Vocabulary(merged.merges[:500]))):
        vocabulary.make_backend(SPECIAL_TOKENS).save(str(tmp_path / f"{name}.json"))
    texts = [f"--on=chinese={ROOT}/tokenizer/data/chinese-python-docs.jsonl", f"--on=code={ROOT}/recipes"]
    given = [f"{name}={tmp_path}/{name}.json" for name in ("one", "two")]

    assert report_main([*given, *texts, f"--output={tmp_path}/report"]) == 0
    printed = capsys.readouterr().out
    assert report_main(["one", *texts]) == 2
    assert "'one' has no '='; write NAME=PATH" in capsys.readouterr().err

    table = {row["tokenizer"]: row for row in json.loads((tmp_path / "report" / "report.json").read_text())["table"]}
    text = "".join(read_source(ROOT / "recipes"))
    backend = merged.make_backend(SPECIAL_TOKENS)
    tokens = sum(len(backend.encode(document)) for document in read_source(ROOT / "recipes"))
    assert table["one"]["chars_per_token.code"] == pytest.approx(len(text) / tokens, abs=1e-4)
    assert table["two"]["words_cut_differently"]["code"] > 0.05
    assert "words that two cuts differently from one: chinese" in printed
    assert "| one | 2,020 |" in printed


@pytest.mark.shared
def test_vocabularies_built_on_starcoders_hold_their_claims() -> None:
    """Against the released tokenizer, on texts that neither it nor we built on."""
    folder = SHARED / "tokenizers"
    if not folder.exists():
        pytest.skip("StarCoder's and the released vocabulary are not beside this checkout")
    corpora = SHARED / "corpora"
    english = list(read_source(corpora / "english-python-docs.train.jsonl.gz"))
    chinese = list(read_source(corpora / "chinese-python-docs.train.jsonl.gz"))
    starcoder = read_vocabulary(folder / "starcoder")
    pruned = prune(starcoder, count_uses(starcoder, [*english, *CODE]), size=30_000, keep_first=22_000)
    built = {
        "literal": extend(pruned, chinese, size=70_000),
        "exact": extend(drop_chinese(starcoder), chinese, size=70_000, new_merges="chinese"),
    }
    for vocabulary in built.values():
        assert find_dead_tokens(vocabulary.make_backend(), vocabulary.tokens) == []
        assert len(vocabulary) == 70_000
    tokenizers = {name: vocabulary.make_backend(SPECIAL_TOKENS) for name, vocabulary in built.items()}
    tokenizers |= {name: load_any(folder / name) for name in ("starcoder", "codeshell")}
    unseen = {
        "chinese": list(read_source(corpora / "chinese-vue-docs.test.jsonl.gz")),
        "english": list(read_source(corpora / "english-python-docs.test.jsonl.gz")),
        "code": list(read_source(Path(sysconfig.get_paths()["stdlib"]) / "asyncio")),
    }

    rows = {row["tokenizer"]: row for row in compare(tokenizers, unseen, base="starcoder")}

    for name in built:
        for corpus in unseen:
            assert rows[name][f"chars_per_token.{corpus}"] > rows["codeshell"][f"chars_per_token.{corpus}"]
        assert rows[name]["lossy_characters"] == 0
    for corpus in ("english", "code"):
        exact, wanted = (rows[name][f"chars_per_token.{corpus}"] for name in ("exact", "starcoder"))
        assert round(exact, 3) == round(wanted, 3)
    assert rows["codeshell"]["lossy_characters"] >= 28
    assert rows["codeshell"]["dead_tokens"] == 938
    assert len(TRIED_CHARACTERS) > 20_000
