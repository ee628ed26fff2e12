"""Runs the stages of a system in order, in one process: each is skipped when its output is up to date.

python -m recipes.run nano                      all stages, and a summary at the end
python -m recipes.run nano --sandbox none       where programs cannot be isolated: they run with your rights
python -m recipes.run nano sft.trainer.num_train_epochs=1 pretrain.seed=1
"""

import difflib
import gc
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codeshell_hf.stages import process
from codeshell_hf.stages.stage import main as run_stage

ROOT = Path(__file__).parents[1]
STAGES = (
    *("curate", "tokenizer", "pack", "pretrain"),
    *("sft", "preferences", "reward", "rlhf", "dpo"),
    *("evaluate", "publish"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a system's stages.

    Args:
        arguments: The command line; by default this process's.

    Returns:
        0 if all are done, else what the stage that stopped returned; 2 if called wrongly.
    """
    parser = process.make_parser("run", __doc__)
    parser.add_argument("system", help="a folder under recipes/, such as nano")
    parser.add_argument("overrides", nargs="*", metavar="stage.section.key=value", help="wins over the stage's file")
    parser.add_argument(
        "--sandbox",
        default=os.environ.get("SANDBOX"),
        help="for every stage that runs programs: auto, none, or a rung by name",
    )
    options = parser.parse_args(arguments)
    try:
        files = list_files(options.system)
        overrides = sort_overrides(options.overrides, files)
    except ValueError as error:
        print(f"run: error: {error}", file=sys.stderr)
        return 2

    process.prepare_process()
    finished = {}
    for number, (stage, file) in enumerate(files.items(), 1):
        print(f"{'' if number == 1 else chr(10)}== {stage} ({number} of {len(files)})", flush=True)
        module = importlib.import_module(f"recipes.{stage}").STAGE
        given = overrides[stage]
        if options.sandbox is not None and "sandbox" in module.settings.model_fields:
            given = [f"sandbox={options.sandbox}", *given]
        code = run_stage(module, [str(file), *given])
        if code != 0:
            print(f"run: stopped at {stage}; run the same command again to go on from there", file=sys.stderr)
            return code
        finished[stage] = read_output(module, file, given)
        forget_accelerate()
    print_summary(finished)
    return 0


def list_files(system: str) -> dict[str, Path]:
    """Finds the settings of a system's stages.

    Args:
        system: A folder under `recipes/`.

    Returns:
        Files by stage, in the order in which stages run.

    Raises:
        ValueError: If there is no such system.
    """
    folder = ROOT / "recipes" / system
    found = {stage: folder / f"{stage}.yaml" for stage in STAGES if (folder / f"{stage}.yaml").is_file()}
    if not found:
        known = sorted({file.parent.name for file in (ROOT / "recipes").glob("*/*.yaml") if file.stem in STAGES})
        raise ValueError(f"recipes/{system} holds no settings of a stage; {suggest(system, known)}")
    # Shown as a person would write it, and read from wherever the command is called.
    here = Path.cwd()
    return {stage: file.relative_to(here) if file.is_relative_to(here) else file for stage, file in found.items()}


def suggest(word: str, known: Sequence[str]) -> str:
    """Gives the mend for a word that is not known.

    Args:
        word: What was given.
        known: What could have been.

    Returns:
        The nearest of them, or all.
    """
    near = difflib.get_close_matches(word, known, 1)
    return f"did you mean '{near[0]}'?" if near else f"name one of {', '.join(known)}"


def sort_overrides(given: Sequence[str], files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Gives each stage its own overrides.

    Args:
        given: Such as `sft.trainer.max_steps=3`.
        files: The stages that there are.

    Returns:
        Overrides by stage, without its name.

    Raises:
        ValueError: If one names no stage of the system.
    """
    sorted_ = {stage: list[str]() for stage in files}
    for one in given:
        stage, _, rest = one.partition(".")
        if stage not in sorted_ or "=" not in rest:
            mend = f"write stage.key=value with a stage among {', '.join(sorted_)}"
            is_near = stage not in sorted_ and difflib.get_close_matches(stage, sorted_, 1)
            raise ValueError(f"{one} sets nothing; {suggest(stage, list(sorted_)) if is_near else mend}")
        sorted_[stage].append(rest)
    return sorted_


def read_output(stage: Any, file: Path, overrides: Sequence[str]) -> tuple[Path, Any]:
    """Reads what a stage left.

    Args:
        stage: The stage.
        file: Its settings.
        overrides: What won over them.

    Returns:
        Its folder and its manifest.
    """
    from codeshell_hf.manifest import read_manifest
    from codeshell_hf.settings import load_settings

    output: Path = load_settings(stage.settings, file, overrides).output
    return output, read_manifest(output)


def forget_accelerate() -> None:
    """Lets the next stage's trainer choose device and precision for itself, and gives back what the last one held."""
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001 - accelerate's own tests call it so
    gc.collect()


def print_summary(finished: Mapping[str, tuple[Path, Any]]) -> None:
    """Prints what a newcomer asks at the end: how long it took, what was learned, what the model writes, where to look.

    Args:
        finished: Output and manifest of each stage.
    """
    from recipes.summary import summarize

    print("\n" + "\n".join(summarize(finished)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
