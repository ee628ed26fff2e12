"""Checks, at the start, for errors that would stop a run hours later."""

from collections.abc import Sequence

from ..errors import DataError
from ..text.client import read_token
from .annotation import SECTION
from .benchmark_tasks import read_benchmark
from .rights import read_opt_outs
from .rules import load_rule
from .settings import Benchmark, Perplexity, Quality, Rights, Rules
from .words import load_splitter


def check_inputs(
    *,
    rules: Rules,
    rights: Rights,
    benchmarks: Sequence[Benchmark],
    perplexity: Perplexity | None,
    quality: Quality | None,
    tokenizer: str | None,
) -> None:
    """Checks that lists, rules, benchmarks, models and keys can be read.

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
