"""Exact match of filled-in lines, for `evaluate.load` of this folder."""

import datasets
import evaluate

from codeshell_hf.evaluate.metrics import is_exact

DESCRIPTION = "The share of lines that match exactly, apart from white space at both ends."
INPUTS = """
Args:
    predictions: Generated lines.
    references: The removed lines.
"""


class InfillingExactMatch(evaluate.Metric):
    """Exact match, as SantaCoder's authors count it."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Ben Allal et al. 2023, arXiv:2301.03988",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, object]:
        exact = [is_exact(written, reference) for written, reference in zip(predictions, references, strict=True)]
        return {"exact_match": sum(exact) / len(exact)}
