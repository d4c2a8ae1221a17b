"""What real clients send is understood: recorded from the docker CLI and docker-py, and bodies as older and other clients write them."""

from __future__ import annotations

import json
import os
import shutil
import socketserver
import subprocess
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

import docker
import pytest

from cofferdam_guest.apiproxy.query import check
from cofferdam_guest.apiproxy.routes import match, refuse
from cofferdam_guest.apiproxy.schema.decode import decode
from cofferdam_guest.apiproxy.target import parse

DOCKER = shutil.which("docker")
CONTAINER = {
    "Id": "c1",
    "Name": "/c",
    "State": {"Running": True, "Status": "running"},
    "Config": {"Tty": False},
    "HostConfig": {},
}


@dataclass
class Request:
    method: str
    target: str
    body: bytes


class Handler(BaseHTTPRequestHandler):
    """Says yes to everything and remembers it."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append(Request(self.command, self.path, self._body()))  # type: ignore[attr-defined]
        value: Any = {"Id": "c1", "ID": "c1", "Name": "n", "Warnings": [], "Status": "ok", "StatusCode": 0, "ApiVersion": "1.45"}
        value |= {"MinAPIVersion": "1.24", "OSType": "linux", "Names": ["/c"], "Containers": {}}
        if path.endswith(("/containers/json", "/images/json", "/networks", "/history", "/search")):
            value = []
        elif path.endswith("/json"):
            value = CONTAINER
        data = json.dumps(value).encode()
        self.send_response(201 if path.endswith(("/create", "/exec")) and self.command == "POST" else 200)
        for name, one in (("Content-Type", "application/json"), ("Api-Version", self.server.version), ("Ostype", "linux")):  # type: ignore[attr-defined]
            self.send_header(name, one)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        out = b""
        while size := int(self.rfile.readline(), 16):
            out += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return out

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "client"


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    version = "1.45"

    def __init__(self, path: str) -> None:
        self.requests: list[Request] = []
        self.said = ""
        super().__init__(path, Handler)

    def handle_error(self, *_: object) -> None:
        pass  # a client that goes away in the middle


@pytest.fixture(scope="module")
def engine():
    with tempfile.TemporaryDirectory(prefix="engine-") as folder, Engine(f"{folder}/s") as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def understood(request: Request) -> tuple[str, Any]:
    """The route and the body of a request, as the proxy reads it."""
    target = parse(request.target.encode())
    route = match(request.method, target.path).route
    refuse(route)
    check(route.query, target.query)
    if route.schema:
        return route.id, decode(request.body, route.schema)
    assert not request.body or route.body == "stream", (request.target, request.body)
    return route.id, None


CREATE = """create --add-host a:1.2.3.4 --attach stdout --blkio-weight 100 --blkio-weight-device /dev/vda:100
 --cap-add ALL --cap-drop NET_RAW --cgroup-parent p --cgroupns private --cpu-period 1000 --cpu-quota 1000
 --cpu-rt-period 1 --cpu-rt-runtime 1 --cpu-shares 2 --cpus 1.5 --cpuset-cpus 0 --cpuset-mems 0 --device /dev/fuse:/dev/fuse:rwm
 --device-cgroup-rule c_1:3_mr --device-read-bps /dev/vda:1mb --device-read-iops /dev/vda:10 --device-write-bps /dev/vda:1mb
 --device-write-iops /dev/vda:10 --dns 1.1.1.1 --dns-option ndots:1 --dns-search x --domainname d --entrypoint sh --env A=b
 --expose 80 --gpus all --group-add g --health-cmd true --health-interval 1s --health-retries 2
 --health-start-period 1s --health-timeout 1s --hostname h --init --interactive --ip 10.0.0.2
 --ipc private --isolation default --kernel-memory 64m --label l=m --link a:b --link-local-ip 169.254.1.1 --log-driver json-file
 --log-opt max-size=1m --memory 64m --memory-reservation 32m --memory-swap -1 --memory-swappiness 10
 --mount type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave --mount type=volume,src=v,dst=/v,volume-opt=a=b,volume-nocopy
 --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777
 --name n --network net --network-alias al --oom-kill-disable
 --oom-score-adj 1 --pid host --pids-limit 10 --platform linux/amd64 --privileged --publish 127.0.0.1:80:80/udp --publish-all
 --read-only --restart on-failure:3 --runtime runc --security-opt no-new-privileges --shm-size 64m
 --stop-signal TERM --stop-timeout 5 --storage-opt size=1G --sysctl net.ipv4.ip_forward=1 --tmpfs /x:size=1m --tty
 --ulimit nofile=1:2 --user 1:1 --userns host --uts host --volume /a:/b:ro --volume /anonymous --volume-driver d --volumes-from o
 --workdir /w"""
OF_145 = " --mac-address 02:00:00:00:00:01 --annotation x=y --health-start-interval 1s --mount type=volume,dst=/w,volume-subpath=x --mount type=bind,src=/a,dst=/c,bind-recursive=disabled"
IMAGE = " image cmd arg"
COMMANDS = [
    (CREATE + OF_145 + IMAGE, "ContainerCreate"),
    ("create --mount type=image,src=a,dst=/i,image-subpath=x i", "ContainerCreate"),
    ("create --network name=a,alias=b,driver-opt=x=y,gw-priority=1 --network b --no-healthcheck i", "ContainerCreate"),
    ("run -d --rm -v /var/run/docker.sock:/var/run/docker.sock alpine", "ContainerStart"),
    ("exec -d -u 0 --privileged -e A=b -w / c sh", "ExecStart"),
    ("exec -d --detach-keys ctrl-a c sh", "ExecCreate"),
    ("attach --no-stdin c", "ContainerAttach"),
    ("update --memory 1g --cpus 2 --restart always --pids-limit 5 c", "ContainerUpdate"),
    ("rename c d", "ContainerRename"),
    ("stop -t 3 -s INT c", "ContainerStop"),
    ("restart -t 3 c", "ContainerRestart"),
    ("kill -s HUP c", "ContainerKill"),
    ("pause c", "ContainerPause"),
    ("unpause c", "ContainerUnpause"),
    ("wait c", "ContainerWait"),
    ("rm -fv c", "ContainerDelete"),
    ("logs --since 1m --until 1s --tail 5 -t --details c", "ContainerLogs"),
    ("top c -ef", "ContainerTop"),
    ("stats --no-stream c", "ContainerStats"),
    ("diff c", "ContainerChanges"),
    ("export c", "ContainerExport"),
    ("cp c:/etc/hosts -", "ContainerArchiveGet"),
    ("ps -a -n 3 -s -f label=a=b -f status=running", "ContainerList"),
    ("commit -a me -m text -c ENV_A=b c img:1", "ImageCommit"),
    ("inspect --type container -s c", "ContainerInspect"),
    ("images -a -f dangling=true", "ImageList"),
    ("pull --platform linux/amd64 alpine:3", "ImageCreate"),
    ("push alpine:3", "ImagePush"),
    ("tag alpine registry.example.com:5000/a/b:c", "ImageTag"),
    ("rmi -f alpine", "ImageDelete"),
    ("history alpine", "ImageHistory"),
    ("search --limit 5 -f is-official=true alpine", "ImageSearch"),
    ("save alpine busybox", "ImageGetAll"),
    ("import -c ENV_A=b -m text http://registry.example.com/x.tar img:2", "ImageCreate"),
    ("image prune -af --filter until=1h", "ImagePrune"),
    (
        "network create -d bridge --subnet 10.0.0.0/24 --ip-range 10.0.0.0/25 --gateway 10.0.0.1 --aux-address a=10.0.0.9 --ipv6 "
        "--internal --attachable --label a=b -o x=y --ipam-driver default --ipam-opt a=b n",
        "NetworkCreate",
    ),
    ("network create --config-only n", "NetworkCreate"),
    (
        "network connect --ip 10.0.0.3 --ip6 fe80::1 --alias a --link x:y --driver-opt a=b --link-local-ip 169.254.1.1 n c",
        "NetworkConnect",
    ),
    ("network disconnect -f n c", "NetworkDisconnect"),
    ("network ls -f driver=bridge", "NetworkList"),
    ("network inspect -v n", "NetworkInspect"),
    ("network rm n", "NetworkDelete"),
    ("volume create -d local -o type=none -o o=bind -o device=/a --label a=b v", "VolumeCreate"),
    ("volume rm -f v", "VolumeDelete"),
    ("volume inspect v", "VolumeInspect"),
    ("system prune -af", "BuildPrune"),
    ("system df -v", "SystemDataUsage"),
    ("events --since 1s --until 0s -f type=container", "SystemEvents"),
    ("info", "SystemInfo"),
    ("version", "SystemVersion"),
    ("login -u me -p secret registry.example.com", "SystemAuth"),
    ("plugin ls", "PluginList"),
]


@pytest.fixture(scope="module")
def cli(engine, tmp_path_factory):
    if DOCKER is None:
        pytest.skip("no docker CLI here")
    folder = tmp_path_factory.mktemp("docker-config")

    def run(words: list[str], version: str) -> list[Request]:
        engine.requests.clear()
        engine.version = version
        env = {"PATH": os.environ["PATH"], "HOME": str(folder), "DOCKER_CONFIG": str(folder), "DOCKER_BUILDKIT": "0"}
        env |= {"DOCKER_HOST": f"unix://{engine.server_address}", "DOCKER_API_VERSION": version}
        done = subprocess.run(
            [DOCKER, *words], env=env, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL
        )
        engine.said = done.stderr
        return list(engine.requests)

    return run


def words_of(command: str) -> list[str]:
    return [word.replace("c_1:3_mr", "c 1:3 mr").replace("ENV_A=b", "ENV A=b") for word in command.split()]


@pytest.mark.parametrize(("command", "route"), COMMANDS, ids=[" ".join(command.split()[:2]) for command, _ in COMMANDS])
def test_requests_of_the_cli_are_understood(cli, engine, command, route):
    routes = [understood(request)[0] for request in cli(words_of(command), "1.50")]
    assert route in routes, engine.said


@pytest.mark.parametrize(("version", "command", "mounts"), [("1.41", CREATE, 3), ("1.45", CREATE + OF_145, 5)])
def test_a_cli_that_agreed_on_an_older_api_is_understood(cli, engine, version, command, mounts):
    bodies = dict(map(understood, cli(words_of(command + IMAGE), version)))
    assert "ContainerCreate" in bodies, engine.said
    body = bodies["ContainerCreate"]
    assert body["HostConfig"]["Privileged"] is True
    assert len(body["HostConfig"]["Mounts"]) == mounts
    assert body["HostConfig"]["Ulimits"] == [{"Name": "nofile", "Hard": 2, "Soft": 1}]


def test_a_build_of_the_cli_is_understood(cli, engine, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    options = "--build-arg A=b --build-arg HTTP_PROXY --label a=b --cache-from x --add-host a:1.2.3.4 --ulimit nofile=1:2 --network none --shm-size 1m"
    requests = cli(["build", *options.split(), "-t", "a:1", "-t", "b:1", "--target", "x", str(tmp_path)], "1.45")
    build = next((request for request in requests if "/build?" in request.target), None)
    assert build, engine.said
    assert understood(build) == ("ImageBuild", None)
    target = parse(build.target.encode())
    query = check(match("POST", target.path).route.query, target.query)
    assert query.all("t") == ["a:1", "b:1"]
    assert query.values["buildargs"]["A"] == "b"
    assert query.text("networkmode") == "none"


def py_everything(client: docker.APIClient) -> None:
    """One call of docker-py after another."""
    host = client.create_host_config(
        binds=["/a:/b:ro"], port_bindings={"80/tcp": ("127.0.0.1", 8080), "81/udp": None}, privileged=True, mem_limit="64m", memswap_limit=-1,
        dns=["1.1.1.1"], restart_policy={"Name": "always"}, cap_add=["ALL"], devices=["/dev/fuse"], extra_hosts={"a": "1.2.3.4"},
        ulimits=[docker.types.Ulimit(name="nofile", soft=1, hard=2)], log_config=docker.types.LogConfig(type="json-file", config={}),
        tmpfs={"/t": ""}, init=True, sysctls={"a": "b"}, device_requests=[docker.types.DeviceRequest(count=-1, capabilities=[["gpu"]])],
        mounts=[docker.types.Mount("/m", "v"), docker.types.Mount("/n", "/s", type="bind", propagation="rslave")], runtime="runc",
        nano_cpus=10, cpu_rt_period=1, cpu_rt_runtime=1, shm_size="1m", storage_opt={"size": "1G"}, links={"a": "b"}, auto_remove=True,
        cpuset_cpus="0", blkio_weight=10, device_read_bps=[{"Path": "/dev/vda", "Rate": 1}], cgroupns="private", volumes_from=["x"],
    )  # fmt: skip
    networking = client.create_networking_config(
        {"n": client.create_endpoint_config(ipv4_address="10.0.0.2", aliases=["a"], links={"x": "y"})}
    )
    client.create_container(
        "alpine", "sh -c true", name="n", host_config=host, networking_config=networking, environment={"A": "b"}, ports=[80, (81, "udp")],
        volumes=["/b"], labels=["l"], healthcheck={"test": "true", "interval": 10**9}, entrypoint="sh", stop_timeout=3, runtime="runc",
        detach=True, stdin_open=True, tty=True, mac_address="02:00:00:00:00:01", domainname="d", hostname="h", user=0, working_dir="/",
        stop_signal="TERM", platform="linux/amd64", use_config_proxy=False,
    )  # fmt: skip
    client.create_container("alpine")
    client.start("c")
    one = client.exec_create("c", ["sh"], environment=["A=b"], user="0", privileged=True, workdir="/", detach_keys="ctrl-a")
    client.exec_start(one["Id"], detach=True)
    client.exec_resize(one["Id"], 1, 1)
    client.exec_inspect(one["Id"])
    client.update_container("c", mem_limit="1g", cpu_shares=2, restart_policy={"Name": "no"})
    ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet="10.0.0.0/24", aux_addresses={"a": "10.0.0.9"})])
    client.create_network(
        "n", driver="bridge", ipam=ipam, options={"a": "b"}, labels={"a": "b"}, internal=True, enable_ipv6=True, scope="local"
    )
    client.connect_container_to_network("c", "n", aliases=["a"], ipv4_address="10.0.0.2")
    client.disconnect_container_from_network("c", "n", force=True)
    client.networks(names=["n"])
    client.create_volume("v", driver="local", driver_opts={"type": "none"}, labels={"a": "b"})
    client.commit("c", repository="r", tag="t", message="m", conf={"Cmd": ["sh"], "Labels": {"a": "b"}}, changes=["ENV A=b"])
    client.containers(all=True, limit=3, filters={"label": ["a"], "status": "running"}, size=True)
    client.images(name="a", all=True, filters={"dangling": True})
    client.stop("c", timeout=3)
    client.kill("c", "HUP")
    client.wait("c", condition="removed")
    client.logs("c", stdout=True, tail=5, since=1, follow=False, stream=False)
    client.remove_container("c", v=True, force=True)
    client.pull("alpine", tag="3", platform="linux/amd64")
    client.push("alpine", tag="3")
    client.tag("alpine", "r", "t", force=True)
    client.remove_image("alpine", force=True)
    client.put_archive("c", "/", b"tar")
    client.login("me", "secret", registry="registry.example.com", reauth=True)
    client.prune_containers({"until": "1h"})
    client.prune_builds(filters={"a": "b"}, all=True, keep_storage=1)
    client.df()
    client.search("alpine", limit=2)
    client.import_image_from_url("http://registry.example.com/x.tar", repository="r", tag="t")


@pytest.mark.parametrize("version", ["1.41", "1.45"])
def test_requests_of_docker_py_are_understood(engine, version):
    engine.requests.clear()
    client = docker.APIClient(f"http+unix://{engine.server_address}", version=version)
    py_everything(client)
    client.close()
    found = dict(map(understood, engine.requests))
    schemas = {"ExecCreate", "ExecStart", "NetworkCreate", "NetworkConnect", "VolumeCreate", "ImageCommit", "SystemAuth"}
    assert schemas <= found.keys()
    creates = [understood(request)[1] for request in engine.requests if "/containers/create" in request.target]
    assert [body["Image"] for body in creates] == ["alpine", "alpine"]
    assert creates[0]["HostConfig"]["CpuRealtimePeriod"] == 1
    assert creates[0]["HostConfig"]["PortBindings"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8080"}]
    assert "Runtime" not in creates[0]
    assert creates[1]["HostConfig"].get("Privileged", False) is False


def test_a_high_level_run_of_docker_py_is_understood(engine):
    engine.requests.clear()
    client = docker.DockerClient(f"unix://{engine.server_address}", version="1.45")
    with suppress(Exception):
        client.containers.run(
            "alpine", "true", detach=True, network="n", ports={"80/tcp": None}, volumes={"v": {"bind": "/v", "mode": "rw"}}
        )
    client.close()
    assert "ContainerCreate" in [understood(request)[0] for request in engine.requests]


_ZERO_HOST = (
    '{"Binds":null,"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},"NetworkMode":"default","PortBindings":{},"RestartPolicy":'
    '{"Name":"no","MaximumRetryCount":0},"AutoRemove":false,"VolumeDriver":"","VolumesFrom":null,"CapAdd":null,"CapDrop":null,'
    '"CgroupnsMode":"","Dns":[],"DnsOptions":[],"DnsSearch":[],"ExtraHosts":null,"GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,'
    '"OomScoreAdj":0,"PidMode":"","Privileged":false,"PublishAllPorts":false,"ReadonlyRootfs":false,"SecurityOpt":null,"UTSMode":"",'
    '"UsernsMode":"","ShmSize":0,"ConsoleSize":[0,0],"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":0,"CgroupParent":"",'
    '"BlkioWeight":0,"BlkioWeightDevice":[],"BlkioDeviceReadBps":null,"BlkioDeviceWriteBps":null,"BlkioDeviceReadIOps":null,'
    '"BlkioDeviceWriteIOps":null,"CpuPeriod":0,"CpuQuota":0,"CpuRealtimePeriod":0,"CpuRealtimeRuntime":0,"CpusetCpus":"",'
    '"CpusetMems":"","Devices":[],"DeviceCgroupRules":null,"DeviceRequests":null,"KernelMemory":0,"KernelMemoryTCP":0,'
    '"MemoryReservation":0,"MemorySwap":0,"MemorySwappiness":-1,"OomKillDisable":false,"PidsLimit":0,"Ulimits":null,"CpuCount":0,'
    '"CpuPercent":0,"IOMaximumIOps":0,"IOMaximumBandwidth":0,"MaskedPaths":null,"ReadonlyPaths":null}'
)
BODIES = {
    "a Go client of API 1.41": (
        '{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"AttachStdout":true,"AttachStderr":true,"Tty":false,"OpenStdin":'
        'false,"StdinOnce":false,"Env":[],"Cmd":["true"],"Image":"alpine","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,'
        f'"Labels":{{}},"HostConfig":{_ZERO_HOST},"NetworkingConfig":{{"EndpointsConfig":{{}}}}}}\n'
    ),
    "curl": '{"Image":"alpine","Cmd":"true"}',
    "curl with a tab": '{\n\t"Image" : "alpine",\r\n "HostConfig": { } }\n\n',
    "docker-java": (
        '{"authConfig":null,"name":null,"Hostname":null,"PortSpecs":null,"Image":"testcontainers/ryuk","Volumes":{},"ExposedPorts":'
        '{"8080/tcp":{}},"HostConfig":{"Binds":["/var/run/docker.sock:/var/run/docker.sock:rw"],"DiskQuota":null,"LxcConf":null,'
        '"PortBindings":{"8080/tcp":[{"HostIp":"","HostPort":""}]},"CapAdd":["NET_ADMIN"],"ConsoleSize":null},"Shell":null,'
        '"NetworkingConfig":{"EndpointsConfig":{"n":{"Aliases":["a"],"IPAMConfig":null}}}}'
    ),
    "a container made again from its inspection": (
        '{"Image":"a","ArgsEscaped":true,"MacAddress":"02:00:00:00:00:01","NetworkingConfig":{"EndpointsConfig":{"n":{"NetworkID":"i","EndpointID":'
        '"e","Gateway":"10.0.0.1","IPAddress":"10.0.0.2","IPPrefixLen":24,"IPv6Gateway":"","GlobalIPv6Address":"","GlobalIPv6PrefixLen":0,'
        '"MacAddress":"","DriverOpts":null,"DNSNames":["c"],"GwPriority":0}}}}'
    ),
    "a network without settings": '{"Image":"a","NetworkingConfig":{"EndpointsConfig":{"n":null}}}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_bodies_of_other_clients_are_understood(body):
    assert decode(body.encode(), "ContainerCreate")["HostConfig"] is not None


OTHER_BODIES = [
    ("ExecCreate", '{"User":"","Privileged":false,"Tty":false,"AttachStdin":false,"AttachStderr":true,"AttachStdout":true,"Detach":false,'
     '"DetachKeys":"","Env":null,"WorkingDir":"","Cmd":["sh"]}'),
    ("ExecCreate", '{"containerId":"c","AttachStdout":true,"Cmd":["sh"],"Env":null}'),
    ("ExecStart", '{"Detach":false,"Tty":true,"ConsoleSize":[24,80]}'),
    ("NetworkCreate", '{"CheckDuplicate":true,"Driver":"bridge","EnableIPv6":false,"IPAM":{"Driver":"default","Options":null,"Config":[{"Subnet":'
     '"10.0.0.0/24","NetworkID":null}]},"Internal":false,"Attachable":false,"Ingress":false,"ConfigOnly":false,"ConfigFrom":null,"Options":null,'
     '"Labels":null,"Name":"n","Scope":"","EnableIPv4":true}'),
    ("NetworkConnect", '{"Container":"c","EndpointConfig":null}'),
    ("VolumeCreate", '{"Name":"","Driver":"local","DriverOpts":null,"Labels":null}'),
    ("ImageCommit", "null\n"),
    ("AuthConfig", '{"username":"u","password":"p","serveraddress":"registry.example.com"}'),
]  # fmt: skip


@pytest.mark.parametrize(("schema", "body"), OTHER_BODIES)
def test_other_bodies_are_understood(schema, body):
    assert isinstance(decode(body.encode(), schema), dict)
