"""Past dockerd: specifications that nobody but the VM's root could hand to the runtime are isolated or refused all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from vmtest.flows import new_name
from vmtest.handmade import Bench, Spec, bench_on
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

ANYWHERE = "error in the container spec: "


@pytest.fixture(scope="module")
def bench(vm: Vm) -> Iterator[Bench]:
    with bench_on(vm) as made:
        yield made


def changed(change: Callable[[Spec], object]) -> Callable[[Spec], Spec]:
    def apply(spec: Spec) -> Spec:
        change(spec)
        return spec

    return apply


def without(spec: Spec, kind: str) -> None:
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != kind]


def joining(spec: Spec, kind: str, path: str) -> None:
    without(spec, kind)
    spec["linux"]["namespaces"].append({"type": kind, "path": path})


@pytest.mark.isolation(why="what the runtime is given decides nothing about ids and namespaces")
def test_plain_specification_is_isolated(bench: Bench) -> None:
    """dockerd's specification has no user namespace; the file that it wrote stays as it was."""
    spec = bench.spec()
    assert "uidMappings" not in spec["linux"]
    assert "user" not in {each["type"] for each in spec["linux"]["namespaces"]}
    answer = bench.create(spec)
    bench.isolated(answer)
    assert answer["untouched"]


HOST = r"cofferdam containers can't share namespaces \[{}\] with the host"
NETWORK = "cofferdam containers can't share a network namespace with the host"
MADE_UP: dict[str, tuple[Callable[[Spec], Spec], str]] = {
    **{f"no-{kind}": (changed(lambda spec, kind=kind: without(spec, kind)), HOST.format(kind)) for kind in ("pid", "ipc", "uts")},
    "no-network": (changed(lambda spec: without(spec, "network")), NETWORK),
    "network-of-init": (changed(lambda spec: joining(spec, "network", "/proc/1/ns/net")), NETWORK),
    "pid-of-init": (changed(lambda spec: joining(spec, "pid", "/proc/1/ns/pid")), HOST.format("pid")),
    "ipc-of-init": (changed(lambda spec: joining(spec, "ipc", "/proc/1/ns/ipc")), HOST.format("ipc")),
    "uts-of-init": (changed(lambda spec: joining(spec, "uts", "/proc/1/ns/uts")), "containers can't join the uts namespace"),
    "disk": (
        changed(lambda spec: spec["linux"].update(devices=[{"path": "/dev/vdb", "type": "b", "major": 254, "minor": 16, "fileMode": 438}])),
        "device /dev/vdb of the VM can't be used in a container",
    ),
    "etc": (changed(lambda spec: spec["mounts"].append(mount("/etc", "bind", ["rbind"]))), "can't mount /etc because it's configured as a restricted host mount"),
    "bind-by-option": (changed(lambda spec: spec["mounts"].append(mount("/etc", "none", ["bind"]))), "restricted host mount"),
    "relative-source": (changed(lambda spec: spec["mounts"].append(mount("../../etc", "bind", ["bind"]))), "restricted host mount"),
    "data-disk": (changed(lambda spec: spec["mounts"].append(mount("/dev/vdb", "ext4", []))), "can't mount a file system of type ext4"),
    "overlay": (changed(lambda spec: spec["mounts"].append(mount("overlay", "overlay", ["lowerdir=/etc:/usr"]))), "can't mount a file system of type overlay"),
    "bpf": (changed(lambda spec: spec["mounts"].append(mount("bpf", "bpf", []))), "can't mount a file system of type bpf"),
    "second-proc": (changed(lambda spec: spec["mounts"].append(mount("proc", "proc", []))), "can't mount a file system of type proc"),
    "id-maps": (changed(lambda spec: mapped(spec)), "userns-remap|user namespace|id mapping"),
}  # fmt: skip


def mount(source: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": "/mnt", "source": source, "type": kind, "options": options}


def mapped(spec: Spec) -> None:
    """What `userns-remap` of dockerd asks for."""
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 0, "size": 4294967295}]


@pytest.mark.parametrize("case", MADE_UP)
@pytest.mark.isolation(why="stock runc does what the specification says")
def test_made_up_specification_is_refused(bench: Bench, case: str) -> None:
    change, match = MADE_UP[case]
    with mount_point(bench):
        bench.refused(change(bench.spec()), match=match)


@contextmanager
def mount_point(bench: Bench) -> Iterator[None]:
    """The pattern's root is read-only and has no /mnt: make it on the control, or the row fails for the wrong reason."""
    root = json.loads(bench.config)["root"]["path"]
    bench.vm.shell(f"mkdir -p {root}/mnt")
    yield


@pytest.mark.parametrize("root", ["/", "/etc", "/usr", "/var/lib/docker", "../../..", "link"])
def test_root_file_system_of_the_vm_is_refused(bench: Bench, root: str) -> None:
    """The root must be a container's layers: with the VM's own root inside, every file of it could be read.

    Not on the control: stock runc takes the machine's mounts away with the container.
    """
    spec = bench.spec()
    link = f"/run/{new_name('link')}"
    bench.vm.shell(f"ln -s / {link}")
    spec["root"]["path"] = link if root == "link" else root
    spec["process"]["args"] = ["/bin/sleep", "100"]
    spec["mounts"] = [each for each in spec["mounts"] if each["destination"] in ("/proc", "/sys", "/dev")]
    try:
        bench.refused(spec, match=ANYWHERE)
    finally:
        bench.vm.shell(f"rm {link}")


NO_MOUNTS: dict[str, tuple[Callable[[Spec], Spec], str]] = {
    "missing": (changed(lambda spec: without(spec, "mount")), HOST.format("mount")),
    "all-missing": (changed(lambda spec: spec["linux"].update(namespaces=[])), HOST.format("pid ipc uts mount")),
    "of-init": (
        changed(lambda spec: joining(spec, "mount", "/proc/1/ns/mnt")),
        "cofferdam containers can't join the mount namespace",
    ),
}


@pytest.mark.parametrize("case", NO_MOUNTS)
def test_mount_namespace_of_the_vm_is_refused(bench: Bench, case: str) -> None:
    """Not on the control: stock runc mounts over the machine's own root."""
    change, match = NO_MOUNTS[case]
    bench.refused(change(bench.spec()), match=match)


STAGES = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.isolation(why="stock runc runs hooks as root of the VM")
def test_hook_is_refused_and_not_run(bench: Bench, stage: str) -> None:
    path = f"/run/{new_name('hook')}"
    spec = bench.spec()
    spec["hooks"] = {stage: [{"path": "/usr/bin/touch", "args": ["touch", path]}]}
    answer = bench.create(spec, look=(path,), then=("start", "@NAME@"))
    assert answer["status"] != 0, answer
    assert f"the {stage} hook /usr/bin/touch would run outside the container" in answer["message"]
    assert answer["files"] == []


@pytest.mark.isolation(why="stock runc runs any program as a hook")
def test_hook_that_looks_like_dockerds_is_refused(bench: Bench) -> None:
    path = f"/run/{new_name('hook')}"
    dockerd = bench.vm.shell("pidof dockerd").strip()
    for hook in (
        {"path": "/proc/self/exe", "args": ["libnetwork-setkey", path]},
        {"path": "/proc/1/exe", "args": ["libnetwork-setkey", path]},
        {"path": f"/proc/{dockerd}/exe", "args": ["--version"]},
        {"path": f"/proc/{dockerd}/exe", "args": ["libnetwork-setkey", path], "env": [f"LD_PRELOAD={path}"]},
        {"path": f"/proc/{dockerd}/root/usr/bin/touch", "args": ["libnetwork-setkey", path]},
    ):
        spec = bench.spec()
        spec["hooks"] = {"prestart": [hook]}
        bench.refused(spec, match="would run outside the container", look=(path,))


@pytest.mark.parametrize(
    "name",
    [
        "kernel.core_pattern",
        "vm.overcommit_memory",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "kernel/core_pattern",
        "fs.file-max",
    ],
)
def test_sysctl_of_the_whole_machine_is_refused(bench: Bench, name: str) -> None:
    before = bench.vm.shell("cat /proc/sys/kernel/core_pattern")
    spec = bench.spec()
    spec["linux"]["sysctl"] = {name: "|/no/such/program"}
    bench.refused(spec, match="is not namespaced: it would change the whole VM")
    assert bench.vm.shell("cat /proc/sys/kernel/core_pattern") == before


@pytest.mark.parametrize("path", ["/system.slice/own", "/../../own", "/docker/../own", "own", "/", ""])
@pytest.mark.isolation(why="stock runc makes the control group wherever the specification says, and maps no ids")
def test_control_group_is_below_docker(bench: Bench, path: str) -> None:
    spec = bench.spec()
    spec["linux"]["cgroupsPath"] = path
    bench.isolated(bench.create(spec))


def test_control_group_in_systemds_form_is_refused(bench: Bench) -> None:
    spec = bench.spec()
    spec["linux"]["cgroupsPath"] = "system.slice:own:group"
    bench.refused(spec, match="is not a path")


def test_annotations_do_not_steer_the_low_level_runtime(bench: Bench) -> None:
    """An unknown handler would make it fail, the others would write or execute a file of the VM."""
    path = f"/run/{new_name('canary')}"
    for given in (
        {"run.oci.handler": "no-such-handler"},
        {"run.oci.handler": "krun"},
        {"run.oci.hooks.stdout": path, "run.oci.hooks.stderr": path},
        {"run.oci.seccomp.receiver": path, "run.oci.seccomp_bpf_data": "AAAA"},
        {"run.oci.systemd.force_cgroup_v1": "/sys/fs/cgroup", "run.oci.keep_original_groups": "1"},
        {"run.oci.pidfd_receiver": path, "run.oci.mount_context_type": "context", "module.wasm.image/variant": "compat"},
    ):
        spec = bench.spec()
        spec["annotations"] = given
        answer = bench.create(spec, look=(path,))
        bench.isolated(answer)
        assert answer["files"] == []


@pytest.mark.isolation(why="variables that steer an isolation engine reach the program of a plain container")
def test_variables_that_address_an_engine_do_not_get_through(vm: Vm) -> None:
    options = ("--env", "SYSBOX_SKIP_UID_SHIFT=/x", "--env", "SYSBOX_ALLOW_TRUSTED_XATTR=TRUE", "--env", "KEPT=word")
    lines = vm.run(*options, command=("env",)).split("\n")
    assert "KEPT=word" in lines
    assert [line for line in lines if line.startswith("SYSBOX_")] == []


def test_seccomp_listener_is_refused(bench: Bench) -> None:
    spec = bench.spec()
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/docker.sock"}
    bench.refused(spec, match="listener")


@pytest.mark.isolation(why="stock runc takes what is not about isolation as it comes, and maps no ids")
def test_unknown_fields_are_dropped(bench: Bench) -> None:
    spec = bench.spec()
    spec["linux"]["timeOffsets"] = {"boottime": {"secs": 1000}}
    spec["linux"]["personality"] = {"domain": "LINUX32"}
    spec["linux"]["rootfsPropagation"] = "shared"
    spec["linux"]["mountLabel"] = spec["process"]["selinuxLabel"] = ""
    spec["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_RT", "priority": 0}
    spec["vm"] = {"kernel": {"path": "/vmlinuz"}}
    bench.isolated(bench.create(spec))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="cut-off"),
        pytest.param("[]", id="list"),
        pytest.param('{"ociVersion": "1.0.2"}', id="nothing"),
        pytest.param('{"process": null, "root": null, "mounts": null, "linux": null}', id="null"),
        pytest.param(
            '{"process": {"args": ["true"]}, "root": {"path": "/"}, "mounts": {}, "linux": {"namespaces": "pid"}}',
            id="other-types",
        ),
    ],
)
def test_specification_that_is_not_understood_starts_nothing(bench: Bench, config: str) -> None:
    answer = bench.create(config)
    assert answer["status"] != 0
    line = json.loads(answer["message"].strip().split("\n")[-1])
    assert line["level"] == "error"
    assert line["msg"]
