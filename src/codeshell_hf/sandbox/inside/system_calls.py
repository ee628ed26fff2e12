"""The system calls of programs: those they may make, and those that are refused by name, with their numbers.

What is on neither list is reported as missing, as on an older kernel, so that the C library falls back to what it used
before; a call of a later kernel is therefore refused until somebody adds it. The allowed ones are what the runtimes of
all languages make, found by tracing them, with their kin of the same kind. The numbers are the kernel's, in
arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
"""

from __future__ import annotations

from typing import NamedTuple

# Name, number on x86-64, number on arm64 (- where it does not exist).
_ALLOWED = """
# Files and folders
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69, pwritev 296 70,
preadv2 327 286, pwritev2 328 287, sendfile 40 71, copy_file_range 326 285, lseek 8 62, open 2 -, openat 257 56,
creat 85 -, close 3 57, close_range 436 436, dup 32 23, dup2 33 -, dup3 292 24, fcntl 72 25, flock 73 32,
ioctl 16 29, fsync 74 82, fdatasync 75 83, truncate 76 45, ftruncate 77 46, fallocate 285 47, fadvise64 221 223,
stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44, access 21 -,
faccessat 269 48, faccessat2 439 439, getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50,
mkdir 83 -, mkdirat 258 34, rmdir 84 -, mknod 133 -, mknodat 259 33, rename 82 -, renameat 264 38,
renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, unlink 87 -, unlinkat 263 35,
readlink 89 -, readlinkat 267 78, chmod 90 -, fchmod 91 52, fchmodat 268 53, chown 92 -, fchown 93 55, lchown 94 -,
fchownat 260 54, umask 95 166, utime 132 -, utimes 235 -, utimensat 280 88, futimesat 261 -, getxattr 191 8,
lgetxattr 192 9, fgetxattr 193 10, listxattr 194 11, llistxattr 195 12, flistxattr 196 13,
# Memory
brk 12 214, mmap 9 222, munmap 11 215, mremap 25 216, mprotect 10 226, madvise 28 233, msync 26 227,
mincore 27 232, membarrier 324 283, mbind 237 235, get_mempolicy 239 236, set_mempolicy 238 237,
# Processes and threads
clone 56 220, fork 57 -, vfork 58 -, execve 59 221, exit 60 93, exit_group 231 94, wait4 61 260, waitid 247 95,
kill 62 129, tkill 200 130, tgkill 234 131, getpid 39 172, gettid 186 178, getppid 110 173, getpgrp 111 -,
getpgid 121 155, setpgid 109 154, getsid 124 156, setsid 112 157, getuid 102 174, geteuid 107 175, getgid 104 176,
getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158, capget 125 90, prctl 157 167,
arch_prctl 158 -, set_tid_address 218 96, set_robust_list 273 99, get_robust_list 274 100, rseq 334 293,
futex 202 98, sched_yield 24 124, sched_getaffinity 204 123, sched_setaffinity 203 122, sched_getparam 143 121,
sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147 126, getpriority 140 141,
setpriority 141 140, getcpu 309 168, getrlimit 97 163, setrlimit 160 164, prlimit64 302 261, getrusage 98 165,
times 100 153, sysinfo 99 179, uname 63 160,
# Signals and timers
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigtimedwait 128 137, rt_sigsuspend 130 133,
rt_sigpending 127 136, sigaltstack 131 132, restart_syscall 219 128, pause 34 -, alarm 37 -, getitimer 36 102,
setitimer 38 103, nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114,
gettimeofday 96 169, time 201 -, timer_create 222 107, timer_settime 223 110, timer_gettime 224 108,
timer_getoverrun 225 109, timer_delete 226 111, timerfd_create 283 85, timerfd_settime 286 86,
timerfd_gettime 287 87,
# Pipes, pairs of sockets, and waiting for them
pipe 22 -, pipe2 293 59, socketpair 53 199, sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212,
shutdown 48 210, getsockname 51 204, getpeername 52 205, getsockopt 55 209, eventfd 284 -, eventfd2 290 19,
poll 7 -, ppoll 271 73, select 23 -, pselect6 270 72, epoll_create 213 -, epoll_create1 291 20, epoll_ctl 233 21,
epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441,
# Randomness
getrandom 318 278,
"""

_DENIED = """
# Sockets
socket 41 198, connect 42 203, accept 43 202, accept4 288 242, bind 49 200, listen 50 201,
# Other processes
ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, pidfd_getfd 438 438, pidfd_open 434 434,
pidfd_send_signal 424 424, kcmp 312 272,
# Mounts and namespaces
mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, open_tree 428 428, move_mount 429 429,
fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442, unshare 272 97,
setns 308 268, open_by_handle_at 304 265,
# Files in memory that no limit counts
memfd_create 319 279, memfd_secret 447 447, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7,
# Keys, System V, queues
add_key 248 217, request_key 249 218, keyctl 250 219, shmget 29 194, shmat 30 196, shmctl 31 195, shmdt 67 197,
semget 64 190, semop 65 193, semctl 66 191, semtimedop 220 192, msgget 68 186, msgsnd 69 189, msgrcv 70 188,
msgctl 71 187, mq_open 240 180, mq_unlink 241 181,
# The system
init_module 175 105, finit_module 313 273, delete_module 176 106, kexec_load 246 104, kexec_file_load 320 294,
swapon 167 224, swapoff 168 225, reboot 169 142, perf_event_open 298 241, bpf 321 280, userfaultfd 323 282,
io_uring_setup 425 425, io_uring_enter 426 426, io_uring_register 427 427, acct 163 89, vhangup 153 58,
quotactl 179 60, personality 135 92, lookup_dcookie 212 18,
# Another user
setuid 105 146, setgid 106 144, setreuid 113 145, setregid 114 143, setresuid 117 147, setresgid 119 149,
setgroups 116 159, setfsuid 122 151, setfsgid 123 152, capset 126 91,
"""


class SystemCalls(NamedTuple):
    """System-call numbers of an architecture, by name."""

    audit: int  # the architecture's id in the filter's data
    allowed: dict[str, int]
    denied: dict[str, int]


def _read(table: str, column: int) -> dict[str, int]:
    lines = " ".join(line for line in table.splitlines() if not line.startswith("#"))
    rows = (entry.split() for entry in lines.split(",") if entry.strip())
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


CALLS = {
    machine: SystemCalls(audit, _read(_ALLOWED, column), _read(_DENIED, column))
    for machine, audit, column in (("x86_64", 0xC000003E, 1), ("aarch64", 0xC00000B7, 2))
}
