"""Runs what must hold beside the pinned set: other releases of transformers, and another Python.

```bash
python -m tests.legs oldest newest python   # what CI runs
python -m tests.legs 5.23.0                 # any release of transformers
python -m tests.legs python3.12             # any Python
```

Each leg has an environment of its own under `.legs/`, made anew where it is missing.

The newest release fails CI where it breaks, admitted by `pyproject.toml` or not: pip keeps it from those who install
the package, but nothing keeps it from a published folder, whose copy of the model runs on whatever its reader has.
Where a release cannot be worked with at once, name it in `NEWEST`, as `!=5.25.0`, and say why.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LEGS = ROOT / ".legs"
NEWEST = "transformers<6"

# What the tests of a leg and what they run import; a test holds these to it.
TRANSFORMERS_TESTS = (
    "modeling_codeshell", "configuration_codeshell", "tokenization_codeshell", "packed_rows", "evaluate/generation",
    "publish/folder", "registration", "train/attention", "presets", "cache", "hugging_face", "original",
    "train/fp8",
)  # fmt: skip
TRANSFORMERS_NEEDS = (
    "torch", "filelock", "huggingface_hub", "pydantic", "pyyaml", "safetensors", "tokenizers", "accelerate", "jinja2",
    "matplotlib", "numpy", "peft", "pyarrow", "tiktoken", "tqdm", "parameterized", "pytest", "pytest-xdist",
    "setuptools", "tree_sitter", "torchao",
)  # fmt: skip
# What is newer than the pinned set, since transformers has its own say on them.
FREE = ("transformers", "tokenizers", "huggingface_hub", "safetensors", "hf-xet")
# FlexAttention compiles for minutes. One test a way of masking; the pinned set runs all.
SELECTED = "not flex_attention or logits_equal_the_original or flex_attention-eval-None"

# What needs no torch: its CPU build is not to be had for every Python.
PYTHON_TESTS = (
    "settings", "manifest", "stages/stage", "curate/signals", "curate/ngrams", "pack/perturbation", "evaluate/safety",
    "evaluate/metrics", "text/cache", "text/code", "text/intervals", "sandbox/backends", "sandbox/hostile",
)  # fmt: skip
PYTHON_NEEDS = (
    "transformers", "huggingface_hub", "pydantic", "pyyaml", "hypothesis", "numpy", "pyarrow", "rensa", "ruff",
    "sacrebleu", "tokenizers", "tqdm", "tree-sitter", "tree-sitter-bash", "tree-sitter-c", "tree-sitter-c-sharp",
    "tree-sitter-cpp", "tree-sitter-go", "tree-sitter-java", "tree-sitter-javascript", "tree-sitter-php",
    "tree-sitter-python", "tree-sitter-ruby", "tree-sitter-rust", "tree-sitter-typescript", "pytest", "pytest-xdist",
)  # fmt: skip
PYTHONS = ("3.13", "3.12", "3.11")


def find_test(name: str) -> str:
    """The file of tests that a module's name stands for: `pack/rows` is `tests/pack/test_rows.py`."""
    *folder, module = name.split("/")
    return "/".join(["tests", *folder, f"test_{module}.py"])


def read_requirement() -> str:
    """What the package itself requires of transformers, such as `transformers>=5.19,<5.25`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return next(str(line) for line in project["dependencies"] if line.startswith("transformers"))


def parse_bounds(requirement: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The lower bound and the upper one, which is not admitted."""
    found = re.fullmatch(r"transformers>=([\d.]+),<([\d.]+)", requirement)
    if found is None:
        raise SystemExit(f"pyproject.toml requires {requirement!r}; write it as transformers>=5.19,<5.25")
    lower, upper = (tuple(int(part) for part in bound.split(".")) for bound in found.groups())
    return lower, upper


def judge_bound(requirement: str, newest: str) -> tuple[bool, str]:
    """Compares what `pyproject.toml` admits with the newest release, which was run.

    Returns:
        Whether nothing is admitted that nobody ran, and what is to be done, or nothing.
    """
    _, upper = parse_bounds(requirement)
    major, minor = (int(part) for part in newest.split(".")[:2])
    wanted = f"{requirement.rpartition('<')[0]}<{major}.{minor + 1}"
    if upper > (major, minor + 1):
        return False, f"{requirement} admits releases after {newest} that nobody ran; write {wanted} in pyproject.toml"
    if upper <= (major, minor):
        return True, f"transformers {newest} passes and is not admitted yet: write {wanted} in pyproject.toml"
    return True, ""


def find_python(version: str) -> str | None:
    """A Python of this version that starts, whether it is on PATH itself or pyenv has it."""
    name = f"python{version}"
    candidates = [shutil.which(name)]
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates += [str(path) for path in sorted(home.glob(f"versions/{version}.*/bin/{name}"), reverse=True)]
    check = "import sys, venv, ssl, sqlite3; print('%d.%d' % sys.version_info[:2])"
    for python in filter(None, candidates):
        done = subprocess.run([python, "-c", check], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return python
    return None


def install(folder: Path, python: str, requirements: Sequence[str], free: Iterable[str]) -> str:
    """Makes an environment or brings it up to date.

    Args:
        folder: For the environment and its constraints.
        python: That it is made of.
        requirements: As pip takes them.
        free: Packages that `constraints.txt` is not to pin.

    Returns:
        The environment's Python.
    """
    own = folder / "venv" / "bin" / "python"
    if not own.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run([python, "-m", "venv", "--clear", str(folder / "venv")], check=True)
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    kept = [line for line in pinned if line.partition("==")[0] not in free]
    (folder / "constraints.txt").write_text("\n".join(kept), encoding="utf-8")
    command = [str(own), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--upgrade"]
    subprocess.run([*command, "--constraint", str(folder / "constraints.txt"), *requirements], check=True)
    return str(own)


def fetch_tests(folder: Path, python: str, version: str) -> Path | None:
    """Unpacks Hugging Face's tests out of the source distribution of a release.

    Returns:
        Their folder, or none where the distribution holds no tests.

    Raises:
        SystemExit: If it cannot be had: a leg without these tests must not pass for want of a network.
    """
    target = folder / f"transformers-{version}" / "tests"
    if not target.is_dir():
        command = [python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-build-isolation", "--no-binary", "transformers", "--dest", str(folder)]
        archive = folder / f"transformers-{version}.tar.gz"
        if subprocess.run([*command, f"transformers=={version}"], check=False).returncode or not archive.exists():
            sys.exit(f"the source distribution of transformers {version} could not be downloaded; run the leg again")
        with tarfile.open(archive) as source:
            members = [member for member in source if member.name.startswith(f"transformers-{version}/tests/")]
            source.extractall(folder, members, filter="data")
        archive.unlink()
        if target.is_dir():
            (target / "__init__.py").touch()  # which they look for, and which is not in it
    return target if (target / "test_modeling_common.py").exists() else None


def run_tests(folder: Path, python: str, options: Sequence[str], environment: dict[str, str]) -> list[str]:
    """Runs pytest.

    Returns:
        The names of tests that failed, or what stopped pytest itself.
    """
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    # Marks of Hugging Face's tests are not ours to know, and some look for a warning that our settings ignore. Where a
    # worker dies, xdist's other ones would wait for ever.
    flags = (
        "-q -n 2 --dist loadgroup --max-worker-restart 0 -p no:cacheprovider -o addopts=-ra -o verbosity_subtests=0 "
        "-W ignore::pytest.PytestUnknownMarkWarning -W always::FutureWarning --disable-warnings"
    )
    command = [python, "-m", "pytest", *flags.split(), "--junit-xml", str(report), *options]
    given = {**os.environ, "SKIPPED_TESTS_FILE": str(folder / "skipped"), **environment}
    code = subprocess.run(command, cwd=ROOT, env=given, check=False).returncode
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else []  # noqa: S314 -- pytest wrote it
    failed = [
        "::".join(filter(None, (case.get("classname"), case.get("name"))))
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return list(dict.fromkeys(failed)) or ([f"pytest itself, with exit code {code}"] if code else [])


def run_transformers(name: str) -> int:
    """Runs the leg of a release of transformers: "oldest", "newest", or its number."""
    requirement, folder = read_requirement(), LEGS / name
    lower, upper = parse_bounds(requirement)
    oldest = ".".join(str(part) for part in (*lower, 0, 0)[:3])
    wanted = NEWEST if name == "newest" else f"transformers=={oldest if name == 'oldest' else name}"
    free = FREE if name == "newest" else ("transformers",)
    python = install(folder, sys.executable, [wanted, *TRANSFORMERS_NEEDS], free)
    ask = "from importlib.metadata import version; print(version('transformers'))"
    version = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    said = f"transformers {version}" + (f", the {name} release" if name in ("oldest", "newest") else "")
    print(f"== {said}", flush=True)
    theirs = fetch_tests(folder, python, version)
    if theirs is None:
        print(f"{said}: its source distribution holds no common tests, so Hugging Face's are not run", flush=True)
    folders = [str(theirs)] if theirs else []
    folders += [given for given in [os.environ.get("TRANSFORMERS_TESTS")] if given]
    failed = run_tests(
        folder,
        python,
        ["-k", SELECTED, *map(find_test, TRANSFORMERS_TESTS)],
        {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "TRANSFORMERS_TESTS": os.pathsep.join(folders)},
    )
    if failed:
        print(f"{said}, breaks {len(failed)} tests:", *failed, sep="\n  ")
        return 1
    if tuple(int(part) for part in version.split(".")[:2]) >= upper:
        # What Hugging Face's newest tests skip is for whoever admits the release to read.
        (folder / "skipped").unlink(missing_ok=True)
    is_right, advice = judge_bound(requirement, version) if name == "newest" else (True, "")
    if advice:
        print(advice)
    return 0 if is_right else 1


def run_python(version: str | None) -> int:
    """Runs the leg of a Python; by default of the newest one that is not this one."""
    here = "{}.{}".format(*sys.version_info)
    asked = [version] if version else [other for other in PYTHONS if other != here]
    found = next(((other, python) for other in asked if (python := find_python(other))), None)
    if found is None:
        print(f"== no Python {' or '.join(asked)} on this machine: the light tests ran on {here} alone")
        return 1 if version else 0
    name, folder = f"Python {found[0]}", LEGS / f"python{found[0]}"
    python = install(folder, found[1], PYTHON_NEEDS, ())
    print(f"== {name}", flush=True)
    compiled = subprocess.run(
        [python, "-W", "error", "-m", "compileall", "-q", "-f", "src", "recipes", "tokenizer", "benchmarks", "tests"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")},
        check=False,
    )
    # The package without its front door, which imports the models and with them torch.
    package = folder / "package" / "codeshell_hf"
    shutil.rmtree(package, ignore_errors=True)
    package.mkdir(parents=True)
    for part in (ROOT / "src" / "codeshell_hf").iterdir():
        if part.name not in ("__init__.py", "__pycache__"):
            (package / part.name).symlink_to(part)
    failed = run_tests(
        folder,
        python,
        ["--noconftest", *map(find_test, PYTHON_TESTS)],
        {"PYTHONPATH": f"{package.parent}:{ROOT}"},
    )
    if compiled.returncode:
        failed.append("compiling all modules, with warnings as errors")
    if failed:
        print(f"{name} breaks {len(failed)} tests:", *failed, sep="\n  ")
    return int(bool(failed))


def run_leg(name: str) -> int:
    """Runs a leg by its name on the command line."""
    found = re.fullmatch(r"python(3\.\d+)?", name)
    if found:
        return run_python(found[1])
    if name in ("oldest", "newest") or re.fullmatch(r"\d+\.\d+(\.\w+)*", name):
        return run_transformers(name)
    raise SystemExit(f"leg is {name!r}; use oldest, newest, a release such as 5.23.0, python, or python3.12")


if __name__ == "__main__":
    sys.exit(max([run_leg(name) for name in sys.argv[1:]], default=0))
