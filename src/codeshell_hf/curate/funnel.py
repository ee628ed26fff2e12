"""The steps of curation. Each step works on the documents that earlier ones left."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from daft import DataFrame, Expression, col

from ..errors import DataError
from ..manifest import write_text
from ..precision import ComputeDtype
from ..text.documents import DOCUMENTS
from .clusters import join_clusters, write_clusters
from .corpus import Corpus
from .daft_engine import count_cores
from .dropped import DropLimits, join_parts
from .duplicates import NO_DUPLICATES, RANK, find_exact_duplicates, find_repeated_pieces
from .existing import NEAR, find_existing
from .inspection import STATIC, InspectShared, ScoreShared, inspect_part, score_part
from .measured_parts import CHEAP_SIGNALS
from .parts import Repeated
from .perplexity_cut import find_perplexing, train_ngrams
from .progress import Progress
from .quality_training import train_quality
from .report import Outcome
from .rules import judge_cheaply, judge_examined, split_custom
from .selection import find_surplus
from .settings import Benchmark, NearDuplicates, Perplexity, Quality, RepeatedText, Rights, Rules, Selection, Source
from .settling import Settling
from .writing import WriteShared, WriteTask, merge, write_part

EXISTING = "existing"
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
        self._examined_rules: Expression | None = None
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
        ranked = ranked.select("key", *RANK, same)
        exact = NO_DUPLICATES
        if drops_exact:
            exact = self._corpus.once("exact", lambda: find_exact_duplicates(ranked, same=same))
        self._verdicts.drop(exact["key"].to_numpy(), "exact-duplicate")
        self._progress("exact duplicates", 1, 1)
        self._count_step("exact duplicates")
        documents = self._remaining
        if exact.num_rows:
            documents = documents.join(daft.from_arrow(exact.select(["key"])), on="key", how="anti")
        settled = Settling(self._corpus, documents, near, self._examined_rules, self._progress).settle()
        if near is not None:
            self._verdicts.drop(settled.near["key"].to_numpy(), "near-duplicate")
            self._limits["thresholds"]["near-duplicate"] = near.min_jaccard
            self.outcome.measures |= settled.counts
            self._count_step("near duplicates")
        self._verdicts.drop_each(settled.failed["key"].to_pylist(), settled.failed["reason"].to_pylist())
        self._count_step("syntax and standards")
        self._clusters = join_clusters(exact, settled.near if near is not None else None)
        self._corpus.align_examined()

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
            train_ngrams(self._corpus, perplexity, path)
            self._progress("train n-grams", 1, 1)
        return path

    def cut_by_perplexity(self, keep_fraction: float) -> None:
        """Drops the documents of highest perplexity in every language."""
        high, cuts = find_perplexing(self._corpus, keep_fraction)
        self._limits["of_languages"]["high-perplexity"] = cuts
        self._verdicts.drop(high, "high-perplexity")
        self.outcome.measures["perplexity_cuts"] = {name: round(cut, 3) for name, cut in sorted(cuts.items())}
        self._count_step("perplexity")

    def score(self, quality: Quality, compute_dtype: ComputeDtype, answers: Path) -> None:
        """Scores quality, and drops documents below the threshold, if there is one.

        Args:
            answers: File of the endpoint's answers, which later runs reuse.
        """
        folder = self._output / "quality"
        if quality.model is None:
            self.outcome.measures |= train_quality(
                *(self._corpus, quality, compute_dtype), folder=folder, answers=answers, on_progress=self._progress
            )
        model = quality.model or str(folder)
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
        self._verdicts.drop(find_surplus(self._corpus, selection), "not-selected")
        self._count_step("selection")

    def write(self, *, held_out_fraction: float, redacts: bool) -> None:
        """Writes documents, duplicates and counts, and removes temporary files.

        Raises:
            DataError: If nothing is left.
        """
        documents = self._output / DOCUMENTS
        dropped = self._work / "dropped"
        dropped.mkdir(exist_ok=True)
        sizes = self._work / "clusters.npy"
        write_clusters(self._corpus, self._clusters, sizes, self._output / "duplicates.parquet")
        tasks = [
            WriteTask(
                **part,
                inspected=str(self._corpus.locate("inspect", part["index"])),
                scored=str(self._corpus.locate("quality", part["index"])) if self._is_scored else None,
                existing=str(self._work / f"{EXISTING}.parquet") if self._has_existing else None,
                dropped=str(dropped / f"{part['index']:05d}.parquet"),
            )
            for part in self._corpus.list_parts("write", documents, prefix="part-")
        ]
        shared: WriteShared = {
            "clusters": str(sizes),
            "reasons": self._verdicts.reasons,
            "held_out_fraction": held_out_fraction,
            "redacts": redacts,
            "repeated": self._repeated,
            "limits": self._limits,
        }
        merge(self.outcome, self._corpus.gather("write", write_part, tasks, shared))
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
