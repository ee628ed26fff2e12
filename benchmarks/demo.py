"""Seconds of each stage of the demo on one or more machines, and what it improved, from the manifests of the runs.

python -m benchmarks.demo "this processor=runs/nano" "AVX2 alone=runs/nano-avx2"

To measure a processor with AVX2 only, on another x86 processor:
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 make demo
"""

import argparse
import sys
from pathlib import Path

from benchmarks.result import Result, add_output, describe_machine
from codeshell_hf.commands.summary import list_claims
from codeshell_hf.manifest import Manifest, read_manifest
from codeshell_hf.stages import STAGES

# nano has no settings of the others.
DEMO_STAGES = tuple(stage for stage in STAGES if stage != "synthesize")


def read_run(folder: Path) -> dict[str, Manifest]:
    """The manifests of a run, by stage; one that lacks a stage is refused."""
    found = {stage: read_manifest(folder / stage) for stage in DEMO_STAGES}
    missing = [stage for stage, manifest in found.items() if manifest is None]
    if missing:
        print(f"error: {folder} holds no {', '.join(missing)}; run make demo to its end first", file=sys.stderr)
        sys.exit(2)
    return {stage: manifest for stage, manifest in found.items() if manifest is not None}


def main(arguments: list[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("runs", nargs="+", metavar="NAME=FOLDER", help="what a column is called, and the run's outputs")
    add_output(parser)
    options = parser.parse_args(arguments)
    runs = {name: read_run(Path(folder)) for name, _, folder in (one.rpartition("=") for one in options.runs)}

    columns = {"seconds": "12"} | {name: f"{max(len(name) + 2, 10)}.0f" for name in runs}
    facts = [f"{name}: {manifests['pretrain'].precision['compute_dtype']}" for name, manifests in runs.items()]
    table = Result(describe_machine("torch", "transformers", "trl"), facts, columns)
    table.start("benchmarks.demo", arguments)
    for stage in DEMO_STAGES:
        table.add(stage, *(manifests[stage].wall_s for manifests in runs.values()))
    table.add("all", *(sum(manifest.wall_s for manifest in manifests.values()) for manifests in runs.values()))
    for name, manifests in runs.items():
        table.note(f"before -> after on held-out data, {name}")
        for claim in list_claims(manifests):
            table.note(claim)
    table.keep(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
