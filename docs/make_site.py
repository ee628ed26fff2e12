"""Builds the site of the documentation: docs/, both READMEs, and an API reference from docstrings.

python docs/make_site.py                 build/site, which is what `make docs` does; a warning is an error
python docs/make_site.py --gather        only build/site-source, from which zensical builds it

Links to files of the repository outside docs/ become links to the repository.
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "site-source"
PAGES = {"README.md": "index.md", "README.zh.md": "index.zh.md"}  # files of the root that are pages
IMAGES = (".svg", ".png")
PACKAGE = "codeshell_hf"
# Pages of the reference: folder of the package, and what it is about.
REFERENCE = {
    "": "Model, tokenizer, settings",
    "curate": "Curation",
    "synthesize": "Synthesis",
    "pack": "Packing",
    "train": "Pretraining",
    "align": "Alignment",
    "evaluate": "Evaluation",
    "publish": "Publishing",
    "serve": "Server",
    "sandbox": "Sandbox",
    "text": "Text",
    "stages": "Stages",
}
LINK = re.compile(r"(!?)(\[[^\]]*\]\(|(?<=\))\]\()(?![a-z][a-z0-9+.-]*:|#|/)([^)\s#]+)(#[^)\s]*)?\)")


def rewrite_links(text: str, folder: str, repository: str) -> str:
    """The text with links that work in the site.

    Args:
        text: Markdown, whose code blocks are left alone.
        folder: Of the page, from the root of the repository: "docs" or "".
        repository: Its address on GitHub.
    """
    raw = repository.replace("https://github.com/", "https://raw.githubusercontent.com/")

    def replace(link: re.Match[str]) -> str:
        is_image, opening, target, anchor = link.groups()
        path = normalise(PurePosixPath(folder) / target)
        if path in PAGES:
            place = PAGES[path]
        elif path.startswith("docs/") and path.endswith((".md", *IMAGES)):
            place = path.removeprefix("docs/")
        else:
            place = f"{raw}/main/{path}" if is_image else f"{repository}/blob/main/{path}"
        return f"{is_image}{opening}{place}{anchor or ''})"

    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in parts)


def normalise(path: PurePosixPath) -> str:
    """A path without `..`."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        else:
            parts.append(part)
    return "/".join(parts)


def list_modules(folder: str) -> list[str]:
    """The modules of a folder of the package that have something public."""
    place = ROOT / "src" / PACKAGE / folder
    modules = []
    for path in sorted(place.rglob("*.py") if folder else place.glob("*.py")):
        name = path.relative_to(ROOT / "src").with_suffix("").as_posix().replace("/", ".")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        has_public = any(isinstance(node, kinds) and not node.name.startswith("_") for node in tree.body)
        is_importable = all((parent / "__init__.py").is_file() for parent in (path.parent, path.parent.parent))
        if has_public and not path.stem.startswith("_") and (is_importable or not folder):
            modules.append(name)
    return modules


def write_reference(folder: Path) -> None:
    """Writes the pages of the reference, each with its modules."""
    folder.mkdir(parents=True)
    for name, title in REFERENCE.items():
        blocks = [f"::: {module}" for module in list_modules(name)]
        (folder / f"{name or 'model'}.md").write_text(f"# {title}\n\n" + "\n\n".join(blocks) + "\n", encoding="utf-8")


def gather() -> None:
    """Writes all pages into build/site-source."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project["urls"]["Repository"]
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for path in sorted((ROOT / "docs").iterdir()):
        if path.suffix == ".md":
            text = rewrite_links(path.read_text(encoding="utf-8"), "docs", repository)
            (SOURCE / path.name).write_text(text, encoding="utf-8")
        elif path.suffix in IMAGES:
            shutil.copy(path, SOURCE / path.name)
    for name, page in PAGES.items():
        text = rewrite_links((ROOT / name).read_text(encoding="utf-8"), "", repository)
        (SOURCE / page).write_text(text, encoding="utf-8")
    write_reference(SOURCE / "api")


def build() -> int:
    """Builds the site; returns 1 after a warning, of zensical or of what reads the docstrings."""
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        check=False,
    )
    print(done.stdout, end="")
    warnings = [line for line in done.stdout.splitlines() if line.startswith("griffe: ")]
    if done.returncode or warnings:
        print(f"make_site: error: {len(warnings)} warnings about docstrings; mend what is named above", file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Gathers the pages, and builds the site unless told not to."""
    parser = argparse.ArgumentParser(prog="python docs/make_site.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--gather", action="store_true", help="only write build/site-source")
    options = parser.parse_args(arguments)
    gather()
    return 0 if options.gather else build()


if __name__ == "__main__":
    sys.exit(main())
