"""Has a sample annotated, and trains the regressor of quality on it."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..precision import ComputeDtype
from ..text.cache import JsonLinesCache
from .annotation import annotate_by_signals, ask
from .corpus import Corpus, Drawn
from .inspection import STATIC
from .progress import Progress
from .quality_requests import find_injected_lines
from .quality_scores import OUTPUTS, Assessment
from .regressor import MEASURES, fit
from .report import Measure
from .settings import Quality

ANNOTATIONS = "annotations.parquet"


def train_quality(
    corpus: Corpus, quality: Quality, compute_dtype: ComputeDtype, *, folder: Path, answers: Path, on_progress: Progress
) -> dict[str, Measure]:
    """Trains a regressor into a folder, unless an earlier try has.

    Args:
        answers: File of the endpoint's answers, which later runs reuse.

    Returns:
        Measures by name: "quality", and "annotation" if an endpoint was asked.
    """
    told: dict[str, Measure] = {}
    if not (folder / MEASURES).exists():
        rows = corpus.draw(quality.sample_documents, quality.seed)
        texts = list(corpus.read_texts([row["key"] for row in rows]))
        scores = _annotate(quality, rows, texts, answers, on_progress, told)
        known = [(text, score) for text, score in zip(texts, scores, strict=True) if score is not None]
        on_progress("train quality", 0, 1)
        folder.mkdir(exist_ok=True)
        _keep_annotations(corpus, rows, texts, scores, folder / ANNOTATIONS)
        fit([text for text, _ in known], [score for _, score in known], folder, quality, compute_dtype)
        shutil.rmtree(folder / "trainer", ignore_errors=True)
        on_progress("train quality", 1, 1)
    annotator = STATIC if quality.endpoint is None else quality.endpoint.model
    measures = json.loads((folder / MEASURES).read_text(encoding="utf-8"))
    speaking = pc.sum(pq.read_table(folder / ANNOTATIONS, columns=["speaks_to_judge"])["speaks_to_judge"]).as_py()
    told["quality"] = {"annotator": annotator, **measures, "documents_that_speak_to_a_judge": speaking or 0}
    return told


def _annotate(
    quality: Quality,
    rows: Sequence[Drawn],
    texts: Sequence[str],
    answers: Path,
    on_progress: Progress,
    told: dict[str, Measure],
) -> list[Assessment | None]:
    """Scores documents by the endpoint, or by their signals without one; counts of answers go to `told`."""
    if quality.endpoint is None:
        return [annotate_by_signals(row) for row in rows]

    def show(done: int, total: int) -> None:
        on_progress("annotate", done, total)

    documents = [(text, row["language"]) for text, row in zip(texts, rows, strict=True)]
    scores, counts = ask(quality.endpoint, documents, JsonLinesCache(answers), on_progress=show)
    told["annotation"] = asdict(counts)
    return scores


def _keep_annotations(
    corpus: Corpus, rows: Sequence[Drawn], texts: Sequence[str], scores: Sequence[Assessment | None], path: Path
) -> None:
    """Writes the scores of the sample and their sides, and which files speak to a judge."""
    keys = np.array([row["key"] for row in rows], np.int64)
    table = pa.table(
        {
            "id": [name for part in corpus.take(keys, ["id"]) for name in part["id"].to_pylist()],
            "language": [row["language"] for row in rows],
            **{
                name: pa.array([None if score is None else score[place] for score in scores], pa.float32())
                for place, name in enumerate(OUTPUTS)
            },
            "speaks_to_judge": [bool(find_injected_lines(text)) for text in texts],
        }
    )
    pq.write_table(table, path, compression="zstd")
