"""What a visitor of the project meets: its page on PyPI, the lock, workflows, forms, hooks, one address everywhere."""

import ast
import email
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
REPOSITORY: str = PROJECT["urls"]["Repository"]


def read_pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def walk_requirements(requirements: list[str], extra: str = "") -> Iterator[Requirement]:
    """All that these requirements bring along on this machine, by the metadata of what is installed."""
    todo = [(Requirement(line), extra) for line in requirements]
    seen = set()
    while todo:
        requirement, extra = todo.pop()
        name = canonicalize_name(requirement.name)
        is_wanted = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        if not is_wanted or (name, extra, str(requirement)) in seen:
            continue
        seen.add((name, extra, str(requirement)))
        if name == "codeshell-hf":
            lines = [*PROJECT["dependencies"]]
            lines += [line for key in requirement.extras for line in PROJECT["optional-dependencies"][key]]
            todo += [(Requirement(line), "") for line in lines]
            continue
        yield requirement
        for line in importlib.metadata.requires(name) or []:
            todo += [(Requirement(line), inner) for inner in ("", *requirement.extras)]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> email.message.Message:
    """What PyPI would be told, made by the build backend from a copy."""
    home = tmp_path_factory.mktemp("build") / "checkout"
    home.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, home)
    (home / "made").mkdir()
    (home / "src" / "codeshell_hf").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "codeshell_hf" / "version.py", home / "src" / "codeshell_hf")
    program = "from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel('made'))"
    done = subprocess.run([sys.executable, "-c", program], cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = (home / "made" / done.stdout.splitlines()[-1] / "METADATA").read_text(encoding="utf-8")
    return email.message_from_string(text)


def test_no_link_of_the_page_on_pypi_is_relative(metadata: email.message.Message) -> None:
    page = str(metadata.get_payload())
    text = re.sub(r"```.*?```", "", page, flags=re.DOTALL)

    links = [link.split()[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    links += re.findall(r"^\[[^\]]+\]: *(\S+)", text, flags=re.MULTILINE)
    links += re.findall(r"(?:src|href)=[\"']?([^\"' >]+)", text)

    assert metadata["Description-Content-Type"] == "text/markdown"
    assert len(links) > 10
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def read_readme(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_both_readmes_have_the_same_commands_links_and_figures() -> None:
    """Numbers are compared outside code and links, where the languages differ only in words."""
    english, chinese = read_readme("README.md"), read_readme("README.zh.md")

    def list_parts(text: str) -> dict[str, list[str]]:
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        links = re.findall(r"\]\(([^)\s]+)\)", prose)
        words = re.sub(r"\]\([^)]*\)|`[^`]*`", "", prose)
        return {
            "blocks": re.findall(r"```.*?```", text, flags=re.DOTALL),
            "links": sorted(set(links) - {"README.md", "README.zh.md"}),
            "code": sorted(" ".join(part.split()) for part in re.findall(r"`([^`]+)`", prose)),
            "figures": sorted(re.findall(r"\d+(?:[.,]\d+)*(?:e-\d+)?", words)),
            "levels": re.findall(r"^(#+) ", prose, flags=re.MULTILINE),
            "rows": [str(line.count("|")) for line in prose.splitlines() if line.startswith("|")],
        }

    here, there = list_parts(english), list_parts(chinese)
    assert here.keys() == there.keys()
    for name, parts in here.items():
        assert parts == there[name], name
    assert "(README.zh.md)" in english
    assert "(README.md)" in chinese
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) > 800


def test_the_readme_is_short() -> None:
    assert len(read_readme("README.md").split()) < 1000


def test_badges_say_what_the_package_declares() -> None:
    pythons = [line.split(" :: ")[-1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    (requirement,) = [Requirement(line) for line in PROJECT["dependencies"] if line.startswith("transformers")]
    oldest = next(one.version for one in requirement.specifier if one.operator == ">=")
    before = next(one.version for one in requirement.specifier if one.operator == "<")
    newest = f"{before.split('.')[0]}.{int(before.split('.')[1]) - 1}"
    badges = [
        f"https://img.shields.io/badge/licence-{PROJECT['license'].replace('-', '--')}-blue",
        f"https://img.shields.io/badge/python-{pythons[0]}%20to%20{pythons[-1]}-blue",
        f"https://img.shields.io/badge/transformers-{oldest}%20to%20{newest}-blue",
    ]

    for name in ("README.md", "README.zh.md"):
        assert re.findall(r"!\[[^\]]*\]\((https://img[^)]+)\)", read_readme(name)) == badges


def test_the_page_on_installing_names_every_extra() -> None:
    page = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert [name for name in PROJECT["optional-dependencies"] if f"`{name}`" not in page] == []


def test_links_into_the_project_lead_to_files_at_the_released_version(metadata: email.message.Message) -> None:
    page = str(metadata.get_payload())
    raw = REPOSITORY.replace("https://github.com/", "https://raw.githubusercontent.com/")

    pages = re.findall(rf"{REPOSITORY}/blob/v{metadata['Version']}/([^)#\s\"]+)", page)
    images = re.findall(rf"{raw}/v{metadata['Version']}/([^)#\s\"]+)", page)

    assert pages
    assert [path for path in (*pages, *images) if not (ROOT / path).exists()] == []
    assert all(path.endswith((".svg", ".png", ".jpg", ".gif")) for path in images)


def test_the_page_names_addresses_and_terms(metadata: email.message.Message) -> None:
    classifiers = metadata.get_all("Classifier") or []

    for topic in ("Development Status", "Intended Audience", "Operating System", "Topic"):
        assert [line for line in classifiers if line.startswith(f"{topic} ::")], topic
    assert metadata["License-Expression"] == "Apache-2.0"  # a classifier of a licence beside it is refused
    assert not [line for line in classifiers if line.startswith("License ::")]
    for address in ("Homepage", "Documentation", "Repository", "Issues", "Changelog"):
        assert PROJECT["urls"][address].startswith(REPOSITORY)


def test_one_address_everywhere() -> None:
    files = [ROOT / name for name in ("SECURITY.md", "CITATION.cff", "CHANGELOG.md", "CONTRIBUTING.md")]
    files += sorted((ROOT / ".github").rglob("*.*"))

    for path in files:
        for found in re.findall(r"https://github\.com/[\w.-]*codeshell-hf[\w.-]*/[\w.-]+", path.read_text("utf-8")):
            assert found.removesuffix(".") == REPOSITORY, path


def test_the_lock_pins_all_that_the_tests_run_with() -> None:
    lines = (ROOT / "requirements-lock.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "--constraint constraints.txt",
        "--editable .[dev]",
    ]
    pins = read_pins()

    needed = list(walk_requirements(["codeshell-hf[dev]"]))

    assert len({canonicalize_name(requirement.name) for requirement in needed}) > 100
    for requirement in needed:
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{requirement} is not pinned in constraints.txt"
        assert requirement.specifier.contains(pins[name], prereleases=True), (
            f"{requirement}, but {pins[name]} is pinned"
        )
        installed = Version(importlib.metadata.version(name)).public
        assert installed == Version(pins[name]).public, f"{name} {installed} is installed, and {pins[name]} is pinned"


def test_the_lock_names_no_index_or_folder_of_a_machine() -> None:
    for name in ("requirements-lock.txt", "constraints.txt"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        pinned = [line for line in lines if not line.startswith(("#", "--constraint ", "--editable "))]
        assert [line for line in pinned if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_workflows_have_least_rights_limits_pinned_actions_and_commands_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))

    assert workflow["permissions"] == {"contents": "read"}
    assert "group" in workflow["concurrency"]
    assert "secrets." not in text
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        for step in job["steps"]:
            if "uses" in step:
                action, _, version = step["uses"].partition("@")
                assert re.fullmatch(r"v\d+|[0-9a-f]{40}|release/v\d+", version), step["uses"]
                if action == "actions/checkout":
                    assert step["with"]["persist-credentials"] is False
            command = step.get("run", "")
            assert set(re.findall(r"\bmake ([a-z-]+)", command)) <= targets, command
            for module in re.findall(r"python -m (tests\.\w+)", command):
                place = ROOT / module.replace(".", "/")
                assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module


@pytest.mark.parametrize("path", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_files_that_workflows_watch_cache_and_read_exist(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    triggers = [trigger or {} for trigger in workflow[True].values() if not isinstance(trigger, list)]  # YAML's `on`
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]

    names = [name for trigger in triggers for name in trigger.get("paths", ())]
    for step in steps:
        names += step.get("with", {}).get("cache-dependency-path", "").split()
        names += re.findall(r"\b(?:src/\S+\.py|Dockerfile|CHANGELOG\.md|pyproject\.toml)\b", step.get("run", ""))

    assert [name for name in names if not any(ROOT.glob(name))] == []


def test_every_python_that_is_promised_is_tested() -> None:
    promised = [line.split(" :: ")[-1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    matrix = yaml.safe_load((ROOT / ".github/workflows/check.yml").read_text("utf-8"))["jobs"]["test"]["strategy"][
        "matrix"
    ]

    assert matrix["python"] == promised
    assert PROJECT["requires-python"] == f">={promised[0]}"
    assert [entry["os"] for entry in matrix["include"]] == ["macos-15"]


def test_hooks_run_the_versions_that_are_pinned() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    revisions = {repository["repo"].rpartition("/")[2]: repository.get("rev") for repository in hooks}
    pins = read_pins()

    assert revisions["ruff-pre-commit"] == f"v{pins['ruff']}"
    assert revisions["codespell"] == f"v{pins['codespell']}"
    assert {hook["id"] for repository in hooks for hook in repository["hooks"]} >= {
        "ruff-check", "ruff-format", "codespell", "mypy", "check-added-large-files",
    }  # fmt: skip


def test_no_file_is_larger_than_the_hook_lets_in() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not listed:  # a copy without a repository
        return
    large = [
        name
        for name in listed.split("\0")
        if name and (ROOT / name).exists() and (ROOT / name).stat().st_size > 600 << 10
    ]
    assert large == ["src/codeshell_hf/codeshell-tiny/model.safetensors"]  # under 5 MB, by tests/test_bundled.py


def test_the_citation_and_the_changelog_name_the_version() -> None:
    version = re.search(r'"(.+)"', (ROOT / "src/codeshell_hf/version.py").read_text("utf-8").splitlines()[-1])
    assert version is not None
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert citation["version"] == version[1]
    assert citation["references"][0]["title"] == "CodeShell Technical Report"
    sections = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, flags=re.MULTILINE)
    assert sections[0] == ("Unreleased", "")
    assert sections[1][0] == version[1]
    for name, _ in sections:
        assert f"\n[{name}]: {REPOSITORY}/" in changelog
    assert set(re.findall(r"^### (.+)$", changelog, flags=re.MULTILINE)) <= {
        "Added", "Changed", "Deprecated", "Removed", "Fixed", "Security",
    }  # fmt: skip


def test_the_container_for_development_is_json_but_for_its_comments() -> None:
    lines = (ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8").splitlines()
    container = json.loads("\n".join(line for line in lines if not line.strip().startswith("//")))

    assert container["updateContentCommand"] == "make setup"


@pytest.mark.parametrize("name", ["bug", "checkpoint", "feature"])
def test_forms_ask_for_what_an_answer_needs(name: str) -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text(encoding="utf-8"))

    ids = [part["id"] for part in form["body"]]
    assert len(ids) == len(set(ids))
    assert form["name"]
    assert form["description"]
    if name != "feature":
        assert "versions" in ids


@pytest.mark.parametrize("name", ["README.md", "README.zh.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_files_that_a_page_names_exist(name: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    homes = (ROOT, ROOT / "src" / "codeshell_hf")

    named = re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|md|yaml|yml|txt|json|jsonl))`", text)
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)

    assert [path for path in named if not any((home / path).exists() for home in homes)] == []
    assert [path for path in links if not (ROOT / path).exists()] == []


# Names of classes that several modules may have, and why.
SHARED_NAMES = {"Settings": "those of a stage, which its recipe's name tells apart"}


def test_a_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for folder in ("src", "recipes", "tokenizer"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name.strip("_")].append(f"{path.relative_to(ROOT)}:{node.lineno}")

    assert len(places) > 300
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in SHARED_NAMES} == {}
    assert all(len(places[name]) > 1 for name in SHARED_NAMES)


def test_pages_and_scripts_start_stages_by_the_command_or_a_launcher() -> None:
    """`python -m recipes.STAGE` starts no ranks, whatever the stage's YAML asks for."""
    stages = "|".join(path.stem for path in (ROOT / "recipes").glob("*.py") if "STAGE = " in path.read_text("utf-8"))
    folders = ("docs", "recipes", "tokenizer", "benchmarks")
    paths = [path for folder in folders for kind in ("md", "sh", "yaml") for path in (ROOT / folder).rglob(f"*.{kind}")]
    texts = {path: path.read_text("utf-8") for path in (*paths, ROOT / "Makefile", *ROOT.glob("*.md"))}
    del texts[ROOT / "CHANGELOG.md"]

    assert "codeshell curate" in texts[ROOT / "recipes" / "ablation.sh"]
    assert [path for path, text in texts.items() if re.search(rf"python3? -m recipes\.({stages})\b", text)] == []
