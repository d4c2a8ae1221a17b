"""System calls that Python's standard library does not offer, through ctypes.

Every function raises OSError with the kernel's errno. Numbers of the mount API are the same on all architectures.
Sources: mount_setattr(2), open_tree(2), openat2(2), fsopen(2), prctl(2).
"""

import ctypes
import os

CLONE_NEWTIME = 0x00000080
CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

PR_SET_SECUREBITS = 28
PR_GET_SECUREBITS = 27
SECBIT_NO_SETUID_FIXUP = 1 << 2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Call system call `number`; integers are passed as C longs."""
    ctypes.set_errno(0)
    result: int = _libc.syscall(
        ctypes.c_long(number), *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    )
    return _checked(result, f"system call {number}")


def unshare(flags: int) -> None:
    """Leave the namespaces named by the CLONE_NEW* `flags`."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str | None, target: str, fstype: str | None, flags: int, data: str | None = None) -> None:
    """mount(2), for what the newer mount calls do not cover: propagation and binds of namespace files."""
    encoded = [None if each is None else os.fsencode(each) for each in (source, target, fstype, data)]
    result = _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    _checked(result, f"mount on {target}")


def prctl(option: int, argument: int | ctypes.c_void_p, second: int | ctypes.c_void_p = 0) -> int:
    """prctl(2) with up to two arguments."""
    return _checked(_libc.prctl(option, *(_word(each) for each in (argument, second, 0, 0))), f"prctl {option}")


def setfsids(uid: int, gid: int) -> None:
    """Set the user and group id by which files are created and permissions checked."""
    # the call reports the previous id, never an error; asking with an invalid id tells what is in force
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))
    if _libc.setfsuid(ctypes.c_uint(0xFFFFFFFF)) != uid or _libc.setfsgid(ctypes.c_uint(0xFFFFFFFF)) != gid:
        raise OSError(1, "cannot take the container's ids for file access")


def _word(value: int | ctypes.c_void_p) -> ctypes.c_ulong | ctypes.c_void_p:
    return ctypes.c_ulong(value) if isinstance(value, int) else value


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
