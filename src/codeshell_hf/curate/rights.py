"""Decides which documents may be used, by licences and opt-outs."""

import re
from pathlib import Path

import daft
from daft import DataType, Expression, col

from ..errors import DataError
from .settings import Rights
from .sources.licences import PERMISSIVE

_JOINED = re.compile(r"\s+(?:AND|OR)\s+|/", re.IGNORECASE)
_WITH = re.compile(r"\s+WITH\s+", re.IGNORECASE)


def read_opt_outs(path: Path | None) -> tuple[str, ...]:
    """Reads repositories, owners (`owner/`) and document ids, one per line; `#` starts a comment.

    Raises:
        DataError: If the file cannot be read.
    """
    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"rights.opt_out is {path}, which cannot be read; name a text file with one name per line"
        ) from error
    return tuple(name for line in lines if (name := line.partition("#")[0].strip()))


def judge_rights(rights: Rights) -> list[tuple[str, Expression]]:
    """Reasons, each with an expression that is true for the documents to drop."""
    verdicts: list[tuple[str, Expression]] = []
    opted_out = read_opt_outs(rights.opt_out)
    if opted_out:
        names = [name for name in opted_out if not name.endswith("/")]
        owners = [name for name in opted_out if name.endswith("/")]
        opted = col("repository").is_in(names) | col("id").is_in(names) if names else daft.lit(False)  # noqa: FBT003
        for owner in owners:
            opted = opted | col("repository").startswith(owner) | col("repository").contains(f"/{owner}")
        # A document without a repository has not opted out.
        verdicts.append(("opted-out", opted.fill_null(daft.lit(False)) | col("id").is_in(names)))  # noqa: FBT003
    by_source = {name: own for name, own in rights.by_source.items() if own.licences is not None}
    if rights.licences is not None or by_source:

        def is_refused(source: str, licence: str | None) -> bool:
            own = rights.by_source.get(source, rights)
            if own.licences is None:
                return False
            allowed = PERMISSIVE if own.licences == "permissive" else own.licences
            return not is_allowed(licence, allowed, allows_unknown=own.allows_unknown)

        verdicts.append(("licence", daft.func(return_dtype=DataType.bool())(is_refused)(col("source"), col("licence"))))
    return verdicts


def is_allowed(licence: str | None, allowed: tuple[str, ...], *, allows_unknown: bool) -> bool:
    """Whether every licence of a document is allowed, joined by `AND` or by `OR`, in whatever spelling.

    An exception, behind `WITH`, only adds rights.

    >>> is_allowed("MIT AND GPL-3.0", ("MIT",), allows_unknown=True)
    False
    >>> is_allowed("CC BY-SA 4.0", ("CC-BY-SA-4.0",), allows_unknown=False)
    True
    """
    if licence is None:
        return allows_unknown
    names = {spell(name) for name in allowed}
    return all(spell(_WITH.split(name)[0]) in names for name in _JOINED.split(licence))


def spell(licence: str) -> str:
    """One spelling for the names of a licence, such as `CC BY-SA 4.0` and `cc-by-sa-4.0`."""
    return "-".join(licence.strip("() ").casefold().replace("_", " ").split())
