"""BLEU over words and signs of code, for `evaluate.load` of this folder. It is not CodeBLEU."""

import datasets
import evaluate

from codeshell_hf.evaluate.metrics import code_bleu_like

DESCRIPTION = "BLEU of code that is cut into words and single signs, with sacreBLEU's signature of how."
INPUTS = """
Args:
    predictions: What was written.
    references: One for each.
"""


class CodeBleuLike(evaluate.Metric):
    """BLEU and nothing more: no syntax tree, no data flow."""

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
