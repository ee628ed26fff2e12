"""Runs the stages of a system in order, in one process; those that are up to date are skipped.

codeshell run nano                      all stages, and a summary at the end
codeshell run nano --sandbox none       if programs cannot be isolated: they run with your rights
codeshell run nano sft.trainer.num_train_epochs=1 pretrain.seed=1
"""

import argparse
import difflib
import gc
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..manifest import Manifest
from ..stages.process import make_parser, prepare_process
from ..stages.stage import Stage, StageSettings
from .launch import load_stage, run_or_launch
from .workspace import find_settings_files, find_workspace, suggest, use_workspace


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a system's stages.

    Returns:
        0 if all are done, else the exit code of the failed stage; 2 if called wrongly.
    """
    parser = make_parser("run", __doc__)
    parser.add_argument("system", help="a folder under recipes/, such as nano")
    parser.add_argument("overrides", nargs="*", metavar="stage.section.key=value", help="overrides the stage's file")
    parser.add_argument(
        "--sandbox",
        default=os.environ.get("SANDBOX"),
        help="backend of every stage that runs programs, such as auto or none",
    )
    options = parser.parse_intermixed_args(arguments)  # settings may follow options
    try:
        files = find_settings_files(options.system, [Path.cwd(), find_workspace()])
        overrides = sort_overrides(options.overrides, files)
    except ValueError as error:
        print(f"run: error: {error}", file=sys.stderr)
        return 2

    prepare_process()
    use_workspace()
    finished = {}
    for number, (name, file) in enumerate(files.items(), 1):
        print(f"{'' if number == 1 else chr(10)}== {name} ({number} of {len(files)})", flush=True)
        stage = load_stage(name)
        changes = overrides[name]
        if options.sandbox is not None and "sandbox" in stage.settings.model_fields:
            changes = [f"sandbox={options.sandbox}", *changes]
        code = run_or_launch(
            stage,
            argparse.Namespace(
                settings=file, overrides=changes, dry_run=False, force=False, accelerate=None, ranks=None
            ),
        )
        if code != 0:
            print(f"run: stopped at {name}; run the same command again to continue from there", file=sys.stderr)
            return code
        finished[name] = read_output(stage, file, changes)
        reset_accelerate()
    print_summary(finished)
    return 0


def sort_overrides(given: Sequence[str], files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Groups overrides such as `sft.trainer.max_steps=3` by stage, without the stage's name.

    Raises:
        ValueError: If one names no stage of the system.
    """
    sorted_ = {stage: list[str]() for stage in files}
    for one in given:
        stage, _, rest = one.partition(".")
        if stage not in sorted_ or "=" not in rest:
            advice = f"write stage.key=value with a stage among {', '.join(sorted_)}"
            is_near = stage not in sorted_ and difflib.get_close_matches(stage, sorted_, 1)
            raise ValueError(f"{one} sets nothing; {suggest(stage, list(sorted_)) if is_near else advice}")
        sorted_[stage].append(rest)
    return sorted_


def read_output(stage: Stage[StageSettings], file: Path, overrides: Sequence[str]) -> tuple[Path, Manifest | None]:
    """A stage's output folder and its manifest."""
    from ..manifest import read_manifest
    from ..settings import load_settings

    output = load_settings(stage.settings, file, overrides).output
    return output, read_manifest(output)


def reset_accelerate() -> None:
    """Resets accelerate's global state, so that the next stage chooses its own device and precision."""
    state = sys.modules.get("accelerate.state")  # if a stage has imported it
    if state is not None:
        state.AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - accelerate's tests call it so
    gc.collect()


def print_summary(finished: Mapping[str, tuple[Path, Manifest | None]]) -> None:
    """Prints durations, improvements, a sample of the model, and where the results are."""
    from .summary import summarize

    print("\n" + "\n".join(summarize(finished)), flush=True)
