"""Docker's security guide, a test for each row: the effect holds on a plain engine and under isolation alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmtest.flows import FIRST, RANGE, Box, base_of, box, new_name, wait_until
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

NAMESPACES = "for n in mnt pid net ipc uts cgroup user time; do echo $n $(readlink /proc/1/ns/$n); done"


@pytest.fixture(scope="module")
def idle(vm: Vm) -> Iterator[Box]:
    """A plain container that tests look at and do not change."""
    with box(vm) as made:
        yield made


@pytest.fixture(scope="module")
def tuned(vm: Vm) -> Iterator[str]:
    """An image with a non-root user, a health check and a setuid program that prints its ids."""
    image = f"cofferdam-test/{new_name('tuned')}"
    health = "HEALTHCHECK --interval=1s --timeout=60s --retries=3 CMD test -e /healthy"
    with box(vm, image="debian") as maker:
        maker.sh("cp /usr/bin/id /usr/bin/setuid-id; chmod 4755 /usr/bin/setuid-id")
        vm.succeed("commit", "--change", "USER 1001", "--change", health, maker.name, image)
    yield image
    vm.docker("rmi", "--force", image, check=False)


@pytest.mark.isolation(why="user and time namespaces are added to those of plain Docker")
def test_namespaces_all_differ(vm: Vm, idle: Box) -> None:
    inside, outside = (
        dict(line.split(" ") for line in text.strip().split("\n")) for text in (idle.sh(NAMESPACES), vm.shell(NAMESPACES))
    )
    assert len(inside) == len(outside) == 8
    assert {name for name in inside if inside[name] == outside[name]} == set()


@pytest.mark.both
def test_only_own_processes_are_seen(vm: Vm, idle: Box) -> None:
    lines = idle.sh("ps -o pid,args").split("\n")[1:]
    assert lines[0].split()[0] == "1"
    assert len(lines) <= 3, lines
    assert "sleep" in lines[0]
    numbers = vm.shell(f"grep NSpid /proc/{idle.pid}/status").split()
    assert numbers == ["NSpid:", str(idle.pid), "1"]


@pytest.mark.isolation(why="a non-root user of the image is base+1001 in the VM, not the VM's own 1001")
def test_non_root_user_of_the_image(vm: Vm, tuned: str) -> None:
    with box(vm, image=tuned) as made:
        assert made.sh("id -u") == "1001"
        owner = int(vm.shell(f"stat -c %u /proc/{made.pid}"))
        assert owner == made.base + 1001 >= FIRST
        assert (owner - FIRST) % RANGE == 1001


@pytest.mark.both
def test_health_check_of_the_image(vm: Vm, tuned: str) -> None:
    with box(vm, image=tuned) as made:
        assert made.inspect("{{.State.Health.Status}}") == "starting"
        made.sh("touch /healthy", "--user", "0")
        wait_until(lambda: made.inspect("{{.State.Health.Status}}") == "healthy", "the container is healthy")
        made.sh("rm /healthy", "--user", "0")
        wait_until(lambda: made.inspect("{{.State.Health.Status}}") == "unhealthy", "the container is unhealthy")


@pytest.mark.both
@pytest.mark.parametrize(
    ("options", "effective"), [((), "0"), (("--security-opt", "no-new-privileges"), "1001")], ids=["plain", "no-new-privileges"]
)
def test_no_new_privileges(vm: Vm, tuned: str, options: tuple[str, ...], effective: str) -> None:
    """A setuid program raises to the container's root, and does not with the option."""
    output = vm.succeed("run", "--rm", *options, tuned, "setuid-id", "-u").strip()
    assert output == effective


PORT = ("--sysctl", "net.ipv4.ip_unprivileged_port_start=1024")
BIND = "grep CapEff /proc/self/status; httpd -p 80 && echo bound"


@pytest.mark.both
def test_capabilities_are_exact(vm: Vm) -> None:
    image = vm.image("busybox")
    with_bind = vm.succeed("run", "--rm", *PORT, "--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE", image, "sh", "-c", BIND)
    assert with_bind.split() == ["CapEff:", "0000000000000400", "bound"]
    without = vm.docker("run", "--rm", *PORT, "--cap-drop", "ALL", image, "sh", "-c", BIND, check=False)
    assert without.stdout.split() == ["CapEff:", "0000000000000000"]
    assert "Permission denied" in without.stderr


@pytest.mark.both
def test_seccomp_profile_of_the_user_holds(vm: Vm, tmp_path: Path) -> None:
    """Its denials hold, for a privileged container too, and it denies nothing else."""
    denied = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [denied]}))
    script = "touch /fine && echo fine; mkdir /denied || echo denied"
    done = vm.docker("run", "--rm", "--security-opt", f"seccomp={profile}", vm.image("busybox"), "sh", "-c", script, check=False)
    assert done.stdout.split() == ["fine", "denied"]
    assert re.search("not supported", done.stderr), done.stderr


@pytest.mark.isolation(why="without AppArmor in the kernel plain Docker drops the option silently")
def test_apparmor_profile_is_applied_or_refused(vm: Vm) -> None:
    name = "cofferdam-no-such-profile"
    done = vm.docker(
        "run", "--rm", "--security-opt", f"apparmor={name}", vm.image("busybox"), "cat", "/proc/self/attr/current", check=False
    )
    if done.returncode == 0:
        assert name in done.stdout, f"the option was dropped: {done.stdout!r}"
    else:
        assert re.search("apparmor", done.stderr, re.IGNORECASE), done.stderr


@pytest.mark.both
def test_read_only_root_with_tmpfs(vm: Vm) -> None:
    with box(vm, "--read-only", "--tmpfs", "/tmp") as made:
        for place in ("/", "/etc", "/usr", "/home", "/dev/.."):
            made.refuses(f"mkdir -p {place}/new-directory", match="Read-only file system")
        made.refuses("echo x >>/etc/passwd", match="Read-only file system")
        made.sh("echo root >/tmp/root")
        assert made.sh("echo user >/tmp/user; stat -c %u /tmp/user; stat -c %a /tmp", "--user", "1001:1001").split("\n") == [
            "1001",
            "1777",
        ]
        made.refuses("rm /tmp/root", "--user", "1001:1001", match="not permitted")
        made.sh("echo x >/dev/shm/x; echo x >/dev/null")


@pytest.mark.both
def test_numeric_user(vm: Vm) -> None:
    script = "grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status"
    output = vm.succeed("run", "--rm", "--user", "1001:1002", "--group-add", "1003", vm.image("busybox"), "sh", "-c", script)
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in output.strip().split("\n")}
    assert fields["Uid"] == ["1001"] * 4
    assert fields["Gid"] == ["1002"] * 4
    assert "1003" in fields["Groups"]
    assert fields["CapEff"] == ["0000000000000000"]


ESCALATE = {
    "disk": "mknod /disk-node b {numbers} && dd if=/disk-node of=/dev/null bs=512 count=1",
    "proc": "mount -o remount,rw /proc/sys; cat /proc/sys/vm/overcommit_memory >/proc/sys/vm/overcommit_memory",
    "fresh": "mkdir -p /p; mount -t proc p /p && cat /p/sys/vm/overcommit_memory >/p/sys/vm/overcommit_memory",
}


@pytest.mark.isolation(why="a privileged exec of plain Docker owns the VM; under isolation it is as confined as its container")
def test_privileged_exec_is_no_more_than_its_container(vm: Vm) -> None:
    numbers = vm.shell("cat /sys/class/block/vdb/dev").strip().replace(":", " ")
    script = "; ".join(f"if ({command}) 2>/dev/null; then echo {name}; fi" for name, command in ESCALATE.items()).replace(
        "{numbers}", numbers
    )
    with box(vm, "--security-opt", "seccomp=unconfined") as made:
        own = made.sh("cat /proc/self/uid_map; readlink /proc/self/ns/user")
        raised = made.sh(f"cat /proc/self/uid_map; readlink /proc/self/ns/user; {script}; true", "--user", "0", "--privileged")
        assert raised.split("\n") == own.split("\n")


@pytest.mark.isolation(
    why="plain Docker gives `docker exec --privileged` every capability; the guide wants the container's own at most"
)
def test_privileged_exec_gets_no_further_capability(vm: Vm) -> None:
    with box(vm, "--cap-drop", "ALL", "--cap-add", "CHOWN") as made:
        raised = made.sh("grep CapEff /proc/self/status", "--user", "0", "--privileged").split()
        assert raised == ["CapEff:", "0000000000000001"]


@pytest.mark.isolation(why="nothing else leaves a record of a denied action")
def test_denied_action_leaves_one_event(vm: Vm) -> None:
    image, name = vm.image("busybox"), vm.name()
    before = events(vm)
    # past the API proxy, whose own event test_policy_front.py looks at
    vm.boundary.fail("run", "--name", name, "-v", "/etc/docker/daemon.json:/x", image, "true", match="restricted host mount")
    new = events(vm)[len(before) :]
    container = vm.succeed("inspect", "--format", "{{.Id}}", name).strip()
    assert len(new) == 1, new
    event = new[0]
    assert event["COFFERDAM_CONTAINER"] == container
    assert event["COFFERDAM_RULE"]
    assert event["COFFERDAM_IMAGE"] in (image, f"{image}:latest")
    assert "/etc/docker/daemon.json" in event["COFFERDAM_REASON"]
    assert abs(int(event["__REALTIME_TIMESTAMP"]) / 1e6 - float(vm.shell("date +%s"))) < 300


def events(vm: Vm) -> list[dict[str, str]]:
    text = vm.shell("journalctl --quiet --no-pager --output=json COFFERDAM_EVENT=refused")
    return [json.loads(line) for line in text.strip().split("\n") if line]


@pytest.mark.parametrize("path", ["/var/run/docker.sock", "/proc", "/dev", "/boot"])
@pytest.mark.isolation(why="agents that watch the VM through its files are refused, with the rule named")
def test_monitor_of_the_vm_is_refused(vm: Vm, path: str) -> None:
    vm.fail(
        "run",
        "--rm",
        "-v",
        f"{path}:/watched",
        vm.image("busybox"),
        "ls",
        "/watched",
        match=rf"can't mount {path} because it's configured as a restricted host mount|docker socket mount denied",
    )


@pytest.mark.isolation(why="an engine that remaps user ids itself would undo the exclusive ranges")
def test_userns_remap_of_the_engine_is_refused(vm: Vm) -> None:
    """What dockerd with `userns-remap` hands to the runtime, a user namespace with a map of its own choice, is refused."""
    mapping = [{"containerID": 0, "hostID": 500000, "size": 65536}]
    container = new_name("remap")
    with box(vm) as made:
        spec_path = vm.shell(f"ls -d /run/containerd/io.containerd.runtime.v2.task/moby/{made.inspect('{{.Id}}')}").strip()
        spec = json.loads(vm.shell(f"cat {spec_path}/config.json"))
        spec["linux"]["namespaces"] = [
            entry for entry in spec["linux"]["namespaces"] if entry["type"] not in ("user", "time")
        ] + [{"type": "user"}]
        spec["linux"]["uidMappings"] = spec["linux"]["gidMappings"] = mapping
        spec.pop("hooks", None)
        folder = f"/run/{container}"
        vm.shell(f"mkdir -p {folder} && cat >{folder}/config.json <<'END'\n{json.dumps(spec)}\nEND")
        try:
            message = vm.shell(f"runc create --bundle {folder} {container} </dev/null 2>&1 || echo refused")
        finally:
            vm.shell(f"runc delete --force {container} 2>/dev/null; rm -r {folder}")
    assert message.rstrip().endswith("refused"), message
    assert re.search("userns-remap|user namespace|id mapping", message), message


@pytest.mark.isolation(why="a container made with the option is in a range like every other")
def test_userns_host_is_still_shifted(vm: Vm) -> None:
    assert base_of(vm.succeed("run", "--rm", "--userns=host", vm.image("busybox"), "cat", "/proc/self/uid_map")) >= FIRST
