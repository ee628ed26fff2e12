"""Writes recipes/ and tokenizer/ of this version into a folder, to read, change and run there.

codeshell init .
codeshell init ~/models/mine --force      overwrites changed files
"""

from collections.abc import Sequence
from pathlib import Path

from ..stages.process import make_parser, run
from .workspace import PACKAGES, find_packaged

SHOWN = 5  # files that an error lists


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the files; returns 2 if changed files are in the way."""
    parser = make_parser("init", __doc__)
    parser.add_argument("folder", type=Path, help="created if missing")
    parser.add_argument("--force", action="store_true", help="overwrite files that differ")
    options = parser.parse_args(arguments)

    def work() -> None:
        written, kept = write_workspace(find_packaged(), options.folder, is_forced=options.force)
        same = f", {kept} existed already" if kept else ""
        print(f"wrote {written} files into {options.folder}/recipes and {options.folder}/tokenizer{same}")

    return run("init", work)


def write_workspace(source: Path, folder: Path, *, is_forced: bool) -> tuple[int, int]:
    """Copies `recipes/` and `tokenizer/`; other files in the folder are not touched.

    Args:
        source: The folder with both.
        folder: The destination.
        is_forced: Whether files with other content are overwritten.

    Returns:
        The number of written files, and of those that existed with the same content.

    Raises:
        DataError: If files with other content exist, in which case nothing is written, or it cannot be written.
    """
    from ..errors import DataError

    files = {
        path.relative_to(source): path.read_bytes()
        for name in PACKAGES
        for path in sorted((source / name).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    there = {name for name in files if (folder / name).exists()}
    same = {name for name in there if (folder / name).is_file() and (folder / name).read_bytes() == files[name]}
    if (changed := sorted(name.as_posix() for name in there - same)) and not is_forced:
        more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
        raise DataError(
            f"{', '.join(changed[:SHOWN])}{more} in {folder} differ from this version's; "
            "move them, or overwrite them with --force"
        )
    try:
        for name in files.keys() - same:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(files[name])
    except OSError as error:
        raise DataError(f"{error.filename} cannot be written ({error.strerror}); name a folder that can") from error
    return len(files) - len(same), len(same)
