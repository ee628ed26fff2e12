"""Compares tokenizers: characters and bytes per token, coverage and use of entries, and speed.

python -m tokenizer.report starcoder=FOLDER released=FOLDER --on english=FILE --on chinese=FILE
    [--parallel chinese=english] [--output FOLDER]
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer

from codeshell_hf import CodeShellTokenizer
from codeshell_hf.errors import CodeShellError, DataError
from codeshell_hf.publish.figures import draw_bars, save_figure
from codeshell_hf.text.documents import read_documents

from .corpus import read_source
from .coverage import list_longest, measure_coverage, measure_parity, measure_use
from .settings import TextSource
from .vocabulary import find_dead_tokens, find_lossy_characters

Value = str | int | float | None | dict[str, float] | list[str]
Row = dict[str, Value]
# ASCII, Latin, Greek, Cyrillic, punctuation, Chinese, Korean, full-width forms, emoji.
TRIED_CHARACTERS = [
    chr(code)
    for first, last in ((0, 0x500), (0x2000, 0x2700), (0x3000, 0x3100), (0x4E00, 0x9FB0), (0xAC00, 0xAD00),
                        (0xFF00, 0xFFF0), (0x1F300, 0x1F650))
    for code in range(first, last)
]  # fmt: skip


def measure_languages(tokenizer: CodeShellTokenizer, documents: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Measures characters per token, for "all" first and then by language, the largest first.

    Args:
        documents: Language and text of each.
    """
    characters: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for language, text in documents:
        count = len(tokenizer.encode_text(text))
        for name in (language, "all"):
            characters[name] += len(text)
            tokens[name] += count
    return {name: characters[name] / max(tokens[name], 1) for name, _ in characters.most_common()}


def compare(
    tokenizers: Mapping[str, Tokenizer],
    corpora: Mapping[str, Sequence[str]],
    *,
    base: str | None = None,
    parallel: Sequence[tuple[str, str]] = (),
) -> list[Row]:
    """Compares tokenizers on the same texts, as Table 2 of CodeShell's report does, with more columns.

    Args:
        tokenizers: Tokenizers by name.
        corpora: Texts by name, on which none of the tokenizers was trained.
        base: Name of the tokenizer with which words and entries are compared.
        parallel: Pairs of corpora with the same content.

    Returns:
        A row per tokenizer: size, characters per token of each corpus and in total, dead tokens (`None` if it is not
        BPE), lossy ones of about 26,000 characters, bytes per token, characters covered, entries used, the longest
        entries, parity, words split differently, tokens per second.
    """
    rows: list[Row] = []
    for name, tokenizer in tokenizers.items():
        started = time.perf_counter()
        uses = {key: _count_uses(tokenizer, texts) for key, texts in corpora.items()}
        seconds = time.perf_counter() - started
        counts = {key: found.total() for key, found in uses.items()}
        characters = {key: sum(map(len, texts)) for key, texts in corpora.items()}
        special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        vocabulary = [token for token in tokenizer.get_vocab(with_added_tokens=False) if token not in special]
        is_bpe = json.loads(tokenizer.to_str())["model"]["type"] == "BPE"
        row: Row = {
            "tokenizer": name,
            "entries": tokenizer.get_vocab_size(),
            **{f"chars_per_token.{key}": round(characters[key] / max(counts[key], 1), 4) for key in corpora},
            "chars_per_token.total": round(sum(characters.values()) / max(sum(counts.values()), 1), 4),
            "dead_tokens": len(find_dead_tokens(tokenizer, vocabulary)) if is_bpe else None,
            "lossy_characters": len(find_lossy_characters(tokenizer, TRIED_CHARACTERS)),
            "tokens_per_s": round(sum(counts.values()) / seconds),
            "bytes_per_token": {
                key: round(sum(len(text.encode()) for text in texts) / max(counts[key], 1), 4)
                for key, texts in corpora.items()
            },
            "characters_covered": measure_coverage(tokenizer),
            "entries_used": measure_use(
                tokenizer, set().union(*uses.values()), tokenizers[base] if base not in (None, name) else None
            ),
            "longest_entries": list_longest(tokenizer),
            "parity": measure_parity(counts, parallel),
        }
        if base is not None and base != name and is_bpe:
            row["compared_with"] = base
            row["words_cut_differently"] = compare_words(tokenizers[base], tokenizer, corpora)
        rows.append(row)
    return rows


def compare_words(base: Tokenizer, other: Tokenizer, corpora: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Measures the share of words, 0 to 1, that two tokenizers split into different tokens, by corpus.

    Args:
        other: A tokenizer with the same pre-tokenizer as `base`.
    """
    shares = {}
    for name, texts in corpora.items():
        words: Counter[str] = Counter()
        for text in texts:
            words.update(text[start:end] for _, (start, end) in _split_words(base, text[:20_000]))
        unique = list(words)
        cut = [
            [encoding.tokens for encoding in tokenizer.encode_batch(unique, add_special_tokens=False)]
            for tokenizer in (base, other)
        ]
        different = sum(words[word] for word, one, two in zip(unique, *cut, strict=True) if one != two)
        shares[name] = round(different / max(sum(words.values()), 1), 6)
    return shares


def format_table(rows: Sequence[Row]) -> list[str]:
    """Formats the rows of `compare` as a Markdown table."""
    plain = [key for key, value in rows[0].items() if key != "compared_with" and not isinstance(value, dict | list)]
    lines = [
        "| " + " | ".join(key.removeprefix("chars_per_token.").replace("_", " ") for key in plain) + " |",
        "| --- |" + " ---: |" * (len(plain) - 1),
    ]
    return [*lines, *("| " + " | ".join(_format(row[key]) for key in plain) + " |" for row in rows)]


def _format(value: Value) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}"
    return str(value) if value is not None else "-"


def write_report(rows: Sequence[Row], folder: Path, **more: object) -> list[Row]:
    """Writes the rows of `compare`, and further values, as `report.json` and `report.svg`.

    Returns:
        The rows as written: without speed, which varies between runs and would change the file's hash.
    """
    written = [{key: value for key, value in row.items() if key != "tokens_per_s"} for row in rows]
    text = json.dumps({**more, "table": written}, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text + "\n", encoding="utf-8")
    save_figure(draw_bars(written, "chars_per_token."), folder / "report.svg")
    return written


def format_rows(rows: Sequence[Row]) -> list[str]:
    """Formats the rows of `compare` as a table, followed by lines for lists and dictionaries."""
    lines = format_table(rows)
    for row in rows:
        for key in ("bytes_per_token", "parity"):
            value = row[key]
            if isinstance(value, dict) and value:
                figures = ", ".join(f"{name} {figure:.3f}" for name, figure in value.items())
                lines.append(f"{key.replace('_', ' ')} of {row['tokenizer']}: {figures}")
        for key in ("characters_covered", "entries_used"):
            value = row[key]
            if isinstance(value, dict):
                figures = ", ".join(f"{name} {100 * figure:.1f} %" for name, figure in value.items())
                lines.append(f"{key.replace('_', ' ')} of {row['tokenizer']}: {figures}")
        lines.append(f"longest entries of {row['tokenizer']}: {row['longest_entries']}")
        cut = row.get("words_cut_differently")
        if isinstance(cut, dict) and cut:
            shares = ", ".join(f"{name} {100 * share:.2f} %" for name, share in cut.items())
            lines.append(f"words that {row['tokenizer']} cuts differently from {row['compared_with']}: {shares}")
    return lines


def read_corpora(
    built: CodeShellTokenizer, documents: Path | None, sources: Sequence[TextSource]
) -> tuple[dict[str, list[str]], dict[str, dict[str, float]]]:
    """Reads the texts on which a new tokenizer is measured, by corpus; of curated documents, the held-out split.

    If there are curated documents, the second result has `characters_per_token` for each of their languages.
    """
    corpora: dict[str, list[str]] = {}
    measures: dict[str, dict[str, float]] = {}
    if documents is not None:
        rows = list(read_documents(documents, split="held-out", columns=["text", "language"]))
        corpora["held-out"] = [row["text"] for row in rows]
        measures["characters_per_token"] = measure_languages(built, ((row["language"], row["text"]) for row in rows))
    corpora |= {source.name: list(read_source(source.path, source.language)) for source in sources}
    return corpora, measures


def write_measures(
    built: CodeShellTokenizer,
    peers: Mapping[str, Path],
    corpora: Mapping[str, Sequence[str]],
    folder: Path,
    parts: Mapping[str, object],
    measures: Mapping[str, object],
) -> tuple[list[Row], list[str]]:
    """Compares a new tokenizer with others, and writes the report, with counts of entries and other measures.

    Args:
        peers: Folders or files by name; words are compared with the first.

    Returns:
        The rows that were written, and lines to print.
    """
    tokenizers = {"built": built.backend_tokenizer, **{name: load_any(path) for name, path in peers.items()}}
    rows = compare(tokenizers, corpora, base=next(iter(peers), None))
    return write_report(rows, folder, parts=parts, **measures), format_rows(rows)


def load_any(path: Path) -> Tokenizer:
    """Loads a tokenizer from a `tokenizer.json` or its folder.

    Raises:
        DataError: If it cannot be read.
    """
    path = path / "tokenizer.json" if path.is_dir() else path
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises plain exceptions
        raise DataError(f"{path} cannot be read as a tokenizer ({error}); name a tokenizer.json") from error


def _count_uses(tokenizer: Tokenizer, texts: Sequence[str]) -> Counter[int]:
    uses: Counter[int] = Counter()
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        uses.update(encoding.ids)
    return uses


def _split_words(tokenizer: Tokenizer, text: str) -> list[tuple[str, tuple[int, int]]]:
    return tokenizer.pre_tokenizer.pre_tokenize_str(text) if tokenizer.pre_tokenizer else [(text, (0, len(text)))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares existing tokenizers; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tokenizer.report", description="Compares tokenizers.")
    parser.add_argument("tokenizers", nargs="+", metavar="NAME=PATH", help="words are compared with the first")
    parser.add_argument("--on", action="append", required=True, metavar="NAME=PATH", help="texts on which to measure")
    parser.add_argument(
        "--parallel", action="append", default=[], metavar="NAME=NAME", help="two of the texts with the same content"
    )
    parser.add_argument("--output", type=Path, help="folder for report.json and report.svg")
    options = parser.parse_args(arguments)
    try:
        tokenizers = {name: load_any(path) for name, path in map(_split_name, options.tokenizers)}
        corpora = {name: list(read_source(path)) for name, path in map(_split_name, options.on)}
        parallel = [(one, str(two)) for one, two in map(_split_name, options.parallel)]
        unknown = sorted({name for pair in parallel for name in pair} - set(corpora))
        if unknown:
            raise DataError(f"--parallel names {unknown}; name two of --on's {list(corpora)}")
        rows = compare(tokenizers, corpora, base=next(iter(tokenizers)), parallel=parallel)
        if options.output:
            options.output.mkdir(parents=True, exist_ok=True)
            write_report(rows, options.output)
    except CodeShellError as error:
        print(f"report: error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    print("\n".join(format_rows(rows)))  # noqa: T201
    return 0


def _split_name(argument: str) -> tuple[str, Path]:
    name, sign, path = argument.partition("=")
    if not sign:
        raise DataError(f"{argument!r} has no '='; write NAME=PATH")
    return name, Path(path)


if __name__ == "__main__":
    sys.exit(main())
