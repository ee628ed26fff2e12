"""What isolates a program, each part on its own: namespaces, read-only mounts, and the filter on system calls."""

import errno
import platform
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from codeshell_hf.sandbox import Program, open_sandbox
from tests.backends import LIMITS, mark_backend
from tests.sandbox.inside.filtered import call_filtered

pytestmark = pytest.mark.xdist_group("sandbox")
NAMESPACES = [pytest.param("namespaces", marks=mark_backend("namespaces"))]
# By hand, from the kernel's table of x86-64.
DENIED = {
    "socket": 41, "connect": 42, "ptrace": 101, "mount": 165, "unshare": 272, "setns": 308, "add_key": 248,
    "process_vm_readv": 310, "perf_event_open": 298, "bpf": 321, "userfaultfd": 323, "io_uring_setup": 425,
    "shmget": 29, "mq_open": 240, "init_module": 175, "pidfd_getfd": 438, "open_by_handle_at": 304,
}  # fmt: skip


@pytest.mark.parametrize("backend", NAMESPACES)
def test_a_worker_leaves_every_namespace_of_the_machine(backend: str) -> None:
    with open_sandbox("namespaces", LIMITS, workers=1) as opened:
        worker = Path(f"/proc/{opened._all[0]._process.pid}/ns")

        for name in ("net", "ipc", "uts", "mnt", "user"):
            assert (worker / name).readlink() != Path(f"/proc/self/ns/{name}").readlink(), name


@pytest.mark.parametrize("backend", NAMESPACES)
def test_what_is_shown_is_read_and_not_written(backend: str, request: pytest.FixtureRequest) -> None:
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))  # /tmp is another one inside
    request.addfinalizer(lambda: shutil.rmtree(folder))
    folder.chmod(0o777)
    (folder / "shown").write_text("text")
    (folder / "shown").chmod(0o666)
    read = f"assert open({str(folder / 'shown')!r}).read() == 'text'"
    write = f"open({str(folder / 'shown')!r}, 'w').write('other')"

    with open_sandbox("namespaces", LIMITS, workers=1, shown=[str(folder)]) as opened:
        verdicts = opened.run([Program(read), Program(write)])

    assert [verdict.reason for verdict in verdicts] == ["", "OSError"]
    assert (folder / "shown").read_text() == "text"


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="numbers of x86-64")
def test_the_filter_denies_calls_by_their_number() -> None:
    *denied, clone3 = [error for _, error in call_filtered([*DENIED.values(), 435])]

    assert dict(zip(DENIED, denied, strict=True)) == dict.fromkeys(DENIED, errno.EPERM)
    assert clone3 == errno.ENOSYS  # so that the C library falls back to clone
