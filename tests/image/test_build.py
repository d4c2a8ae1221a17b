"""Builds, by the legacy builder and by BuildKit: every RUN step is shifted, every layer is 0-owned, entitlements are refused."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import paramiko
import pytest

from cofferdam.run import Result
from vmtest.flows import Member, base_of, members, new_name, shifted_base, wait_until
from vmtest.vm import Broken, Vm

pytestmark = pytest.mark.vm

BUILDERS = pytest.mark.parametrize("builder", ["legacy", "buildkit"])
Build = Callable[..., Result]


def context(folder: Path, dockerfile: str, files: Mapping[str, str]) -> Path:
    for name, content in {"Dockerfile": dockerfile, **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.fixture
def build(vm: Vm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """A function that builds a Dockerfile; `@BASE@` in it is the test image, images are removed at the end."""
    tags: list[str] = []

    def run(
        dockerfile: str, *options: str, builder: str = "buildkit", files: Mapping[str, str] | None = None, tag: str = ""
    ) -> Result:
        monkeypatch.setenv("DOCKER_BUILDKIT", "0" if builder == "legacy" else "1")
        text = dockerfile.replace("@BASE@", vm.image("busybox"))
        folder = context(tmp_path / uuid.uuid4().hex, text, files or {})
        plain = () if builder == "legacy" else ("--progress=plain",)
        named = ("--tag", tag) if tag else ()
        tags.extend([tag] if tag else [])
        return vm.docker("build", *plain, *named, *options, str(folder), check=False)

    yield run
    if tags:
        vm.docker("rmi", "--force", *tags, check=False)


def said(result: Result) -> str:
    return result.stdout + result.stderr


def succeeded(result: Result) -> str:
    assert result.returncode == 0, said(result)
    return said(result)


def refused(result: Result, match: str) -> None:
    assert result.returncode != 0, f"the build went through:\n{said(result)}"
    assert re.search(match, said(result)), f"not {match!r}:\n{said(result)}"


def unprefixed(text: str) -> str:
    """The output of a build without BuildKit's `#7 0.123 ` before each line."""
    return re.sub(r"^#\d+ \d+\.\d+ ", "", text, flags=re.MULTILINE)


@BUILDERS
@pytest.mark.isolation(why="a RUN step runs in a range of its own, and sees neither the VM's devices nor its networks")
def test_run_steps_are_shifted(build: Build, builder: str) -> None:
    step = f"cat /proc/self/uid_map; echo gid $(cat /proc/self/gid_map); ls /sys/class/net; echo {uuid.uuid4()}"
    output = unprefixed(succeeded(build(f"FROM @BASE@\nRUN {step}", "--no-cache", builder=builder)))
    base = shifted_base(output)
    assert re.search(rf"^gid 0 {base} 65536$", output, re.MULTILINE)
    assert "docker0" not in output.split()


OWNERSHIP = """
FROM @BASE@
COPY plain /plain
COPY --chown=1001:1002 chowned /chowned
RUN echo x >/by-run && echo x >/given && chown 1000:1001 /given && cp /bin/busybox /setuid && chmod 4755 /setuid
WORKDIR /made/by/workdir
USER 1003:1004
RUN touch /tmp-file 2>/dev/null || echo user >/open/by-user
"""


def saved_layers(vm: Vm, tag: str, folder: Path) -> dict[str, Member]:
    """All files of all layers but the base image's first, later layers over earlier ones."""
    target = folder / "image.tar"
    vm.succeed("save", "--output", str(target), tag)
    outer = members(target.read_bytes())
    manifest = outer["manifest.json"].content
    assert manifest is not None
    found: dict[str, Member] = {}
    for name in json.loads(manifest)[0]["Layers"][1:]:
        content = outer[name].content
        assert content is not None
        found.update(members(content))
    return found


@BUILDERS
def test_layers_are_owned_from_zero(vm: Vm, build: Build, builder: str, tmp_path: Path) -> None:
    tag = f"cofferdam-test/{new_name('build')}"
    dockerfile = OWNERSHIP.replace("COPY plain", "RUN mkdir -m 1777 /open\nCOPY plain")
    files = {"plain": "plain\n", "chowned": "chowned\n"}
    succeeded(build(dockerfile, "--no-cache", builder=builder, files=files, tag=tag))
    found = saved_layers(vm, tag, tmp_path)
    wanted = {
        "plain": (0, 0),
        "chowned": (1001, 1002),
        "by-run": (0, 0),
        "given": (1000, 1001),
        "setuid": (0, 0),
        "made/by/workdir": (0, 0),
        "open/by-user": (1003, 1004),
    }
    assert {name: found[name].owner for name in wanted} == wanted
    assert found["setuid"].mode & 0o7777 == 0o4755
    others = {name: member.owner for name, member in found.items() if name not in wanted and member.owner != (0, 0)}
    assert others == {}
    listing = "cat /proc/self/uid_map; id -u; pwd; stat -c '%n %u:%g' /plain /chowned /given /open/by-user"
    output = vm.succeed("run", "--rm", tag, "sh", "-ec", listing)
    assert base_of(output) > 0
    lines = ["1003", "/made/by/workdir", "/plain 0:0", "/chowned 1001:1002", "/given 1000:1001", "/open/by-user 1003:1004"]
    assert output.strip().split("\n")[1:] == lines


@BUILDERS
def test_multi_stage(build: Build, builder: str, vm: Vm) -> None:
    tag = f"cofferdam-test/{new_name('stages')}"
    dockerfile = """
FROM @BASE@ AS maker
RUN echo made >/artifact && echo unwanted >/unwanted && chown 1000:1000 /artifact
FROM @BASE@
COPY --from=maker --chown=1005:1006 /artifact /first
COPY --from=maker /artifact /second
RUN test "$(stat -c %u:%g /first)" = 1005:1006 && test ! -e /unwanted && cat /second >>/first
"""
    succeeded(build(dockerfile, "--no-cache", builder=builder, tag=tag))
    listing = "cat /first; stat -c %u:%g /first"
    assert vm.succeed("run", "--rm", tag, "sh", "-ec", listing).split("\n")[:3] == ["made", "made", "1005:1006"]


def test_cache_mount_is_kept_between_builds(build: Build) -> None:
    """Two steps of two builds, each in a range of its own, write the same cache with the right owners."""
    key = uuid.uuid4().hex
    step = (
        "RUN --mount=type=cache,id={key},target=/cache,uid=1000 stat -c %u /cache && echo {line} >>/cache/log && cat /cache/log"
    )
    for line, wanted in (("one", ["1000", "one"]), ("two", ["1000", "one", "two"])):
        output = unprefixed(succeeded(build("FROM @BASE@\n" + step.format(key=key, line=line))))
        assert [word for word in output.split("\n") if word in ("1000", "one", "two")] == wanted


def test_secret_mount_is_seen_by_its_step_alone(build: Build, vm: Vm, tmp_path: Path) -> None:
    tag, token = f"cofferdam-test/{new_name('secret')}", uuid.uuid4().hex
    secret = tmp_path / "token"
    secret.write_text(token)
    dockerfile = """
FROM @BASE@
RUN --mount=type=secret,id=token test "$(stat -c %u:%a /run/secrets/token)" = 0:400 && md5sum </run/secrets/token
RUN --mount=type=secret,id=token,uid=1000,target=/tok test "$(stat -c %u /tok)" = 1000 && echo owner-ok
RUN test ! -s /run/secrets/token && echo gone-ok
"""
    output = succeeded(build(dockerfile, "--secret", f"id=token,src={secret}", "--no-cache", tag=tag))
    assert hashlib.md5(token.encode()).hexdigest() in output
    assert "owner-ok" in unprefixed(output).split("\n")
    assert "gone-ok" in unprefixed(output).split("\n")
    found = saved_layers(vm, tag, tmp_path)
    assert not [name for name, member in found.items() if token.encode() in (member.content or b"")]


# Asks an ssh agent for its keys (SSH_AGENTC_REQUEST_IDENTITIES) and prints their number.
ASK_AGENT = """
import os, socket, struct
s = socket.socket(socket.AF_UNIX)
s.connect(os.environ["SSH_AUTH_SOCK"])
s.sendall(struct.pack(">IB", 1, 11))
answer = s.makefile("rb").read(9)
print("keys", struct.unpack(">IBI", answer)[2])
"""


def test_ssh_mount_reaches_the_agent_of_the_client(build: Build, vm: Vm, tmp_path: Path) -> None:
    """The step speaks to an agent that holds the one key given, and finds no other file of the key."""
    key = paramiko.ECDSAKey.generate()
    key.write_private_key_file(str(tmp_path / "key"))
    dockerfile = f'FROM {vm.image("debian")}\nCOPY ask /ask\nRUN --mount=type=ssh python3 /ask\nRUN test -z "$SSH_AUTH_SOCK" && echo gone-ok\n'
    output = unprefixed(
        succeeded(build(dockerfile, "--ssh", f"default={tmp_path / 'key'}", "--no-cache", files={"ask": ASK_AGENT}))
    )
    assert "keys 1" in output.split("\n")
    assert "gone-ok" in output.split("\n")


@pytest.mark.isolation(why="a frontend is a program of an image, and runs in a range of its own")
def test_frontend_is_isolated(build: Build, vm: Vm) -> None:
    """A Dockerfile's `# syntax=` names an image that BuildKit runs to read the Dockerfile; what this one says is in the journal.

    It speaks over dockerd's own stream, but while it lives the journal counts its words to its cgroup, not to dockerd's unit.
    """
    tag, mark = f"cofferdam-test/{new_name('frontend')}", new_name("mark")
    say = f"echo {mark} $(readlink /proc/self/ns/net) $(cat /proc/self/uid_map) >&2; sleep 2; exit 3"
    succeeded(build(f"FROM @BASE@\nENTRYPOINT {json.dumps(['sh', '-c', say])}", tag=tag))
    output = said(build(f"# syntax={tag}\nFROM @BASE@\n"))
    if "exit code: 3" not in output:
        raise Broken(f"the frontend did not run: {output}")
    found: list[tuple[str, str]] = []

    def heard() -> bool:
        found[:] = re.findall(rf"{mark} (\S+) (.*)", vm.shell(f"journalctl --boot --output=cat --grep={mark} || true"))
        return bool(found)

    try:
        wait_until(heard, "the frontend is heard")
    except AssertionError as error:
        raise Broken(str(error)) from error
    (network, ids), *_ = found
    assert network != vm.shell("readlink /proc/self/ns/net").strip()
    shifted_base(ids)


def test_bind_mount_of_the_context(build: Build) -> None:
    dockerfile = """
FROM @BASE@
RUN --mount=type=bind,target=/context cat /context/data/file; stat -c %u:%g /context/data/file
RUN --mount=type=bind,target=/context if echo x >/context/data/file; then echo written; fi
RUN --mount=type=bind,target=/context,rw echo scratch >/context/data/file && cat /context/data/file
RUN --mount=type=bind,target=/context cat /context/data/file
RUN --mount=type=tmpfs,target=/scratch awk '$2 == "/scratch" {print $3 "-is-kind"}' /proc/mounts
"""
    lines = unprefixed(succeeded(build(dockerfile, "--no-cache", files={"data/file": "from-context\n"}))).split("\n")
    assert lines.count("from-context") == 2
    assert lines.count("scratch") == 1
    assert "0:0" in lines
    assert "tmpfs-is-kind" in lines
    assert "written" not in lines


def test_heredoc_and_local_export(build: Build, tmp_path: Path) -> None:
    """BuildKit's tar exporter, without an image: headers are 0-based too."""
    dockerfile = "FROM @BASE@ AS maker\nRUN <<END\nmkdir /out\necho x >/out/root\necho x >/out/user\nchown 1000:1001 /out/user\nEND\nFROM scratch\nCOPY --from=maker /out /\n"
    target = tmp_path / "out.tar"
    succeeded(build(dockerfile, "--no-cache", "--output", f"type=tar,dest={target}"))
    assert {name: member.owner for name, member in members(target.read_bytes()).items()} == {"root": (0, 0), "user": (1000, 1001)}


@pytest.mark.isolation(why="the legacy builder hands the VM's network to the runtime; only our wrapper stands there")
def test_legacy_build_on_the_host_network_is_refused(build: Build) -> None:
    refused(
        build("FROM @BASE@\nRUN ls /sys/class/net", "--network=host", "--no-cache", builder="legacy"),
        match="share a network namespace with the host",
    )


NETWORK = "FROM @BASE@\nRUN --network=host ls /sys/class/net\n"
INSECURE = "FROM @BASE@\nRUN --security=insecure true\n"
PLAIN = "FROM @BASE@\nRUN true\n"


@pytest.mark.parametrize(
    ("dockerfile", "options", "match"),
    [
        pytest.param(PLAIN, ("--network=host",), "network.host is not allowed", id="network-option"),
        pytest.param(NETWORK, (), "network.host is not allowed", id="network-step"),
        pytest.param(NETWORK, ("--allow", "network.host"), "network.host is not allowed", id="network-entitlement"),
        pytest.param(PLAIN, ("--allow", "security.insecure"), "security.insecure is not allowed", id="insecure-entitlement"),
        pytest.param(
            INSECURE,
            ("--allow", "security.insecure"),
            "security.insecure is not allowed|unknown flag: security",
            id="insecure-step",
        ),
    ],
)
def test_entitlements_are_refused(build: Build, dockerfile: str, options: tuple[str, ...], match: str) -> None:
    refused(build(dockerfile, *options, "--no-cache"), match=match)


def test_build_networks(build: Build) -> None:
    """A step has a network of its own, or none when asked, and sees no other."""
    output = unprefixed(
        succeeded(
            build(
                "FROM @BASE@\nRUN echo default: $(ls /sys/class/net)\nRUN --network=none echo none: $(ls /sys/class/net)",
                "--no-cache",
            )
        )
    )
    assert re.search(r"^default: eth0 lo$", output, re.MULTILINE)
    assert re.search(r"^none: lo$", output, re.MULTILINE)


@BUILDERS
def test_failing_step_fails_the_build(build: Build, builder: str) -> None:
    refused(
        build("FROM @BASE@\nRUN echo before && exit 7", "--no-cache", builder=builder),
        match=r"returned a non-zero code: 7|exit code: 7",
    )
