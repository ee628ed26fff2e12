"""BLEU over words and symbols of code, for `evaluate.load` of this folder. It is not CodeBLEU."""

import datasets
import evaluate

from codeshell_hf.evaluate.metrics import code_bleu_like

DESCRIPTION = "BLEU of code, split into words and single symbols, with sacreBLEU's signature."
INPUTS = """
Args:
    predictions: Generated code.
    references: One for each prediction.
"""


class CodeBleuLike(evaluate.Metric):
    """BLEU only: no syntax tree, no data flow."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Post 2018, arXiv:1804.08771",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, object]:
        score, signature = code_bleu_like(predictions, references)
        return {"bleu": score, "signature": signature}
