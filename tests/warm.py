"""A Python with the slow imports behind it, which forks for each program that it is asked to run.

Importing torch, transformers and TRL takes longer than most of what the tests then do with them. `warm_python` gives a
command that takes what `python` takes. Nothing of this project is imported beforehand, so each program still reads its
own copy. What reads `sys.flags`, and what needs other values of the variables that libraries look at when they are
imported, starts afresh. Kills do not reach at once what such a command started: kill only what `sys.executable` runs.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from io import TextIOWrapper

ROOT = Path(__file__).parents[1]
SLOW = (
    "torch", "torch.distributed.checkpoint", "torch.distributed.fsdp", "torch.distributed.run", "transformers",
    "transformers.modeling_utils", "transformers.generation.utils", "transformers.tokenization_utils_tokenizers",
    "transformers.trainer", "accelerate", "datasets", "matplotlib.figure", "pandas", "peft", "pyarrow.dataset",
    "pyarrow.parquet", "scipy.optimize", "trl.trainer.dpo_trainer", "trl.trainer.grpo_trainer",
    "trl.trainer.reward_trainer", "trl.trainer.rloo_trainer", "trl.trainer.sft_trainer",
)  # fmt: skip
# Read once, by libraries as they are imported.
READ_AT_IMPORT = (
    "CUDA_", "DS_", "HF_", "HUGGINGFACE_", "LD_", "MALLOC_", "MKL_", "OMP_", "PYTHON", "TORCHDYNAMO_", "TORCHINDUCTOR_",
    "TORCH_", "TQDM_", "TRANSFORMERS_", "TRL_",
)  # fmt: skip
FREE = {"PYTHONPATH", "PYTHON_EXEC", "PYTHONUNBUFFERED", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "TQDM_MININTERVAL"}


def select_frozen(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that a program must share with the Python that it is forked from."""
    return {name: environment[name] for name in environment if name.startswith(READ_AT_IMPORT) and name not in FREE}


def warm_python(environment: Mapping[str, str]) -> str:
    """Gives a command that runs programs as `python` does, sooner.

    Args:
        environment: That they will be given; where another asks for other imports, it starts afresh.

    Returns:
        An executable. It serves until the tests end.
    """
    return _start(tuple(sorted(select_frozen(environment).items())))


def start(*arguments: str, ranks: int = 1, is_warm: bool = False, **environment: str) -> subprocess.Popen[str]:
    """Starts a program in the checkout, in a session of its own.

    Args:
        arguments: As Python takes them.
        ranks: More than one are torchrun's.
        is_warm: Whether what is imported may be imported already; not for what is to be killed.
        environment: Variables that it is given besides.

    Returns:
        The process, with all that it prints in one pipe.
    """
    # The recipes are found from a program of another folder as well; only `src` is installed.
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    given = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": paths, **environment}
    python = warm_python(given) if is_warm else sys.executable
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    return subprocess.Popen(
        [python, *(torchrun if ranks > 1 else []), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**given, "PYTHON_EXEC": python},  # which torchrun calls
        start_new_session=True,
    )


@functools.cache
def _start(frozen: tuple[tuple[str, str], ...]) -> str:
    home = tempfile.TemporaryDirectory(prefix="warm-")
    place = Path(home.name, "socket")
    free = {name: value for name, value in os.environ.items() if name in FREE or not name.startswith(READ_AT_IMPORT)}
    server = subprocess.Popen(
        [sys.executable, __file__, "serve", str(place)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, env=free | dict(frozen),
    )  # fmt: skip
    atexit.register(home.cleanup)
    atexit.register(server.communicate)  # it ends with its input
    if server.stdout is None or server.stdout.readline() != b"ready\n":
        raise ChildProcessError("the Python that forks did not start")
    command = Path(home.name, "python")
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -IS "{__file__}" ask "{place}" "$@"\n')
    command.chmod(0o755)
    return str(command)


def ask(place: str, arguments: list[str]) -> int:
    """Has a program run on this process's own files, and ends as it does."""
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in {"-m", "-u"}):
        os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606
    request = json.dumps([arguments, dict(os.environ), str(Path.cwd())]).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(place)
        socket.send_fds(connection, [len(request).to_bytes(8, "little")], [0, 1, 2])
        connection.sendall(request)
        code = int.from_bytes(connection.recv(4), "little", signed=True)
    if code < 0:
        with suppress(OSError):  # nobody handles a kill
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def serve(place: str) -> int:
    """Forks for each request until the standard input ends."""
    frozen = select_frozen(os.environ)  # libraries set some as they are imported
    for name in SLOW:
        with suppress(ImportError):  # what is not installed is not waited for
            importlib.import_module(name)
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    own = Path("/proc/self/comm").read_text().strip()
    if threads - {own, "jemalloc_bg_thd"}:  # pyarrow's allocator knows forks
        print(f"threads run that a fork would not have: {', '.join(sorted(threads))}", file=sys.stderr)
        return 1
    gc.collect()
    gc.freeze()  # or the first collection of each fork copies what was imported
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who keeps a request
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        os.write(1, b"ready\n")
        while wait_for(listener, sys.stdin) is listener:
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    keep(connection, frozen)
    return 0


def wait_for(*files: Any) -> Any:
    """Waits until there is something to read, and gives the file that has it, the last one first."""
    with selectors.DefaultSelector() as events:
        for file in files:
            events.register(file, selectors.EVENT_READ)
        ready = [key.fileobj for key, _ in events.select()]
    return next(file for file in reversed(files) if file in ready)


def keep(connection: socket.socket, frozen: dict[str, str]) -> NoReturn:
    """Runs what is asked for in a fork and tells how it ended; ends its process group then, or if the asker is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, files, _, _ = socket.recv_fds(connection, 8, 3)
    with connection.makefile("rb") as stream:
        arguments, environment, folder = json.loads(stream.read(int.from_bytes(size, "little")))
    program = os.fork()
    if program == 0:
        os.setsid()
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        os.chdir(folder)
        if select_frozen(environment) != frozen:
            os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606
        os.environ.clear()
        os.environ.update(environment)
        finish(run(arguments))
    for file in files:
        os.close(file)
    end = os.pidfd_open(program)
    wait_for(connection, sys.stdin, end)
    with suppress(ProcessLookupError):
        os.killpg(program, signal.SIGKILL)  # what has ended keeps its exit status
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with suppress(OSError):
        connection.sendall(code.to_bytes(4, "little", signed=True))
    os._exit(0)


def finish(code: int) -> NoReturn:
    """Ends as the interpreter does, but for tidying up what was imported, which would copy all of it."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Runs a module or a file as `python` does, and gives its exit status."""
    if arguments[0] == "-u":
        cast("TextIOWrapper", sys.stdout).reconfigure(write_through=True)
        arguments = arguments[1:]
    is_module = arguments[0] == "-m"
    sys.argv = arguments[is_module:]
    first = str(Path.cwd()) if is_module else str(Path(arguments[0]).resolve().parent)
    sys.path[0:1] = [first, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    importlib.invalidate_caches()
    try:
        if is_module:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        if not isinstance(stop.code, int | None):
            print(stop.code, file=sys.stderr)
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


if __name__ == "__main__":
    mode, address, *rest = sys.argv[1:]
    sys.exit(serve(address) if mode == "serve" else ask(address, rest))
