"""The filter is run in a small interpreter of classic BPF, and once by this machine's kernel."""

import os
import socket
import struct

import pytest

from cofferdam_guest.linux import seccomp

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NATIVE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
SOCKET = {"x86_64": 41, "aarch64": 198}
SOCKETPAIR = {"x86_64": 53, "aarch64": 199}


def verdict(machine, number, arch=None, argument=0):
    code = seccomp.program(machine)
    data = struct.pack("=iIQ6Q", number, NATIVE[machine] if arch is None else arch, 0, argument, 0, 0, 0, 0, 0)
    accumulator, at = 0, 0
    while True:
        operation, true, false, operand = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        if operation == 0x20:
            accumulator = struct.unpack_from("=I", data, operand)[0]
        elif operation == 0x15:
            at += true if accumulator == operand else false
        elif operation == 0x35:
            at += true if accumulator >= operand else false
        elif operation == 0x06:
            return operand
        else:
            raise AssertionError(f"operation {operation:#x}")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_denied_call_is_denied_and_its_neighbours_are_not(machine):
    column = 0 if machine == "x86_64" else 1
    denied = {row[column]: row[2] for row in seccomp.DENIED.values() if row[column] is not None and row[column] >= 0}
    for number in range(470):
        if number in (SOCKET[machine], SOCKETPAIR[machine]):
            continue
        expected = ERRNO | denied[number] if number in denied else ALLOW
        assert verdict(machine, number) == expected, number


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("family", range(60))
def test_socket_families(machine, family):
    expected = ALLOW if family in (0, 1, 2, 10, 16, 17) else ERRNO | 97
    for call in (SOCKET[machine], SOCKETPAIR[machine]):
        assert verdict(machine, call, argument=family) == expected
        # the kernel truncates the argument to an int: high bits must not hide the family
        assert verdict(machine, call, argument=family | 1 << 32) == expected


def test_vsock_and_alg_are_not_among_the_families():
    assert socket.AF_VSOCK not in seccomp.FAMILIES
    assert socket.AF_ALG not in seccomp.FAMILIES


def test_32_bit_calls_and_x32_do_not_exist():
    assert verdict("x86_64", 102, arch=0x40000003) == ERRNO | 38  # socketcall of i386
    assert verdict("x86_64", 0x40000000 | 41, argument=40) == ERRNO | 38
    assert verdict("aarch64", 281, arch=0x40000028) == ERRNO | 38


def test_what_the_low_level_runtime_needs_is_allowed():
    needed = {"bpf": 321, "mount": 165, "keyctl": 250, "unshare": 272, "setns": 308, "mount_setattr": 442, "seccomp": 317}
    for name, number in needed.items():
        assert verdict("x86_64", number) == ALLOW, name


def test_an_unknown_machine_has_no_floor_and_so_no_container():
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.program("riscv64")


def test_the_kernel_takes_it():
    """In a child: seccomp cannot be undone. no_new_privs lets it in without root."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            from cofferdam_guest.linux import libc

            libc.prctl(38, 1)
            seccomp.install()
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
            try:
                socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
            except OSError as error:
                status = 0 if error.errno == 97 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
