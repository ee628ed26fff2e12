"""The steps of curation. Each step works on the documents that earlier ones left."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataFrame, col
from numpy.typing import NDArray

from ..errors import DataError
from ..manifest import hash_values, write_text
from ..precision import ComputeDtype
from ..text.cache import JsonLinesCache
from ..text.client import read_token
from ..text.documents import DOCUMENTS
from .annotation import SECTION, annotate_by_signals, ask
from .benchmark_tasks import read_benchmark
from .corpus import ROW, Corpus, Drawn
from .daft_engine import count_cores
from .dropped import DropLimits, join_parts
from .duplicates import NO_DUPLICATES, NearGraph, find_exact_duplicates, find_repeated_pieces
from .existing import NEAR, find_existing
from .inspection import STATIC, InspectShared, ScoreShared, inspect_part, score_part
from .measured_parts import CHEAP_SIGNALS
from .ngrams import train, write_arpa
from .parts import Repeated
from .progress import Progress
from .quality_requests import find_injected_lines
from .quality_scores import OUTPUTS, Assessment
from .regressor import MEASURES, fit
from .report import Example, Outcome
from .rights import read_opt_outs
from .rules import judge_cheaply, judge_examined, load_rule, split_custom
from .settings import (
    Benchmark,
    NearDuplicates,
    Perplexity,
    Quality,
    RepeatedText,
    Rights,
    Rules,
    Selection,
    Source,
)
from .words import load_splitter
from .writing import EXAMPLES, WriteShared, WriteTask, Written, write_part

EXISTING = "existing"
ANNOTATIONS = "annotations.parquet"
_RANK = ("key", "standing", "stars", "id")
_NO_KEYS = np.empty(0, np.int64)
_FAILED = pa.schema([("key", pa.int64()), ("reason", pa.string())])
_JUDGED = (
    "source",
    "path",
    "repository",
    "licence",
    "bytes",
    "language",
    "reason",
    "digest",
    "bands",
    "pieces",
    *CHEAP_SIGNALS,
)


def check_inputs(
    *,
    rules: Rules,
    rights: Rights,
    benchmarks: Sequence[Benchmark],
    perplexity: Perplexity | None,
    quality: Quality | None,
    tokenizer: str | None,
) -> None:
    """Checks at the start for errors that would stop a run hours later.

    Raises:
        DataError: If a list, benchmark, model or tokenizer cannot be read.
        SettingsError: If the endpoint's key is not set, or a user's rule is invalid.
    """
    for reference in rules.custom:
        load_rule(reference)
    if quality is not None and quality.endpoint is not None:
        read_token(quality.endpoint, SECTION)
    read_opt_outs(rights.opt_out)
    for benchmark in benchmarks:
        read_benchmark(benchmark)
    if perplexity is not None:
        load_splitter(perplexity.words)
        if perplexity.model is not None and not perplexity.model.is_file():
            raise DataError(f"perplexity.model is {perplexity.model}, which is not a file; name one, or null to train")
    if tokenizer is not None:
        load_splitter(tokenizer)


class Curation:
    """The steps over one corpus, in the order of their methods.

    Args:
        output: Folder for `documents/part-*.parquet`, `duplicates.parquet`, `dropped.parquet`, `funnel.json` and, if
            trained here, `ngrams.arpa` and `quality/`.
        on_progress: Called with the step, the parts done and their total.
    """

    def __init__(self, corpus: Corpus, output: Path, on_progress: Progress) -> None:
        self.outcome = Outcome()
        self._corpus = corpus
        self._verdicts = corpus.verdicts
        self._output = output
        self._work = corpus.work
        self._progress = on_progress
        self._remaining: DataFrame
        self._clusters: pa.Table
        self._repeated: Repeated | None = None
        self._is_scored = False
        self._examined_rules: daft.Expression | None = None
        self._has_existing = False
        self._limits = DropLimits(rules={}, thresholds={}, of_languages={}, language_bytes={})
        self._count_step("read")

    def _count_step(self, name: str) -> None:
        self.outcome.steps.append((name, self._verdicts.count_kept()))

    def judge(self, rules: Rules, rights: Rights, *, min_language_bytes: int) -> None:
        """Drops unreadable documents, small languages, and documents that break a rule that is cheap to measure."""
        paths = [str(path) for path in self._corpus.measured]
        read = daft.read_parquet(paths).select("key", "id", "stars", *_JUDGED)
        cheap, examined = split_custom(rules, read)
        self._examined_rules = judge_examined(rules, examined)
        judged = read.with_column(
            "verdict", daft.functions.coalesce(col("reason"), judge_cheaply(rules, rights, cheap))
        )
        readable = read.where(col("reason").is_null()).groupby("language").agg(col("bytes").sum().alias("size"))
        sizes = readable.to_pydict()
        self._limits["rules"] = rules.model_dump(mode="json")
        self._limits["thresholds"] |= {"small-language": min_language_bytes, "too-large": self._corpus.max_file_bytes}
        self._limits["language_bytes"] = {
            str(name): int(size) for name, size in zip(sizes["language"], sizes["size"], strict=True)
        }
        small = sorted(
            name for name, size in zip(sizes["language"], sizes["size"], strict=True) if size < min_language_bytes
        )
        self._progress("judge", 0, len(paths))
        for batch in judged.select("key", "reason", "language", "verdict").to_arrow_iter():
            keys, verdicts = batch["key"].to_pylist(), batch["verdict"].to_pylist()
            # Order of reasons: unreadable, language, rules.
            early = [
                reason or ("small-language" if language in small else None)
                for reason, language in zip(batch["reason"].to_pylist(), batch["language"].to_pylist(), strict=True)
            ]
            self._verdicts.drop_each(keys, early)
            self._verdicts.drop_each(keys, verdicts)
        self._progress("judge", len(paths), len(paths))
        self.outcome.measures["encodings"] = self._count_encodings(paths)
        self._count_step("languages and rules")
        remaining = judged.where(col("verdict").is_null())
        self._remaining = remaining.where(~col("language").is_in(small)) if small else remaining

    def drop_existing(
        self, sources: Sequence[Source], near: NearDuplicates | None, *, part_bytes: int, cache: Path
    ) -> None:
        """Drops documents that another corpus has, exactly or nearly."""
        paths = self._corpus.sign_existing(sources, near, part_bytes=part_bytes, cache=cache)
        documents = self._remaining.select("key", "digest", "bands", "shingles")
        folder = self._work / "existing-sets"
        found = self._corpus.once(
            EXISTING, lambda: find_existing(documents, self._corpus.measured, paths, folder, near)
        )
        shutil.rmtree(folder, ignore_errors=True)
        self._verdicts.drop_each(found["key"].to_pylist(), found["reason"].to_pylist())
        if near is not None:
            self._limits["thresholds"][NEAR] = near.min_jaccard
        if len(found):
            self._remaining = self._remaining.join(daft.from_arrow(found.select(["key"])), on="key", how="anti")
        self._has_existing = True
        self._count_step("existing corpora")

    @staticmethod
    def _count_encodings(paths: Sequence[str]) -> dict[str, int]:
        """The number of documents in each encoding other than UTF-8."""
        counts: dict[str, int] = {}
        for path in paths:
            for name in pq.read_table(path, columns=["encoding"])["encoding"].drop_null().to_pylist():
                counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items()))

    def drop_duplicates(self, near: NearDuplicates | None, *, drops_exact: bool) -> None:
        """Drops exact and near duplicates, or keeps either, and documents that break a rule of syntax or standards.

        Only what duplicates leave is parsed and linted. A document that then breaks a rule represents no other: those
        that are near to it are looked at in its place.
        """
        self._progress("exact duplicates", 0, 1)
        # Equal documents in two languages are judged by different rules, and are near duplicates.
        same = "digest" if near is None else "same"
        ranked = self._remaining.with_column("same", col("digest") + col("language"))
        ranked = ranked.select(*_RANK, same)
        exact = NO_DUPLICATES
        if drops_exact:
            exact = self._corpus.once("exact", lambda: find_exact_duplicates(ranked, same=same))
        self._verdicts.drop(exact["key"].to_numpy(), "exact-duplicate")
        self._progress("exact duplicates", 1, 1)
        self._count_step("exact duplicates")
        table = self._corpus.once("near", lambda: self._settle(exact, near))
        failed = pq.read_table(self._work / "failed.parquet")
        tables = [exact.append_column("kind", pa.array(["exact"] * len(exact), pa.string()))]
        if near is not None:
            self._verdicts.drop(table["key"].to_numpy(), "near-duplicate")
            self._limits["thresholds"]["near-duplicate"] = near.min_jaccard
            tables.append(table.append_column("kind", pa.array(["near"] * len(table), pa.string())))
            self.outcome.measures |= json.loads((self._work / "near.json").read_text(encoding="utf-8"))
            self._count_step("near duplicates")
        self._verdicts.drop_each(failed["key"].to_pylist(), failed["reason"].to_pylist())
        self._count_step("syntax and standards")
        self._clusters = _follow_clusters(pa.concat_tables(tables), table)
        self._corpus.align_examined()

    def _settle(self, exact: pa.Table, near: NearDuplicates | None) -> pa.Table:
        """Finds near duplicates, examines what they leave, and writes which of it breaks a rule, until nothing changes.

        Returns:
            Columns `key` and `cluster` of near duplicates.
        """
        documents = self._remaining
        if exact.num_rows:
            documents = documents.join(daft.from_arrow(exact.select(["key"])), on="key", how="anti")
        keys = np.sort(documents.select("key").to_arrow()["key"].to_numpy())
        folder = self._work / "sets"
        columns = documents.select(*_RANK, "bands", "shingles")
        graph = NearGraph(columns, self._corpus.measured, folder, near) if near is not None else None
        if graph is not None:
            self._progress("near duplicates", 0, 1)
            graph.search(keys)
        failed, judged, behind = _FAILED.empty_table(), _NO_KEYS, _NO_KEYS
        while True:
            failed_keys = failed["key"].to_numpy()
            found = graph.elect(failed_keys) if graph is not None else NO_DUPLICATES
            staying = np.setdiff1d(keys, np.union1d(found["key"].to_numpy(), failed_keys))
            wanted = np.setdiff1d(np.union1d(staying, behind), judged)
            if len(wanted):
                newly = self._examine(wanted)
                judged = np.union1d(judged, wanted)
                failed = pa.concat_tables([failed, newly])
                # If a representative fails, all that it represented are examined, so that the rounds are few.
                behind = found.filter(pc.is_in(found["cluster"], pa.array(newly["key"].to_numpy())))["key"].to_numpy()
                if len(newly):
                    continue
            if graph is None or not graph.search(staying):
                break
        if graph is not None:
            self._progress("near duplicates", 1, 1)
            shutil.rmtree(folder)
            write_text(self._work / "near.json", json.dumps(graph.counts))
        pq.write_table(failed, self._work / "failed.parquet")
        return found.select(["key", "cluster"])

    def _examine(self, keys: NDArray[np.int64]) -> pa.Table:
        """Examines documents, and judges them by syntax and standards: `key` and `reason` of what breaks a rule."""
        self._corpus.examine(keys)
        paths = self._corpus.list_examined()
        if self._examined_rules is None or not paths:
            return _FAILED.empty_table()
        wanted = daft.from_pydict({"key": pa.array(keys)})
        examined = daft.read_parquet(paths).join(wanted, on="key")
        documents = self._remaining.exclude("bands", "pieces", "verdict").join(examined, on="key")
        judged = documents.select("key", self._examined_rules.alias("reason")).where(col("reason").not_null())
        return judged.to_arrow().cast(_FAILED).sort_by("key")

    def inspect(
        self,
        *,
        repeated: RepeatedText | None,
        perplexity: Perplexity | None,
        benchmarks: Sequence[Benchmark],
        min_benchmark_hits: int,
        min_benchmark_overlap: float,
        tokenizer: str | None,
    ) -> None:
        """Reads the remaining texts once for the next steps, and drops those that are short without repeated text."""
        if repeated is not None:
            path = self._work / "repeated.npy"
            if not path.exists():
                documents = self._remaining.select("key", "pieces")
                np.save(path, find_repeated_pieces(documents, min_documents=repeated.min_documents))
            self._repeated = Repeated(path=str(path), piece=repeated.piece, min_bytes=repeated.min_bytes)
            self.outcome.measures["repeated_pieces"] = len(np.load(path))
        shared: InspectShared = {
            "ngrams": None,
            "benchmarks": [benchmark.model_dump(mode="json") for benchmark in benchmarks],
            "min_hits": min_benchmark_hits,
            "min_overlap": min_benchmark_overlap,
            "tokenizer": tokenizer,
            "repeated": self._repeated,
        }
        if perplexity is not None:
            model = perplexity.model or self._train_ngrams(perplexity)
            shared["ngrams"] = {
                "path": str(model), "words": perplexity.words, "max_characters": perplexity.max_characters
            }  # fmt: skip
        self._corpus.map("inspect", inspect_part, shared)
        self._limits["thresholds"]["contaminated"] = min_benchmark_overlap
        if repeated is not None:
            self._limits["thresholds"]["repeated-text"] = repeated.min_left
            for table in self._corpus.read("inspect", ["key", "left"]):
                short = table.filter(pc.less(table["left"], repeated.min_left))
                self._verdicts.drop(short["key"].to_numpy(), "repeated-text")
            self._count_step("repeated text")

    def _train_ngrams(self, perplexity: Perplexity) -> Path:
        path = self._output / "ngrams.arpa"
        if not path.exists():
            self._progress("train n-grams", 0, 1)
            split = load_splitter(perplexity.words)
            sample = (split(text) for text in self._corpus.sample_preferred(perplexity.sample_bytes))
            write_arpa(train(sample, order=perplexity.order, min_word_count=perplexity.min_word_count), path)
            self._progress("train n-grams", 1, 1)
        return path

    def cut_by_perplexity(self, keep_fraction: float) -> None:
        """Drops the documents of highest perplexity in every language."""
        values: dict[str, list[float]] = {}
        for _, language, value in self._read_perplexities():
            values.setdefault(language, []).append(value)
        cuts = {name: float(np.quantile(of_language, keep_fraction)) for name, of_language in values.items()}
        self._limits["of_languages"]["high-perplexity"] = cuts
        high = [key for key, language, value in self._read_perplexities() if value > cuts[language]]
        self._verdicts.drop(high, "high-perplexity")
        self.outcome.measures["perplexity_cuts"] = {name: round(cut, 3) for name, cut in sorted(cuts.items())}
        self._count_step("perplexity")

    def _read_perplexities(self) -> Iterator[tuple[int, str, float]]:
        for part, table in enumerate(self._corpus.read("inspect", ["key", "perplexity"])):
            languages = pq.read_table(self._corpus.measured[part], columns=["language"])["language"].to_pylist()
            codes = self._verdicts.select(part)
            for key, value in zip(table["key"].to_pylist(), table["perplexity"].to_pylist(), strict=True):
                if codes[key & ROW] == 0:
                    yield key, languages[key & ROW], value

    def score(self, quality: Quality, compute_dtype: ComputeDtype, answers: Path) -> None:
        """Scores quality, and drops documents below the threshold, if there is one.

        Args:
            answers: File of the endpoint's answers, which later runs reuse.
        """
        model = quality.model or self._train_quality(quality, compute_dtype, answers)
        workers = count_cores() if model == STATIC else max(1, count_cores() // 2)
        shared: ScoreShared = {
            "model": model,
            "max_tokens": quality.max_tokens,
            "precision": compute_dtype,
            "batch_documents": quality.batch_documents,
            "workers": workers,
        }
        self._corpus.map("quality", score_part, shared, max_workers=workers)
        self._is_scored = True
        if quality.min_score is not None:
            self._limits["thresholds"]["low-quality"] = quality.min_score
            for table in self._corpus.read("quality", ["key", "quality"]):
                low = table.filter(pc.less(table["quality"], quality.min_score))
                self._verdicts.drop(low["key"].to_numpy(), "low-quality")
        self._count_step("quality")

    def _train_quality(self, quality: Quality, compute_dtype: ComputeDtype, answers: Path) -> str:
        folder = self._output / "quality"
        if not (folder / MEASURES).exists():
            rows = self._corpus.draw(quality.sample_documents, quality.seed)
            texts = list(self._corpus.read_texts([row["key"] for row in rows]))
            scores = self._annotate(quality, rows, texts, answers)
            known = [(text, score) for text, score in zip(texts, scores, strict=True) if score is not None]
            self._progress("train quality", 0, 1)
            folder.mkdir(exist_ok=True)
            self._keep_annotations(rows, texts, scores, folder / ANNOTATIONS)
            fit([text for text, _ in known], [score for _, score in known], folder, quality, compute_dtype)
            shutil.rmtree(folder / "trainer", ignore_errors=True)
            self._progress("train quality", 1, 1)
        annotator = STATIC if quality.endpoint is None else quality.endpoint.model
        measures = json.loads((folder / MEASURES).read_text(encoding="utf-8"))
        speaking = pc.sum(pq.read_table(folder / ANNOTATIONS, columns=["speaks_to_judge"])["speaks_to_judge"]).as_py()
        told = {"annotator": annotator, **measures, "documents_that_speak_to_a_judge": speaking or 0}
        self.outcome.measures["quality"] = told
        return str(folder)

    def _annotate(
        self, quality: Quality, rows: Sequence[Drawn], texts: Sequence[str], answers: Path
    ) -> list[Assessment | None]:
        if quality.endpoint is None:
            return [annotate_by_signals(row) for row in rows]

        def show(done: int, total: int) -> None:
            self._progress("annotate", done, total)

        documents = [(text, row["language"]) for text, row in zip(texts, rows, strict=True)]
        scores, counts = ask(quality.endpoint, documents, JsonLinesCache(answers), on_progress=show)
        self.outcome.measures["annotation"] = asdict(counts)
        return scores

    def _keep_annotations(
        self, rows: Sequence[Drawn], texts: Sequence[str], scores: Sequence[Assessment | None], path: Path
    ) -> None:
        """Writes the scores of the sample and their sides, and which files speak to a judge."""
        keys = np.array([row["key"] for row in rows], np.int64)
        table = pa.table(
            {
                "id": [name for part in self._corpus.take(keys, ["id"]) for name in part["id"].to_pylist()],
                "language": [row["language"] for row in rows],
                **{
                    name: pa.array([None if score is None else score[place] for score in scores], pa.float32())
                    for place, name in enumerate(OUTPUTS)
                },
                "speaks_to_judge": [bool(find_injected_lines(text)) for text in texts],
            }
        )
        pq.write_table(table, path, compression="zstd")

    def decontaminate(self) -> None:
        """Drops documents that contain text of a benchmark."""
        hits: dict[str, int] = {}
        for table in self._corpus.read("inspect", ["key", "benchmark"]):
            rows = table.filter(table["benchmark"].is_valid())
            self._verdicts.drop(rows["key"].to_numpy(), "contaminated")
            for name in rows["benchmark"].to_pylist():
                hits[name] = hits.get(name, 0) + 1
        self.outcome.measures["benchmarks"] = hits
        self._count_step("decontamination")

    def select(self, selection: Selection) -> None:
        """Selects a number of tokens, the best or at random; languages keep their shares."""
        keys, tokens, scores, languages = [], [], [], []
        for part, table in enumerate(self._corpus.read("inspect", ["key", "tokens"])):
            staying = table.filter(pa.array(self._verdicts.select(part)[table["key"].to_numpy() & ROW] == 0))
            keys.append(staying["key"].to_numpy())
            tokens.append(staying["tokens"].to_numpy())
            named = pq.read_table(self._corpus.measured[part], columns=["language"])["language"].to_numpy()
            languages.append(named[keys[-1] & ROW])
            if selection.by == "quality":
                scored = pq.read_table(self._work / "quality" / f"{part:05d}.parquet")
                places = np.searchsorted(scored["key"].to_numpy(), keys[-1])
                scores.append(scored["quality"].to_numpy()[places])
        flat, sizes = np.concatenate(keys), np.concatenate(tokens)
        if selection.by == "quality":
            order = np.argsort(-np.concatenate(scores), kind="stable")
        else:
            order = np.random.default_rng(selection.seed).permutation(len(flat))
        is_taken = take_shares(sizes[order], np.concatenate(languages)[order], selection.max_tokens)
        self._verdicts.drop(flat[order[~is_taken]], "not-selected")
        self._count_step("selection")

    def write(self, *, held_out_fraction: float, redacts: bool) -> None:
        """Writes documents, duplicates and counts, and removes temporary files.

        Raises:
            DataError: If nothing is left.
        """
        documents = self._output / DOCUMENTS
        dropped = self._work / "dropped"
        dropped.mkdir(exist_ok=True)
        self._write_duplicates()
        tasks = [
            WriteTask(
                **part,
                inspected=str(self._work / "inspect" / f"{part['index']:05d}.parquet"),
                scored=str(self._work / "quality" / f"{part['index']:05d}.parquet") if self._is_scored else None,
                existing=str(self._work / f"{EXISTING}.parquet") if self._has_existing else None,
                dropped=str(dropped / f"{part['index']:05d}.parquet"),
            )
            for part in self._corpus.list_parts("write", documents, prefix="part-")
        ]
        shared: WriteShared = {
            "clusters": str(self._work / "clusters.npy"),
            "reasons": self._verdicts.reasons,
            "held_out_fraction": held_out_fraction,
            "redacts": redacts,
            "repeated": self._repeated,
            "limits": self._limits,
        }
        _merge(self.outcome, self._corpus.gather("write", write_part, tasks, shared))
        for path in documents.glob(".*.json"):
            path.unlink()
        join_parts([Path(task["dropped"]) for task in tasks], self._output / "dropped.parquet")
        counts = self.outcome.funnel.counts()
        if not counts["documents_after"]:
            reasons = ", ".join(f"{name} {count}" for name, count in self.outcome.funnel.reasons())
            before = f"{counts['documents_before']} documents"
            raise DataError(f"none of {before} is left ({reasons}); loosen the rules or name other sources")
        write_text(self._output / "funnel.json", json.dumps(counts, indent=1) + "\n")
        shutil.rmtree(self._work)

    def _write_duplicates(self) -> None:
        """Writes which document duplicates which, and returns the size of each cluster by the document that stays."""
        clusters = self._clusters
        best, counts = np.unique(clusters["cluster"].to_numpy(), return_counts=True)
        np.save(self._work / "clusters.npy", np.stack([best, counts + 1], axis=1).astype(np.int64))
        wanted = np.unique(np.concatenate([clusters["key"].to_numpy(), best])).astype(np.int64)
        names = [name for table in self._corpus.take(wanted, ["id"]) for name in table["id"].to_pylist()]
        ids = dict(zip(wanted.tolist(), names, strict=True))
        table = pa.table(
            {
                "id": pa.array([ids[key] for key in clusters["key"].to_pylist()], pa.string()),
                "cluster": pa.array([ids[key] for key in clusters["cluster"].to_pylist()], pa.string()),
                "kind": clusters["kind"],
            }
        )
        pq.write_table(table.sort_by("id"), self._output / "duplicates.parquet", compression="zstd")


def _follow_clusters(clusters: pa.Table, near: pa.Table) -> pa.Table:
    """Clusters in which copies of a near duplicate belong to the document that represents it."""
    keys, targets = near["key"].to_numpy(), near["cluster"].to_numpy()
    order = np.argsort(keys)
    named = clusters["cluster"].to_numpy()
    places = np.minimum(np.searchsorted(keys[order], named), max(len(keys) - 1, 0))
    if len(keys):
        is_near = keys[order][places] == named
        named = np.where(is_near, targets[order][places], named)
    return clusters.set_column(clusters.column_names.index("cluster"), "cluster", pa.array(named, pa.int64()))


def take_shares(tokens: NDArray[np.int64], groups: NDArray[np.object_], max_tokens: int) -> NDArray[np.bool_]:
    """Selects the first documents of every group, up to the group's share of `max_tokens`.

    Args:
        tokens: Of documents, the best first, int64, shape (D,).
        groups: Names of their groups, shape (D,).
        max_tokens: In total; a group's share is its share of all tokens.

    Returns:
        Whether each is selected, bool, shape (D,).

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


def _merge(outcome: Outcome, results: Sequence[Written]) -> None:
    histograms: dict[str, NDArray[np.int64]] = {}
    examples: dict[str, list[Example]] = {}
    for result in results:
        for language, verdict, *values in result["counts"]:
            outcome.funnel.add(language, verdict, *values)
        for name, counts in result["histograms"].items():
            histograms[name] = np.asarray(counts, np.int64) + histograms.get(name, np.int64(0))
        for reason, of_part in result["examples"].items():
            examples.setdefault(reason, []).extend(of_part)
        for name, count in sorted(result["placeholders"].items()):
            outcome.placeholders[name] = outcome.placeholders.get(name, 0) + count
    outcome.histograms = {name: values.tolist() for name, values in histograms.items()}
    outcome.examples = {
        reason: sorted(of_reason, key=lambda row: hash_values(row["id"]))[:EXAMPLES]
        for reason, of_reason in sorted(examples.items())
    }
