"""The backends: which one is taken, and what is said where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from codeshell_hf.errors import SettingsError
from codeshell_hf.sandbox import Program, backends, open_sandbox
from codeshell_hf.sandbox.backends import plan_start, probe
from tests.backends import HERE, LIMITS, leave_linux

pytestmark = pytest.mark.xdist_group("sandbox")

ENGINE = """#!{python}
import os, sys
arguments, options = sys.argv[1:], dict()
assert arguments.pop(0) == "run"
while arguments[0].startswith("--"):
    name = arguments.pop(0)
    values = options.setdefault(name, [])
    if name not in ("--rm", "--interactive", "--read-only"):
        values.append(arguments.pop(0))
image, *command = arguments
assert options["--network"] == ["none"] and options["--cap-drop"] == ["ALL"] and "--read-only" in options, options
assert options["--user"] == ["65534:65534"] and options["--security-opt"] == ["no-new-privileges"], options
inside = options["--volume"][0].split(":")[0]
os.execvp("bwrap", ["bwrap", "--unshare-all", "--as-pid-1", "--die-with-parent", "--ro-bind", "/usr", "/usr",
    "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin",
    "--dev", "/dev", "--proc", "/proc", "--ro-bind", inside, "/sandbox/inside", "--tmpfs", "/tmp", "--remount-ro", "/",
    "--uid", "65534", "--cap-drop", "ALL", "--clearenv", "--setenv", "PATH", "/usr/bin", *command])
"""


@pytest.mark.skipif(
    "bubblewrap" not in HERE or not Path("/usr/bin/python3").exists(), reason="bubblewrap plays the container's engine"
)
def test_a_container_is_proven_as_the_others_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "docker"
    engine.write_text(ENGINE.format(python=sys.executable))
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    forking = (
        "import os, time\nfor _ in range(5):\n    if os.fork() == 0:\n        os.setsid()\n"
        "        held = bytearray(os.urandom(1)) * 30_000_000  # takes time to let go\n        time.sleep(60)\n"
        "open('/tmp/left', 'w')\ntime.sleep(0.3)"
    )

    with open_sandbox("container", LIMITS, image="python:3.12-slim", workers=1) as opened:
        verdicts = opened.run(
            [
                Program("x = 1", "assert x == 1"),
                Program("import os; os._exit(0)"),
                Program(forking),
                Program("import os", "assert not os.path.exists('/tmp/left')"),
                Program("import os", "assert len([n for n in os.listdir('/proc') if n.isdigit()]) <= 4"),
            ]
        )

    assert [verdict.passed for verdict in verdicts] == [True, False, True, True, True], verdicts


def test_a_machine_without_any_backend_is_told_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(SettingsError, match=r"bubblewrap: bwrap is not installed.*or write sandbox: none"):
        open_sandbox("bubblewrap")
    with pytest.raises(SettingsError, match="container: neither docker nor podman is installed"):
        open_sandbox("container", image="python:3.12-slim")
    with pytest.raises(SettingsError, match="container: container_image is not set"):
        open_sandbox("container")


def test_a_system_that_is_not_linux_is_told_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    leave_linux(monkeypatch)
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(SettingsError) as told:
        open_sandbox("auto")

    assert str(told.value) == (
        "sandbox is 'auto', but this machine does not isolate programs (namespaces: it needs Linux, and this is "
        "Linux; bubblewrap: it needs Linux, and this is Linux; container: container_image is not set); start docker or "
        "podman and set container_image to one with Python, such as python:3.12-slim, or write sandbox: none to run "
        "programs with your own rights"
    )


def test_unknown_backends_are_refused() -> None:
    with pytest.raises(
        SettingsError, match="sandbox is 'docker'; use one of auto, namespaces, bubblewrap, container, none"
    ):
        open_sandbox("docker")  # type: ignore[arg-type]


def test_no_isolation_is_only_had_by_its_name_and_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    open_sandbox("none", LIMITS, workers=1).close()

    assert "Programs run with your rights" in caplog.text
    with open_sandbox("none", LIMITS, workers=1) as bare:
        assert "sees another process" in probe(bare)
        assert any(name.startswith("reads ") for name in probe(bare))


def test_a_backend_from_which_a_program_escapes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "probe", lambda sandbox: ["reaches a port"])
    monkeypatch.setattr(backends, "plan_start", lambda backend, *rest: plan_start("none", *rest))

    with pytest.raises(SettingsError, match="namespaces: a program reaches a port"):
        open_sandbox("namespaces", LIMITS, workers=1)


LIMITED = """
import resource, sys
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3])))
import logging
logging.basicConfig(format="%(message)s")
from codeshell_hf.sandbox import Limits, Program, open_sandbox
from codeshell_hf.errors import SettingsError
try:
    with open_sandbox(sys.argv[4], Limits(timeout_s=5), workers=1) as sandbox:
        print([verdict.passed for verdict in sandbox.run([Program("def f(): return 1", "assert f() == 1")])])
except SettingsError as error:
    print(error)
"""


@pytest.mark.skipif(not HERE, reason="this machine does not isolate programs")
@pytest.mark.parametrize(
    ("name", "soft", "hard", "printed"),
    [
        ("RLIMIT_NOFILE", 512, 512, "inherited a limit of 512 open files (ulimit -n), and the sandbox needs 1,024"),
        ("RLIMIT_NOFILE", 256, 4096, "[True]"),  # a soft limit is raised
        (
            "RLIMIT_FSIZE",
            4096 * 1024,
            4096 * 1024,
            "of 4194304 bytes of a file (ulimit -f), below the sandbox's 16777216",
        ),
        ("RLIMIT_CPU", 4, 4, "of 4 seconds of processor time (ulimit -t), below the sandbox's 7"),
        ("RLIMIT_AS", 900 << 20, 900 << 20, "of 943718400 bytes of memory (ulimit -v), below the sandbox's 1073741824"),
    ],
)
def test_inherited_limits_are_named_as_such(name: str, soft: int, hard: int, printed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, name, str(soft), str(hard), HERE[0]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    said = done.stdout + done.stderr
    assert printed in said, said
    assert "[True]" in said or hard == 512, said
