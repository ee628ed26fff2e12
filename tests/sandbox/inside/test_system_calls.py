"""The lists of system calls, against the kernel's headers; the filter, by a plain interpreter and on this kernel."""

import errno
import platform
import re
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from codeshell_hf.sandbox.inside.isolation import build_filter
from codeshell_hf.sandbox.inside.system_calls import CALLS
from tests.sandbox.inside.filtered import call_filtered

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS, 0x80000000
AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64


def decide(program: bytes, number: int, *, audit: int, flags: int = 0) -> int:
    """What a filter returns for a call, by a plain interpreter of the five instructions that it uses."""
    data = struct.pack("<IIQQ", number, audit, 0, flags)  # seccomp_data: nr, arch, instruction pointer, first argument
    lines = [struct.unpack_from("HBBI", program, place) for place in range(0, len(program), 8)]
    place, value = 0, 0
    while True:
        code, if_true, if_false, operand = lines[place]
        place += 1
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            value = int.from_bytes(data[operand : operand + 4], "little")
        elif code == 0x06:  # BPF_RET
            return int(operand)
        else:
            is_true = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            place += if_true if is_true else if_false


def read_header(machine: str) -> dict[str, int]:
    found = re.findall(r"^#define\s+__NR(?:3264)?_(\w+)\s+(\d+)", HEADERS[machine].read_text(), flags=re.MULTILINE)
    numbers = {name: int(number) for name, number in found}
    return numbers | ({"newfstatat": numbers["fstatat"]} if "fstatat" in numbers else {})


@pytest.mark.parametrize("machine", CALLS)
@pytest.mark.skipif(not all(map(Path.exists, HEADERS.values())), reason="the kernel's headers are not installed")
def test_numbers_are_the_kernels(machine: str) -> None:
    calls, header = CALLS[machine], read_header(machine)

    for name, number in {**calls.allowed, **calls.denied}.items():
        assert header[name] == number, name


@pytest.mark.parametrize("machine", CALLS)
def test_the_lists_are_apart_and_hold_the_calls_of_every_kind(machine: str) -> None:
    calls = CALLS[machine]
    numbers = [*calls.allowed.values(), *calls.denied.values()]

    assert len(set(numbers)) == len(numbers) == len(calls.allowed) + len(calls.denied)
    names = ("read", "write", "openat", "execve", "futex", "getrandom", "socket", "ptrace", "mount", "bpf")
    by_hand = {  # of the kernel's tables
        "x86_64": (0, 1, 257, 59, 202, 318, 41, 101, 165, 321),
        "aarch64": (63, 64, 56, 221, 98, 278, 198, 117, 40, 280),
    }
    assert tuple({**calls.allowed, **calls.denied}[name] for name in names) == by_hand[machine]


@pytest.mark.parametrize("machine", CALLS)
def test_the_filter_decides_each_number_as_the_lists_say(machine: str) -> None:
    calls, program = CALLS[machine], build_filter(machine)
    expected = dict.fromkeys(calls.denied.values(), EPERM) | dict.fromkeys(calls.allowed.values(), ALLOW)

    for number in (*range(1024), 0x40000000, 0x40000000 + 41, 0xFFFFFFFF):
        assert decide(program, number, audit=AUDIT[machine]) == expected.get(number, ENOSYS), number
    other = AUDIT["aarch64" if machine == "x86_64" else "x86_64"]
    assert {decide(program, number, audit=other) for number in range(400)} == {KILL}
    clone = calls.allowed["clone"]
    for bit in (0x80, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):  # CLONE_NEW*
        assert decide(program, clone, audit=AUDIT[machine], flags=bit | 17) == EPERM, hex(bit)
    assert decide(program, clone, audit=AUDIT[machine], flags=0x003D0F00) == ALLOW  # a thread of glibc


def list_unlisted() -> Iterator[int]:
    calls = CALLS[platform.machine()]
    listed = {*calls.allowed.values(), *calls.denied.values()}
    # Of uretprobe and uprobe, newer kernels ask no filter; they end a process that calls them itself.
    return (number for number in (*range(600), 0x40000000 + 1) if number not in {*listed, 335, 336})


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in CALLS, reason="a filter for Linux on x86-64 and arm64"
)
def test_a_call_that_no_list_names_is_missing_on_this_kernel() -> None:
    """Those of later kernels, which exist here or not."""
    numbers = list(list_unlisted())

    found = call_filtered(numbers)

    assert len(found) == len(numbers) > 200
    assert {*found} == {(-1, errno.ENOSYS)}
