"""How every stage is run: settings, skipping, a folder that is whole or absent, a manifest, an exit code."""

import argparse
import errno
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import pydantic

from ..settings import Section
from .process import prepare_process, print_any_text


class StageSettings(Section):
    """What the settings of every stage have."""

    output: Path = pydantic.Field(description="folder that the stage makes, with a manifest.json")


S = TypeVar("S", bound=StageSettings)


@dataclass
class Work:
    """What a stage fills while it runs.

    Args:
        folder: Where to write. It becomes the output when the stage ends; after a kill it is given again as it was.
        counts: For the manifest: what came in and went out.
        measures: For the manifest: what was measured.
        report: Lines to print at the end.
        precision: For the manifest: what was computed in, and with how many threads.
    """

    folder: Path
    counts: dict[str, Any] = field(default_factory=dict)
    measures: dict[str, Any] = field(default_factory=dict)
    report: list[str] = field(default_factory=list)
    precision: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage(Generic[S]):
    """One stage: its word, its settings, what it reads and what it does.

    Args:
        name: The stage word.
        settings: Its model.
        inputs: Gives the files and folders it reads, by name.
        run: Does the work. All that its module may import or read is the stage's code.
        describe: Gives lines on the size of the work, for `--dry-run`.
        kept: A pattern of files that cost days. Where it finds some, work that was begun with other settings is not
            thrown away: the stage is refused, and goes on after a change of code.
        free: Settings, or sections of them, that may change while work is under way.
    """

    name: str
    settings: type[S]
    inputs: Callable[[S], Mapping[str, Path]]
    run: Callable[[S, Work], None]
    describe: Callable[[S], list[str]] = lambda settings: []
    kept: str | None = None
    free: tuple[str, ...] = ()


def main(stage: Stage[S], arguments: Sequence[str] | None = None) -> int:
    """Runs a stage from the command line.

    Args:
        stage: The stage.
        arguments: The command line; by default this process's.

    Returns:
        0 done or nothing to do, 1 failed, 2 called wrongly, 75 interrupted with everything saved.
    """
    options = make_parser(stage).parse_args(arguments)
    logging.basicConfig(level=logging.INFO if is_first_rank() else logging.ERROR, format="%(message)s")
    # Where it is installed, it says on every CPU that it could not fetch a kernel, asked for or not.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    prepare_process()
    print_any_text()
    from ..errors import CodeShellError, Interrupted
    from ..settings import load_settings

    try:
        settings = load_settings(stage.settings, options.settings, options.overrides)
        if options.dry_run:
            print_plan(stage, settings)
        else:
            run_stage(stage, settings, is_forced=options.force)
    except CodeShellError as error:
        word = "stopped" if isinstance(error, Interrupted) else "error"
        print(f"{stage.name}: {word}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        # A disk that is full or gone; anything else is a fault of ours and shows where it happened.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO):
            raise
        place = error.filename or settings.output
        reason = f"{place} cannot be written ({os.strerror(error.errno)})"
        mend = "what was finished is kept: make room and run the same command again"
        print(f"{stage.name}: error: {reason}; {mend}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{stage.name}: stopped: what was finished is kept; run the same command again", file=sys.stderr)
        return Interrupted.exit_code
    return 0


def make_parser(stage: Stage[Any]) -> argparse.ArgumentParser:
    """The command line of a stage, with its settings explained by their own descriptions.

    Args:
        stage: The stage.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m recipes.{stage.name}",
        description=f"The {stage.name} stage.",
        epilog="settings:\n" + "\n".join(explain_fields(stage.settings)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("settings", type=Path, help=f"such as recipes/nano/{stage.name}.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="wins over the file")
    parser.add_argument("--dry-run", action="store_true", help="print settings, inputs and the size of the work")
    parser.add_argument("--force", action="store_true", help="run even if nothing has changed")
    return parser


def explain_fields(model: type[pydantic.BaseModel], prefix: str = "") -> list[str]:
    """One line for each setting.

    Args:
        model: The settings' model.
        prefix: The section's name and a dot.

    Returns:
        Lines, sections after their own keys.
    """
    lines = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            lines += explain_fields(inner, f"{prefix}{name}.")
            continue
        default = "required" if info.is_required() else f"default {info.get_default(call_default_factory=True)}"
        lines.append(f"  {prefix + name:<30} {info.description or ''} ({default})")
    return lines


def print_plan(stage: Stage[S], settings: S) -> None:
    """Prints what a run would do.

    Args:
        stage: The stage.
        settings: Its settings.
    """
    from ..manifest import flatten

    print(f"{stage.name} would write {settings.output}")
    for name, value in flatten(settings.model_dump(mode="json")).items():
        print(f"  {name} = {value}")
    for name, path in stage.inputs(settings).items():
        print(f"  reads {name}: {path}{'' if path.exists() else '  (missing)'}")
    for line in stage.describe(settings):
        print(f"  {line}")


def run_stage(stage: Stage[S], settings: S, *, is_forced: bool = False) -> None:
    """Runs a stage unless its output is up to date.

    Args:
        stage: The stage.
        settings: Its settings.
        is_forced: Whether to run in any case.
    """
    from .. import manifest as manifests
    from ..dependencies import hash_code

    started = time.monotonic()
    inputs = {name: manifests.hash_input(path) for name, path in stage.inputs(settings).items()}
    values = settings.model_dump(mode="json")
    code = hash_code(Path(str(sys.modules[stage.run.__module__].__file__)))
    # Where a run lies does not change what it is.
    given = {**values, "output": None}
    fingerprint = manifests.hash_values([stage.name, given, inputs, code])
    done = manifests.read_manifest(settings.output)
    if done is not None and done.fingerprint == fingerprint and not is_forced:
        print_first(f"{stage.name}: nothing to do, {settings.output} is up to date")
        return

    free = tuple(f"{name}." for name in stage.free)
    named = manifests.flatten(given) | inputs
    bound = {name: value for name, value in named.items() if not f"{name}.".startswith(free)}
    folder, begun = open_folder(stage, settings.output, bound, code)
    work = Work(folder)
    stage.run(settings, work)
    if is_first_rank():
        manifests.Manifest(
            stage=stage.name,
            fingerprint=fingerprint,
            inputs=inputs,
            settings=values,
            code=code,
            begun_code=begun,
            outputs=manifests.hash_folder(work.folder),
            counts=work.counts,
            measures=work.measures,
            seed=values.get("seed"),
            wall_s=round(time.monotonic() - started, 2),
            versions=manifests.list_versions(),
            precision=work.precision,
        ).write(work.folder)
        swap_folders(work.folder, settings.output)
    print_first("\n".join(work.report))
    print_first(f"{stage.name}: wrote {settings.output} in {time.monotonic() - started:.0f} s")


def open_folder(stage: Stage[S], output: Path, given: Mapping[str, Any], code: str) -> tuple[Path, str]:
    """Opens the folder beside the output in which a stage works.

    Args:
        stage: Says what in it must not be lost.
        output: The stage's output, which is left alone.
        given: Settings and hashes of inputs, by name. Work that was begun with others is thrown away.
        code: Hash of the stage's code; likewise.

    Returns:
        The folder, and the hash of the code that work in it was begun with.

    Raises:
        DataError: If it cannot be made.
        SettingsError: If work that must not be lost was begun with others.
    """
    from ..errors import DataError, SettingsError

    folder = output.with_name(f"{output.name}.partial")
    mark = folder.with_name(f"{folder.name}.json")
    if not is_first_rank():
        return folder, code
    now = json.loads(json.dumps({"given": given, "code": code}))
    try:
        begun = read_mark(mark)
        is_kept = stage.kept is not None and any(folder.glob(stage.kept))
        names = [*now["given"], *(name for name in begun["given"] if name not in now["given"])]
        other = [name for name in names if now["given"].get(name) != begun["given"].get(name)]
        if is_kept and not begun["given"]:
            raise SettingsError(
                f"{folder} holds work of which {mark.name} does not say how it was begun; set output to another "
                "folder, or remove it to begin anew"
            )
        if is_kept and other:
            before, after = (side["given"].get(other[0]) for side in (begun, now))
            raise SettingsError(
                f"{folder} was begun with {other[0]} {before}, and now it is {after}; go on as it was begun, set "
                "output to another folder, or remove it to begin anew"
            )
        if is_kept and begun["code"] != code:
            print_first(f"{stage.name}: goes on with work that was begun by other code")
            now["code"] = begun["code"]
        elif begun != now:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(json.dumps(now, indent=1), encoding="utf-8")
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); set output to a folder that can") from error
    return folder, now["code"]


def read_mark(mark: Path) -> dict[str, Any]:
    """Reads how work was begun.

    Args:
        mark: The file beside its folder.

    Returns:
        `given`, settings and hashes by name, empty where the file is missing or broken, and `code`.
    """
    try:
        begun = json.loads(mark.read_text(encoding="utf-8"))
        return {"given": dict(begun["given"]), "code": begun["code"]}
    except (OSError, ValueError, TypeError, KeyError):
        return {"given": {}, "code": None}


def swap_folders(folder: Path, output: Path) -> None:
    """Puts finished work in the place of what was there.

    Args:
        folder: Finished work.
        output: Its place.
    """
    old = output.with_name(f"{output.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    folder.rename(output)
    shutil.rmtree(old, ignore_errors=True)
    folder.with_name(f"{folder.name}.json").unlink(missing_ok=True)


def is_first_rank() -> bool:
    """Whether this process speaks and writes for all.

    Returns:
        True in a single process, and in the first of a launcher's.
    """
    return os.environ.get("RANK", "0") == "0"


def print_first(text: str) -> None:
    """Prints on the first rank.

    Args:
        text: What to print, at once.
    """
    if is_first_rank() and text:
        print(text, flush=True)
