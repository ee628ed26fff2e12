"""Programs whose tests run in another process, commands, and the interpreter of a container."""

import ast
from pathlib import Path

import pytest

from codeshell_hf.sandbox import CommandProgram, Program, Sandbox, Verdict, inside

pytestmark = pytest.mark.xdist_group("sandbox")

WRONG = "class A:\n    def __eq__(self, other): return True\n    __gt__ = __lt__ = __ge__ = __eq__\n"
FORGERIES = {
    "a value that equals everything": WRONG + "def f(x): return A()",
    "a number that equals everything": "class N(int):\n    def __eq__(self, other): return True\ndef f(x): return N(7)",
    "frames": (
        "import sys, os\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        names = {**frame.f_locals}\n"
        "        if 'question' in names and 'answer' in names:\n"
        "            os.write(names['answer'], os.read(names['question'], 16)); os._exit(0)\n"
        "        frame = frame.f_back\n    return 7"
    ),
    "every descriptor": (
        "import os\ndef f(x):\n    found = b''\n    for n in range(3, 1100):\n"
        "        try: os.set_blocking(n, False); found = found or os.read(n, 16)\n        except OSError: pass\n"
        "    for n in range(3, 1100):\n        try: os.write(n, found)\n        except OSError: pass\n    os._exit(0)"
    ),
    "a reply that runs code": (
        "import os\nclass E:\n    def __reduce__(self): return os._exit, (0,)\ndef f(x): return E()"
    ),
    "a reply that forges the verdict": (
        "FORGE = '''\nimport os, sys\nframe = sys._getframe()\nwhile frame:\n    names = frame.f_locals\n"
        "    if 'question' in names and 'answer' in names:\n"
        "        os.write(names['answer'], os.read(names['question'], 16)); os._exit(0)\n"
        "    frame = frame.f_back\n'''\n"
        "class E:\n    def __reduce__(self): return exec, (FORGE,)\ndef f(x): return E()"
    ),
    "leaving": "import os\ndef f(x): os._exit(0)",
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_passes_where_tests_run_apart(sandbox: Sandbox, name: str) -> None:
    tests = "assert f(1) == 2\nassert f(5) == 6"

    forged, right = sandbox.run([Program(FORGERIES[name], tests), Program("def f(x): return x + 1", tests)])

    assert forged.status == "failed"
    assert right.passed


def test_a_program_whose_tests_run_apart_has_no_descriptor_of_the_verdict(sandbox: Sandbox) -> None:
    source = (
        "import os\ndef f():\n    found = []\n    for n in range(256, 1100):\n"
        "        try: os.fstat(n); found.append(n)\n        except OSError: pass\n    return found"
    )

    assert sandbox.run([Program(source, "assert f() == []")])[0].passed


@pytest.mark.parametrize(
    ("source", "tests", "status"),
    [
        ("def f(x): x.append(x.pop(0))", "a = [1, 2]\nf(a)\nassert a == [2, 1]", "passed"),
        ("def f(**k): return {**k, 't': ({1}, 1.5, None, b'x', 'é')}", "assert f(a=1)['t'][0] == {1}", "passed"),
        ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab')['a'] == 2", "passed"),
        ("def f(x): raise KeyError(x)", "try: f(1)\nexcept KeyError: pass\nelse: assert 0", "passed"),
        ("def f(x): return g(x)", "assert f(2) == double(2)", "failed"),
        ("def f(x): return x * 2", "assert f(2) == double(2)", "passed"),
        ("def f(x): return lambda: 1", "assert f(2) and f(2)() == 1", "passed"),
        ("def f(x): return lambda: 1", "assert f(2) == 1 or f(2).__name__ == '<lambda>'", "failed"),
        ("def f(x)", "assert True", "failed"),
        ("def f(x):\n    while True: pass", "f(1)", "timed out"),
    ],
)
def test_values_cross_between_a_program_and_its_tests(sandbox: Sandbox, source: str, tests: str, status: str) -> None:
    program = Program(source, tests, "def double(x): return 2 * x\ndef f(x): return None", ("f",))

    assert sandbox.run([program])[0].status == status


def test_commands_are_run_in_order_and_the_first_that_fails_is_named(sandbox: Sandbox) -> None:
    def run(text: str, *commands: tuple[str, ...], is_proven: bool = False) -> Verdict:
        return sandbox.run([CommandProgram((("a.sh", text),), commands or (("sh", "a.sh"),), is_proven=is_proven)])[0]

    good = run("echo hello; cat a.sh > b; echo @PROOF@", is_proven=True)
    early = run("echo hello; exit 0; echo @PROOF@", is_proven=True)
    loud = run("yes | head -c 300000; echo @PROOF@", is_proven=True)

    assert (good.status, good.output.split()[0]) == ("passed", "hello")
    assert (early.status, early.reason) == ("failed", "exit 0 before the end")
    assert loud.passed
    assert run("exit 3", ("true",), ("sh", "a.sh"), ("false",)).reason == "sh: exit 3"
    assert run("kill -SEGV $$").reason == "sh: signal 11"
    assert run("", ("no-such-program",)).reason == "no-such-program: exit 127"
    assert run("sleep 60").status == "timed out"
    assert run("x = '\ud800'").reason == "UnicodeEncodeError"


@pytest.mark.parametrize("path", sorted(Path(inside.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_workers_run_on_the_python_of_older_images(path: Path) -> None:
    """Python 3.9 has neither `int | None` at run time nor zip's strict."""
    tree = ast.parse(path.read_text(), feature_version=(3, 9))

    has_annotations = any(isinstance(node, (ast.arg, ast.AnnAssign)) for node in ast.walk(tree))
    imported = [name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names]
    assert "annotations" in imported or not has_annotations
    zips = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "zip"]
    assert not any(keyword.arg == "strict" for call in zips for keyword in call.keywords)
