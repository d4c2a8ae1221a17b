import pytest


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"remote": "client-session", "version": "2", "session": "x"},
        {"remote": "github.com/docker/cli"},
        {"remote": "git@github.com:docker/cli.git"},
        {"remote": "ssh://git@example.com:2222/x.git"},
        {"networkmode": "none"},
        {"networkmode": "default", "extrahosts": ["a:1.2.3.4"], "buildargs": {"BUILDKIT_SYNTAX": "docker/dockerfile:1"}},
        {"ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}], "outputs": [{"Type": "local", "Attrs": {"dest": "out"}}]},
        {"ulimits": {}, "securityopt": [], "cgroupparent": ""},
        {"cgroupparent": "/docker/builds"},
    ],
)
def test_builds_pass(ask, query):
    assert ask("ImageBuild", **query).query == query


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"networkmode": "host"}, "build-network"),
        ({"cgroupparent": "/"}, "cgroup"),
        ({"securityopt": ["seccomp=unconfined"]}, "build-security"),
        ({"ulimits": [{"Name": "rtprio", "Soft": 1, "Hard": 1}]}, "ulimit"),
        ({"remote": "http://10.0.2.2/x"}, "remote-address"),
        ({"remote": "git@10.0.2.2:x.git"}, "remote-address"),
        ({"remote": "git://127.0.0.1/x.git"}, "remote-address"),
        ({"remote": "/etc"}, "url"),
        ({"remote": "file:///etc"}, "url"),
        ({"remote": "docker-image://alpine"}, "url"),
        ({"remote": "ext::sh -c x"}, "url"),
    ],
)
def test_what_reaches_the_vm_is_refused(ask, query, rule):
    assert ask.refused("ImageBuild", **query).rule == rule


def test_the_text_for_the_hosts_network_names_the_entitlement(ask):
    text = ask.refused("ImageBuild", networkmode="host").message
    assert "granting entitlement network.host is not allowed by build daemon configuration" in text
    assert "network.host is not allowed" in text
