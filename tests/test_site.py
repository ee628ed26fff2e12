"""The site of the documentation: every page is in it and in its navigation, and every link leads somewhere."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = load("make_site")
    source = tmp_path_factory.mktemp("site") / "source"
    vars(module)["SOURCE"] = source
    assert module.main(["--gather"]) == 0
    return source


def list_targets(text: str) -> list[str]:
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def test_every_page_is_in_the_navigation_once(site: Path) -> None:
    pages = sorted(path.relative_to(site).as_posix() for path in site.rglob("*.md"))

    listed = [page for part in CONFIG["nav"] for section in part.values() for page in section]

    assert sorted(listed) == pages
    assert {f"{path.name}" for path in (ROOT / "docs").glob("*.md")} < set(pages)
    assert CONFIG["repo_url"] == REPOSITORY


def test_links_lead_to_pages_of_the_site_or_to_files_of_the_repository(site: Path) -> None:
    raw = REPOSITORY.replace("https://github.com/", "https://raw.githubusercontent.com/")
    inside = outside = 0
    for page in site.glob("*.md"):
        for target in list_targets(page.read_text(encoding="utf-8")):
            path, _, anchor = target.partition("#")
            if path.startswith((f"{REPOSITORY}/blob/main/", f"{raw}/main/")):
                outside += 1
                assert (ROOT / path.partition("/main/")[2]).exists(), f"{page.name}: {target}"
            elif not path.startswith("https://") and path:
                inside += 1
                assert (site / path).is_file(), f"{page.name}: {target}"
            if anchor and path.endswith(".md"):
                own = path if (site / path).is_file() else None
                text = ((site / own) if own else ROOT / path.partition("/main/")[2]).read_text(encoding="utf-8")
                assert anchor in list_anchors(text), f"{page.name}: {target}"
    assert inside > 50
    assert outside > 20


def list_anchors(text: str) -> set[str]:
    """The anchors that GitHub and the site give to headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    words = [re.sub(r"[^\w\s-]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).strip() for heading in headings]
    return {word.lower().replace(" ", "-") for word in words}


def test_links_are_rewritten_outside_code_alone() -> None:
    rewrite = load("make_site").rewrite_links
    here = "https://github.com/a/b"

    assert (
        rewrite("[x](../benchmarks/README.md#one)", "docs", here) == f"[x]({here}/blob/main/benchmarks/README.md#one)"
    )
    assert rewrite("[x](serving.md#vllm)", "docs", here) == "[x](serving.md#vllm)"
    assert rewrite("[x](docs/serving.md)", "", here) == "[x](serving.md)"
    assert rewrite("[x](../README.md)", "docs", here) == "[x](index.md)"
    assert rewrite("![x](docs/flow.svg)", "", here) == "![x](flow.svg)"
    assert rewrite("![x](logo.png)", "", here) == "![x](https://raw.githubusercontent.com/a/b/main/logo.png)"
    assert rewrite("[![x](https://y/z)](LICENSE)", "", here) == f"[![x](https://y/z)]({here}/blob/main/LICENSE)"
    assert rewrite("```text\n[x](docs/a.md)\n```", "", here) == "```text\n[x](docs/a.md)\n```"
    assert rewrite("[x](https://y/z) [y](#here)", "docs", here) == "[x](https://y/z) [y](#here)"


def test_the_reference_names_modules_that_exist(site: Path) -> None:
    modules = [
        line.removeprefix("::: ")
        for page in (site / "api").glob("*.md")
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("::: ")
    ]

    assert len(modules) > 150
    assert len(modules) == len(set(modules))
    assert {"codeshell_hf.loading", "codeshell_hf.curate.rules", "codeshell_hf.text.chat"} < set(modules)
    for name in modules:
        assert (ROOT / "src" / name.replace(".", "/")).with_suffix(".py").is_file(), name


def test_doctests_of_docstrings_are_shown_as_code(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = ModuleType("griffe")
    vars(stand_in)["Extension"] = object
    monkeypatch.setitem(sys.modules, "griffe", stand_in)
    text = "Adds.\n\n>>> add(1, 2)[0]\n3\n>>> add(1, 1)[0]\n2\n\nEnd.\n"

    fenced = load("doctest_blocks").fence_doctests(text)

    assert fenced == "Adds.\n\n```python\n>>> add(1, 2)[0]\n3\n>>> add(1, 1)[0]\n2\n```\n\nEnd.\n"


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    if find_spec("zensical") is None:
        pytest.skip("zensical is not installed")
    for name in ("docs", "src", "benchmarks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*ROOT.glob("*.md"), *ROOT.glob("*.toml")]:
        shutil.copy(path, tmp_path)

    done = subprocess.run(
        [sys.executable, "docs/make_site.py"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )

    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "build" / "site" / "api" / "model" / "index.html").read_text(encoding="utf-8")
    assert "load_model" in page
    assert (tmp_path / "build" / "site" / "index.html").is_file()
