"""Languages of programs: files, commands, and the proof that their tests ran to the end."""

import logging
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

from ..sandbox import CommandProgram, Limits, Sandbox
from ..sandbox.inside import PROOF
from ..sandbox.limits import Rule

logger = logging.getLogger(__name__)
CASE_FACTOR = 0.4  # of a language's limit, for one input of a judged program
HELLO = Path(__file__).with_name("hello.txt")

# Settings of compilers outside of /usr.
SETTINGS = ("/etc/R", "/etc/racket", "/etc/ldc2.conf", "/etc/php", "/usr/share/java")
JAVA_FLAGS = ("-Xmx512m", "-Xss64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")
JAVAC_FLAGS = ("-J-Xmx512m", "-J-XX:+UseSerialGC", "-J-XX:TieredStopAtLevel=1")
TUPLES = "/usr/share/java/javatuples.jar"

ProvenBy = Literal["statement at the end", "statement in main", "statement in main of a class", "result", "unittest"]


@dataclass(frozen=True)
class Language:
    """A language of programs and tests.

    Args:
        key: MultiPL-E's name.
        name: The usual name.
        file: Name of the program's file.
        commands: Build and run the program.
        version: Command that prints the toolchain's version.
        timeout_s: MultiPL-E's limit, for all commands together.
        statement: Prints the proof.
        proven_by: Where the statement goes.
        package: Debian's package.
        head: Stands before the program.
        guarded: Texts of the tests and what takes their place, so that a program does not replace their comparisons.
    """

    key: str
    name: str
    file: str
    commands: tuple[tuple[str, ...], ...]
    version: tuple[str, ...]
    timeout_s: float
    statement: str
    proven_by: ProvenBy
    package: str
    head: str = ""
    guarded: tuple[tuple[str, str], ...] = ()

    def add_proof(self, tests: str) -> tuple[str, bool]:
        """Adds a statement that prints the proof to the end of MultiPL-E tests; returns whether there is a place."""
        if self.proven_by == "statement at the end":
            return f"{tests}\n{self.statement}\n", True
        if self.proven_by == "result":
            return tests.replace("os.exit(lu.LuaUnit.run())", self.statement), "os.exit(lu.LuaUnit.run())" in tests
        end = tests.rfind("void main") if self.proven_by == "unittest" else len(tests)
        for _ in range(2 if self.proven_by == "statement in main of a class" else 1):
            end = tests.rfind("}", 0, max(end, 0))
        return (tests, False) if end < 0 else (f"{tests[:end]}{self.statement}\n{tests[end:]}", True)

    @property
    def hello(self) -> tuple[str, str]:
        """A program and tests that pass, in MultiPL-E's format."""
        program, _, tests = HELLO.read_text(encoding="utf-8").partition(f"== {self.key}\n")[2].partition("-- tests\n")
        return program, tests.partition("\n== ")[0]

    def make_program(self, source: str, tests: str, timeout_s: float | None = None) -> CommandProgram:
        """Combines a program and its tests; a program that names the proof does not get it."""
        proven, is_proven = self.add_proof(tests)
        for text, guard in self.guarded:
            proven = proven.replace(text, guard)
        return CommandProgram(
            files=((self.file, f"{self.head}{source.replace(PROOF, '')}\n{proven}"),),
            commands=self.commands,
            is_proven=is_proven,
            folders=find_folders(),
            limits=replace(LIMITS, timeout_s=timeout_s or self.timeout_s),
        )

    def make_judged(
        self, source: str, cases: Sequence[tuple[str, Sequence[str]]], timeout_s: float, rule: Rule = "words"
    ) -> CommandProgram:
        """A program that reads standard input, judged by what it prints for each input.

        Args:
            cases: Inputs, each with the outputs of which one has to be printed.
            timeout_s: Of all inputs; building has the language's own limit besides.
        """
        file, commands = self.file, self.commands
        if self.key == "java":
            name = find_main_class(source)
            file = f"{name}.java"
            commands = tuple(
                tuple(part.replace("Problem", name) if part.startswith("Problem") else part for part in command)
                for command in commands
            )
        return CommandProgram(
            files=((file, f"{self.head}{source}\n"),),
            commands=commands,
            folders=find_folders(),
            limits=replace(LIMITS, timeout_s=timeout_s + self.timeout_s),
            cases=tuple((given, tuple(accepted)) for given, accepted in cases),
            rule=rule,
            case_timeout_s=CASE_FACTOR * self.timeout_s,
        )


def find_main_class(source: str) -> str:
    """The public class of a Java program, or the one before its `main`.

    >>> find_main_class("class A {} public final class Sum { public static void main(String[] a) {} }")
    'Sum'
    """
    public = re.search(r"\bpublic\s+(?:final\s+|abstract\s+)*class\s+(\w+)", source)
    if public is not None:
        return public.group(1)
    names = re.findall(r"\bclass\s+(\w+)", source.partition("static void main")[0])
    return names[-1] if names else "Main"


# Runtimes reserve address space and do not fill it; what all processes hold together is limited by itself.
LIMITS = Limits(
    max_memory_bytes=24 << 30, max_resident_bytes=4 << 30, max_processes=128, max_file_bytes=256 << 20, max_files=4096
)
RACKET = "racket program.rkt 2> err; status=$?; cat err; [ $status = 0 ] && [ ! -s err ]"
LANGUAGES = {
    language.key: language
    for language in (
        Language(
            "cpp", "C++", "program.cpp", (("g++", "-std=c++17", "program.cpp", "-o", "program"), ("./program",)),
            ("g++", "--version"), 15.0, f'puts("{PROOF}");', "statement in main", "g++",
            guarded=(("int main", "#undef NDEBUG\n#undef assert\n#include <cassert>\nint main"),),
        ),
        Language(
            "d", "D", "program.d", (("ldc2", "-unittest", "-of=program", "program.d"), ("./program",)),
            ("ldc2", "--version"), 15.0, f'import core.stdc.stdio : puts; puts("{PROOF}");', "unittest", "ldc",
        ),
        Language(
            "java", "Java", "Problem.java",
            (
                ("javac", *JAVAC_FLAGS, "-encoding", "UTF8", "-cp", TUPLES, "Problem.java"),
                ("java", *JAVA_FLAGS, "-ea", "-cp", f"{TUPLES}:.", "Problem"),
            ),
            ("java", "-version"), 15.0, f'System.out.println("{PROOF}");', "statement in main of a class",
            "default-jdk-headless libjavatuples-java",
        ),
        Language(
            "jl", "Julia", "program.jl", (("julia", "program.jl"),), ("julia", "--version"), 5.0,
            f'println("{PROOF}")', "statement at the end", "",
        ),
        Language(
            "js", "JavaScript", "program.js", (("node", "program.js"),), ("node", "--version"), 5.0,
            f'console.log("{PROOF}");', "statement at the end", "nodejs",
            "const assertOfTests = Object.freeze(require('node:assert'));\n",
            (("require('node:assert')", "assertOfTests"),),
        ),
        Language(
            "lua", "Lua", "program.lua", (("lua", "program.lua"),), ("lua", "-v"), 15.0,
            f'local result = lu.LuaUnit.run(); if result == 0 then print("{PROOF}") end; os.exit(result)', "result",
            "lua5.4 lua-unit",
        ),
        Language(
            "php", "PHP", "program.php", (("php", "program.php"),), ("php", "--version"), 15.0,
            f'echo "{PROOF}";', "statement at the end", "php-cli",
        ),
        Language(
            "r", "R", "program.r", (("Rscript", "program.r"),), ("Rscript", "--version"), 5.0,
            f'cat("{PROOF}")', "statement at the end", "r-base-core",
        ),
        Language(
            # rackunit prints failures to standard error, and exits with 0.
            "rkt", "Racket", "program.rkt", (("sh", "-c", RACKET),), ("racket", "--version"), 15.0,
            f'(display "{PROOF}")', "statement at the end", "racket",
        ),
        Language(
            "rs", "Rust", "program.rs", (("rustc", "program.rs", "-o", "program"), ("./program",)),
            ("rustc", "--version"), 20.0, f'println!("{PROOF}");', "statement in main", "rustc",
            guarded=(("assert_eq!(", "::std::assert_eq!("),),
        ),
        Language(
            "swift", "Swift", "program.swift", (("swiftc", "program.swift", "-o", "program"), ("./program",)),
            ("swiftc", "--version"), 45.0, f'print("{PROOF}")', "statement at the end", "",
        ),
    )
}  # fmt: skip


def find_folders() -> tuple[str, ...]:
    """Folders of compilers outside the system's folders, such as rustup's."""
    return tuple(dict.fromkeys(str(path) for language in LANGUAGES.values() if (path := find_folder(language))))


@cache
def find_folder(language: Language) -> Path | None:
    """The folder of a language's compiler; `None` if it is the system's, or missing."""
    found = shutil.which(language.version[0])
    if found is None:
        return None
    path = Path(found)
    if path.resolve().name == "rustup":  # a proxy for a toolchain, which fails inside the sandbox
        done = subprocess.run([found, "--print", "sysroot"], capture_output=True, encoding="utf-8", check=False)  # noqa: S603
        path = Path(done.stdout.strip()) / "bin" / path.name
    path = path if path.parent.is_relative_to("/usr") else path.resolve()
    return None if path.is_relative_to("/usr") or path.is_relative_to("/bin") else path.parent


def list_shown() -> list[str]:
    """Lists the files that compilers and interpreters read besides the system's libraries."""
    settings = [*SETTINGS, *(str(path) for path in Path("/etc").glob("java-*"))]
    return [
        path for path in (*settings, *(str(Path(folder).parent) for folder in find_folders())) if Path(path).exists()
    ]


def check_toolchains(sandbox: Sandbox, keys: Iterable[str]) -> dict[str, str | None]:
    """Runs a program in each language, in a sandbox that shows the files of `list_shown`.

    Returns:
        The version of each toolchain; `None` if it is missing or does not work.
    """
    keys = list(dict.fromkeys(keys))
    chosen = [LANGUAGES[key] for key in keys if key in LANGUAGES]
    folders = find_folders()
    programs = [CommandProgram((), (language.version,), folders=folders, limits=LIMITS) for language in chosen]
    hellos = [language.make_program(*language.hello) for language in chosen]
    verdicts = sandbox.run([*programs, *hellos], repeats_timeouts=True)
    versions: dict[str, str | None] = {"py": sandbox.python} if "py" in keys else {}
    for language, version, hello in zip(chosen, verdicts, verdicts[len(chosen) :], strict=False):
        works = version.passed and hello.passed
        versions[language.key] = version.output.strip().partition("\n")[0] if works else None
        if version.passed and not hello.passed:
            logger.warning("%s is installed but does not run: %s %s", language.name, hello.reason, hello.output[:200])
    return versions
