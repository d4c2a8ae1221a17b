import pytest

ROUTES = ("ContainerStart", "ContainerRestart", "ContainerArchiveInfo", "ContainerArchiveGet", "ContainerArchivePut")
# what dockerd reports of an ordinary container
HOST = {
    "Binds": ["vol:/data"],
    "LogConfig": {"Type": "json-file", "Config": {"max-file": "3", "max-size": "10m"}},
    "NetworkMode": "bridge",
    "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
    "CgroupnsMode": "private",
    "IpcMode": "private",
    "Runtime": "sysbox-runc",
    "Devices": [],
    "DeviceRequests": None,
    "Tmpfs": {"/t": "size=1m"},
}


def container(**host):
    points = [
        {
            "Type": "volume",
            "Name": "vol",
            "Source": "/var/lib/docker/volumes/vol/_data",
            "Destination": "/data",
            "Driver": "local",
            "RW": True,
        }
    ]
    return {"Image": "sha256:1", "Config": {"Image": "alpine"}, "HostConfig": HOST | host, "Mounts": points}


@pytest.mark.parametrize("route", ROUTES)
def test_an_ordinary_container_passes(ask, route):
    ask.facts.containers["box"] = container()
    ask.facts.volumes["vol"] = {"Driver": "local", "Options": None}
    assert ask(route).params == {"name": "box"}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("host", "rule"),
    [
        ({"PidMode": "host"}, "host-namespace"),
        ({"NetworkMode": "host"}, "host-namespace"),
        ({"Devices": [{"PathOnHost": "/dev/vda"}]}, "device"),
        ({"Runtime": "io.containerd.runsc.v1"}, "runtime"),
        ({"CgroupParent": "/"}, "cgroup"),
        ({"Binds": ["/:/x"]}, "restricted-mount"),
        ({"LogConfig": {"Type": "syslog"}}, "log-driver"),
        ({"PortBindings": {"1/tcp": [{"HostPort": "2376"}]}}, "port"),
    ],
)
def test_a_container_older_than_the_policy_is_judged_as_a_new_one(ask, route, host, rule):
    ask.facts.containers["box"] = container(**host)
    assert ask.refused(route).rule == rule


@pytest.mark.parametrize("runtime", ["", None, "runc", "io.containerd.runc.v2"])
def test_a_container_made_for_another_name_of_the_wrapper_starts(ask, runtime):
    ask.facts.containers["box"] = container(Runtime=runtime)
    ask("ContainerStart")


@pytest.mark.parametrize("parameter", ["checkpoint", "checkpoint-dir"])
def test_nothing_is_restored_from_a_checkpoint(ask, parameter):
    ask.facts.containers["box"] = container()
    assert ask.refused("ContainerStart", None, **{parameter: "x"}).rule == "checkpoint"
