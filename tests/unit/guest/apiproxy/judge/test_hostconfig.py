import pytest

from cofferdam_guest.apiproxy.judge import devices, refusals, sysctls
from cofferdam_guest.config.policy import Policy
from cofferdam_guest.runtime import errors
from cofferdam_guest.runtime.modifiers import devices as wrapper_devices
from cofferdam_guest.runtime.modifiers import sysctl as wrapper_sysctls

SPEC = "failed to create shim task: OCI runtime create failed: error in the container spec: "
UNSUPPORTED = f"{SPEC}invalid or unsupported container spec: "
DESKTOP = ["host.docker.internal:10.0.2.2", "gateway.docker.internal:10.0.2.2"]
BECAUSE = "with the host (because they use the linux user-namespace for isolation)"

# field, a value that passes, one that does not, rule, text
FIELDS = [
    (
        "PidMode",
        "container:x",
        "host",
        "host-namespace",
        f"{UNSUPPORTED}cofferdam containers can't share namespaces [pid] {BECAUSE}",
    ),
    (
        "IpcMode",
        "shareable",
        "host",
        "host-namespace",
        f"{UNSUPPORTED}cofferdam containers can't share namespaces [ipc] {BECAUSE}",
    ),
    ("UTSMode", "", "host", "host-namespace", f"{UNSUPPORTED}cofferdam containers can't share namespaces [uts] {BECAUSE}"),
    (
        *("NetworkMode", "none", "host", "host-namespace"),
        f"{UNSUPPORTED}cofferdam containers can't share a network namespace {BECAUSE}",
    ),
    ("Cgroup", "", "container:x", "cgroup", "Cgroup container:x"),
    ("CgroupParent", "/docker/buildx", "/system.slice", "cgroup", f"{SPEC}control group /system.slice"),
    ("CgroupParent", "", "/docker/../x", "cgroup", f"{SPEC}control group /docker/../x"),
    ("CgroupParent", "/docker/a/b", "/docker/a:b", "cgroup", f"{SPEC}control group /docker/a:b"),
    ("CgroupParent", "", "docker.slice:a:b", "cgroup", f"{SPEC}control group docker.slice:a:b"),
    (
        *("Devices", [{"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse"}], [{"PathOnHost": "/dev/vda"}], "device"),
        f"{SPEC}device /dev/vda of the VM can't be used in a container; only fuse and tun can",
    ),
    ("Devices", [{"PathOnHost": "/dev/net/tun"}], [{"PathOnHost": "/dev/net"}], "device", "device /dev/net of"),
    ("DeviceRequests", [], [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}], "device", "device request gpu"),
    ("DeviceRequests", [], [{"Driver": "cdi", "DeviceIDs": ["a.com/b=c"]}], "device", "device request cdi"),
    ("DeviceCgroupRules", ["b 8:* rmw"], None, "", ""),
    (
        "Ulimits",
        [{"Name": "nofile", "Soft": 1, "Hard": 1}],
        [{"Name": "rtprio", "Soft": 1, "Hard": 1}],
        "ulimit",
        "ulimit rtprio",
    ),
    ("Sysctls", {"net.ipv4.ip_local_port_range": "1024 65000"}, {"vm.swappiness": "1"}, "sysctl", "sysctl 'vm.swappiness'"),
    ("Sysctls", {"kernel.shmmax": "1"}, {"kernel.shm_rmid_forced": "1+kernel.core_pattern=|/x"}, "sysctl", "no value"),
    ("Sysctls", {"kernel.sem": "1\t2"}, {"kernel.sem": "1\n2"}, "sysctl", "more than one line"),
    ("Sysctls", {}, {"net.ipv4.x y": "1"}, "sysctl", "not namespaced"),
    ("Sysctls", {}, {"net.ipv4.ip_forward+kernel.x": "1"}, "sysctl", "not namespaced"),
    ("SecurityOpt", ["seccomp=unconfined", "apparmor=unconfined"], ["apparmor=mine"], "apparmor", f"{SPEC}AppArmor profile mine"),
    ("LogConfig", {"Type": "local", "Config": {"max-size": "1m"}}, {"Type": "syslog"}, "log-driver", "log driver syslog"),
    ("LogConfig", {"Type": "none"}, {"Type": "journald"}, "log-driver", "log driver journald"),
    ("LogConfig", {"Type": ""}, {"Type": "", "Config": {"syslog-address": "unix:///x"}}, "log-driver", "option syslog-address"),
    ("VolumeDriver", "local", "flocker", "volume-driver", "volume driver flocker"),
    ("PortBindings", {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}, {"80/tcp": [{"HostPort": "2375"}]}, "port", "port 2375"),
    ("PortBindings", {"80/tcp": [{"HostPort": ""}]}, {"80/tcp": [{"HostIp": "10.0.2.15", "HostPort": "022"}]}, "port", "port 22"),
    ("PortBindings", {"80/tcp": None}, {"80/udp": [{"HostPort": "2370-2380"}]}, "port", "port 2375"),
    ("PortBindings", {"80/tcp": [{"HostPort": "2377-2380"}]}, {"80/tcp": [{"HostPort": "2_375"}]}, "port", "not a port"),
    ("StorageOpt", {"size": "1g"}, None, "", ""),
    ("Links", ["a:b"], None, "", ""),
    ("Privileged", True, None, "", ""),
]


@pytest.mark.parametrize(("field", "good"), [(each[0], each[1]) for each in FIELDS])
def test_what_is_harmless_passes_as_it_is(ask, field, good):
    assert ask.create({field: good})[field] == good


@pytest.mark.parametrize(("field", "bad", "rule", "text"), [(each[0], *each[2:]) for each in FIELDS if each[2] is not None])
def test_what_reaches_the_vm_is_refused_in_the_wrappers_words(ask, field, bad, rule, text):
    error = ask.refused_create({field: bad})
    assert error.rule == rule
    assert text in error.message


@pytest.mark.parametrize(
    ("field", "asked", "got"),
    [
        ("Runtime", "runc", "sysbox-runc"),
        ("Runtime", "io.containerd.runsc.v1", "sysbox-runc"),
        ("Runtime", None, "sysbox-runc"),
        ("UsernsMode", "host", ""),
        ("UsernsMode", "", ""),
        ("CgroupnsMode", "host", "private"),
        ("CgroupnsMode", "", ""),
        ("OomScoreAdj", -500, 0),
        ("OomScoreAdj", 500, 500),
        (
            *(
                "Annotations",
                {"run.oci.handler": "x", "cdi.k8s.io/a": "x", "io.kubernetes.b": "x", "module.wasm.image": "x", "my": "1"},
            ),
            {"my": "1"},
        ),
    ],
)
def test_what_is_ignored_is_set_to_what_holds(ask, field, asked, got):
    assert ask.create({field: asked})[field] == got


def test_a_body_without_host_configuration_gets_the_runtime(ask):
    assert ask("ContainerCreate", {"Image": "alpine"}).body["HostConfig"] == {"Runtime": "sysbox-runc", "ExtraHosts": DESKTOP}


def test_the_request_that_was_judged_is_left_as_it_was(ask):
    body = {"Image": "alpine", "HostConfig": {"UsernsMode": "host"}}
    ask("ContainerCreate", body)
    assert body == {"Image": "alpine", "HostConfig": {"UsernsMode": "host"}}


def test_the_network_of_the_host_as_an_endpoint_is_refused(ask):
    assert ask.refused_create(NetworkingConfig={"EndpointsConfig": {"host": {}}}).rule == "host-namespace"


@pytest.mark.parametrize(
    ("field", "bad"),
    [(each[0], each[2]) for each in FIELDS if each[0] in ("CgroupParent", "Devices", "DeviceRequests", "Ulimits")],
)
def test_an_update_is_judged_as_a_new_container(ask, field, bad):
    ask.refused("ContainerUpdate", {field: bad})


def test_an_update_of_limits_passes(ask):
    assert ask("ContainerUpdate", {"Memory": 1, "RestartPolicy": {"Name": "no"}}).body["Memory"] == 1


def test_the_policys_own_log_driver_passes_with_its_own_options_only(ask):
    ask.policy = Policy(daemon_options={"log-driver": "syslog", "log-opts": {"syslog-address": "tcp://log.example.com"}})
    ask.create({"LogConfig": {"Type": "syslog", "Config": {"syslog-address": "tcp://log.example.com", "tag": "x"}}})
    other = {"Type": "syslog", "Config": {"syslog-address": "unix:///run/docker.sock"}}
    assert ask.refused_create({"LogConfig": other}).rule == "log-driver"
    assert ask.refused_create({"LogConfig": {"Config": {"syslog-address": "unix:///x"}}}).rule == "log-driver"


def test_devices_are_the_wrappers():
    assert {*wrapper_devices.DEFAULT.values(), *wrapper_devices.ON_REQUEST.values()} == devices.NODES


@pytest.mark.parametrize(
    "name",
    [
        "net.a",
        "net..a",
        "kernel.sem",
        "kernel.semx",
        "kernel.msgmax",
        "kernel.shmall",
        "fs.mqueue.x",
        "fs.file-max",
        "net.ä",
        "net/a",
        "",
        "net.a\n",
    ],
)
def test_sysctls_are_judged_as_by_the_wrapper(name):
    assert sysctls.is_namespaced(name) == wrapper_sysctls.is_namespaced(name)


def test_refusals_have_the_words_of_the_wrapper():
    """What dockerd puts around the wrapper's own words is there too."""
    assert refusals.spec("x", "why").message == f"{refusals.PREFIX}{errors.Refusal('x', 'why')}: unknown"
    assert refusals.unsupported("x", "why").message == f"{refusals.PREFIX}{errors.unsupported('x', 'why')}: unknown"
    assert refusals.NAME == errors.NAME
