"""The steps of curation in their order. Every step reads what the last one left and writes what the next one needs."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataFrame, col
from numpy.typing import NDArray

from ..errors import DataError
from ..manifest import hash_values, write_text
from ..text.cache import JsonLinesCache
from ..text.documents import DOCUMENTS
from .annotation import annotate_by_signals, ask
from .corpus import ROW, Corpus, Progress, list_all, split_parts
from .decontamination import read_benchmark
from .duplicates import NearDuplicates, find_exact_duplicates, find_near_duplicates, find_repeated_pieces
from .engine import count_cores
from .inspection import STATIC, inspect_part, score_part
from .measurement import SIGNAL_NAMES
from .ngrams import train, write_arpa
from .options import Curation, Outcome, Perplexity, Quality
from .regressor import MEASURES, fit
from .rules import judge
from .sources import Source
from .words import load_splitter
from .writing import EXAMPLES, write_part

_RANK = ("key", "preference", "stars", "id")
_JUDGED = ("path", "repository", "licence", "bytes", "language", "reason", "digest", "bands", "pieces", *SIGNAL_NAMES)


def curate(
    sources: Sequence[Source],
    options: Curation,
    output: Path,
    cache: Path,
    *,
    part_bytes: int,
    on_progress: Progress = lambda step, done, total: None,
) -> Outcome:
    """Runs the funnel.

    Args:
        sources: What to read.
        options: What decides.
        output: Folder for `documents/part-*.parquet`, `duplicates.parquet`, `funnel.json` and, where they are trained
            here, `ngrams.arpa` and `quality/`.
        cache: Folder of what was measured and annotated; it makes the next run with other thresholds short.
        part_bytes: About how much a part holds; parts are worked on side by side and finished once for all.
        on_progress: Called with the step, parts done and parts in all.

    Returns:
        Counts, histograms and examples.

    Raises:
        DataError: If there is nothing to read, or nothing is left.
    """
    check(options)
    work = output / "work"
    work.mkdir(parents=True, exist_ok=True)
    parts = split_parts(list_all(sources), part_bytes=part_bytes)
    corpus = Corpus(sources, parts, options.measuring, cache / "measured", work, on_progress)
    run = _Run(corpus, options, output, cache, on_progress)
    run.step("read")
    staying = run.judge()
    clusters = run.drop_duplicates(staying)
    run.inspect(staying)
    run.cut_by_perplexity()
    run.score()
    run.decontaminate()
    run.select()
    run.write(clusters)
    shutil.rmtree(work)
    return run.outcome


def check(options: Curation) -> None:
    """Finds what would stop a run hours later.

    Args:
        options: What decides.

    Raises:
        DataError: If a benchmark, model or tokenizer cannot be read.
    """
    for row in options.benchmarks:
        read_benchmark(row["name"], Path(row["path"]), row["fields"])
    if options.perplexity is not None:
        load_splitter(options.perplexity.words)
        model = options.perplexity.model
        if model is not None and not model.is_file():
            raise DataError(f"perplexity.model is {model}, which is no file; name one, or null to train")
    if options.tokenizer is not None:
        load_splitter(options.tokenizer)


class _Run:
    """The steps over one corpus."""

    def __init__(self, corpus: Corpus, options: Curation, output: Path, cache: Path, on_progress: Progress) -> None:
        self.outcome = Outcome()
        self._corpus = corpus
        self._verdicts = corpus.verdicts
        self._options = options
        self._output = output
        self._cache = cache
        self._work = corpus.work
        self._progress = on_progress
        pieces = options.pieces
        self._pieces: dict[str, Any] = {
            "pieces": pieces.piece if pieces else None,
            "repeated": None,
            "min_piece_bytes": pieces.min_bytes if pieces else 0,
        }

    def step(self, name: str) -> None:
        """Remembers how many documents are left."""
        self.outcome.steps.append((name, self._verdicts.count_kept()))

    def judge(self) -> DataFrame:
        """Judges by languages and rules, and gives what is still in as a data frame."""
        paths = [str(path) for path in self._corpus.measured]
        read = daft.read_parquet(paths).select("key", "id", "stars", *_JUDGED)
        judged = read.with_column("verdict", daft.functions.coalesce(col("reason"), judge(self._options.rules)))
        readable = read.where(col("reason").is_null()).groupby("language").agg(col("bytes").sum().alias("size"))
        sizes = readable.to_pydict()
        small = sorted(
            name
            for name, size in zip(sizes["language"], sizes["size"], strict=True)
            if size < self._options.min_language_bytes
        )
        self._progress("judge", 0, len(paths))
        for batch in judged.select("key", "reason", "language", "verdict").to_arrow_iter():
            keys, verdicts = batch["key"].to_pylist(), batch["verdict"].to_pylist()
            # What cannot be read, then languages, then rules.
            early = [
                reason or ("small-language" if language in small else None)
                for reason, language in zip(batch["reason"].to_pylist(), batch["language"].to_pylist(), strict=True)
            ]
            self._verdicts.drop_each(keys, early)
            self._verdicts.drop_each(keys, verdicts)
        self._progress("judge", len(paths), len(paths))
        self.step("languages and rules")
        staying = judged.where(col("verdict").is_null())
        return staying.where(~col("language").is_in(small)) if small else staying

    def drop_duplicates(self, staying: DataFrame) -> pa.Table:
        """Drops exact and near duplicates, and gives who repeats whom: `key`, `cluster`, `kind`."""
        self._progress("exact duplicates", 0, 1)
        exact = self._corpus.once("exact", lambda: find_exact_duplicates(staying.select(*_RANK, "digest")))
        self._verdicts.drop(exact["key"].to_numpy(), "exact-duplicate")
        self._progress("exact duplicates", 1, 1)
        self.step("exact duplicates")
        tables = [exact.append_column("kind", pa.array(["exact"] * len(exact), pa.string()))]
        options = self._options.near
        if options is not None:
            self._progress("near duplicates", 0, 1)
            near = self._corpus.once("near", lambda: self._find_near(staying, exact, options))
            self._verdicts.drop(near["key"].to_numpy(), "near-duplicate")
            tables.append(near.append_column("kind", pa.array(["near"] * len(near), pa.string())))
            self.outcome.measures |= json.loads((self._work / "near.json").read_text(encoding="utf-8"))
            self._progress("near duplicates", 1, 1)
            self.step("near duplicates")
        return pa.concat_tables(tables)

    def _find_near(self, staying: DataFrame, exact: pa.Table, options: NearDuplicates) -> pa.Table:
        documents = staying.select(*_RANK, "bands", "shingles")
        if exact.num_rows:
            documents = documents.join(daft.from_arrow(exact.select(["key"])), on="key", how="anti")
        folder = self._work / "sets"
        found, counts = find_near_duplicates(documents, self._corpus.measured, folder, options)
        shutil.rmtree(folder)
        write_text(self._work / "near.json", json.dumps(counts))
        return found

    def inspect(self, staying: DataFrame) -> None:
        """Reads the texts that are still in: repeated pieces, perplexity, benchmarks, tokens."""
        options = self._options
        if options.pieces is not None:
            path = self._work / "repeated.npy"
            if not path.exists():
                documents = staying.select("key", "pieces")
                np.save(path, find_repeated_pieces(documents, min_documents=options.pieces.min_documents))
            self._pieces["repeated"] = str(path)
            self.outcome.measures["repeated_pieces"] = len(np.load(path))
        perplexity = options.perplexity
        shared = {
            "model": str(self._find_ngrams(perplexity)) if perplexity else None,
            "words": perplexity.words if perplexity else "code",
            "max_characters": perplexity.max_characters if perplexity else 0,
            "benchmarks": [{**row, "path": str(row["path"]), "fields": [*row["fields"]]} for row in options.benchmarks],
            "min_hits": options.min_benchmark_hits,
            "tokenizer": options.tokenizer,
            **self._pieces,
        }
        self._corpus.map("inspect", inspect_part, shared)
        if options.pieces is not None:
            for table in self._corpus.read("inspect", ["key", "left"]):
                short = table.filter(pc.less(table["left"], options.pieces.min_left))
                self._verdicts.drop(short["key"].to_numpy(), "repeated-text")
            self.step("repeated text")

    def _find_ngrams(self, options: Perplexity) -> Path:
        if options.model is not None:
            return options.model
        path = self._output / "ngrams.arpa"
        if not path.exists():
            self._progress("train n-grams", 0, 1)
            split = load_splitter(options.words)
            sample = (split(text) for text in self._corpus.prefer(options.sample_bytes))
            write_arpa(train(sample, order=options.order, min_word_count=options.min_word_count), path)
            self._progress("train n-grams", 1, 1)
        return path

    def cut_by_perplexity(self) -> None:
        """Drops of every language the documents that the n-gram model finds least likely."""
        options = self._options.perplexity
        if options is None:
            return
        values: dict[str, list[float]] = {}
        for _, language, value in self._read_perplexities():
            values.setdefault(language, []).append(value)
        cuts = {name: float(np.quantile(found, options.keep_fraction)) for name, found in values.items()}
        high = [key for key, language, value in self._read_perplexities() if value > cuts[language]]
        self._verdicts.drop(high, "high-perplexity")
        self.outcome.measures["perplexity_cuts"] = {name: round(cut, 3) for name, cut in sorted(cuts.items())}
        self.step("perplexity")

    def _read_perplexities(self) -> Iterator[tuple[int, str, float]]:
        for part, table in enumerate(self._corpus.read("inspect", ["key", "perplexity"])):
            languages = pq.read_table(self._corpus.measured[part], columns=["language"])["language"].to_pylist()
            codes = self._verdicts.select(part)
            for key, value in zip(table["key"].to_pylist(), table["perplexity"].to_pylist(), strict=True):
                if codes[key & ROW] == 0:
                    yield key, languages[key & ROW], value

    def score(self) -> None:
        """Scores quality, and drops what lies below the threshold where there is one."""
        options = self._options.quality
        if options is None:
            return
        model = options.model or self._train_quality(options)
        workers = count_cores() if model == STATIC else max(1, count_cores() // 2)
        shared = {
            "model": model,
            "max_tokens": options.fitting.max_tokens,
            "precision": options.fitting.precision,
            "batch_documents": options.batch_documents,
            "workers": workers,
        }
        self._corpus.map("quality", score_part, shared, max_workers=workers)
        if options.min_score is not None:
            for table in self._corpus.read("quality", ["key", "quality"]):
                low = table.filter(pc.less(table["quality"], options.min_score))
                self._verdicts.drop(low["key"].to_numpy(), "low-quality")
        self.step("quality")

    def _train_quality(self, options: Quality) -> str:
        folder = self._output / "quality"
        if not (folder / MEASURES).exists():
            rows = self._corpus.draw(options.sample_documents, options.fitting.seed)
            texts = list(self._corpus.read_texts([row["key"] for row in rows]))
            scores = self._annotate(options, rows, texts)
            known = [(text, score) for text, score in zip(texts, scores, strict=True) if score is not None]
            self._progress("train quality", 0, 1)
            folder.mkdir(exist_ok=True)
            fit([text for text, _ in known], [score for _, score in known], folder, options.fitting)
            shutil.rmtree(folder / "trainer", ignore_errors=True)
            self._progress("train quality", 1, 1)
        annotator = STATIC if options.endpoint is None else options.endpoint.model
        measures = json.loads((folder / MEASURES).read_text(encoding="utf-8"))
        self.outcome.measures["quality"] = {"annotator": annotator, **measures}
        return str(folder)

    def _annotate(self, options: Quality, rows: list[dict[str, Any]], texts: list[str]) -> list[float | None]:
        if options.endpoint is None:
            return [annotate_by_signals(row) for row in rows]

        def show(done: int, total: int) -> None:
            self._progress("annotate", done, total)

        documents = [(text, row["language"]) for text, row in zip(texts, rows, strict=True)]
        return [*ask(options.endpoint, documents, JsonLinesCache(self._cache / "answers.jsonl"), on_progress=show)]

    def decontaminate(self) -> None:
        """Drops what holds something of a benchmark."""
        if not self._options.benchmarks:
            return
        found: dict[str, int] = {}
        for table in self._corpus.read("inspect", ["key", "benchmark"]):
            rows = table.filter(table["benchmark"].is_valid())
            self._verdicts.drop(rows["key"].to_numpy(), "contaminated")
            for name in rows["benchmark"].to_pylist():
                found[name] = found.get(name, 0) + 1
        self.outcome.measures["benchmarks"] = found
        self.step("decontamination")

    def select(self) -> None:
        """Takes so many tokens, the best or by lot; languages keep their shares."""
        options = self._options.selection
        if options is None:
            return
        keys, tokens, scores, languages = [], [], [], []
        for part, table in enumerate(self._corpus.read("inspect", ["key", "tokens"])):
            staying = table.filter(pa.array(self._verdicts.select(part)[table["key"].to_numpy() & ROW] == 0))
            keys.append(staying["key"].to_numpy())
            tokens.append(staying["tokens"].to_numpy())
            named = pq.read_table(self._corpus.measured[part], columns=["language"])["language"].to_numpy()
            languages.append(named[keys[-1] & ROW])
            if options.by == "quality":
                scored = pq.read_table(self._work / "quality" / f"{part:05d}.parquet")
                places = np.searchsorted(scored["key"].to_numpy(), keys[-1])
                scores.append(scored["quality"].to_numpy()[places])
        flat, sizes = np.concatenate(keys), np.concatenate(tokens)
        if options.by == "quality":
            order = np.argsort(-np.concatenate(scores), kind="stable")
        else:
            order = np.random.default_rng(options.seed).permutation(len(flat))
        is_taken = take_shares(sizes[order], np.concatenate(languages)[order], options.max_tokens)
        self._verdicts.drop(flat[order[~is_taken]], "not-selected")
        self.step("selection")

    def write(self, clusters: pa.Table) -> None:
        """Writes documents, who repeats whom, and the counts.

        Args:
            clusters: Of `drop_duplicates`.
        """
        documents = self._output / DOCUMENTS
        self._write_duplicates(clusters)
        tasks = self._corpus.list_parts("write", documents, prefix="part-")
        for task in tasks:
            name = f"{task['index']:05d}.parquet"
            task["inspected"] = str(self._work / "inspect" / name)
            task["scored"] = str(self._work / "quality" / name) if self._options.quality else None
        shared = {
            "clusters": str(self._work / "clusters.npy"),
            "reasons": self._verdicts.reasons,
            "held_out_fraction": self._options.held_out_fraction,
            "redacts": self._options.redacts,
            **self._pieces,
        }
        _merge(self.outcome, self._corpus.gather("write", write_part, tasks, shared))
        for path in documents.glob(".*.json"):
            path.unlink()
        counts = self.outcome.funnel.counts()
        if not counts["documents_after"]:
            reasons = ", ".join(f"{name} {count}" for name, count in self.outcome.funnel.reasons())
            before = f"{counts['documents_before']} documents"
            raise DataError(f"none of {before} is left ({reasons}); loosen the rules or name other sources")
        write_text(self._output / "funnel.json", json.dumps(counts, indent=1) + "\n")

    def _write_duplicates(self, clusters: pa.Table) -> None:
        """Who repeats whom, by id, and how many stand behind each document that stays."""
        best, counts = np.unique(clusters["cluster"].to_numpy(), return_counts=True)
        np.save(self._work / "clusters.npy", np.stack([best, counts + 1], axis=1).astype(np.int64))
        wanted = np.unique(np.concatenate([clusters["key"].to_numpy(), best])).astype(np.int64)
        found = [name for table in self._corpus.take(wanted, ["id"]) for name in table["id"].to_pylist()]
        ids = dict(zip(wanted.tolist(), found, strict=True))
        table = pa.table(
            {
                "id": pa.array([ids[key] for key in clusters["key"].to_pylist()], pa.string()),
                "cluster": pa.array([ids[key] for key in clusters["cluster"].to_pylist()], pa.string()),
                "kind": clusters["kind"],
            }
        )
        pq.write_table(table.sort_by("id"), self._output / "duplicates.parquet", compression="zstd")


def take_shares(tokens: NDArray[np.int64], groups: NDArray[np.object_], max_tokens: int) -> NDArray[np.bool_]:
    """Takes the first of every group until it has its share of so many tokens.

    Args:
        tokens: Of documents, the most wanted first, int64, shape (D,).
        groups: Their groups' names, shape (D,).
        max_tokens: How many to take in all; a group's share is its share of all tokens.

    Returns:
        Whether each is taken, bool, shape (D,).

    >>> take_shares(np.array([10, 10, 20, 20]), np.array(["a", "b", "a", "b"]), 30)
    array([ True,  True, False, False])
    """
    is_taken = np.zeros(len(tokens), bool)
    share = max_tokens / max(int(tokens.sum()), 1)
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        running = np.cumsum(tokens[places])
        is_taken[places[running <= running[-1] * share]] = True
    return is_taken


def _merge(outcome: Outcome, results: Sequence[dict[str, Any]]) -> None:
    histograms: dict[str, Any] = {}
    examples: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        for language, verdict, *values in result["counts"]:
            outcome.funnel.add(language, verdict, *values)
        for name, counts in result["histograms"].items():
            histograms[name] = np.asarray(counts) + histograms.get(name, 0)
        for reason, found in result["examples"].items():
            examples.setdefault(reason, []).extend(found)
        for name, count in sorted(result["placeholders"].items()):
            outcome.placeholders[name] = outcome.placeholders.get(name, 0) + count
    outcome.histograms = {name: values.tolist() for name, values in histograms.items()}
    outcome.examples = {
        reason: sorted(found, key=lambda row: hash_values(row["id"]))[:EXAMPLES]
        for reason, found in sorted(examples.items())
    }
