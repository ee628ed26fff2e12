"""Isolates a program: namespaces, its own root, a system-call filter, and resource limits."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
from typing import TYPE_CHECKING

from .system_calls import CALLS

if TYPE_CHECKING:
    from .messages import LimitValues

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MNT_DETACH = 2
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 4, 22, 24, 36, 38
NOBODY = 65534
INSIDE_USER = 1000


NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag that clone takes

libc = ctypes.CDLL(None, use_errno=True)
interpreter = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock during a call


def call(name: str, *arguments: object) -> None:
    """Calls a function of the C library.

    Raises:
        OSError: If its result is not 0.
    """
    if getattr(libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mounts, as mount(2) does."""
    encoded = [None if text is None else text.encode() for text in (source, target, kind)]
    call("mount", *encoded, ctypes.c_ulong(flags), None if options is None else options.encode())


def enter_namespaces(shown: list[str], *, max_root_files: int = 512) -> None:
    """Irreversibly enters new namespaces as an unprivileged user, and builds the file system that programs see.

    Root mounts first and becomes nobody afterwards: root is not bound by the limit on processes, but nobody may not
    have access to the interpreter's folder.

    Args:
        shown: Files and folders that programs may read.
        max_root_files: Limit of files and folders in the root itself.
    """
    user = (os.geteuid(), os.getegid())
    proc = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    if user[0] == 0:
        call("unshare", CLONE_NEWNS)
        build_root(shown, max_root_files)
        become_nobody()
        user = (NOBODY, NOBODY)
        call("unshare", CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
        map_user(proc, user)
    else:
        call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)
        map_user(proc, user)
        build_root(shown, max_root_files)
    forbid_capabilities()
    os.close(proc)


def become_nobody() -> None:
    """Drops root, which is not bound by the limit on processes."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)


def map_user(proc: int, user: tuple[int, int]) -> None:
    """Maps this user to an unprivileged one in the namespace.

    Args:
        proc: Descriptor of /proc/self outside of the namespace.
        user: Ids of user and group outside of the namespace.
    """
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{INSIDE_USER} {user[0]} 1"),
        ("gid_map", f"{INSIDE_USER} {user[1]} 1"),
    ):
        file = os.open(name, os.O_WRONLY, dir_fd=proc)
        os.write(file, text.encode())
        os.close(file)


def build_root(shown: list[str], max_files: int) -> None:
    """Builds an in-memory root with the files that programs may read, and unmounts the machine's.

    Args:
        shown: Files and folders that programs may read.
        max_files: Limit of files and folders in the root itself.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    os.umask(0o022)
    root = "/sys"  # programs see nothing of it, so it can be mounted over
    mount("tmpfs", root, "tmpfs", MS_NOSUID | MS_NODEV, f"size=1m,nr_inodes={max_files},mode=755")
    # A symbolic link such as /lib -> usr/lib is copied, not followed.
    for path in shown:
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.exists(path):
            if os.path.isdir(path):
                os.makedirs(root + path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(root + path), exist_ok=True)
                os.close(os.open(root + path, os.O_CREAT | os.O_WRONLY))
            mount(path, root + path, None, MS_BIND | MS_REC)
            make_read_only(root + path)
    os.makedirs(root + "/dev", exist_ok=True)
    for device in ("null", "zero", "urandom"):
        os.close(os.open(f"{root}/dev/{device}", os.O_CREAT | os.O_WRONLY))
        mount(f"/dev/{device}", f"{root}/dev/{device}", None, MS_BIND)
    for name in ("tmp", "old", "proc"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    # The kernel mounts a new proc only if one is visible; each program's own covers this one.
    mount("/proc", f"{root}/proc", None, MS_BIND | MS_REC)
    call("syscall", CALLS[platform.machine()].denied["pivot_root"], root.encode(), f"{root}/old".encode())
    os.chdir("/")
    call("umount2", b"/old", MNT_DETACH)
    os.rmdir("/old")
    mount("none", "/", None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV)


def fork_into_namespaces() -> int:
    """Forks as `os.fork` does, with the child as the first process of a new PID namespace, and its own mounts and IPC.

    unshare would need a process between the two, and a fork is the most expensive part of a small program.
    """
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | signal.SIGCHLD
    interpreter.PyOS_BeforeFork()
    child: int = interpreter.syscall(
        CALLS[platform.machine()].allowed["clone"], ctypes.c_ulong(flags), None, None, None, None
    )
    number = ctypes.get_errno()
    if child == 0:
        interpreter.PyOS_AfterFork_Child()
    else:
        interpreter.PyOS_AfterFork_Parent()
    if child < 0:
        raise OSError(number, f"clone: {os.strerror(number)}")
    return child


def cover_processes(*, is_shown: bool) -> None:
    """Mounts the program's own /proc, or an empty one, over the machine's.

    Args:
        is_shown: Whether the program gets its own, which some runtimes need to find themselves. If the kernel refuses,
            as in most containers, it is empty.
    """
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    if is_shown:
        try:
            mount("proc", "/proc", "proc", flags)
        except OSError:
            pass
        else:
            return
    mount("none", "/proc", "tmpfs", flags | MS_RDONLY, "nr_inodes=2,mode=555")


def make_read_only(path: str) -> None:
    """Remounts a bind mount read-only, with the flags that the kernel does not allow to clear."""
    flags = os.statvfs(path).f_flag
    kept = flags & (MS_NOSUID | MS_NODEV | os.ST_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME | os.ST_RELATIME)
    mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | kept)


def build_filter(machine: str) -> bytes:
    """The seccomp filter of an architecture: allowed calls pass, denied ones fail, all others are missing.

    It searches by halves, since the kernel tries it with every number when it is installed. `clone` may not make
    namespaces; `clone3`, whose flags a filter cannot see, is missing, and the C library falls back to `clone`. The
    second numbering of x86-64 (x32) is beyond all numbers, and so missing.
    """
    calls = CALLS[machine]
    load, jump_equal, jump_at_least, jump_set, decide = 0x20, 0x15, 0x35, 0x45, 0x06
    deny, missing, kill, allow = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000, 0x7FFF0000
    actions = dict.fromkeys(calls.denied.values(), deny) | dict.fromkeys(calls.allowed.values(), allow)
    runs = [(0, actions.get(0, missing))]  # each with the first number of its action
    for number in range(1, max(actions) + 2):
        action = actions.get(number, missing)
        if action != runs[-1][1]:
            runs.append((number, action))

    def search(runs: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
        if len(runs) == 1:
            return [(decide, 0, 0, runs[0][1])]
        middle = len(runs) // 2
        below, above = search(runs[:middle]), search(runs[middle:])
        return [(jump_at_least, len(below), 0, runs[middle][0]), *below, *above]

    program = [
        (load, 0, 0, 4),
        (jump_equal, 1, 0, calls.audit),
        (decide, 0, 0, kill),
        (load, 0, 0, 0),
        (jump_equal, 0, 4, calls.allowed["clone"]),
        (load, 0, 0, 16),
        (jump_set, 0, 1, NEW_NAMESPACES),
        (decide, 0, 0, deny),
        (decide, 0, 0, allow),
        *search(runs),
    ]
    return b"".join(struct.pack("HBBI", *line) for line in program)


FILTER = build_filter(platform.machine()) if platform.machine() in CALLS else b""


def filter_calls() -> None:
    """Irreversibly keeps this process and its children from all but the allowed system calls, by a seccomp filter."""
    header = struct.pack("HxxxxxxP", len(FILTER) // 8, ctypes.cast(ctypes.c_char_p(FILTER), ctypes.c_void_p).value)
    call("prctl", PR_SET_SECCOMP, 2, ctypes.c_char_p(header), 0, 0)


def inherit_orphans() -> None:
    """Makes this process the parent of its orphaned descendants, in place of the container's first process."""
    call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def forbid_new_privileges() -> None:
    """Denies new privileges, such as those of setuid programs, to this process and its children."""
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def hide_memory() -> None:
    """Hides this process's memory and descriptors in /proc from others of the same user."""
    call("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)


def forbid_capabilities() -> None:
    """Denies capabilities to the programs that this process and its children start."""
    for number in range(64):
        if libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) != 0:
            break


def drop_capabilities() -> None:
    """Drops every capability."""
    header = struct.pack("II", 0x20080522, 0)
    call("capset", ctypes.c_char_p(header), ctypes.c_char_p(b"\0" * 24))


def limit_resources(limits: LimitValues, *, counts_processes: bool) -> None:
    """Sets resource limits.

    Args:
        limits: The values; inherited ones that are lower stay.
        counts_processes: Whether to limit processes; outside a namespace, all of the user's count.
    """
    more = [(resource.RLIMIT_NPROC, limits["max_processes"])] if counts_processes else []
    for kind, value in (
        (resource.RLIMIT_AS, limits["max_memory_bytes"]),
        (resource.RLIMIT_FSIZE, limits["max_file_bytes"]),
        (resource.RLIMIT_CPU, int(limits["timeout_s"]) + 2),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
        *more,
    ):
        inherited = resource.getrlimit(kind)[1]
        lower = value if inherited == resource.RLIM_INFINITY else min(value, inherited)
        resource.setrlimit(kind, (lower, lower))
