"""A stage runs again after an edit of what it reaches, and of nothing else, on any system."""

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from modulefinder import ModuleFinder
from pathlib import Path
from typing import Any

import pytest

from codeshell_hf.dependencies import list_dependencies
from codeshell_hf.manifest import read_manifest
from codeshell_hf.sandbox import Limits
from codeshell_hf.sandbox.inside.messages import frame, judge
from tests.test_recipes import ROOT, STAGES, arguments, write_corpus
from tests.warm import warm_python

pytestmark = pytest.mark.xdist_group("dependencies")
FOLDERS = ("src", "recipes", "tokenizer", "docs", "tests", "benchmarks")
WINDOWS = {"PYTHONIOENCODING": "cp1252", "PYTHONWARNDEFAULTENCODING": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout."""
    copy = tmp_path_factory.mktemp("copy") / "checkout"
    copy.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, copy)
    return copy


class Elsewhere:
    """Runs the nano chain in little, by its commands, where names of Linux and POSIX are missing."""

    def __init__(self, tree: Path, home: Path) -> None:
        self.tree = tree
        self.home = home
        (home / "site").mkdir()
        shutil.copy(ROOT / "tests" / "elsewhere.py", home / "site" / "sitecustomize.py")

    def environment(self, log: str) -> dict[str, str]:
        return {
            **os.environ, **WINDOWS, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1",
            "PYTHONPATH": os.pathsep.join(map(str, (self.home / "site", self.tree / "src", self.tree))),
            "ELSEWHERE_ROOT": str(self.tree), "ELSEWHERE_LOG": str(self.home / log),
        }  # fmt: skip

    def run(self, stage: str, *more: str, log: str = "") -> subprocess.CompletedProcess[str]:
        given = [word.replace(f"{ROOT}/", f"{self.tree}/") for word in arguments(stage, self.home)]
        sandbox = ["sandbox=none"] if any(word.startswith("sandbox=") for word in given) else []
        environment = self.environment(log or f"again-{stage}")
        return subprocess.run(
            [warm_python(environment), str(self.home / "site" / "sitecustomize.py"), f"recipes.{stage}", *given,
             *sandbox, *more],
            cwd=self.tree, env=environment, capture_output=True, encoding="cp1252", check=False, timeout=300,
        )  # fmt: skip

    def read_log(self, stage: str) -> set[str]:
        return {line for path in self.home.glob(f"{stage}.[0-9]*") for line in path.read_text().splitlines()}


@pytest.fixture(scope="module")
def elsewhere(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Elsewhere:
    """The chain, run from its first stage to its last."""
    machine = Elsewhere(tree, tmp_path_factory.mktemp("elsewhere"))
    write_corpus(machine.home / "corpus")
    for stage in STAGES:
        done = machine.run(stage, log=stage)
        assert done.returncode == 0, f"{stage}: {done.stdout[-2000:]}{done.stderr[-3000:]}"
    return machine


GGUF = "codeshell_hf.publish.gguf"


@pytest.mark.parametrize(
    ("source", "is_reached"),
    [
        (f"import {GGUF} as other", True),
        ("def f():\n    from codeshell_hf.publish import gguf", True),
        ("class A:\n    async def f():\n        if A:\n            from codeshell_hf.publish.gguf import export", True),
        (f"import importlib\nmodule = importlib.import_module('{GGUF}')", True),
        (f"command = ['-m', '{GGUF}']", True),
        (f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {GGUF}", False),
        (f"import typing\nif typing.TYPE_CHECKING:\n    import a\nelse:\n    import {GGUF}", True),
        (f"# import {GGUF}", False),
        (f"text = 'see {GGUF}'", False),
        ("import codeshell_hf.publish", False),
    ],
)
def test_imports_are_followed_in_whatever_form_they_stand(tmp_path: Path, source: str, *, is_reached: bool) -> None:
    (tmp_path / "start.py").write_text(source)

    found = list_dependencies(tmp_path / "start.py")

    assert ("codeshell_hf/publish/gguf.py" in found) == is_reached
    assert found["start.py"] == tmp_path / "start.py"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("A = Path(__file__).with_name('a.txt').read_text()", ["a.txt"]),
        ("A = Path(__file__).with_suffix('.yaml')", ["start.yaml"]),
        ("NAME = 'a.txt'\nHERE = Path(__file__).resolve().parent\ndef f(): open(HERE / NAME)", ["a.txt"]),
        ("def f(): return Path(__file__).parents[0].joinpath('more', 'b.txt')", ["b.txt"]),
        ("MORE = Path(__file__).parent / 'more'", ["b.txt", "c.txt"]),
        ("A = Path(__file__).with_name('none.txt')\nB = Path('a.txt')\nC = C / 'a.txt'", []),
        ("A = B = 1\nHERE = Path(__file__).parent", []),
    ],
)
def test_files_are_found_from_the_place_of_the_module(tmp_path: Path, source: str, names: list[str]) -> None:
    (tmp_path / "more").mkdir()
    for name in ("a.txt", "start.yaml", "more/b.txt", "more/c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "start.py").write_text(f"from pathlib import Path\n{source}")

    assert sorted(list_dependencies(tmp_path / "start.py")) == sorted(["start.py", *names])


@pytest.fixture(scope="module")
def reached(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """What each stage reaches: imports as the bytecode has them, and by hand what is reached by a path or a name."""
    plain = tmp_path_factory.mktemp("plain") / "checkout"
    shutil.copytree(tree, plain)
    for path in plain.rglob("*.py"):  # of `if False` the compiler leaves nothing
        path.write_text(path.read_text(encoding="utf-8").replace("if TYPE_CHECKING:", "if False:"), encoding="utf-8")
    found = {}
    for stage in STAGES:
        finder = ModuleFinder([str(plain / "src"), str(plain)])
        finder.run_script(str(plain / "recipes" / f"{stage}.py"))
        finder.import_hook("recipes")  # runs before it as a module
        finder.import_hook("codeshell_hf.registration")  # when transformers is imported
        finder.import_hook("codeshell_hf.modeling_codeshell")
        found[stage] = {
            str(Path(file).relative_to(plain))
            for m in finder.modules.values()
            if (file := getattr(m, "__file__", None))
        }
    found["pretrain"] |= found["evaluate"]  # started with -m
    sandbox = {f"src/codeshell_hf/sandbox/inside/{name}.py" for name in INSIDE}
    by_hand = {**DATA, "src/codeshell_hf/sandbox/pool.py": sandbox}
    return {
        stage: files | {name for module, names in by_hand.items() if module in files for name in names}
        for stage, files in found.items()
    }


INSIDE = (
    "__init__",
    "border",
    "isolation",
    "judge",
    "outputs",
    "system_calls",
    "portable",
    "programs",
    "strict",
    "zygote",
)
DATA = {
    "src/codeshell_hf/curate/quality_requests.py": {"src/codeshell_hf/curate/quality_prompt.md"},
    "src/codeshell_hf/curate/decontamination.py": {"src/codeshell_hf/curate/known_words.txt"},
    "src/codeshell_hf/curate/personal_data.py": {
        "src/codeshell_hf/curate/public_resolvers.txt",
        "src/codeshell_hf/curate/top_level_domains.txt",
    },
    "src/codeshell_hf/curate/libraries.py": {"src/codeshell_hf/curate/libraries.yaml"},
    "src/codeshell_hf/curate/page.py": {"src/codeshell_hf/curate/page.html.jinja"},
    "src/codeshell_hf/evaluate/toolchains.py": {"src/codeshell_hf/evaluate/hello.txt"},
    "src/codeshell_hf/publish/card.py": {"src/codeshell_hf/publish/model_card.md.jinja"},
    "src/codeshell_hf/publish/dataset.py": {"src/codeshell_hf/publish/data_card.md.jinja"},
    "src/codeshell_hf/publish/page.py": {"src/codeshell_hf/publish/page.html.jinja"},
}
HASH = """
import json, sys
from pathlib import Path
from codeshell_hf.dependencies import hash_code, list_dependencies
for line in sys.stdin:
    wanted, *stages = line.split()
    starts = [Path("recipes", f"{stage}.py") for stage in stages]
    if wanted == "hashes":
        found = [hash_code(start) for start in starts]
    else:
        found = [list(map(str, list_dependencies(start).values())) for start in starts]
    print(json.dumps(dict(zip(stages, found))), flush=True)
"""


@pytest.fixture(scope="module")
def ask_stages(tree: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """For every stage of the copy, the hash or the files of its code, by the package that lies there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tree / "src"), str(tree)))}
    process = subprocess.Popen(
        [sys.executable, "-c", HASH], cwd=tree, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip

    def ask(wanted: str) -> dict[str, Any]:
        process.stdin.write(f"{wanted} {' '.join(STAGES)}\n")
        process.stdin.flush()
        found: dict[str, Any] = json.loads(process.stdout.readline())
        return found

    yield ask
    process.communicate()


@pytest.fixture
def hash_stages(ask_stages: Callable[[str], dict[str, Any]]) -> Callable[[], dict[str, str]]:
    return lambda: ask_stages("hashes")


@pytest.fixture
def edit(tree: Path) -> Iterator[Callable[[str, bytes], None]]:
    """Edits files of the copy until the test ends."""
    before: dict[str, bytes] = {}

    def write(name: str, text: bytes) -> None:
        before.setdefault(name, (tree / name).read_bytes())
        (tree / name).write_bytes(text)

    yield write
    for name, text in before.items():
        (tree / name).write_bytes(text)


def test_the_files_of_a_stage_are_those_that_it_reaches(
    tree: Path, reached: dict[str, set[str]], ask_stages: Callable[[str], dict[str, Any]]
) -> None:
    for stage, files in ask_stages("files").items():
        assert {Path(file).relative_to(tree).as_posix() for file in files} == reached[stage], stage


@pytest.mark.parametrize("every", [50, pytest.param(1, marks=pytest.mark.slow)])
def test_an_edit_of_any_file_that_a_stage_reaches_changes_its_code_and_no_other_stage(
    tree: Path, reached: dict[str, set[str]], hash_stages: Callable[[], dict[str, str]], edit: Callable[..., None],
    every: int,
) -> None:  # fmt: skip
    """Where time is short, of a few files."""
    before = hash_stages()
    for name in sorted(set().union(*reached.values()))[::every]:
        text = (tree / name).read_bytes()
        edit(name, text + (b"\nedited = True\n" if name.endswith(".py") else b"edited\n"))
        after = hash_stages()
        edit(name, text)

        changed = {stage for stage in STAGES if after[stage] != before[stage]}
        assert changed == {stage for stage in STAGES if name in reached[stage]}, name


def test_edits_of_all_files_that_no_stage_reaches_change_the_code_of_none(
    tree: Path, reached: dict[str, set[str]], hash_stages: Callable[[], dict[str, str]], edit: Callable[..., None]
) -> None:
    before = hash_stages()
    others = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()} - set().union(
        *reached.values()
    )
    assert {"README.md", "src/codeshell_hf/publish/gguf.py", "recipes/nano/sft.yaml"} < others

    for name in others:
        edit(name, (tree / name).read_bytes() + b"\nedited = True\n")

    assert hash_stages() == before


def test_comments_docstrings_and_blank_lines_change_the_code_of_no_stage(
    tree: Path, hash_stages: Callable[[], dict[str, str]], edit: Callable[..., None]
) -> None:
    before = hash_stages()
    count = 0
    for path in (*tree.glob("src/**/*.py"), *tree.glob("recipes/*.py"), *tree.glob("tokenizer/*.py")):
        lines = path.read_text(encoding="utf-8").splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                line = node.body[0].lineno - 1
                lines[line] = lines[line].replace('"""', '"""Edited. ', 1)
                count += 1
        text = "# edited\n\n" + "\n".join(lines) + "  # edited\n\n\n# edited\n"
        edit(str(path.relative_to(tree)), text.encode())
    assert count > 1000

    assert hash_stages() == before


@pytest.mark.slow
def test_the_chain_runs_where_names_of_linux_and_posix_are_missing(elsewhere: Elsewhere) -> None:
    for stage in STAGES:
        assert read_manifest(elsewhere.home / stage).counts, stage


IMPORT = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
"""
# Started on Linux alone; on its path in a process of its own; and the command line of transformers.
NOT_IMPORTED = {"zygote", "isolation", "pass_at_k", "code_bleu_like", "infilling_exact_match", "__main__", "vllm"}


def test_every_module_imports_where_names_of_linux_and_posix_are_missing(tree: Path, tmp_path: Path) -> None:
    machine = Elsewhere(tree, tmp_path)
    files = [*(tree / "src").rglob("*.py"), *(tree / "recipes").glob("*.py"), *(tree / "tokenizer").glob("*.py")]
    files += (tree / "benchmarks").glob("*.py")
    names = [
        ".".join(path.relative_to(tree).with_suffix("").parts).removeprefix("src.").removesuffix(".__init__")
        for path in files
        if path.stem not in NOT_IMPORTED
    ]
    assert len(names) > 150

    done = subprocess.run(
        [sys.executable, "-c", IMPORT, *names], cwd=tree, env=machine.environment("imports"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-2000:]


JUDGE = """
import importlib, sys
sys.path.insert(0, "src/codeshell_hf/sandbox")
importlib.import_module("inside.portable").{entry}()
"""


def test_programs_are_judged_where_names_of_linux_and_posix_are_missing(tree: Path, tmp_path: Path) -> None:
    machine = Elsewhere(tree, tmp_path)
    request = {
        "kind": "python", "source": "def f(): return 2", "tests": "assert f() == 2", "secret": "s" * 16,
        "module": "__main__", "has_input": True, "limits": asdict(Limits()),
    }  # fmt: skip

    def start(entry: str, given: bytes) -> str:
        done = subprocess.run(
            [sys.executable, "-c", JUDGE.format(entry=entry)], cwd=tree, env=machine.environment(entry), input=given,
            capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    greeting, reply = map(json.loads, start("main", frame(request)).splitlines())
    assert (greeting["ready"], judge(request, reply)) == (True, ("passed", ""))
    for kind in (
        {"kind": "python"},
        {"kind": "strict", "names": ["f"], "prelude": ""},
        {"kind": "commands", "files": [["a.py", "print('@PROOF@')"]], "commands": [["true"]], "folders": []},
    ):
        start("become_program", json.dumps({**request, **kind, "answer": str(tmp_path / kind["kind"])}).encode())
    assert (tmp_path / "python").read_text() == (tmp_path / "strict").read_text() == "s" * 16


def test_letters_that_a_console_lacks_do_not_end_a_command(tmp_path: Path) -> None:
    program = (
        "import sys; from codeshell_hf.stages.process import run; "
        "sys.exit(run('chat', lambda: print('caf\u00e9 \u9762')))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        capture_output=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout.split()) == (0, ["caf\u00e9".encode("cp1252"), b"?"])


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_and_reads_while_it_runs_is_its_code(
    elsewhere: Elsewhere, reached: dict[str, set[str]], stage: str
) -> None:
    log = elsewhere.read_log(stage)
    imported = {
        f"{name.partition('__pycache__')[0]}{Path(name).name.partition('.')[0]}.py"
        for name in log
        if "__pycache__" in name
    }
    read = {name for name in log if (elsewhere.tree / name).is_file() and not name.endswith((".py", ".pyc"))}
    given = {name for name in read if name.startswith(("recipes/nano/", "tokenizer/data/"))}  # settings and inputs
    given |= {name for name in read if ".egg-info/" in name}  # what pip says of the checkout, not the package

    assert f"recipes/{stage}.py" in imported
    assert len(imported) > 15
    assert imported <= reached[stage]
    assert read - given <= reached[stage]


@pytest.mark.slow
def test_a_finished_stage_runs_again_after_an_edit_of_what_it_reaches_alone(
    tree: Path, elsewhere: Elsewhere, edit: Callable[..., None]
) -> None:
    def run(stage: str) -> str:
        done = elsewhere.run(stage)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1].removeprefix(f"{stage}: ").split()[0]

    assert run("publish") == "nothing"
    card = "src/codeshell_hf/publish/model_card.md.jinja"
    edit(card, (tree / card).read_bytes() + b"\nThat is all.\n")
    assert run("publish") == "wrote"
    assert run("pack") == "nothing"
    for name in (
        "src/codeshell_hf/text/documents.py",
        "src/codeshell_hf/settings.py",
        "src/codeshell_hf/stages/process.py",
    ):
        edit(name, (tree / name).read_bytes() + b"\nedited = True\n")
        assert run("pack") == "wrote", name
    for name, more in (("src/codeshell_hf/align/rewards.py", b"\nedited = True\n"), ("recipes/pack.py", b"\n# why\n")):
        edit(name, (tree / name).read_bytes() + more)
        assert run("pack") == "nothing", name
