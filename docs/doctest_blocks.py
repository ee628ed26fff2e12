"""Shows doctests of docstrings as code in the API reference; Markdown would take `>>>` for quotations.

An extension of griffe, which reads the sources for mkdocstrings.
"""

import re

import griffe


class DoctestBlocks(griffe.Extension):
    """Puts each doctest, up to the next blank line, into a code block."""

    def on_instance(self, *, obj: "griffe.Object | griffe.Alias", **_: object) -> None:
        """Changes the docstring of one object."""
        if not obj.is_alias and obj.docstring is not None:
            obj.docstring.value = fence_doctests(obj.docstring.value)


def fence_doctests(text: str) -> str:
    """The docstring with doctests between fences; those below a heading such as `Examples:` stand for themselves."""
    return re.sub(r"(?m)(^>>> (?:.*\n?)(?:.+\n?)*)", lambda found: f"```python\n{found[0].rstrip()}\n```\n", text)
