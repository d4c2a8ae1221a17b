"""The system call floor: a filter that the wrapper puts on itself, so that everything it starts inherits it.

No container option removes it: `--privileged` and `seccomp=unconfined` only mean that no further filter comes on top.
The kernel answers calls which the filter always allows from a bitmap, so the cost falls on the few denied ones.
Sources: seccomp(2), linux/filter.h, linux/audit.h, the kernel's syscall tables.
"""

import ctypes
import os
import struct

from cofferdam_guest.linux import libc

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97

# local, IPv4, IPv6, netlink, packet, and 0 which the kernel refuses itself; no vsock to the host, no AF_ALG, ...
FAMILIES = (0, 1, 2, 10, 16, 17)

# name: (number on x86_64, number on aarch64, errno); None where the architecture lacks the call
DENIED: dict[str, tuple[int | None, int, int]] = {
    "init_module": (175, 105, EPERM),
    "finit_module": (313, 273, EPERM),
    "delete_module": (176, 106, EPERM),
    "kexec_load": (246, 104, EPERM),
    "kexec_file_load": (320, 294, EPERM),
    "open_by_handle_at": (304, 265, EPERM),
    "perf_event_open": (298, 241, EPERM),
    "swapon": (167, 224, EPERM),
    "swapoff": (168, 225, EPERM),
    "acct": (163, 89, EPERM),
    "iopl": (172, -1, EPERM),
    "ioperm": (173, -1, EPERM),
    "userfaultfd": (323, 282, ENOSYS),
    "io_uring_setup": (425, 425, ENOSYS),
    "io_uring_enter": (426, 426, ENOSYS),
    "io_uring_register": (427, 427, ENOSYS),
}
_SOCKETS = {"x86_64": (41, 53), "aarch64": (198, 199)}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_OFFSET, _ARCH_OFFSET, _FIRST_ARGUMENT_OFFSET = 0, 4, 16

_PR_SET_SECCOMP, _MODE_FILTER = 22, 2


def program(machine: str) -> bytes:
    """Return the filter for `machine` (os.uname().machine) as an array of struct sock_filter.

    Raises ValueError on a machine without a table: no floor means no container.
    """
    if machine not in _AUDIT_ARCH:
        raise ValueError(f"no system call table for {machine}")
    column = 0 if machine == "x86_64" else 1
    code = [
        (_LOAD, 0, 0, _ARCH_OFFSET),
        (_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _ERRNO | ENOSYS),  # 32-bit calls would reach what is denied below under other numbers
        (_LOAD, 0, 0, _NUMBER_OFFSET),
    ]
    if machine == "x86_64":
        code += [(_AT_LEAST, 0, 1, _X32_BIT), (_RETURN, 0, 0, _ERRNO | ENOSYS)]
    for row in DENIED.values():
        number = row[column]
        if number is not None and number >= 0:
            code += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERRNO | row[2])]
    code += _family_check(*_SOCKETS[machine])
    code.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *each) for each in code)


def _family_check(socket: int, socketpair: int) -> list[tuple[int, int, int, int]]:
    """socket() and socketpair(): only the listed families; the kernel looks at the low half of the argument alone."""
    matches = [(_EQUAL, len(FAMILIES) - index, 0, family) for index, family in enumerate(FAMILIES)]
    return [
        (_EQUAL, 1, 0, socket),
        (_EQUAL, 0, len(FAMILIES) + 2, socketpair),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_OFFSET),
        *matches,
        (_RETURN, 0, 0, _ERRNO | EAFNOSUPPORT),
    ]


def install() -> None:
    """Put the floor on this process and everything it starts. Needs CAP_SYS_ADMIN; cannot be undone."""
    code = program(os.uname().machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.c_void_p(ctypes.addressof(header)))
