"""Identifies a licence by phrases of its text."""

import re
from pathlib import Path

from .history import open_regular

FILE_NAMES = ("LICENSE", "LICENCE", "COPYING", "UNLICENSE")
# In order: the first whose phrases are all in the text. White space is collapsed, case ignored.
PHRASES: dict[str, tuple[str, ...]] = {
    "Apache-2.0": ("apache license", "version 2.0"),
    "AGPL-3.0": ("gnu affero general public license", "version 3"),
    "LGPL-3.0": ("gnu lesser general public license", "version 3"),
    "LGPL-2.1": ("gnu lesser general public license", "version 2.1"),
    "GPL-3.0": ("gnu general public license", "version 3"),
    "GPL-2.0": ("gnu general public license", "version 2"),
    "MPL-2.0": ("mozilla public license", "2.0"),
    "EPL-2.0": ("eclipse public license", "2.0"),
    "EUPL-1.2": ("european union public licence", "1.2"),
    "PSF-2.0": ("python software foundation license",),
    "BSL-1.0": ("boost software license", "version 1.0"),
    "CC0-1.0": ("cc0 1.0 universal",),
    "CC-BY-SA-4.0": ("attribution-sharealike 4.0 international",),
    "CC-BY-4.0": ("attribution 4.0 international",),
    "Unlicense": ("this is free and unencumbered software released into the public domain",),
    "Zlib": (
        "the origin of this software must not be misrepresented",
        "altered source versions must be plainly marked",
    ),
    "ISC": ("permission to use, copy, modify, and/or distribute this software for any purpose",),
    "BSD-4-Clause": ("redistribution and use in source and binary forms", "all advertising materials mentioning"),
    "BSD-3-Clause": ("redistribution and use in source and binary forms", "endorse or promote products"),
    "BSD-2-Clause": ("redistribution and use in source and binary forms",),
    "MIT": ("permission is hereby granted, free of charge", "the above copyright notice and this permission notice"),
}
# Licences that require attribution at most, so that derived work can usually stay closed.
PERMISSIVE = (
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC-BY-4.0", "CC0-1.0", "ISC", "MIT", "PSF-2.0"),
    *("Unlicense", "Zlib"),
)
_START_BYTES = 40_000
_MAX_FILES = 20  # of licences in a checkout


def name_licence(text: str) -> str | None:
    """The SPDX name of a licence text; `None` if it is not a common one.

    >>> name_licence("Boost Software License - Version 1.0 - August 17th, 2003")
    'BSL-1.0'
    """
    plain = re.sub(r"\s+", " ", text[:_START_BYTES]).lower()
    return next((name for name, phrases in PHRASES.items() if all(phrase in plain for phrase in phrases)), None)


def find_licence(folder: Path) -> str | None:
    """The SPDX name of a checkout's licence, from the file at its top."""
    try:
        files = sorted(path for path in folder.iterdir() if path.name.upper().startswith(FILE_NAMES))
        for path in files[:_MAX_FILES]:
            try:
                with open_regular(path) as file:
                    text = file.read(_START_BYTES).decode("utf-8", "replace")
            except OSError:  # a folder, a pipe, or not readable
                continue
            if (name := name_licence(text)) is not None:
                return name
    except OSError:
        return None
    return None
