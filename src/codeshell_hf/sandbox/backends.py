"""The isolation backends, strongest first. Programs that try to escape prove which of them work on this machine."""

import contextlib
import logging
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from ..errors import RunFailed, SettingsError
from ..operating_system import IS_LINUX
from .limits import Backend, Limits, Program
from .pool import INSIDE, Sandbox, Start

logger = logging.getLogger(__name__)

BACKENDS: tuple[Backend, ...] = get_args(Backend)
SYSTEM = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/alternatives", "/etc/ld.so.cache")
ENGINES = ("docker", "podman")
MIN_OPEN_FILES = 1024  # descriptors of verdicts have random numbers below it


def open_sandbox(
    backend: Backend = "auto",
    limits: Limits | None = None,
    *,
    workers: int | None = None,
    shown: Sequence[str] = (),
    image: str | None = None,
) -> Sandbox:
    """Opens a sandbox, after programs that try to escape from it have failed.

    "namespaces" needs only this package, "bubblewrap" the program bwrap, "container" docker or podman and an image with
    Python 3.9 or later. "auto" takes the first of them that isolates. The first two need Linux.

    Args:
        backend: "auto", or one by name; "none" isolates nothing and is never chosen by "auto".
        workers: Programs at a time; by default one per core.
        shown: Files and folders that programs may read besides the system's, such as a compiler.
        image: For containers; without it, that backend is skipped.

    Raises:
        SettingsError: If this machine cannot isolate programs, or programs escape.
    """
    limits = limits or Limits()
    if backend not in BACKENDS:
        raise SettingsError(f"sandbox is {backend!r}; use one of {', '.join(BACKENDS)}")
    if backend == "none":
        limited = "time and memory" if IS_LINUX else "time"  # other systems may not enforce limits on memory
        logger.warning("sandbox: none. Programs run with your rights, with limits on %s alone", limited)
        return Sandbox(plan_start("none", limits, (), None), limits, workers)
    if IS_LINUX:
        check_inherited_limits(limits)
    troubles = []
    for name in BACKENDS[1:-1] if backend == "auto" else (backend,):
        try:
            sandbox = Sandbox(plan_start(name, limits, shown, image), limits, workers)
        except OSError as error:
            troubles.append(f"{name}: {error}")
            continue
        try:
            leaks = [f"a program {leak}" for leak in probe(sandbox)]
        except RunFailed as error:
            leaks = [str(error).partition(";")[0]]
        if not leaks:
            return sandbox
        sandbox.close()
        troubles.append(f"{name}: {leaks[0]}")
    advice = "run where user namespaces are allowed"
    if not IS_LINUX:
        advice = f"start {' or '.join(ENGINES)} and set container_image to one with Python, such as python:3.12-slim"
    raise SettingsError(
        f"sandbox is {backend!r}, but this machine does not isolate programs ({'; '.join(troubles)}); {advice}, or "
        "write sandbox: none to run programs with your own rights"
    )


def check_inherited_limits(limits: Limits) -> None:
    """Names limits of this process, such as the shell's `ulimit`, that are below those of programs.

    Raises:
        SettingsError: If no program could be started.
    """
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files != resource.RLIM_INFINITY and files < MIN_OPEN_FILES:
        raise SettingsError(
            f"this process inherited a limit of {files} open files (ulimit -n), and the sandbox needs "
            f"{MIN_OPEN_FILES:,}; raise it where the process is started"
        )
    for kind, option, what, value in (
        (resource.RLIMIT_AS, "-v", "bytes of memory", limits.max_memory_bytes),
        (resource.RLIMIT_FSIZE, "-f", "bytes of a file", limits.max_file_bytes),
        (resource.RLIMIT_CPU, "-t", "seconds of processor time", int(limits.timeout_s) + 2),
    ):
        inherited = resource.getrlimit(kind)[1]
        if inherited != resource.RLIM_INFINITY and inherited < value:
            logger.warning(
                "this process inherited a limit of %d %s (ulimit %s), below the sandbox's %d; programs get the lower",
                inherited, what, option, value,
            )  # fmt: skip


def plan_start(backend: Backend, limits: Limits, shown: Sequence[str], image: str | None) -> Start:
    """Plans how a backend's worker processes are started.

    Args:
        limits: For containers.
        shown: Files and folders that programs may read besides the system's.

    Raises:
        OSError: If a requirement is missing.
    """
    # Not the virtual environment's interpreter, whose folder is hidden from programs.
    interpreter = getattr(sys, "_base_executable", sys.executable)
    if backend == "container":
        return plan_container(limits, image)
    if not IS_LINUX:
        if backend != "none":
            raise OSError(f"it needs Linux, and this is {platform.system()}")
        return Start(backend, _begin(interpreter, "portable"))
    bubblewrap = shutil.which("bwrap") or ""
    if backend == "bubblewrap":
        if not bubblewrap:
            raise OSError("bwrap is not installed")
        # Bubblewrap keeps the caller's user, and root is not bound by the limit on processes.
        if os.geteuid() == 0 and not is_open_to_all(interpreter):
            interpreter = "/usr/bin/python3"
            if not Path(interpreter).exists():
                raise OSError("an unprivileged user cannot run this interpreter")
    prefix = os.path.realpath(sys.base_prefix)
    system = [*SYSTEM, *shown]
    if not any(Path(prefix).is_relative_to(path) for path in system):
        system.append(prefix)
    return Start(backend, _begin(interpreter, "zygote"), tuple(system), bubblewrap)


def _begin(interpreter: str, module: str) -> tuple[str, ...]:
    # The folder does not stay on the path: a program may be able to write there, such as below /tmp.
    begin = f"import sys; sys.path.insert(0, {str(INSIDE.parent)!r}); from inside.{module} import main; "
    begin += "sys.path.pop(0); main()"
    return (interpreter, "-I", "-S", "-B", "-c", begin)


def plan_container(limits: Limits, image: str | None) -> Start:
    """Plans how a container with a worker process is started.

    Args:
        limits: Of each program; the container as a whole is limited too.
        image: With Python 3.9 or later.

    Raises:
        OSError: Without an image, or without docker and podman.
    """
    if image is None:
        raise OSError("container_image is not set")
    engine = next((path for name in ENGINES if (path := shutil.which(name))), None)
    if engine is None:
        raise OSError(f"neither {' nor '.join(ENGINES)} is installed")
    scratch = f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={limits.max_file_bytes},nr_inodes={limits.max_files}"  # noqa: S108
    command = [
        *(engine, "run", "--rm", "--interactive", "--network", "none", "--read-only", "--tmpfs", scratch),
        *("--user", "65534:65534", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--ipc", "none"),
        *("--pids-limit", str(limits.max_processes + 4), "--memory", str(2 * limits.max_memory_bytes)),
        *("--volume", f"{INSIDE}:/sandbox/inside:ro", "--env", "HOME=/tmp", "--env", "LANG=C.UTF-8", image),
        *("python3", "-I", "-S", "-B", "-c"),
        "import sys; sys.path.insert(0, '/sandbox'); from inside.zygote import main; sys.path.pop(0); main()",
    ]
    return Start("container", tuple(command))


def is_open_to_all(path: str) -> bool:
    """Whether all users may enter and read every folder above a file."""
    return all(folder.stat().st_mode & 0o5 == 0o5 for folder in Path(path).resolve().parents)


def probe(sandbox: Sandbox) -> list[str]:
    """Runs programs that try to escape, and lists what they could do; empty if they are isolated."""
    with contextlib.ExitStack() as stack:
        secrets = [path for folder in (tempfile.gettempdir(), Path.home()) if (path := _plant(Path(folder), stack))]
        port = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        trials = {
            "cannot run": Program("", "assert 1 + 1 == 2"),
            **{f"reads {path.parent}": Program(_must_fail(f"open({str(path)!r}).read()")) for path in secrets},
            "reaches a port": Program(
                _must_fail(f"__import__('socket').create_connection(('127.0.0.1', {port}), timeout=1)")
            ),
            "sees another process": Program("import os\n" + _must_fail(f"os.kill({os.getpid()}, 0)")),
            "reads another's environment": Program(_must_fail(f"open('/proc/{os.getpid()}/environ').read()")),
            "writes to the system": Program(_must_fail("open('/usr/planted', 'w')")),
        }
        verdicts = sandbox.run(trials.values())
    return [name for name, verdict in zip(trials, verdicts, strict=True) if not verdict.passed]


def _plant(folder: Path, stack: contextlib.ExitStack) -> Path | None:
    try:
        secret = stack.enter_context(
            tempfile.NamedTemporaryFile(suffix=".planted", dir=folder)  # noqa: SIM115 - the stack closes it
        )
    except OSError:
        return None  # the home folder is missing or read-only
    Path(secret.name).chmod(0o644)
    return Path(secret.name)


def _must_fail(expression: str) -> str:
    return f"try:\n    {expression}\nexcept OSError:\n    pass\nelse:\n    raise SystemExit('leak')\n"
