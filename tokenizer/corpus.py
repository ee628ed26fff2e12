"""Training texts of the tokenizer: plain text, JSON Lines, Parquet, word lists, curated documents, folders of code."""

import gzip
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from codeshell_hf.curate.languages import name_language
from codeshell_hf.errors import DataError
from codeshell_hf.text.documents import DOCUMENTS, read_documents

from .settings import TextSource

MAX_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class Sample:
    """A source's share of the sample.

    Args:
        characters: Number of characters that `read` yields.
        read_counted: Yields texts with their counts; may be called repeatedly.
        weight: As in `TextSource`.
    """

    characters: int
    read_counted: Callable[[], Iterator[tuple[str, int]]]
    weight: float = 1.0

    def read(self) -> Iterator[str]:
        """Yields the texts, each repeated by its count."""
        for text, count in self.read_counted():
            yield text if count == 1 else f"{text}\n" * count


def read_source(path: Path, language: str | None = None) -> Iterator[str]:
    """Reads all texts of a source, each repeated by its count; see `read_counted`."""
    yield from Sample(0, lambda: read_counted(path, language)).read()


def read_counted(path: Path, language: str | None = None) -> Iterator[tuple[str, int]]:
    """Reads the texts of a source one at a time, with their counts, which are 1 except in word lists.

    Reads the training split of curated documents, `text` or all `messages` of JSON Lines, and the column `text` of
    Parquet; a line of a word list (`.tsv`) is a word, a tab and a count.

    Args:
        path: As in `TextSource`.
        language: Reads only this language of curated documents and folders of code; `None` for all.

    Raises:
        DataError: If the source is missing, of an unknown kind, or has a broken line or file.
    """
    if path.suffix == ".tsv" and path.is_file():
        yield from _read_words(path)
    else:
        yield from ((text, 1) for text in _read_texts(path, language))


def _read_texts(path: Path, language: str | None) -> Iterator[str]:
    suffixes = "".join(path.suffixes[-2:])
    if path.is_dir():
        yield from _read_folder(path, language)
    elif not path.is_file():
        raise DataError(f"source {path} does not exist; name a file or folder of texts")
    elif suffixes.endswith((".jsonl", ".jsonl.gz")):
        yield from _read_lines(path)
    elif suffixes.endswith(".parquet"):
        try:
            for batch in pq.ParquetFile(path).iter_batches(batch_size=512, columns=["text"]):
                yield from (text for text in batch["text"].to_pylist() if text)
        except (pa.ArrowInvalid, KeyError, OSError) as error:
            raise DataError(f"source {path} is not a Parquet file with a column text ({error})") from error
    elif suffixes.endswith((".txt", ".md")):
        yield _decode(path.read_bytes(), path)
    else:
        raise DataError(f"source {path} is of an unknown kind; use .txt, .jsonl, .jsonl.gz, .parquet, .tsv or a folder")


def sample(sources: Sequence[TextSource], *, sample_bytes: int, once: Collection[str] = ()) -> dict[str, Sample]:
    """Draws texts evenly from each source up to its share of the sample; the same input gives the same sample.

    A source that is smaller than its share is repeated, so that the weights hold. Sources are not kept in memory; each
    is read once to measure it, and again each time the sample is read.

    Args:
        sources: Sources with different names.
        sample_bytes: Size of the sample in bytes.
        once: Names of sources that are read completely and once, whatever their weight.

    Returns:
        Samples by source.

    Raises:
        DataError: If a source has no text.
    """
    total_weight = sum(source.weight for source in sources)
    drawn: dict[str, Sample] = {}
    for source in sources:
        share = int(sample_bytes * source.weight / total_weight)
        size = characters = 0
        for text, count in read_counted(source.path, source.language):
            size += len(text.encode("utf-8")) * count
            characters += len(text) * count
        if not size:
            raise DataError(f"source {source.name} ({source.path}) has no text; name another or leave it out")
        share = size if source.name in once else share
        # An estimate if only a part is read: it has about as many characters per byte as the whole.
        drawn[source.name] = Sample(round(characters * share / size), _draw(source, size, share), source.weight)
    return drawn


def _draw(source: TextSource, size: int, share: int) -> Callable[[], Iterator[tuple[str, int]]]:
    def draw() -> Iterator[tuple[str, int]]:
        whole, rest = divmod(share, size)
        for _ in range(whole):
            yield from read_counted(source.path, source.language)
        if rest:
            yield from ((text, 1) for text in take_share(read_source(source.path, source.language), rest / size))

    return draw


def chain_all(samples: Mapping[str, Sample], *, step: str) -> Iterator[str]:
    """Yields the texts of all samples, source by source, with a progress bar named after the step."""
    total = sum(one.characters for one in samples.values())
    with tqdm(desc=step, total=total, unit="char", unit_scale=True) as bar:
        for name, one in samples.items():
            bar.set_postfix_str(name)
            for text in one.read():
                # The total is an estimate, which the bar must not exceed.
                bar.total = max(bar.total, bar.n + len(text))
                bar.update(len(text))
                yield text
        bar.total = bar.n
        bar.refresh()


def take_share(texts: Iterable[str], share: float) -> Iterator[str]:
    """Takes texts with a share of the bytes, 0 to 1, spread evenly over all texts."""
    taken = seen = 0
    for text in texts:
        size = len(text.encode("utf-8"))
        seen += size
        if taken + size / 2 < seen * share:
            taken += size
            yield text


def _read_folder(path: Path, language: str | None) -> Iterator[str]:
    if (path / DOCUMENTS).is_dir():
        for row in read_documents(path, split="train", columns=["text", "language"]):
            if language in (None, row["language"]):
                yield row["text"]
        return
    for file in sorted(path.rglob("*")):
        named = name_language(file.name)
        if named and language in (None, named) and file.is_file() and file.stat().st_size <= MAX_FILE_BYTES:
            try:
                yield file.read_bytes().decode("utf-8")
            except (UnicodeDecodeError, OSError):  # folders of code may contain such files; a named text file may not
                continue


def _read_words(path: Path) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(_decode(path.read_bytes(), path).splitlines(), 1):
        word, tab, count = line.partition("\t")
        if not tab or not count.isdecimal():
            raise DataError(f"line {number} of {path} is {line[:60]!r}; write a word, a tab and a count")
        yield word, int(count)


def _read_lines(path: Path) -> Iterator[str]:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(_decode(line, path))
            except json.JSONDecodeError as error:
                raise DataError(
                    f"line {number} of {path} is not JSON ({error.msg}); write one object a line"
                ) from error
            if "messages" in row:
                yield "\n".join(message["content"] for message in row["messages"])
            elif isinstance(row.get("text"), str):
                yield row["text"]
            else:
                raise DataError(f"line {number} of {path} has neither text nor messages")


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"source {path} is not UTF-8 at byte {error.start}; convert it") from error
