"""Programs in twelve languages."""

import json
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from codeshell_hf.evaluate import problems as reading
from codeshell_hf.evaluate import toolchains
from codeshell_hf.evaluate.execution import find_reference_program, open_executor, score_programs
from codeshell_hf.evaluate.problems import read_problems
from codeshell_hf.evaluate.toolchains import LANGUAGES, check_toolchains, list_shown
from codeshell_hf.sandbox import CommandProgram, Limits, Sandbox, open_sandbox
from tests.evaluate.sets import SHARED, read, requires_shared

pytestmark = pytest.mark.xdist_group("execution")


def slow_but_for_one(language: str) -> ParameterSet:
    """JavaScript stands for all where time is short: compilers take seconds."""
    return pytest.param(language, marks=[] if language == "js" else pytest.mark.slow)


def require(sandbox: Sandbox, language: str) -> None:
    if check_toolchains(sandbox, [language])[language] is None:
        pytest.skip(f"there is no {LANGUAGES[language].name} here ({LANGUAGES[language].package or 'not in Debian'})")


@pytest.mark.parametrize("language", [slow_but_for_one(language) for language in LANGUAGES])
def test_right_programs_pass_in_each_language_and_others_do_not(sandbox: Sandbox, language: str) -> None:
    require(sandbox, language)
    found, problems = read("multipl-e-greedy-v1", f"multipl-e/humaneval-{language}.jsonl")
    executor = open_executor(found, problems, sandbox)
    right = {problem.key: find_reference_program(problem) or "" for problem in problems}
    others = dict(zip(right, [*list(right.values())[1:], next(iter(right.values()))], strict=True))

    passed = score_programs(executor, problems, {key: [source] for key, source in right.items()})
    failed = score_programs(
        executor, problems, {problem.key: [problem.prompt, others[problem.key]] for problem in problems}
    )

    assert passed.measures["pass@1"].value == 1.0
    assert failed.measures["pass@1"].value == 0.0
    assert passed.languages[language]["pass@1"].problems == 8


LEAVING = {
    "cpp": "#include <cstdlib>\nlong f(long x) {\n    exit(0);\n",
    "d": "import core.stdc.stdlib;\nlong f(long x) { exit(0); return 1; }\n",
    "java": "class Problem {\n    static long f(long x) {\n        System.exit(0); return 1;\n",
    "js": "function f(x) { process.exit(0); }\n",
    "lua": "local function f(x) os.exit(0) end\n",
    "php": "<?php\nfunction f($x) { exit(0); }\n",
    "r": "f <- function(x) quit(status = 0)\n",
    "rkt": "#lang racket\n(define (f x) (exit 0))\n",
    "rs": "fn f(_x: isize) -> isize {\n    std::process::exit(0);\n",
}


@pytest.mark.parametrize("language", [slow_but_for_one(language) for language in LEAVING])
def test_leaving_early_is_no_success_in_any_language(sandbox: Sandbox, language: str) -> None:
    require(sandbox, language)
    program = LANGUAGES[language].make_program(LEAVING[language], LANGUAGES[language].hello[1])

    assert sandbox.run([program])[0].status == "failed"


# Besides leaving early. What stands in `LANGUAGES[...].hello` asks for f(1) == 2.
FORGED = {
    "cpp: a printed success": '#include <cstdio>\n#include <cstdlib>\nlong f(long x) { puts("OK @PROOF@"); exit(0);\n',
    "cpp: a replaced comparison": "#include <cassert>\n#include <cstdio>\n#define NDEBUG\n#undef assert\n"
    "#define assert(x) ((void)0)\nlong f(long x) {\n    return 7;\n",
    "cpp: an overridden main": "#include <cassert>\n#include <cstdio>\nint main() { return 0; }\n#define main other\n"
    "long f(long x) {\n    return 7;\n",
    "java: a printed success": "class Problem {\n    static long f(long x) {\n"
    '        System.out.println("OK @PROOF@"); System.exit(0); return 7;\n',
    "java: a replaced comparison": "class Problem {\n    static { ClassLoader.getSystemClassLoader()"
    '.setClassAssertionStatus("Problem", false); }\n    static long f(long x) {\n        return 7;\n',
    "java: an overridden main": "class Problem {\n    public static void main(String... args) {}\n"
    "    static long f(long x) {\n        return 7;\n",
    "js: a printed success": "function f(x) { console.log('OK @PROOF@'); process.exit(0); }\n",
    "js: a replaced comparison": "const own = require('node:assert');\nown.deepEqual = own.equal = () => {};\n"
    "require('node:module')._load = () => ({ deepEqual() {} });\nfunction f(x) { return 7; }\n",
    "js: an overridden main": "require = () => ({ deepEqual() {} });\nfunction f(x) { return 7; }\n",
    "rs: a printed success": 'fn f(_x: isize) -> isize {\n    println!("OK @PROOF@"); std::process::exit(0);\n',
    "rs: a replaced comparison": "macro_rules! assert_eq { ($($t:tt)*) => {} }\nfn f(_x: isize) -> isize {\n    7\n",
    "rs: an overridden main": "mod own { pub fn main() {} }\nuse own::main;\nfn f(_x: isize) -> isize {\n    7\n",
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name.startswith("js") else pytest.mark.slow) for name in FORGED]
)
def test_no_forgery_is_a_success_in_another_language(sandbox: Sandbox, name: str) -> None:
    language = name.partition(":")[0]
    require(sandbox, language)
    program = LANGUAGES[language].make_program(FORGED[name], LANGUAGES[language].hello[1])

    assert sandbox.run([program])[0].status == "failed"


def test_a_stand_in_proves_the_wiring_of_what_debian_lacks(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """A shell plays Julia and Swift: it runs nothing, but prints what a program that reached its end prints."""
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))  # programs have a /tmp of their own in the place of this one
    request.addfinalizer(lambda: shutil.rmtree(home))
    bin_folder = home / "toolchain" / "bin"
    bin_folder.mkdir(parents=True)
    # The last line of a program is the statement that proves it; this prints what stands between its quotes.
    julia = "#!/bin/sh\n[ $1 = --version ] && { echo julia 9.9; exit 0; }\n"
    shows = 'grep -o \'"[^"]*")$\' "$1" | tail -1 | tr -d \'")\'\n'
    (bin_folder / "julia").write_text(julia + shows)
    compiles = "printf '#!/bin/sh\\n' > program; echo \"echo $(" + shows.strip() + ')" >> program; chmod +x program\n'
    (bin_folder / "swiftc").write_text("#!/bin/sh\n[ $1 = --version ] && { echo swift 9.9; exit 0; }\n" + compiles)
    for path in bin_folder.iterdir():
        path.chmod(0o755)
    for path in list(bin_folder.parents)[:2]:
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    toolchains.find_folder.cache_clear()
    try:
        with open_sandbox(sandbox.backend, Limits(), shown=[*list_shown(), str(bin_folder.parent)]) as opened:
            found = check_toolchains(opened, ["jl", "swift"])
    finally:
        toolchains.find_folder.cache_clear()

    assert found == {"jl": "julia 9.9", "swift": "swift 9.9"}


@requires_shared
def test_published_tests_of_each_language_take_a_proof() -> None:
    for path in sorted((SHARED / "multipl_e").glob("*.jsonl")):
        for problem in read_problems(path, reading.read_multipl_e):
            tests, is_proven = LANGUAGES[problem.language].add_proof(problem.tests)
            assert is_proven, problem.id
            assert tests.replace(LANGUAGES[problem.language].statement, "").replace("\n", "") in (
                problem.tests.replace("\n", ""),
                problem.tests.replace("os.exit(lu.LuaUnit.run())", "").replace("\n", ""),
            )


HOSTILE = {
    "reads a secret": "cat SECRET && exit 1; exit 0",
    "reaches a port": "exec 3<>/dev/tcp/127.0.0.1/PORT && exit 1; exit 0",
    "sees processes of others": "[ $(ls -d /proc/[0-9]* | wc -l) -lt 9 ] || exit 1; exit 0",
    "reads what others were given": "cat /proc/*/environ | grep -q PLANTED && exit 1; exit 0",
    "writes where it must not": "echo x > /usr/x && exit 1; echo x > /x && exit 1; exit 0",
    "keeps the caller's environment": "env | grep -q PLANTED && exit 1; exit 0",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_commands_get_no_further_than_programs(
    sandbox: Sandbox, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if sandbox.backend == "none":
        pytest.skip("this machine does not isolate programs")
    secret = tmp_path / "secret"
    secret.write_text("planted")
    monkeypatch.setenv("PLANTED", "1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = HOSTILE[name].replace("SECRET", str(secret)).replace("PORT", str(server.getsockname()[1]))
        verdict = sandbox.run([CommandProgram((("a.sh", script),), (("bash", "a.sh"),), limits=Limits(timeout_s=5))])[0]

    assert verdict.passed, verdict


def test_toolchains_are_the_only_things_shown_besides_the_system() -> None:
    shown = list_shown()

    assert all(path.startswith(("/etc/", "/usr/")) or shutil.which("rustc") for path in shown)
    assert json.dumps(shown)
