"""Runs one stage in this process, or as several ranks under accelerate's or torch's launcher.

`accelerate: FILE` in pretrain's settings, or `--accelerate FILE` for any stage that trains, starts the file's number of
ranks. `accelerate launch -m recipes.STAGE` and `torchrun -m recipes.STAGE` do the same by hand.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ..stages.stage import Stage, StageSettings, make_parser, run_command
from .supervisor import list_agent_options, supervise
from .workspace import find_file, use_workspace

TRAINING = ("pretrain", "sft", "reward", "rlhf", "dpo")


def main(name: str, arguments: Sequence[str]) -> int:
    """Runs a stage from the command line.

    Returns:
        As `codeshell_hf.stages.stage.main`, or the launcher's exit status.
    """
    use_workspace(is_silent=bool({"-h", "--help"} & set(arguments)))
    stage = load_stage(name)
    parser = make_parser(stage, program=f"codeshell {name}")
    parser.set_defaults(accelerate=None, ranks=None)
    if name in TRAINING:
        parser.add_argument(
            "--accelerate", type=Path, metavar="FILE", help="start the ranks of this accelerate configuration"
        )
        parser.add_argument(
            "--ranks", type=int, metavar="N", help="number of ranks, in place of the file's num_processes"
        )
    options = parser.parse_intermixed_args(arguments)  # settings may follow options
    options.settings = find_file(options.settings)
    return run_or_launch(stage, options)


def load_stage(name: str) -> Stage[StageSettings]:
    """Imports a stage of the current recipes."""
    return cast("Stage[StageSettings]", importlib.import_module(f"recipes.{name}").STAGE)


def run_or_launch(stage: Stage[StageSettings], options: argparse.Namespace) -> int:
    """Runs a stage here, or starts its ranks and waits for them."""
    from ..errors import SettingsError

    if options.dry_run or "RANK" in os.environ:  # already under a launcher
        return run_command(stage, options)
    try:
        command = make_command(stage, options)
    except SettingsError as error:
        print(f"{stage.name}: error: {error}", file=sys.stderr)
        return error.exit_code
    return supervise(command, saves=stage.saves_on_signal) if command else run_command(stage, options)


def make_command(stage: Stage[StageSettings], options: argparse.Namespace) -> list[str]:
    """The command that starts a stage's ranks; empty if one process is enough.

    Args:
        stage: The stage.
        options: `settings`, `overrides`, `force`, `accelerate` and `ranks`.

    Raises:
        SettingsError: If the settings or accelerate's file cannot be read.
    """
    from ..errors import SettingsError
    from ..settings import load_settings, read_yaml

    file: Path | None = options.accelerate
    if "accelerate" in stage.settings.model_fields:
        settings = load_settings(stage.settings, options.settings, options.overrides)
        file = file or getattr(settings, "accelerate", None)
    requested = read_yaml(file).get("num_processes", 1) if file is not None else 1
    ranks = options.ranks or requested
    if not isinstance(ranks, int) or ranks < 1:
        raise SettingsError(f"{file} asks for {ranks!r} processes; set num_processes, or --ranks, to 1 or more")
    if ranks == 1 and options.accelerate is None:
        return []
    import torch

    program = ["-m", f"recipes.{stage.name}", str(options.settings), *options.overrides]
    program += ["--force"] if options.force else []
    if file is not None and (torch.cuda.is_available() or ranks == 1):
        launcher = ["accelerate.commands.launch", "--config_file", str(file), "--num_processes", str(ranks)]
    else:  # on a CPU, accelerate starts several processes only through MPI
        launcher = [
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(ranks),
            *(list_agent_options() if stage.saves_on_signal else []),
        ]
        if options.accelerate is not None and "accelerate" in stage.settings.model_fields:
            program.append(f"accelerate={file}")
    return [sys.executable, "-m", *launcher, *program]
