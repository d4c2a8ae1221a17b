"""Clients of several years against one machine, each with what it came with: every one does a day's work, in an exclusive id range."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

from cofferdam.errors import BuildError
from cofferdam.run import run
from vmtest.clients import CLIENTS, client_program
from vmtest.flows import base_of, box, new_name, shifted_base, wait_until
from vmtest.machines import Machines
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

_ERASE = "\x1b[2K"
"""What compose prints before each line of a log."""


@pytest.fixture(scope="module", params=CLIENTS)
def old(request: pytest.FixtureRequest, vm: Vm, machines: Machines) -> Vm:
    """The machine as a docker program of that release sees it."""
    try:
        program = client_program(request.param, machines.directory, machines.progress)
    except BuildError as error:
        if CLIENTS[request.param].moving:
            pytest.skip(f"the suite cannot be had today: {error}")
        raise
    vm.image("busybox")
    seen = replace(vm, program=program)
    seen.__dict__["host"] = vm.host
    return seen


@pytest.fixture
def plugged(old: Vm, request: pytest.FixtureRequest) -> Vm:
    """As `old`, where the suite has buildx and compose."""
    if not CLIENTS[request.node.callspec.params["old"]].plugins:
        pytest.skip("this suite has neither buildx nor compose as plugins")
    return old


def test_versions_agree(old: Vm, request: pytest.FixtureRequest) -> None:
    """The program is the one that is meant, and the API version that both sides know is found."""
    found = json.loads(old.succeed("version", "--format", "{{json .}}"))
    name = request.node.callspec.params["old"]
    if name != "newest":
        assert found["Client"]["Version"].startswith(name)
    assert found["Server"]["ApiVersion"] == "1.45"
    assert "name=cofferdam" in old.succeed("info", "--format", "{{json .SecurityOptions}}")


def test_run_is_isolated_whatever_it_asks_for(old: Vm) -> None:
    output = old.run("--privileged", "--userns=host", "--runtime=runc", command=["cat", "/proc/self/uid_map"])
    shifted_base(output)
    old.fail("run", "--rm", "--pid=host", old.image("busybox"), "true", match="share namespaces \\[pid\\]")
    old.fail("run", "--rm", "-v", "/etc:/x", old.image("busybox"), "true", match="can't mount /etc")


def test_streams(old: Vm) -> None:
    """Standard input with an end, exit status, both outputs apart, exec, logs, attach."""
    assert old.run("-i", command=["cat"], input=b"by hand\n") == "by hand\n"
    done = old.docker("run", "--rm", old.image("busybox"), "sh", "-c", "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    with box(old, command=("sh", "-c", "echo first; sleep 8; echo later; exit 5")) as made:
        assert made.exec("sh", "-c", "cat; id -u", options=("-i",), input=b"inner\n") == "inner\n0\n"
        attached = old.docker("attach", "--no-stdin", "--sig-proxy=false", made.name, check=False)
        assert (attached.returncode, attached.stdout) == (5, "later\n")
        assert old.succeed("logs", made.name) == "first\nlater\n"
        assert old.succeed("logs", "--tail", "1", made.name) == "later\n"


def test_terminal(old: Vm) -> None:
    """A process has a terminal when one is asked for, and none otherwise."""
    with box(old, "-t") as made:
        assert old.docker("exec", made.name, "tty", check=False).returncode == 1
        assert old.docker("exec", "-t", made.name, "tty", check=False).stdout.strip() == "/dev/pts/1"


def test_files_in_and_out(old: Vm, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("content\n")
    with box(old) as made:
        old.succeed("cp", str(tmp_path / "in"), f"{made.name}:/in")
        assert made.exec("stat", "-c", "%u:%g", "/in") == "0:0\n"
        old.succeed("cp", f"{made.name}:/in", str(tmp_path / "out"))
    assert (tmp_path / "out").read_text() == "content\n"


def test_images(old: Vm, tmp_path: Path) -> None:
    """Build without BuildKit, tag, save, remove, load, history."""
    tag = f"cofferdam-test/{new_name('old')}"
    (tmp_path / "Dockerfile").write_text(f'FROM {old.image("busybox")}\nRUN echo built >/built\nCMD ["cat", "/built"]\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_BUILDKIT", "0")
        old.succeed("build", "--tag", tag, str(tmp_path))
    old.succeed("save", "--output", str(tmp_path / "saved.tar"), tag)
    old.succeed("rmi", tag)
    old.succeed("load", "--input", str(tmp_path / "saved.tar"))
    assert old.succeed("run", "--rm", tag) == "built\n"
    assert "echo built" in old.succeed("history", "--no-trunc", tag)
    old.succeed("rmi", tag)


def test_volumes_networks_events(old: Vm) -> None:
    volume, network, name = new_name("vol"), new_name("net"), new_name("old")
    try:
        old.succeed("volume", "create", volume)
        old.succeed("network", "create", network)
        old.succeed(
            "run", "--rm", "--name", name, "--network", network, "-v", f"{volume}:/data", old.image("busybox"), "touch", "/data/x"
        )
        assert old.succeed("network", "inspect", "--format", "{{.Driver}}", network) == "bridge\n"
        # docker says until when in whole seconds of this machine's clock: the latest events may be later than that
        events = ("events", "--since", "10m", "--until", "0s", "--filter", f"container={name}", "--format", "{{.Action}}")
        whole = {"create", "start", "die", "destroy"}
        wait_until(lambda: whole <= set(old.succeed(*events).split()), "all events of the container are listed")
        assert old.succeed("stats", "--no-stream", "--format", "{{.Name}}") is not None
        assert volume in old.succeed("system", "df", "-v")
    finally:
        old.docker("volume", "rm", volume, check=False)
        old.docker("network", "rm", network, check=False)


def test_compose_up_and_down(plugged: Vm, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(
        f"""
services:
  one:
    image: {plugged.image("busybox")}
    command: ["sh", "-c", "cat /proc/self/uid_map; sleep 100000"]
    privileged: true
    healthcheck: {{test: ["CMD", "true"], interval: 1s}}
  two:
    image: {plugged.image("busybox")}
    command: ["sh", "-c", "cat /proc/self/uid_map; sleep 100000"]
    depends_on: {{one: {{condition: service_healthy}}}}
"""
    )
    compose = ("compose", "--ansi=never", "--project-name", new_name("c"), "--file", str(tmp_path / "compose.yaml"))
    try:
        plugged.succeed(*compose, "up", "--detach", "--wait")
        bases = {
            shifted_base(plugged.succeed(*compose, "logs", "--no-log-prefix", name).replace(_ERASE, ""))
            for name in ("one", "two")
        }
        assert len(bases) == 2
        assert plugged.succeed(*compose, "exec", "-T", "one", "id", "-u") == "0\n"
    finally:
        plugged.succeed(*compose, "down", "--timeout", "1", "--volumes")


def test_bake(plugged: Vm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # newer ones ask before they read outside of the working directory
    monkeypatch.setenv("BUILDX_BAKE_ENTITLEMENTS_FS", "0")
    tag = f"cofferdam-test/{new_name('bake')}"
    inline = f"FROM {plugged.image('busybox')}\nRUN cat /proc/self/uid_map >/map\n"
    targets = {
        name: {"context": str(tmp_path), "dockerfile-inline": inline, "tags": [f"{tag}:{name}"], "no-cache": True}
        for name in ("one", "two")
    }
    (tmp_path / "bake.json").write_text(json.dumps({"group": {"default": {"targets": list(targets)}}, "target": targets}))
    plugged.succeed("buildx", "bake", "--file", str(tmp_path / "bake.json"), "--progress=plain")
    for name in targets:
        shifted_base(plugged.succeed("run", "--rm", f"{tag}:{name}", "cat", "/map"))
        plugged.succeed("rmi", f"{tag}:{name}")


NAMES = "cat /proc/self/uid_map; echo names $(ls /sys/class/net); echo in $(readlink /proc/self/ns/net)"


@pytest.fixture
def by_context(plugged: Vm) -> Iterator[Vm]:
    """The machine by a docker context, as `inv boot` makes it: buildx takes keys for a builder from there alone."""
    name, keys = new_name("context"), plugged.report.cert_path
    door = f"host={plugged.report.docker_host},ca={keys / 'ca.pem'},cert={keys / 'cert.pem'},key={keys / 'key.pem'}"
    seen = replace(plugged)
    seen.__dict__["host"] = plugged.host
    seen.__dict__["environment"] = {
        **dict.fromkeys(plugged.environment, ""),
        "DOCKER_CONFIG": str(plugged.program.config),
        "DOCKER_CONTEXT": name,
    }
    plugged.succeed("context", "create", name, "--docker", door)
    try:
        yield seen
    finally:
        plugged.docker("context", "rm", "--force", name, check=False)


@pytest.fixture
def builder(by_context: Vm) -> Iterator[str]:
    """A builder in a container of its own, made by buildx; host network is allowed in it, as buildx does by itself from 0.14 on."""
    name = new_name("builder")
    image = by_context.image("buildkit")
    flags = "--allow-insecure-entitlement=network.host"
    try:
        by_context.succeed(
            *("buildx", "create", "--name", name, "--driver", "docker-container", "--driver-opt", f"image={image}"),
            *("--buildkitd-flags", flags, "--bootstrap"),
            timeout=300,
        )
        yield name
    finally:
        by_context.docker("buildx", "rm", "--force", name, check=False)


@pytest.mark.slow
def test_builder_of_the_docker_container_driver(by_context: Vm, builder: str, tmp_path: Path) -> None:
    """Builds run in the builder's own range; its host network is the builder's, never the VM's."""
    container = f"buildx_buildkit_{builder}0"
    outer = shifted_base(by_context.succeed("exec", container, "cat", "/proc/self/uid_map"))
    network = by_context.succeed("exec", container, "readlink", "/proc/self/ns/net").strip()
    assert network != by_context.shell("readlink /proc/self/ns/net").strip()
    context = tmp_path / "context"
    context.mkdir()
    context.joinpath("Dockerfile").write_text(
        f"FROM scratch AS made\nADD busybox.tar /\nRUN ({NAMES}) | tee /isolated\nRUN --network=host ({NAMES}) | tee /shared\n"
        "FROM scratch\nCOPY --from=made /isolated /shared /\n"
    )
    by_context.succeed("cp", f"{container}:/opt/busybox.tar", str(context / "busybox.tar"))
    words = (
        "buildx",
        "build",
        "--builder",
        builder,
        "--allow",
        "network.host",
        "--progress=plain",
        "--output",
        f"type=local,dest={tmp_path / 'out'}",
    )
    by_context.succeed(*words, str(context), timeout=300)
    isolated, shared = ((tmp_path / "out" / name).read_text() for name in ("isolated", "shared"))
    assert base_of(isolated) == base_of(shared) == outer
    assert "docker0" not in isolated
    assert network not in isolated
    assert f"in {network}" in shared


@contextmanager
def environment(vm: Vm) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in vm.environment.items():
            patch.setenv(name, value)
        # requests lets these override the authority that a client was given
        for name in ("DOCKER_CONTEXT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            patch.delenv(name, raising=False)
        yield patch


@pytest.fixture
def testcontainers(vm: Vm) -> Iterator[None]:
    """Testcontainers as the documentation sets it up; the reaper needs the Docker socket, which no image has by default."""
    with environment(vm) as patch:
        patch.setattr(testcontainers_config, "ryuk_disabled", True)
        yield


@pytest.mark.usefixtures("testcontainers")
def test_testcontainers(vm: Vm) -> None:
    """Start, wait for a line of the log, exec, a network with aliases, stop; the published port is there for who can reach the VM."""
    image = vm.image("busybox")
    with Network() as network:
        served = "echo hello >/index.html; echo listening; exec httpd -f -p 8080"
        server = DockerContainer(image).with_command(["sh", "-c", served]).with_exposed_ports(8080)
        server = server.with_network(network).with_network_aliases("web").with_env("KEY", "value")
        server = server.waiting_for(LogMessageWaitStrategy("listening"))
        with server as running:
            code, output = running.exec(["sh", "-c", "cat /proc/self/uid_map; echo $KEY"])
            assert code == 0
            shifted_base(output.decode())
            assert output.endswith(b"value\n")
            port = running.get_exposed_port(8080)
            assert (
                vm.shell(
                    f"python3 -c 'import urllib.request as u; print(u.urlopen(\"http://127.0.0.1:{port}\").read().decode())'"
                ).strip()
                == "hello"
            )
            with DockerContainer(image).with_command(["wget", "-qO-", "http://web:8080"]).with_network(network) as asking:
                assert asking.get_wrapped_container().wait(timeout=60)["StatusCode"] == 0
                assert asking.get_logs()[0] == b"hello\n"


def test_node_as_kind_makes_it(vm: Vm) -> None:
    """The options of `kind create cluster` for a node (kind 0.33, pkg/cluster/internal/providers/docker/provision.go)."""
    name, network = new_name("node"), new_name("kind")
    vm.succeed("network", "create", "-d=bridge", "-o", "com.docker.network.bridge.enable_ip_masquerade=true", network)
    options = (
        *("--detach", "--tty", "--privileged", "--label", "io.x-k8s.kind.role=control-plane", "--net", network),
        *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--cgroupns=private", "--init=false"),
        *("--tmpfs", "/tmp", "--tmpfs", "/run", "--volume", "/var", "--volume", "/lib/modules:/lib/modules:ro"),
        *("--restart=on-failure:1", "--publish=127.0.0.1:0:6443/TCP", "-e", "KUBECONFIG=/etc/kubernetes/admin.conf"),
    )
    try:
        vm.succeed("run", "--name", name, "--hostname", name, *options, vm.image("busybox"), "sleep", "100000")
        shifted_base(vm.succeed("exec", "--privileged", name, "cat", "/proc/self/uid_map"))
        # what its entry point does next: mounts of its own, a control group below its own, the kernel's settings of its network
        script = "mount --make-rshared / && mkdir /x /sys/fs/cgroup/kubelet && mount -t tmpfs x /x && echo 1 >/proc/sys/net/ipv4/ip_forward"
        vm.succeed("exec", "--privileged", name, "sh", "-ec", script)
        assert vm.succeed("exec", name, "stat", "-f", "-c", "%T", "/tmp", "/run").split() == ["tmpfs", "tmpfs"]
        assert vm.succeed("port", name, "6443/tcp").strip().rpartition(":")[2].isdigit()
    finally:
        vm.docker("rm", "--force", "--volumes", name, check=False)
        vm.docker("network", "rm", network, check=False)


def test_docker_py(vm: Vm) -> None:
    """The Python client: streams, archives, events, errors with dockerd's and the proxy's words."""
    with environment(vm), closing(docker.from_env(timeout=240)) as client:
        image = vm.image("busybox")
        shifted_base(client.containers.run(image, ["cat", "/proc/self/uid_map"], remove=True, privileged=True).decode())
        with pytest.raises(docker.errors.APIError, match="can't mount /etc"):
            client.containers.run(image, "true", volumes={"/etc": {"bind": "/x"}})
        made = client.containers.create(image, ["sleep", "100000"])
        try:
            sink = io.BytesIO()
            with tarfile.open(fileobj=sink, mode="w") as archive:
                item = tarfile.TarInfo("file")
                item.size = 3
                archive.addfile(item, io.BytesIO(b"abc"))
            made.put_archive("/", sink.getvalue())
            made.start()
            assert made.exec_run(["cat", "/file"]).output == b"abc"
            events = client.events(decode=True, filters={"container": made.id})
            seen: list[str] = []
            watcher = threading.Thread(target=lambda: seen.extend(event["Action"] for event in _until(events, "die")))
            watcher.start()
            made.kill()
            watcher.join(60)
            assert "kill" in seen
        finally:
            made.remove(force=True)


def _until(events: Iterator[dict[str, str]], last: str) -> Iterator[dict[str, str]]:
    for event in events:
        yield event
        if event["Action"] == last:
            return


CURL = ("curl", "--silent", "--show-error", "--max-time", "120")
Ask = Callable[..., str]


@pytest.fixture
def curl(vm: Vm) -> Ask:
    """Raw requests by curl."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    certificates = Path(vm.report.cert_path)
    keys = ("--cacert", certificates / "ca.pem", "--cert", certificates / "cert.pem", "--key", certificates / "key.pem")
    door = vm.report.docker_host.replace("tcp://", "https://")
    return lambda path, *words: run([*CURL, *keys, *words, f"{door}{path}"], capture=True).stdout


def test_curl(curl: Ask, vm: Vm) -> None:
    assert curl("/_ping") == "OK"
    body = json.dumps(
        {
            "Image": vm.image("busybox"),
            "Cmd": ["cat", "/proc/self/uid_map"],
            "HostConfig": {"Privileged": True, "UsernsMode": "host"},
        }
    )
    made = json.loads(curl("/v1.45/containers/create", "--json", body))["Id"]
    try:
        assert curl(f"/containers/{made}/start", "-X", "POST") == ""
        assert json.loads(curl(f"/containers/{made}/wait", "-X", "POST"))["StatusCode"] == 0
        shifted_base(curl(f"/containers/{made}/logs?stdout=1", "--output", "-")[8:])
    finally:
        curl(f"/containers/{made}?force=1", "-X", "DELETE")
    refused = curl(
        "/containers/create",
        "--json",
        json.dumps({"Image": "x", "HostConfig": {"PidMode": "host"}}),
        "--write-out",
        "%{http_code}",
    )
    assert refused.endswith("403")
    assert "share namespaces [pid]" in refused
