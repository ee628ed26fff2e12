"""Programs that read standard input, judged by what they print; the expected outputs are out of their reach."""

import pytest

from codeshell_hf.sandbox import CommandProgram, Limits, Sandbox

pytestmark = pytest.mark.xdist_group("sandbox")
CASES = (("1 2\n", ("3", "three")), ("4 4\n", ("8",)))
SUM = "read a b; echo $((a + b))"


def judge(sandbox: Sandbox, script: str, **changes: object) -> tuple[str, str]:
    program = CommandProgram(
        (("a.sh", script),), (("true",), ("bash", "a.sh")), cases=CASES, case_timeout_s=1.5,
        limits=Limits(timeout_s=8, max_processes=64, max_file_bytes=1 << 20), **changes,
    )  # fmt: skip
    verdict = sandbox.run([program])[0]
    return verdict.status, verdict.reason


@pytest.fixture(scope="module")
def opened(sandbox: Sandbox) -> Sandbox:
    return sandbox


def test_a_right_program_passes_and_one_of_several_outputs_is_enough(opened: Sandbox) -> None:
    assert judge(opened, SUM) == ("passed", "")
    assert judge(opened, "read a b; [ $a = 1 ] && echo three || echo 8") == ("passed", "")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 3", "wrong output"),  # of the second input
        ("exit 0", "wrong output"),
        (f"{SUM}; exit 3", "exit 3"),
        (f"{SUM}; kill -9 $$", "signal 9"),
        (f"{SUM}; sleep 4", "time limit of an input"),
        ("read a b; [ $a = 1 ] && echo 3", "exit 1"),
        # The judge's memory and files hold no expected output that a program could print.
        ("read a b; [ $a = 1 ] && echo 3 || strings /proc/1/mem /proc/1/environ .judge.* | tail -1", "wrong output"),
        ("read a b; cat /proc/1/fd/* 2> /dev/null; echo 3", "wrong output"),
        ("kill -9 $PPID; kill -9 0; echo 3", "signal 9"),  # not -1: one of the backends isolates nothing
        ("echo 8 > .judge.output; ln -sf .judge.input .judge.output", "wrong output"),
    ],
)
def test_everything_else_fails_with_its_reason(script: str, reason: str, opened: Sandbox) -> None:
    status, found = judge(opened, script)

    assert status == "failed"
    assert found == reason or "kill" in script


def test_a_failed_build_is_no_verdict_on_outputs(opened: Sandbox) -> None:
    program = CommandProgram((), (("false",), ("true",)), cases=(("", ("",)),))

    assert opened.run([program])[0].reason == "false: exit 1"
