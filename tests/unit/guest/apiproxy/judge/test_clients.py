"""Bodies as clients send them, read by the proxy's schemas and judged."""

import json

import pytest

from cofferdam_guest.apiproxy.schema.decode import decode, encode

_RESOURCES = {
    **dict.fromkeys(("CpuShares", "Memory", "NanoCpus", "CpuPeriod", "CpuQuota", "CpuRealtimePeriod", "CpuRealtimeRuntime"), 0),
    **dict.fromkeys(
        ("MemoryReservation", "MemorySwap", "CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth", "BlkioWeight"), 0
    ),
    **dict.fromkeys(("CgroupParent", "CpusetCpus", "CpusetMems"), ""),
    **dict.fromkeys(
        ("BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps"), ()
    ),
    **dict.fromkeys(("Devices", "Ulimits"), ()),
    **dict.fromkeys(("DeviceCgroupRules", "DeviceRequests"), None),
    **{"MemorySwappiness": -1, "OomKillDisable": False, "PidsLimit": 0},
}
_HOST = {
    **{
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "", "Config": {}},
        "NetworkMode": "default",
        "PortBindings": {},
    },
    **{"RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": True, "VolumeDriver": "", "VolumesFrom": None},
    **{
        "ConsoleSize": [24, 80],
        "CapAdd": None,
        "CapDrop": None,
        "CgroupnsMode": "",
        "Dns": [],
        "DnsOptions": [],
        "DnsSearch": [],
    },
    **{"ExtraHosts": None, "GroupAdd": None, "IpcMode": "", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": ""},
    **{
        "Privileged": False,
        "PublishAllPorts": False,
        "ReadonlyRootfs": False,
        "SecurityOpt": None,
        "UTSMode": "",
        "UsernsMode": "",
    },
    **{"ShmSize": 0, "Isolation": "", "MaskedPaths": None, "ReadonlyPaths": None, **_RESOURCES},
}
_CONFIG = {
    **{
        "Hostname": "",
        "Domainname": "",
        "User": "",
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": True,
    },
    **{"OpenStdin": True, "StdinOnce": True, "Env": None, "Cmd": ["sh"], "Image": "alpine", "Volumes": {}, "WorkingDir": ""},
    **{"Entrypoint": None, "OnBuild": None, "Labels": {}},
}

BODIES = {
    "docker run": _CONFIG | {"HostConfig": _HOST, "NetworkingConfig": {"EndpointsConfig": {}}},
    "docker run, many options": _CONFIG
    | {
        "Volumes": {"/data": {}},
        "HostConfig": _HOST
        | {
            "Binds": ["cache:/cache:ro"],
            "PortBindings": {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]},
            "Tmpfs": {"/tmp": "", "/run": "rw,size=1g,mode=1777"},
            "Mounts": [{"Type": "volume", "Source": "vol", "Target": "/v", "VolumeOptions": {"NoCopy": True}}],
            "SecurityOpt": ["seccomp=unconfined", "label=disable"],
            "Privileged": True,
        },
        "NetworkingConfig": {"EndpointsConfig": {"mine": {"Aliases": ["a"]}}},
    },
    "buildx with a container": {
        "Image": "moby/buildkit:buildx-stable-1",
        "HostConfig": {
            **{"Privileged": True, "Init": True, "CgroupParent": "/docker/buildx", "NetworkMode": "bridge", "UsernsMode": "host"},
            "RestartPolicy": {"Name": "unless-stopped"},
            "Mounts": [{"Type": "volume", "Source": "buildx_buildkit_default0_state", "Target": "/var/lib/buildkit"}],
        },
    },
    "curl": {"Image": "alpine"},
}


@pytest.mark.parametrize("name", BODIES)
def test_what_clients_send_passes_and_comes_out_as_a_body_again(ask, name):
    body = decode(json.dumps(BODIES[name]).encode(), "ContainerCreate")
    judged = ask("ContainerCreate", body).body
    assert judged["HostConfig"]["Runtime"] == "sysbox-runc"
    assert judged["HostConfig"].get("UsernsMode", "") == ""
    assert decode(encode(judged), "ContainerCreate") == judged


def test_a_driver_beside_the_image_is_found(ask):
    body = decode(b'{"Image": "alpine", "VolumeDriver": "flocker"}', "ContainerCreate")
    assert ask.refused("ContainerCreate", body).rule == "volume-driver"


def test_the_sockets_flag_of_the_client_is_judged_like_a_bind(ask):
    mount = {"Type": "bind", "Source": "/var/run/docker.sock", "Target": "/var/run/docker.sock", "BindOptions": {}}
    host = _HOST | {"Mounts": [mount]}
    body = decode(json.dumps(_CONFIG | {"HostConfig": host}).encode(), "ContainerCreate")
    assert ask.refused("ContainerCreate", body).rule == "socket-mount"
