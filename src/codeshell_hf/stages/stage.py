"""Runs stages: settings, skipping, a folder that is complete or absent, a manifest, an exit code."""

import argparse
import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import pydantic

from ..manifest import Manifest, Values
from ..settings import Section, list_inputs
from . import STAGES
from .process import explain_missing_package, prepare_process, print_any_text


class StageSettings(Section):
    """Settings of every stage."""

    output: Path = pydantic.Field(description="folder to write, with a manifest.json")


S = TypeVar("S", bound=StageSettings)


@dataclass
class Work:
    """A stage's working folder, and what it fills in for the manifest and the terminal.

    Args:
        folder: Where to write. It becomes the output when the stage ends; after a kill the stage resumes in it.
        counts: Counts of inputs and outputs.
        measures: Measurements.
        report: Lines to print at the end.
        precision: Compute dtype, threads and device, from `resolve_precision`.
        hashes: SHA-256 of files that were hashed when they were written, by path in the folder.
    """

    folder: Path
    counts: Values = field(default_factory=dict)
    measures: Values = field(default_factory=dict)
    report: list[str] = field(default_factory=list)
    precision: Values = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage(Generic[S]):
    """A stage: its name, settings, inputs and work.

    Args:
        name: The stage's name.
        settings: The model of its settings.
        run: Does the work. All that its module may import or read is the stage's code.
        inputs: Lists the files and folders that it reads, by name; by default those that its settings mark.
        describe: Lines on the size of the work, for `--dry-run`.
        checkpoint_globs: Match the checkpoints in the work folder. Where there are some, unfinished work with other
            settings is not deleted: the stage refuses to run. After a code change it resumes.
        changeable_on_resume: Settings, or sections of them, that may change when a run resumes.
        extended_by: Those of them with which a finished run continues from its checkpoints, instead of starting over.
        kept_globs: Match what a continued run keeps besides its checkpoints.
        saves_on_signal: Whether a stop signal saves the run.
        examples: Settings and overrides of the examples in its help; by default nano's settings.
    """

    name: str
    settings: type[S]
    run: Callable[[S, Work], None]
    inputs: Callable[[S], Mapping[str, Path]] = list_inputs
    describe: Callable[[S], list[str]] = lambda settings: []
    checkpoint_globs: tuple[str, ...] = ()
    changeable_on_resume: tuple[str, ...] = ()
    extended_by: tuple[str, ...] = ()
    kept_globs: tuple[str, ...] = ()
    saves_on_signal: bool = False
    examples: tuple[str, ...] = ()


def main(stage: Stage[S], arguments: Sequence[str] | None = None) -> int:
    """Runs a stage from the command line.

    Returns:
        0 done or nothing to do, 1 failed, 2 called wrongly, 75 interrupted with everything saved.
    """
    return run_command(stage, make_parser(stage).parse_intermixed_args(arguments))


def run_command(stage: Stage[S], options: argparse.Namespace) -> int:
    """Runs a stage with a parsed command line (`settings`, `overrides`, `dry_run`, `force`); returns as `main` does."""
    logging.basicConfig(level=logging.INFO if is_first_rank() else logging.ERROR, format="%(message)s")
    # bitsandbytes logs an error on machines without a GPU.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    prepare_process()
    print_any_text()
    from ..errors import CodeShellError, Interrupted
    from ..operating_system import make_parent_death_signal

    if Interrupted.marker_variable in os.environ:  # a rank, which saves if its launcher dies
        make_parent_death_signal(signal.SIGTERM)()
    from ..settings import load_settings

    try:
        settings = load_settings(stage.settings, options.settings, options.overrides)
        if options.dry_run:
            print_plan(stage, settings)
        else:
            require_inputs(stage, settings, options.settings)
            run_stage(stage, settings, is_forced=options.force)
    except CodeShellError as error:
        word = "stopped" if isinstance(error, Interrupted) else "error"
        print(f"{stage.name}: {word}: {error}", file=sys.stderr)
        if isinstance(error, Interrupted) and (marker := os.environ.get(error.marker_variable)):
            with contextlib.suppress(OSError):  # what launched this rank was killed
                Path(marker).touch()
            return 0
        return error.exit_code
    except ModuleNotFoundError as error:
        if (line := explain_missing_package(error)) is None:
            raise
        print(f"{stage.name}: error: {line}", file=sys.stderr)
        return 2
    except OSError as error:
        # A full or failing disk. Any other OSError is a bug and shows its traceback.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
            raise
        place = error.filename or settings.output
        reason = f"{place} cannot be written ({os.strerror(error.errno)})"
        advice = "finished work is kept: free space and run the same command again"
        print(f"{stage.name}: error: {reason}; {advice}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{stage.name}: stopped: finished work is kept; run the same command again", file=sys.stderr)
        return Interrupted.exit_code
    return 0


def make_parser(stage: Stage[S], *, program: str | None = None) -> argparse.ArgumentParser:
    """Makes a stage's parser; its help lists all settings. `program` is by default `python -m recipes.STAGE`."""
    program = program or f"python -m recipes.{stage.name}"
    examples = stage.examples or (f"recipes/nano/{stage.name}.yaml --dry-run",)
    shown = "\n".join(f"  {program} {example}" for example in examples)
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"{explain_stage(stage)}\n\nexample{'s' * (len(examples) > 1)}:\n{shown}",
        epilog="settings:\n" + "\n".join(explain_fields(stage.settings)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", type=Path, help=f"such as {examples[0].partition(' ')[0]}")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="overrides the file")
    parser.add_argument(
        "--dry-run", action="store_true", help="print settings, inputs and the size of the work, and exit"
    )
    parser.add_argument("--force", action="store_true", help="run even if nothing has changed")
    return parser


def explain_stage(stage: Stage[S]) -> str:
    """The first line of the recipe's docstring."""
    text = sys.modules[stage.run.__module__].__doc__
    return text.partition("\n")[0] if text else f"The {stage.name} stage."


def explain_fields(model: type[pydantic.BaseModel], prefix: str = "") -> list[str]:
    """A line for each setting; `prefix` is the section's name and a dot."""
    lines = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            lines += explain_fields(inner, f"{prefix}{name}.")
            continue
        given = info.get_default(call_default_factory=True)
        default = "required" if info.is_required() else f"default {'null' if given is None else given}"
        lines.append(f"  {prefix + name:<30} {info.description or ''} ({default})")
    return lines


def print_plan(stage: Stage[S], settings: S) -> None:
    """Prints settings, inputs and the size of the work."""
    from ..manifest import flatten

    print(f"{stage.name} would write {settings.output}")
    for name, value in flatten(settings.model_dump(mode="json")).items():
        print(f"  {name} = {value}")
    for name, path in stage.inputs(settings).items():
        print(f"  reads {name}: {path}{'' if path.exists() else '  (missing)'}")
    for line in stage.describe(settings):
        print(f"  {line}")


def run_stage(stage: Stage[S], settings: S, *, is_forced: bool = False) -> None:
    """Runs a stage unless its output is up to date."""
    from .. import manifest as manifests
    from ..origin import describe_origin, find_commit
    from .output_lock import lock_output

    started = time.monotonic()
    values = settings.model_dump(mode="json")
    # Moving an output does not make it out of date.
    given = {**values, "output": None}
    fingerprint, inputs, code = take_fingerprint(stage, settings)

    def is_done(done: Manifest | None) -> bool:
        return done is not None and done.fingerprint == fingerprint and not is_forced

    if is_done(manifests.read_manifest(settings.output)):
        print_first(f"{stage.name}: nothing to do, {settings.output} is up to date")
        return

    with lock_output(settings.output) if is_first_rank() else contextlib.nullcontext():
        done = manifests.read_manifest(settings.output)  # another run may have written it meanwhile
        if is_done(done):
            print_first(f"{stage.name}: nothing to do, another run has written {settings.output}")
            return
        bound, changeable = sort_settings(stage, manifests.flatten(given) | inputs)
        if done is not None and not is_forced:
            earlier = read_settings(stage, done)
            before = sort_settings(stage, manifests.flatten({**earlier, "output": None}) | done.inputs)
            if before[0] == bound and (longer := find_extension(stage, before[1], changeable)):
                print_first(f"{stage.name}: continues {settings.output} from its checkpoints: {longer}")
                continue_output(stage, settings.output, bound, done.code_at_start or done.code)
        folder, code_at_start = open_folder(stage, settings.output, bound, code)
        commit = find_commit() if is_first_rank() else None  # before somebody changes the checkout
        work = Work(folder)
        stage.run(settings, work)
        if is_first_rank():
            manifests.Manifest(
                stage=stage.name,
                fingerprint=fingerprint,
                inputs=inputs,
                settings=values,
                code=code,
                code_at_start=code_at_start,
                outputs=manifests.hash_folder(work.folder, known=work.hashes),
                counts=work.counts,
                measures=work.measures,
                seed=values.get("seed"),
                wall_s=round(time.monotonic() - started, 2),
                versions=manifests.list_versions(),
                precision=work.precision,
                origin=describe_origin(commit),
            ).write(work.folder)
            swap_folders(work.folder, settings.output)
    print_first("\n".join(work.report))
    print_first(f"{stage.name}: wrote {settings.output} in {time.monotonic() - started:.0f} s")


def require_inputs(stage: Stage[S], settings: S, file: Path) -> None:
    """Raises a `DataError` that names the stage to run, if an input is missing that another stage writes."""
    from ..errors import DataError

    for name, path in stage.inputs(settings).items():
        maker = None if path.exists() else find_maker(path, file)
        if maker is not None:
            command = f"codeshell {maker.stem.partition('-')[0]} {maker}"
            whole = f"`codeshell run {maker.parent.name}` runs all stages"
            whole += ", and model=codeshell-tiny takes the package's model" if name == "model" else ""
            raise DataError(f"{path} does not exist; run `{command}` first, which writes it; {whole}")


def find_maker(path: Path, file: Path) -> Path | None:
    """The settings of the stage whose output has a path, beside a settings file or in another system's folder."""
    from ..errors import SettingsError
    from ..settings import read_yaml

    for settings in (*sorted(file.parent.glob("*.yaml")), *sorted(file.parent.parent.glob("*/*.yaml"))):
        if settings.stem.partition("-")[0] not in STAGES:
            continue
        try:
            output = read_yaml(settings).get("output")
        except SettingsError:
            continue
        if isinstance(output, str) and path.absolute().is_relative_to(Path(output).absolute()):
            parts = settings.parts
            return Path(*parts[parts.index("recipes") :]) if "recipes" in parts else settings
    return None


def take_fingerprint(stage: Stage[S], settings: S) -> tuple[str, dict[str, str], str]:
    """Hashes what a stage's output depends on: the fingerprint, the hash of each input, the hash of the code.

    Raises:
        DataError: If an input does not exist.
    """
    from ..dependencies import hash_code
    from ..manifest import hash_input, hash_values

    inputs = {name: hash_input(path) for name, path in stage.inputs(settings).items()}
    code = hash_code(Path(str(sys.modules[stage.run.__module__].__file__)))
    given = {**settings.model_dump(mode="json"), "output": None}
    return hash_values([stage.name, given, inputs, code]), inputs, code


def is_up_to_date(stage: Stage[S], settings: S) -> bool:
    """Whether a stage's output is that of its settings, inputs and code, so that it would be skipped."""
    from ..errors import DataError
    from ..manifest import read_manifest

    done = read_manifest(settings.output)
    try:
        return done is not None and done.fingerprint == take_fingerprint(stage, settings)[0]
    except DataError:  # an input is missing
        return False


def sort_settings(stage: Stage[S], named: Values) -> tuple[Values, Values]:
    """Divides settings and hashes of inputs into those that a run keeps and those that may change when it resumes."""
    names = tuple(f"{name}." for name in stage.changeable_on_resume)
    changeable = {name: value for name, value in named.items() if f"{name}.".startswith(names)}
    return {name: value for name, value in named.items() if name not in changeable}, changeable


def read_settings(stage: Stage[S], done: Manifest) -> Values:
    """A finished run's settings, with defaults for those that its release did not have."""
    try:
        return stage.settings.model_validate(done.settings).model_dump(mode="json")
    except pydantic.ValidationError:  # it had others, which are gone
        return done.settings


def find_extension(stage: Stage[S], before: Values, now: Values) -> str:
    """The first setting that became larger and so extends a finished run, as a sentence; empty if there is none."""
    for name in stage.extended_by:
        old, new = before.get(name), now.get(name)
        if old is not None and new is not None and new > old:
            return f"{name} was {old} and is {new}"
    return ""


def continue_output(stage: Stage[S], output: Path, given: Values, code: str) -> None:
    """Makes unfinished work of a finished run: links to its checkpoints, and copies of what else it keeps.

    Raises:
        SettingsError: If it has no checkpoints.
    """
    from ..errors import SettingsError

    folder = output.with_name(f"{output.name}.partial")
    if any(path for pattern in stage.checkpoint_globs for path in folder.glob(pattern)):
        return
    checkpoints = [path for pattern in stage.checkpoint_globs for path in output.glob(pattern)]
    if not checkpoints:
        raise SettingsError(f"{output} has no checkpoints to continue from; set output to another folder, or --force")
    if not is_first_rank():
        return
    made = folder.with_name(f"{folder.name}.new")
    for old in (made, folder):
        shutil.rmtree(old, ignore_errors=True)
    for path in checkpoints:  # whose files are never written to
        shutil.copytree(path, made / path.relative_to(output), copy_function=link_or_copy)
    for path in (path for pattern in stage.kept_globs for path in output.glob(pattern)):
        copy = shutil.copytree if path.is_dir() else shutil.copy2
        copy(path, made / path.relative_to(output))
    record = folder.with_name(f"{folder.name}.json")
    record.write_text(json.dumps({"given": given, "code": code}, indent=1), encoding="utf-8")
    made.rename(folder)


def link_or_copy(source: str, target: str) -> None:
    """Links a file, which takes no space; copies it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def open_folder(stage: Stage[S], output: Path, given: Mapping[str, object], code: str) -> tuple[Path, str]:
    """Opens the working folder `OUTPUT.partial`, and deletes unfinished work of other settings or code.

    Args:
        stage: Its checkpoints protect unfinished work from deletion.
        output: The stage's output, which is not touched.
        given: Settings and hashes of inputs, by name.
        code: Hash of the stage's code.

    Returns:
        The folder, and the hash of the code that started the work in it.

    Raises:
        DataError: If it cannot be written.
        SettingsError: If protected work was started with other settings or inputs.
    """
    from ..errors import DataError, SettingsError

    folder = output.with_name(f"{output.name}.partial")
    record = folder.with_name(f"{folder.name}.json")
    if not is_first_rank():
        return folder, code
    now = json.loads(json.dumps({"given": given, "code": code}))
    try:
        before = read_start(record)
        has_checkpoints = any(path for pattern in stage.checkpoint_globs for path in folder.glob(pattern))
        if has_checkpoints and before["given"]:
            before["given"] = list_defaults(stage.settings, now["given"]) | before["given"]
        old = before["given"]
        names = [*now["given"], *(name for name in old if name not in now["given"])]
        changed = [name for name in names if now["given"].get(name) != old.get(name)]
        if has_checkpoints and not old:
            raise SettingsError(
                f"{folder} holds unfinished work, but {record.name} does not say which settings started it; set output "
                f"to another folder, or remove {folder} to start over"
            )
        if has_checkpoints and changed:
            raise SettingsError(
                f"{folder} was started with {changed[0]} {old.get(changed[0])}, and now it is "
                f"{now['given'].get(changed[0])}; set it back, set output to "
                f"another folder, or remove {folder} to start over"
            )
        if has_checkpoints and before["code"] != code:
            print_first(f"{stage.name}: resumes work that other code started")
            now["code"] = before["code"]
        elif before != now:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(now, indent=1), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); set output to a folder that can") from error
    return folder, now["code"]


def list_defaults(model: type[pydantic.BaseModel], names: Collection[str], prefix: str = "") -> Values:
    """The defaults of settings by dotted name, of those in `names`: a run that an older release began lacks some."""
    found: Values = {}
    for key, info in model.model_fields.items():
        name, inner = prefix + key, info.annotation
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            found |= list_defaults(inner, names, f"{name}.")
        elif name in names and not info.is_required():
            found[name] = pydantic.TypeAdapter(object).dump_python(
                info.get_default(call_default_factory=True), mode="json"
            )
    return found


def read_start(record: Path) -> Values:
    """Reads what started unfinished work: `given`, settings and hashes by name, empty if unreadable, and `code`."""
    try:
        values = json.loads(record.read_text(encoding="utf-8"))
        return {"given": dict(values["given"]), "code": values["code"]}
    except (OSError, ValueError, TypeError, KeyError):
        return {"given": {}, "code": None}


def swap_folders(folder: Path, output: Path) -> None:
    """Replaces the old output by the finished work."""
    old = output.with_name(f"{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    folder.rename(output)
    shutil.rmtree(old, ignore_errors=True)
    folder.with_name(f"{folder.name}.json").unlink(missing_ok=True)


def is_first_rank() -> bool:
    """Whether this process prints and writes for all ranks."""
    return os.environ.get("RANK", "0") == "0"


def print_first(text: str) -> None:
    """Prints on the first rank only, and flushes."""
    if is_first_rank() and text:
        print(text, flush=True)
