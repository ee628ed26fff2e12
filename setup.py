"""Gives PyPI a README whose links are absolute, at the tag of its version; all else stands in pyproject.toml."""

import re
import tomllib
from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent


def make_links_absolute(text: str, repository: str, revision: str) -> str:
    """The text with relative links of Markdown and HTML pointing into a repository on GitHub.

    Args:
        text: Markdown.
        repository: Such as `https://github.com/owner/name`.
        revision: A branch or tag.
    """
    raw = repository.replace("https://github.com/", "https://raw.githubusercontent.com/")

    def replace(link: re.Match[str]) -> str:
        opening, target, closing = link.groups()
        is_image = opening.startswith("![") or opening.lower().endswith(("src=", 'src="'))
        base = f"{raw}/{revision}" if is_image else f"{repository}/blob/{revision}"
        return f"{opening}{base}/{target.removeprefix('./')}{closing}"

    relative = r"(?![a-z][a-z0-9+.-]*:|#|/)"
    text = re.sub(rf"(!?\[[^\]]*\]\(){relative}([^)\s]+)(\))", replace, text)
    return re.sub(rf'((?:src|href)="){relative}([^"]+)(")', replace, text)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.search(r'__version__ = "(.+)"', (ROOT / "src/codeshell_hf/version.py").read_text(encoding="utf-8"))
    if version is None:
        raise SystemExit("src/codeshell_hf/version.py holds no __version__")
    setup(
        long_description=make_links_absolute(
            (ROOT / "README.md").read_text(encoding="utf-8"), project["urls"]["Repository"], f"v{version[1]}"
        ),
        long_description_content_type="text/markdown",
    )
