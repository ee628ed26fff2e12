"""Runs the stages of a system in order, in one process; those that are up to date are skipped.

codeshell run nano                      all stages, and a summary at the end
codeshell run nano --dry-run            what each stage reads, who makes it, and whether it is to be run
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
from ..stages.stage import is_up_to_date
from .chain import Chain, Step, describe_chain, make_chain
from .launch import run_or_launch
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
    parser.add_argument("--dry-run", action="store_true", help="check settings and inputs of all stages, and run none")
    options = parser.parse_intermixed_args(arguments)  # settings may follow options
    from ..errors import CalledWrongly

    roots = [Path.cwd(), find_workspace()]
    try:
        overrides = sort_overrides(options.overrides, find_settings_files(options.system, roots))
        prepare_process()
        use_workspace()
        chain = make_chain(options.system, roots, overrides, sandbox=options.sandbox)
        check_overrides(overrides, chain)
    except (ValueError, CalledWrongly) as error:
        print(f"run: error: {error}", file=sys.stderr)
        return 2
    if options.dry_run:
        print("\n".join(describe_chain(chain)), flush=True)
        return 0
    return run_chain(chain)


def run_chain(chain: Chain) -> int:
    """Runs the steps, and prints what is not run and a summary; returns 0, or the exit code of the step that failed."""
    if chain.left_out:
        print("\n".join(chain.left_out), flush=True)
    finished = {}
    for number, step in enumerate(chain.steps, 1):
        print(f"{'' if number == 1 else chr(10)}== {step.name} ({number} of {len(chain.steps)})", flush=True)
        code = run_step(step)
        if code != 0:
            print(f"run: stopped at {step.name}; run the same command again to continue from there", file=sys.stderr)
            return code
        finished[step.name] = read_output(step)
        reset_accelerate()
    print_summary(finished)
    return 0


def run_step(step: Step) -> int:
    """Runs a step in this process or as several ranks; returns its exit code, 2 if there are too few GPUs for them."""
    file = ranks = None
    if step.launch is not None and not is_up_to_date(step.stage, step.settings):
        gpus = count_gpus()
        if gpus < step.launch.ranks:
            print(
                f"{step.name}: error: it takes {step.launch.ranks} GPUs, and this machine has {gpus}; start it where "
                f"they are ({step.describe_launch()}, over several nodes by recipes/launch/), or change "
                f"{step.file.with_name('launch.yaml')}",
                file=sys.stderr,
            )
            return 2
        file, ranks = step.launch.accelerate, step.launch.ranks
    return run_or_launch(
        step.stage,
        argparse.Namespace(
            settings=step.file, overrides=step.overrides, dry_run=False, force=False, accelerate=file, ranks=ranks
        ),
    )


def count_gpus() -> int:
    """The number of GPUs of this machine."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_overrides(overrides: Mapping[str, Sequence[str]], chain: Chain) -> None:
    """Raises `ValueError` if an override is of a file that is not run."""
    names = [step.name for step in chain.steps]
    for name, values in overrides.items():
        if values and name not in names:
            raise ValueError(f"{name}.{values[0]} sets nothing, since {name} is not run; run it by itself")


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


def read_output(step: Step) -> tuple[Path, Manifest | None]:
    """A step's output folder and its manifest."""
    from ..manifest import read_manifest

    return step.settings.output, read_manifest(step.settings.output)


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
