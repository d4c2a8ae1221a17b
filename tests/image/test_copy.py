"""docker cp, commit, export and diff: the owners in every tar header are 0-based although the containers are shifted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmtest.flows import Box, base_of, box, cp_out, members, new_name, packed, shifted_base, volume
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

MAKE = """
mkdir -p /work/dir /work/sticky
chmod 1777 /work/sticky
echo root >/work/root
echo user >/work/user
chown 1000:1001 /work/user
chmod 640 /work/user
echo deep >/work/dir/deep
chown -R 65535:65535 /work/dir
ln -s user /work/link
cp /bin/busybox /work/setuid
chmod 4755 /work/setuid
"""
OWNERS = {
    "work": (0, 0),
    "work/dir": (65535, 65535),
    "work/dir/deep": (65535, 65535),
    "work/link": (0, 0),
    "work/root": (0, 0),
    "work/setuid": (0, 0),
    "work/sticky": (0, 0),
    "work/user": (1000, 1001),
}


def owners(stream: bytes) -> dict[str, tuple[int, int]]:
    return {name: member.owner for name, member in members(stream).items()}


@pytest.fixture(scope="module")
def source(vm: Vm) -> Iterator[Box]:
    """A running, shifted container with files of several owners; no test changes it."""
    with box(vm) as made:
        made.sh(MAKE)
        shifted_base(made.exec("cat", "/proc/self/uid_map"))
        yield made


@pytest.fixture(scope="module")
def stopped(vm: Vm) -> Iterator[Box]:
    """As `source`, stopped."""
    with box(vm) as made:
        made.sh(MAKE)
        shifted_base(made.exec("cat", "/proc/self/uid_map"))
        vm.succeed("stop", "--time", "0", made.name)
        yield made


@pytest.mark.parametrize("state", ["source", "stopped"])
def test_copy_out(vm: Vm, state: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    container: Box = request.getfixturevalue(state)
    found = members(cp_out(vm, container.name, "/work"))
    assert {name: member.owner for name, member in found.items()} == OWNERS
    assert found["work/user"].content == b"user\n"
    assert [oct(found[name].mode & 0o7777) for name in ("work/user", "work/setuid", "work/sticky")] == [
        "0o640",
        "0o4755",
        "0o1777",
    ]
    vm.succeed("cp", f"{container.name}:/work/dir", str(tmp_path / "out"))
    assert (tmp_path / "out/deep").read_text() == "deep\n"


def check_copied_in(container: Box) -> None:
    listing = container.sh("cd /in; stat -c '%n %u:%g %a' archive plain").split("\n")
    assert listing == ["archive 1234:1235 640", "plain 0:0 600"]
    assert container.sh("cat /in/archive /in/plain").split("\n") == ["archived", "plain"]
    assert container.sh("id -u; cat /in/archive", "--user", "1234:1235").split("\n") == ["1234", "archived"]
    container.refuses("cat /in/plain", "--user", "1234:1235", match="Permission denied")
    container.sh("chown 5:5 /in/plain; rm /in/archive")


def copy_in(vm: Vm, container: str, folder: Path) -> None:
    plain = folder / "plain"
    plain.write_text("plain\n")
    plain.chmod(0o600)
    vm.docker("cp", "--archive", "-", f"{container}:/", input=packed({"in/archive": (b"archived\n", 1234, 1235, 0o640)}))
    vm.succeed("cp", str(plain), f"{container}:/in/plain")


def test_copy_into_a_running_container(vm: Vm, tmp_path: Path) -> None:
    with box(vm) as target:
        assert target.base > 0
        copy_in(vm, target.name, tmp_path)
        check_copied_in(target)


def test_copy_into_a_stopped_container(vm: Vm, tmp_path: Path) -> None:
    target = Box(vm, vm.name())
    vm.succeed("create", "--name", target.name, vm.image("busybox"), "sleep", "1000")
    copy_in(vm, target.name, tmp_path)
    vm.succeed("start", target.name)
    assert target.base > 0
    check_copied_in(target)


def test_copy_in_and_out_of_a_volume(vm: Vm) -> None:
    """The path inside is a mount: dockerd and the container must mean the same files."""
    stream = packed({"file": (b"by cp\n", 1234, 1235, 0o600)})
    with volume(vm) as shared, box(vm, "-v", f"{shared}:/data") as target:
        vm.docker("cp", "--archive", "-", f"{target.name}:/data", input=stream)
        assert target.sh("cat /data/file; stat -c %u:%g /data/file").split("\n") == ["by cp", "1234:1235"]
        target.sh("echo inside >/data/own; chown 77:78 /data/own")
        assert owners(cp_out(vm, target.name, "/data/.")) == {"": (0, 0), "file": (1234, 1235), "own": (77, 78)}
        vm.succeed("stop", "--time", "0", target.name)
        vm.docker("cp", "--archive", "-", f"{target.name}:/data", input=packed({"late": (b"late\n", 9, 9, 0o600)}))
        assert owners(cp_out(vm, target.name, "/data/late")) == {"late": (9, 9)}
        vm.succeed("start", target.name)
        assert target.sh("cat /data/late; stat -c %u:%g /data/late").split("\n") == ["late", "9:9"]


def test_copy_to_a_read_only_place_is_refused(vm: Vm) -> None:
    with volume(vm) as shared, box(vm, "--read-only", "-v", f"{shared}:/data:ro") as target:
        for path in ("/", "/data"):
            done = vm.docker("cp", "-", f"{target.name}:{path}", input=packed({"x": (b"x", 0, 0, 0o600)}), check=False)
            assert done.returncode != 0, path
            assert "read-only" in done.stderr
        assert target.sh("ls /data; test ! -e /x") == ""


def test_diff_lists_what_the_container_changed(vm: Vm, source: Box, stopped: Box) -> None:
    wanted = ["A /work", *sorted(f"A /{name}" for name in OWNERS if name != "work")]
    for container in (source, stopped):
        assert sorted(vm.succeed("diff", container.name).split("\n")[:-1]) == sorted(wanted)
    with box(vm) as changed:
        changed.sh("rm /bin/cat; echo x >>/etc/passwd; chmod 700 /bin/busybox")
        assert sorted(vm.succeed("diff", changed.name).split("\n")[:-1]) == [
            "C /bin",
            "C /bin/busybox",
            "C /etc",
            "C /etc/passwd",
            "D /bin/cat",
        ]


@pytest.mark.parametrize("state", ["source", "stopped"])
def test_export(vm: Vm, state: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    container: Box = request.getfixturevalue(state)
    target = tmp_path / "export.tar"
    vm.succeed("export", "--output", str(target), container.name)
    found = members(target.read_bytes())
    assert {name: found[name].owner for name in OWNERS} == OWNERS
    others = {name: member.owner for name, member in found.items() if name not in OWNERS}
    assert "bin/sh" in others
    assert {name: owner for name, owner in others.items() if owner != (0, 0)} == {}
    assert found["work/setuid"].mode & 0o7777 == 0o4755


def layers(image: Path) -> list[dict[str, tuple[int, int]]]:
    """Owners by path of each layer in an image that `docker save` wrote, lowest first."""
    outer = members(image.read_bytes())
    manifest = outer["manifest.json"].content
    assert manifest is not None
    found = [outer[name].content for name in json.loads(manifest)[0]["Layers"]]
    return [owners(content) for content in found if content is not None]


@pytest.mark.parametrize("state", ["source", "stopped"])
def test_commit(vm: Vm, state: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    container: Box = request.getfixturevalue(state)
    image = f"cofferdam-test/{new_name('commit')}"
    vm.succeed("commit", container.name, image)
    try:
        vm.succeed("save", "--output", str(tmp_path / "image.tar"), image)
        top = layers(tmp_path / "image.tar")[-1]
        # `docker cp` to or from a container makes dockerd itself touch the mount points of these files
        injected = {name for name in top if name == "etc" or name.startswith("etc/")}
        assert {name: owner for name, owner in top.items() if name not in injected} == OWNERS
        assert {top[name] for name in injected} <= {(0, 0)}
        listing = "cat /proc/self/uid_map; stat -c '%n %u:%g' /work/root /work/user /work/dir/deep; touch /work/dir/new /bin/new"
        output = vm.succeed("run", "--rm", image, "sh", "-ec", listing)
        assert base_of(output) > 0
        assert output.strip().split("\n")[1:] == ["/work/root 0:0", "/work/user 1000:1001", "/work/dir/deep 65535:65535"]
    finally:
        vm.docker("rmi", "--force", image, check=False)


def test_overlay_in_the_vm_holds_unshifted_owners(vm: Vm, source: Box) -> None:
    """The disk keeps 0-based ids: nothing was chowned for the container's range."""
    upper = source.inspect("{{.GraphDriver.Data.UpperDir}}")
    listing = vm.shell(f"cd {upper} && find work -exec stat -c '%n %u %g' {{}} +").strip().split("\n")
    found = {name: (int(uid), int(gid)) for name, uid, gid in (line.split(" ") for line in listing)}
    assert found == OWNERS
