"""Prefill and decoding with `benchmarks.inference`, beside stock models and the original code."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import inference
from benchmarks.gpu.processes import install
from benchmarks.gpu.report import Report
from benchmarks.result import Result, Value

GIVEN = (
    "--presets", "codeshell-7b", "--layers", "8", "--attention", "sdpa", "--batches", "1", "16", "--prompt", "2048",
    "--new", "32", "--repeats", "3", "--dtype", "bfloat16", "--compile",
)  # fmt: skip
TOY = (
    "--presets", "nano", "--layers", "1", "--attention", "sdpa", "--batches", "1", "--prompt", "32", "--new", "4",
    "--repeats", "1",
)  # fmt: skip


class _Rows(Result):
    """A table that also adds each row to the section's report."""

    report: Report

    def add(self, *values: Value) -> None:
        super().add(*values)
        named = dict(zip(self.columns, values, strict=True))
        what = f"{named['tokens/s']}, share of Starcoder2"
        self.report.add(what, named["/ S"], "times", tokens_per_s=named["here"], llama=named["/ L"])  # type: ignore[arg-type]


def measure_inference(report: Report) -> None:
    """Measures forward, prefill and decoding beside Starcoder2 and Llama, after checking the cache."""
    options = inference.read_options(TOY if report.is_toy else GIVEN)
    table = _Rows("", [], inference.COLUMNS)
    table.report = report
    for preset in options.presets:
        if not inference.measure_preset(preset, options, table):
            report.fail(preset, "logits with a cache differ from those without one")


def measure_original(report: Report) -> None:
    """Measures prefill and decoding beside the original code, which runs in its own environment."""
    code = report.carried / "original" if report.carried else None
    if code is None or not code.is_dir():
        report.skip("all of it", "the original code was not carried; see python -m benchmarks.gpu.wheels --help")
        return
    with TemporaryDirectory() as home:
        site = Path(home, "site")
        install(sorted((code.parent / "original-wheels").glob("*.whl")), site, 60)
        given = ["--original", str(code), "--original-python", sys.executable, "--original-site", str(site)]
        options = inference.read_options([*(TOY if report.is_toy else GIVEN), *given])
        for preset in options.presets:
            for what, ours, theirs in inference.compare_original(preset, options):
                name = f"{preset}, {what} beside the original"
                report.add(name, ours / theirs, "times", tokens_per_s=ours, original_tokens_per_s=theirs)
