"""A privileged container has every privilege over itself and none over the machine: disks, kernel memory and code, logs, clock, settings.

One script tries everything once as the first process of a container and once by `docker exec`; each test reads one answer. What the VM
holds in secret, or could have lost, is random for each run and looked at from the VM.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import vmtest.probes
from vmtest.flows import Box, box, new_name, volume, wait_until
from vmtest.vm import Broken, Vm

pytestmark = pytest.mark.vm

WAYS = ("run", "exec")
MEMORY = 256 << 20
OPTIONS = ("--privileged", "--cgroupns=host", f"--memory={MEMORY}")
DENIED, NO_ACCESS, NOT_THERE, NO_CALL = "EPERM", "EACCES", "ENOENT", "ENOSYS"

# attempt: what the kernel must answer. On the baseline each of them goes through.
OUT_OF_REACH = {
    "disk_by_mknod": {DENIED},
    "character_node": {DENIED},
    "disk_in_dev": {NOT_THERE},
    "mount_data_disk": {DENIED},
    "file_by_handle": {DENIED},
    "bpf_map_list": {DENIED},
    "bpf_program_list": {DENIED},
    "bpf_map_create": {DENIED},
    "bpf_program_load": {DENIED},
    "perf_of_a_processor": {DENIED, NO_ACCESS},
    "kernel_log_by_syscall": {DENIED},
    "kernel_log_device": {NOT_THERE},
    "kernel_log_file": {DENIED, NO_ACCESS},
    "kernel_log_write": {NOT_THERE},
    "read /proc/vmallocinfo": {NO_ACCESS},
    "read /proc/kpagecount": {NO_ACCESS},
    "read /sys/firmware/acpi/tables/DSDT": {NO_ACCESS, NOT_THERE},
    "read /sys/firmware/dmi/tables/DMI": {NO_ACCESS, NOT_THERE},
    "firmware_strings": {NO_ACCESS, NOT_THERE},
    "key_of_the_vm": {NO_ACCESS},
    "mount securityfs": {DENIED},
    "mount bpf": {DENIED},
    "mount devtmpfs": {DENIED},
    "mount hugetlbfs": {DENIED},
    "mount fusectl": {DENIED},
    "release_agent": {DENIED},
    "set_clock": {DENIED},
    "adjust_clock": {DENIED},
    "priority": {DENIED, NO_ACCESS},
    "real_time": {DENIED},
    "spared_when_memory_is_short": {NO_ACCESS, DENIED},
}

# What this kernel does not have at all, so that not even the baseline has it.
NO_MODULES = {NO_CALL, DENIED}
NO_TYPE = {"ENODEV", DENIED}
NO_FAMILY = {"EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}
NOT_BUILT = {
    **dict.fromkeys(
        ("init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "iopl", "acct"), NO_MODULES
    ),
    **dict.fromkeys(("userfaultfd", "io_uring_setup"), NO_MODULES),
    **{
        f"mount {each}": NO_TYPE
        for each in ("debugfs", "tracefs", "pstore", "configfs", "efivarfs", "9p", "squashfs", "xfs", "btrfs")
    },
    "mount virtiofs": {*NO_TYPE, "EINVAL"},
    **{f"socket {each}": NO_FAMILY for each in ("vsock", "alg", "xdp", "key", "rds", "tipc", "can", "kcm")},
    "read /proc/kcore": {NOT_THERE},
    "open /proc/sysrq-trigger": {NOT_THERE, NO_ACCESS},
    "open /proc/sys/kernel/modprobe": {NOT_THERE, NO_ACCESS},
    "open /proc/sys/kernel/hotplug": {NOT_THERE},
    "open /sys/kernel/uevent_helper": {NOT_THERE},
}

# path: the value to write, or how far from the present one
GLOBAL: dict[str, str | int] = {
    "/proc/sys/kernel/core_pattern": "|/no/such/@TOKEN@",
    "/proc/sys/vm/overcommit_memory": "1",
    "/sys/kernel/mm/transparent_hugepage/enabled": "never",  # before min_free_kbytes, which the kernel sets when this is switched on again
    "/proc/sys/vm/min_free_kbytes": 1,
    "/proc/sys/kernel/randomize_va_space": "1",
    "/proc/sys/kernel/kptr_restrict": "1",
    "/proc/sys/kernel/dmesg_restrict": "0",
    "/proc/sys/kernel/panic_on_oops": "0",
    "/proc/sys/kernel/perf_event_paranoid": "2",
    "/proc/sys/kernel/threads-max": -1,
    "/proc/sys/kernel/keys/maxkeys": -1,
    "/proc/sys/fs/file-max": -1,
    "/proc/sys/fs/protected_symlinks": "0",
    "/proc/sys/fs/inotify/max_queued_events": 1,
    "/proc/irq/default_smp_affinity": "1",
    "/sys/block/vdb/queue/read_ahead_kb": "64",
    "/sys/module/printk/parameters/time": "N",
}

READ = "import json, sys; print(json.dumps({path: open(path).readline().strip() for path in json.loads(sys.argv[1])}))"
RESTORE = """
import json, sys
for path, value in json.loads(sys.argv[1]).items():
    chosen = [word[1:-1] for word in value.split() if word.startswith("[")]
    with open(path, "w") as file:
        file.write(chosen[0] if chosen else value)
print("{}")
"""
SECRETS = """
import ctypes, json, os, struct, sys
token = sys.argv[1]
path = "/var/lib/" + token
with open(path, "w") as file:
    file.write(token)
os.chmod(path, 0o600)
libc = ctypes.CDLL(None, use_errno=True)
handle = ctypes.create_string_buffer(struct.pack("=Ii", 128, 0) + bytes(128))
if libc.name_to_handle_at(-100, path.encode(), handle, ctypes.byref(ctypes.c_int()), 0):
    raise OSError(ctypes.get_errno(), "name_to_handle_at")
size, kind = struct.unpack_from("=Ii", handle.raw)
add_key, keyctl = {"x86_64": (248, 250), "aarch64": (217, 219)}[os.uname().machine]
key = libc.syscall(add_key, b"user", token.encode(), token.encode(), len(token), -4)
libc.syscall(keyctl, 8, -4, -3)  # the user's keyring must hang on the session's to change a key in it
if key < 0 or libc.syscall(keyctl, 5, key, 0x3F3F0000) < 0:
    raise OSError(ctypes.get_errno(), "add_key")
with open("/dev/kmsg", "w") as file:
    file.write(token + "\\n")
disk = [int(each) for each in open("/sys/class/block/vdb/dev").read().split(":")]
print(json.dumps({"token": token, "handle": [kind, handle.raw[8:8 + size].hex()], "key": key, "disk": disk}))
"""


@dataclass(frozen=True)
class Tried:
    """The answers by way and attempt, and what the VM's settings were before and after."""

    answers: dict[str, dict[str, dict[str, Any]]]
    before: dict[str, str]
    after: dict[str, str]


def wanted(present: str, value: str | int, token: str) -> str:
    return value.replace("@TOKEN@", token) if isinstance(value, str) else str(int(present) + value)


@pytest.fixture(scope="module")
def privileged(vm: Vm) -> Iterator[Box]:
    """A privileged container that stays."""
    with box(vm, *OPTIONS, image="debian") as made:
        yield made


@pytest.fixture(scope="module")
def tried(vm: Vm, privileged: Box) -> Iterator[Tried]:
    """Everything tried, both ways; the machine is put right again."""
    token = f"canary-{uuid.uuid4().hex}"
    asked = vm.python(SECRETS, token)
    paths = json.dumps(list(GLOBAL))
    before = vm.python(READ, paths)
    asked["settings"] = {path: wanted(before[path], value, token) for path, value in GLOBAL.items()}
    script, words = Path(vmtest.probes.__file__).read_bytes(), ("python3", "-", json.dumps(asked))
    try:
        answers = {
            "run": json.loads(vm.run("--interactive", *OPTIONS, image="debian", command=words, input=script)),
            "exec": json.loads(privileged.exec(*words, options=["--interactive", "--privileged"], input=script)),
        }
        yield Tried(answers, before, vm.python(READ, paths))
    finally:
        vm.python(RESTORE, json.dumps(before))
        vm.shell(f"rm /var/lib/{token}")


def answer(tried: Tried, way: str, attempt: str) -> dict[str, Any]:
    if attempt not in tried.answers[way]:
        raise Broken(f"the probe did not try {attempt}")
    return tried.answers[way][attempt]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("attempt", OUT_OF_REACH)
@pytest.mark.isolation(why="a privileged container of plain Docker owns the kernel")
def test_out_of_reach(tried: Tried, way: str, attempt: str) -> None:
    got = answer(tried, way, attempt)
    assert got.get("error") in OUT_OF_REACH[attempt], got


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("attempt", NOT_BUILT)
@pytest.mark.both
def test_not_in_the_kernel(tried: Tried, way: str, attempt: str) -> None:
    got = answer(tried, way, attempt)
    assert got.get("error") in NOT_BUILT[attempt], got


@pytest.mark.parametrize("path", GLOBAL)
@pytest.mark.isolation(why="a privileged container of plain Docker writes the settings of the whole machine")
def test_setting_of_the_machine_cannot_be_written(tried: Tried, path: str) -> None:
    """Neither by the file that is there nor by that of a fresh proc or sysfs, and the VM's value is the one it was."""
    got = [answer(tried, way, f"{verb} {path}") for way in WAYS for verb in ("write", "write fresh")]
    assert [each.get("error") in (NO_ACCESS, DENIED, "EROFS") for each in got] == [True] * 4, got
    assert tried.after[path] == tried.before[path]


@pytest.mark.both
def test_fresh_proc_and_sysfs_can_be_mounted(tried: Tried) -> None:
    got = [answer(tried, way, f"fresh {fstype}") for way in WAYS for fstype in ("proc", "sysfs")]
    assert [each.get("error") for each in got] == [None] * 4


@pytest.mark.both
def test_own_settings_can_be_written_and_stay_inside(vm: Vm, privileged: Box) -> None:
    values = {
        "net/ipv4/ip_forward": "0",
        "net/core/somaxconn": "777",
        "kernel/shmmax": "7777777",
        "kernel/msgmax": "7777",
        "fs/mqueue/msg_max": "7",
    }
    paths = " ".join(f"/proc/sys/{path}" for path in values)
    before = vm.shell(f"cat {paths}")
    privileged.sh("; ".join(f"echo {value} >/proc/sys/{path}" for path, value in values.items()))
    assert privileged.sh(f"cat {paths}").split() == list(values.values())
    assert vm.shell(f"cat {paths}") == before


def cgroup_of(vm: Vm, made: Box) -> str:
    return vm.shell(f"cat /proc/{made.pid}/cgroup").strip().split(":", 2)[2]


@pytest.mark.isolation(
    why="with --cgroupns=host a privileged container of plain Docker writes the control groups of the whole machine"
)
def test_memory_limit_cannot_be_raised(vm: Vm, privileged: Box) -> None:
    group = cgroup_of(vm, privileged)
    file = f"/sys/fs/cgroup{group}/memory.max"
    script = "mkdir -p /c; mount -t cgroup2 none /c; for f in /sys/fs/cgroup /c; do for g in '' @; do echo max >$f$g/memory.max || :; done; done"
    try:
        privileged.sh(f"({script.replace('@', group)}) 2>/dev/null")
        assert vm.shell(f"cat {file}").strip() == str(MEMORY)
    finally:
        vm.shell(f"echo {MEMORY} >{file}")


@pytest.mark.isolation(why="with --cgroupns=host a privileged container of plain Docker leaves its control group")
def test_control_group_cannot_be_left(vm: Vm, privileged: Box) -> None:
    group = cgroup_of(vm, privileged)
    try:
        privileged.sh("(for g in '' /docker /system.slice /..; do echo 1 >/sys/fs/cgroup$g/cgroup.procs || :; done) 2>/dev/null")
        assert cgroup_of(vm, privileged) == group
    finally:
        vm.shell(f"echo {privileged.pid} >/sys/fs/cgroup{group}/cgroup.procs")


@pytest.mark.isolation(why="a format registered in a container of plain Docker is the whole machine's")
def test_binary_format_stays_inside(vm: Vm, privileged: Box) -> None:
    name = new_name("format")
    seen = f"d=$(mktemp -d); mount -t binfmt_misc none $d; ls $d; test ! -e $d/{name} || echo -1 >$d/{name}; umount $d; rmdir $d"
    privileged.sh(
        f"mkdir -p /m; mount -t binfmt_misc none /m; echo ':{name}:M::{name[-8:]}::/bin/true:' >/m/register; ls /m/{name}"
    )
    assert name not in vm.shell(seen).split()


@pytest.mark.both
def test_reboot_ends_the_container_alone(vm: Vm) -> None:
    boot = vm.shell("cat /proc/sys/kernel/random/boot_id")
    with box(vm, "--privileged") as made:
        vm.docker("exec", made.name, "reboot", "-f", check=False)
        wait_until(lambda: made.inspect("{{.State.Running}}") == "false", "the container ends")
    assert vm.shell("cat /proc/sys/kernel/random/boot_id") == boot


def image_with_nodes(busybox: bytes, numbers: tuple[int, int]) -> bytes:
    """A tree for `docker import`: busybox, and the data disk and the kernel's log as device files in two directories."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        program = tarfile.TarInfo("bin/busybox")
        program.mode, program.size = 0o755, len(busybox)
        archive.addfile(program, io.BytesIO(busybox))
        for folder in ("nodes", "copied"):
            for name, kind, (major, minor) in (("disk", tarfile.BLKTYPE, numbers), ("log", tarfile.CHRTYPE, (1, 11))):
                item = tarfile.TarInfo(f"{folder}/{name}")
                item.type, item.mode, item.devmajor, item.devminor = kind, 0o666, major, minor
                archive.addfile(item)
    return sink.getvalue()


@pytest.mark.isolation(
    why="a device file of an image, or one copied into a volume, opens the VM's disk in a privileged container"
)
def test_device_files_of_an_image_are_inert(vm: Vm, privileged: Box) -> None:
    image = f"cofferdam-test/{new_name('nodes')}"
    numbers = tuple(map(int, vm.shell("cat /sys/class/block/vdb/dev").strip().split(":")))
    program = base64.b64decode(privileged.exec("base64", "/usr/bin/busybox"))
    vm.succeed("import", "-", image, input=image_with_nodes(program, (numbers[0], numbers[1])))
    script = "for f in /nodes/* /copied/*; do test -e $f && /bin/busybox dd if=$f of=/dev/null bs=512 count=1 2>/dev/null && echo $f; done; echo end"
    try:
        with volume(vm) as copied:
            opened = vm.succeed(
                "run", "--rm", "--privileged", "-v", f"{copied}:/copied", image, "/bin/busybox", "sh", "-c", script
            )
            path = vm.succeed("volume", "inspect", "--format", "{{.Mountpoint}}", copied).strip()
            assert "disk" in vm.shell(f"ls {path}").split(), "the volume was not filled from the image: the row proves nothing"
            assert opened.split() == ["end"]
    finally:
        vm.docker("rmi", "--force", image, check=False)
