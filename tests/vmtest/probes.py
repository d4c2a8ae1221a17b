"""What a container with every privilege tries on the kernel; run inside it, so it stands alone: the standard library and nothing else.

Usage: python3 - '{"token": ..., "disk": [major, minor], "handle": [type, hex], "key": id, "settings": {path: value}}'. Prints one JSON
object: {attempt: {"value": what it got}} or {attempt: {"error": name of the errno}}. Every attempt either has no lasting effect or is
undone by the suite, which looks at the VM for it.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long
CALLS = {
    "x86_64": {
        "init_module": 175, "delete_module": 176, "reboot": 169, "perf_event_open": 298, "open_by_handle_at": 304, "finit_module": 313,
        "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323, "kexec_load": 246, "keyctl": 250, "syslog": 103, "acct": 163, "iopl": 172,
        "io_uring_setup": 425, "mount": 165, "umount2": 166, "clock_settime": 227, "adjtimex": 159, "swapon": 167,
    },
    "aarch64": {
        "init_module": 105, "delete_module": 106, "reboot": 142, "perf_event_open": 241, "open_by_handle_at": 265, "finit_module": 273,
        "kexec_file_load": 294, "bpf": 280, "userfaultfd": 282, "kexec_load": 104, "keyctl": 219, "syslog": 116, "acct": 89, "iopl": -1,
        "io_uring_setup": 425, "mount": 40, "umount2": 39, "clock_settime": 112, "adjtimex": 171, "swapon": 224,
    },
}[os.uname().machine]  # fmt: skip
ATTEMPTS: dict[str, Callable[[], Any]] = {}
ASKED: dict[str, Any] = {}
PLACE = "/probe"


def call(name: str, *arguments: Any) -> int:
    """A system call; raises OSError."""
    done = LIBC.syscall(
        ctypes.c_long(CALLS[name]), *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    )
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return int(done)


def attempt(function: Callable[[], Any]) -> Callable[[], Any]:
    ATTEMPTS[function.__name__] = function
    return function


def outcome(function: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": function()}
    except OSError as error:
        return {"error": errno.errorcode.get(error.errno or 0, str(error))}


def mount(source: str, fstype: str, options: str = "") -> str:
    """Mount a file system of the given type, say that it went, and take it away again."""
    target = f"{PLACE}/{fstype}"
    os.makedirs(target, exist_ok=True)
    call("mount", source.encode(), target.encode(), fstype.encode(), 0, options.encode() or None)
    names = sorted(os.listdir(target))
    call("umount2", target.encode(), 0)
    return " ".join(names[:8]) or "empty"


def node(kind: int, major: int, minor: int) -> str:
    path = f"{PLACE}/node-{stat.filemode(kind)[0]}-{major}-{minor}"
    if not os.path.exists(path):
        os.mknod(path, kind | 0o600, os.makedev(major, minor))
    return path


def start_of(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 512).hex()[:16]
    finally:
        os.close(fd)


# --- the disks


@attempt
def disk_by_mknod() -> str:
    return start_of(node(stat.S_IFBLK, *ASKED["disk"]))


@attempt
def character_node() -> str:
    return start_of(node(stat.S_IFCHR, 1, 11))


@attempt
def disk_in_dev() -> list[str]:
    names = [
        name
        for name in os.listdir("/dev")
        if stat.S_ISBLK(os.stat(f"/dev/{name}").st_mode) or name in ("mem", "port", "kmsg", "rtc0")
    ]
    if not names:
        raise FileNotFoundError(errno.ENOENT, "no such node")
    return names


@attempt
def mount_data_disk() -> str:
    path = f"{PLACE}/disk"
    if not os.path.exists(path):
        try:
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(*ASKED["disk"]))
        except OSError:
            open(path, "w").close()
    return mount(path, "ext4")


@attempt
def file_by_handle() -> str:
    """A file of the data disk that is nowhere in the container, by its handle, through the mount of /etc/hosts."""
    kind, body = ASKED["handle"]
    data = bytes.fromhex(body)
    handle = ctypes.create_string_buffer(struct.pack("=Ii", len(data), kind) + data)
    at = os.open("/etc/hosts", os.O_RDONLY)
    fd = call("open_by_handle_at", at, handle, os.O_RDONLY)
    return os.read(fd, 200).decode()


# --- code and memory of the kernel


def module(name: str, *arguments: Any) -> Callable[[], Any]:
    return lambda: call(name, *arguments)


ATTEMPTS["init_module"] = module("init_module", b"\x7fELF", 4, b"")
ATTEMPTS["finit_module"] = module("finit_module", 0, b"", 0)
ATTEMPTS["delete_module"] = module("delete_module", b"no_such_module", os.O_NONBLOCK)
ATTEMPTS["kexec_load"] = module("kexec_load", 0, 0, None, 0)
ATTEMPTS["kexec_file_load"] = module("kexec_file_load", 0, -1, 1, b"\0", 4)
ATTEMPTS["iopl"] = module("iopl", 3)
ATTEMPTS["acct"] = module("acct", None)
ATTEMPTS["userfaultfd"] = module("userfaultfd", os.O_CLOEXEC)
ATTEMPTS["io_uring_setup"] = module("io_uring_setup", 1, ctypes.create_string_buffer(120))
ATTEMPTS["swapon"] = module("swapon", b"/no/such/file", 0)


def bpf(command: int, attributes: bytes) -> Callable[[], Any]:
    return lambda: call("bpf", command, ctypes.create_string_buffer(attributes.ljust(128, b"\0")), 128)


_RETURN_0 = ctypes.create_string_buffer(struct.pack("=BBhiBBhi", 0xB7, 0, 0, 0, 0x95, 0, 0, 0))
_LICENSE = ctypes.create_string_buffer(b"GPL")
ATTEMPTS["bpf_map_list"] = bpf(12, b"")
ATTEMPTS["bpf_program_list"] = bpf(11, b"")
ATTEMPTS["bpf_map_create"] = bpf(0, struct.pack("=IIII", 2, 4, 4, 1))
ATTEMPTS["bpf_program_load"] = bpf(5, struct.pack("=IIQQ", 1, 2, ctypes.addressof(_RETURN_0), ctypes.addressof(_LICENSE)))


@attempt
def perf_of_a_processor() -> str:
    """All of processor 0's clock ticks, whoever runs on it."""
    attributes = struct.pack("=II", 1, 64).ljust(64, b"\0")
    os.close(call("perf_event_open", ctypes.create_string_buffer(attributes), -1, 0, -1, 0))
    return "open"


# --- what the kernel logs and knows


def holds_token(data: bytes) -> str:
    return "token" if ASKED["token"].encode() in data else f"{len(data)} bytes"


@attempt
def kernel_log_by_syscall() -> str:
    buffer = ctypes.create_string_buffer(1 << 20)
    return holds_token(buffer.raw[: call("syslog", 3, buffer, len(buffer))])


def log_file(path: str) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    data = b""
    try:
        for _ in range(5000):
            data += os.read(fd, 8192)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
    return holds_token(data)


@attempt
def kernel_log_device() -> str:
    return log_file("/dev/kmsg")


@attempt
def kernel_log_file() -> str:
    return str(os.close(os.open("/proc/kmsg", os.O_RDONLY | os.O_NONBLOCK)))


@attempt
def kernel_log_write() -> int:
    fd = os.open("/dev/kmsg", os.O_WRONLY)
    return os.write(fd, b"from a container\n")


for _path in (
    "/proc/kcore",
    "/proc/vmallocinfo",
    "/proc/kpagecount",
    "/sys/firmware/acpi/tables/DSDT",
    "/sys/firmware/dmi/tables/DMI",
):
    ATTEMPTS[f"read {_path}"] = lambda path=_path: start_of(path)


@attempt
def firmware_strings() -> int:
    """The strings that the host hands over at power-on, credentials among them."""
    top = "/sys/firmware/dmi/entries"
    return sum(len(open(f"{top}/{name}/raw", "rb").read()) for name in os.listdir(top) if name.startswith("11-"))


@attempt
def key_of_the_vm() -> str:
    buffer = ctypes.create_string_buffer(256)
    return holds_token(buffer.raw[: call("keyctl", 11, ASKED["key"], buffer, len(buffer))])


# --- file systems of the kernel

for _type in ("securityfs", "bpf", "devtmpfs", "hugetlbfs", "fusectl", "debugfs", "tracefs", "pstore", "configfs", "efivarfs"):
    ATTEMPTS[f"mount {_type}"] = lambda kind=_type: mount("none", kind)
for _type in ("virtiofs", "9p", "squashfs", "xfs", "btrfs"):
    ATTEMPTS[f"mount {_type}"] = lambda kind=_type: mount("share0", kind)


@attempt
def release_agent() -> str:
    """A hierarchy of control groups of the first version runs a program of one's choice as root of the machine."""
    target = f"{PLACE}/cgroup"
    os.makedirs(target, exist_ok=True)
    call("mount", b"none", target.encode(), b"cgroup", 0, f"none,name={ASKED['token']}".encode())
    with open(f"{target}/release_agent", "r+") as file:
        before = file.read()
        file.write("/no/such/agent")
    call("umount2", target.encode(), 0)
    return before


# --- time, sockets, priority


@attempt
def set_clock() -> int:
    now = time.time()
    return call("clock_settime", 0, ctypes.create_string_buffer(struct.pack("=qq", int(now), int(now % 1 * 1e9))))


@attempt
def adjust_clock() -> int:
    return call(
        "adjtimex", ctypes.create_string_buffer(struct.pack("=IIqq", 0x4000, 0, 0, 0).ljust(208, b"\0"))
    )  # ADJ_TICK 0: EINVAL when allowed


for _family, _kind in (("vsock", 40), ("alg", 38), ("xdp", 44), ("key", 15), ("rds", 21), ("tipc", 30), ("can", 29), ("kcm", 41)):
    ATTEMPTS[f"socket {_family}"] = lambda kind=_kind: socket.socket(
        kind, socket.SOCK_SEQPACKET if kind == 38 else socket.SOCK_STREAM
    ).close()


@attempt
def priority() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, -5)
    os.setpriority(os.PRIO_PROCESS, 0, 0)


@attempt
def real_time() -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@attempt
def spared_when_memory_is_short() -> None:
    for value in ("-500", "0"):
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(value)


# --- settings of the whole machine


def put(path: str, value: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)


def settings() -> dict[str, Any]:
    """Write every setting, by the /proc and /sys that are there and by fresh ones."""
    found: dict[str, Any] = {}
    for fstype in ("proc", "sysfs"):
        os.makedirs(f"{PLACE}/{fstype}", exist_ok=True)
        found[f"fresh {fstype}"] = outcome(
            lambda kind=fstype: call("mount", b"none", f"{PLACE}/{kind}".encode(), kind.encode(), 0, None)
        )
    for path, value in ASKED["settings"].items():
        found[f"write {path}"] = outcome(lambda path=path, value=value: put(path, value))
        fresh = PLACE + path.replace("/sys/", "/sysfs/", 1) if path.startswith("/sys/") else PLACE + path
        found[f"write fresh {path}"] = outcome(lambda path=fresh, value=value: put(path, value))
    for path in (
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/sys/kernel/uevent_helper",
        "/proc/mtrr",
    ):
        found[f"open {path}"] = outcome(lambda path=path: os.close(os.open(path, os.O_WRONLY)))
    for fstype in ("proc", "sysfs"):
        LIBC.umount2(f"{PLACE}/{fstype}".encode(), 2)
    return found


def main() -> None:
    ASKED.update(json.loads(sys.argv[1]))
    os.makedirs(PLACE, exist_ok=True)
    found = {name: outcome(function) for name, function in ATTEMPTS.items()}
    found.update(settings())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
