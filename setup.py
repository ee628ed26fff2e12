"""What pyproject.toml cannot say: a README with absolute links for PyPI, and the recipes inside the wheel."""

import re
import shutil
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
WORKSPACE = ("recipes", "tokenizer")


class BuildWithWorkspace(build_py):
    """Adds `codeshell_hf/_workspace`, which `codeshell init` writes; an editable install reads the checkout."""

    def run(self) -> None:
        """Builds the package, then adds the workspace."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "codeshell_hf" / "_workspace"
        shutil.rmtree(target, ignore_errors=True)  # a module that is gone would stay in build/
        for name in WORKSPACE:
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:  # noqa: FBT001, FBT002 - as setuptools has it
        """Lists what an installation holds, for `pip uninstall`."""
        target = Path(self.build_lib) / "codeshell_hf" / "_workspace"
        return [*super().get_outputs(include_bytecode), *(str(path) for path in target.rglob("*") if path.is_file())]


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
    text = re.sub(rf"(?<=\))(\]\(){relative}([^)\s]+)(\))", replace, text)  # around an image, as of a badge
    return re.sub(rf'((?:src|href)="){relative}([^"]+)(")', replace, text)


if __name__ == "__main__":
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.search(r'__version__ = "(.+)"', (ROOT / "src/codeshell_hf/version.py").read_text(encoding="utf-8"))
    if version is None:
        raise SystemExit("src/codeshell_hf/version.py holds no __version__")
    setup(
        cmdclass={"build_py": BuildWithWorkspace},
        long_description=make_links_absolute(
            (ROOT / "README.md").read_text(encoding="utf-8"), project["urls"]["Repository"], f"v{version[1]}"
        ),
        long_description_content_type="text/markdown",
    )
