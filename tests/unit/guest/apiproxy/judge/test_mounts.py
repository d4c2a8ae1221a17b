import pytest
from hypothesis import given
from hypothesis import strategies as st

from cofferdam_guest.apiproxy.errors import Denied
from cofferdam_guest.apiproxy.judge import sources, volumes
from cofferdam_guest.config.authorities import BUNDLE
from cofferdam_guest.config.policy import Policy
from cofferdam_guest.runtime import mountoptions

SOCKET = "/var/run/docker.sock"
RESTRICTED = (
    "failed to create shim task: OCI runtime create failed: error in the container spec: can't mount {} because it's configured as a"
    " restricted host mount: unknown"
)
ROW_17 = (
    'enhanced container isolation: docker socket mount denied for container with image "docker.io/library/docker"; image is not in'
    " the allowed list; if you wish to allow it, configure the docker socket image list in the Docker Desktop settings."
)


def bind_point(source):
    return {"Type": "bind", "Source": source, "Destination": "/x", "RW": True}


# how a source of the VM can come to a container: (route, body), given the source and the engine's objects
def in_binds(source, facts):
    return "ContainerCreate", {"Image": "i", "HostConfig": {"Binds": [f"{source}:/x"]}}


def in_mounts(source, facts):
    return "ContainerCreate", {"Image": "i", "HostConfig": {"Mounts": [{"Type": "bind", "Source": source, "Target": "/x"}]}}


def in_volumes_from(source, facts):
    facts.containers["old"] = {"Mounts": [bind_point(source)]}
    return "ContainerCreate", {"Image": "i", "HostConfig": {"VolumesFrom": ["old:ro"]}}


def in_driver_options(source, facts):
    driver = {"Name": "local", "Options": {"type": "none", "o": "bind", "device": source}}
    mount = {"Type": "volume", "Source": "vol", "Target": "/x", "VolumeOptions": {"DriverConfig": driver}}
    return "ContainerCreate", {"Image": "i", "HostConfig": {"Mounts": [mount]}}


def in_volume_create(source, facts):
    return "VolumeCreate", {"Name": "vol", "DriverOpts": {"type": "none", "o": "bind", "device": source}}


def in_volume_by_name(source, facts):
    facts.volumes["vol"] = {"Driver": "local", "Options": {"type": "none", "o": "bind", "device": source}}
    return "ContainerCreate", {"Image": "i", "HostConfig": {"Binds": ["vol:/x"]}}


def in_volume_by_name_of_mounts(source, facts):
    facts.volumes["vol"] = {"Driver": "local", "Options": {"type": "none", "o": "bind", "device": source}}
    return "ContainerCreate", {"Image": "i", "HostConfig": {"Mounts": [{"Type": "volume", "Source": "vol", "Target": "/x"}]}}


def in_tmpfs(source, facts):
    return "ContainerCreate", {"Image": "i", "HostConfig": {"Tmpfs": {"/x": f"bind,source={source}"}}}


def in_an_old_container(source, facts):
    facts.containers["box"] = {"Image": "sha256:1", "Config": {"Image": "i"}, "HostConfig": {}, "Mounts": [bind_point(source)]}
    return "ContainerStart", None


def in_an_old_containers_volume(source, facts):
    facts.volumes["vol"] = {"Driver": "local", "Options": {"type": "none", "o": "bind", "device": source}}
    point = {"Type": "volume", "Name": "vol", "Source": "/var/lib/docker/volumes/vol/_data", "Destination": "/x", "RW": True}
    facts.containers["box"] = {"Image": "sha256:1", "Config": {"Image": "i"}, "HostConfig": {}, "Mounts": [point]}
    return "ContainerRestart", None


def in_a_copy(source, facts):
    in_an_old_container(source, facts)
    return "ContainerArchiveGet", None


CARRIERS = [value for name, value in list(globals().items()) if name.startswith("in_")]


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("source", ["/etc/docker/daemon.json", "/", "/run", SOCKET, "/var/lib/docker", "/proc/1/root"])
def test_no_carrier_takes_files_of_the_vm(ask, carrier, source):
    ask.refused(*carrier(source, ask.facts))


@pytest.mark.parametrize("carrier", CARRIERS)
def test_every_carrier_takes_what_is_harmless(ask, carrier):
    """The same requests with the source taken out, or one that the policy allows: it is the source that is judged."""
    ask.policy = Policy(mounts_allow_read_write=("/var/srv/data",))
    route, body = carrier("/var/srv/data/x", ask.facts)
    ask.facts.volumes = {name: {"Driver": "local", "Options": None} for name in ask.facts.volumes}
    for mount in (body or {}).get("HostConfig", {}).get("Mounts", []):
        mount.pop("VolumeOptions", None)
    if "DriverOpts" in (body or {}):
        body["DriverOpts"] = {"type": "tmpfs", "device": "tmpfs", "o": "size=64m,mode=1777,uid=1000,nodev"}
    if "Tmpfs" in (body or {}).get("HostConfig", {}):
        body["HostConfig"]["Tmpfs"] = {"/x": "rw,noexec,size=65536k", "/y": ""}
    ask(route, body)


_TRAPS = [
    "/etc",
    "/run",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/root",
    "/var/lib/docker/volumes/x/_data",
    "/host",
    "/dev/vda",
]


@st.composite
def spellings(draw):
    """A path of the VM in some of the ways in which it can be written."""
    path = draw(st.sampled_from(_TRAPS))
    pieces = path.strip("/").split("/")
    text = draw(st.sampled_from(["", "/proc/1/root", "/host/..", "/var/srv/data/../..", "/run/../.", "/.."]))
    for piece in pieces:
        text += draw(st.sampled_from(["/", "//", "/./", "/x/../", "///"])) + piece
    return "/" * draw(st.integers(0, 2)) + text + draw(st.sampled_from(["", "/", "/.", "//", "/x/.."]))


@given(source=spellings(), carrier=st.sampled_from(CARRIERS))
def test_no_spelling_makes_a_path_of_the_vm_harmless(new_ask, source, carrier):
    ask = new_ask()
    ask.policy = Policy(mounts_allow_read_write=("/var/srv/data",))
    ask.refused(*carrier(source, ask.facts))


@pytest.mark.parametrize("source", [r"\etc", r"\x/../etc/passwd", "etc/passwd", "../etc", "", "."])
def test_a_bind_must_have_an_absolute_source(ask, source):
    ask.refused(*in_mounts(source, ask.facts))


@pytest.mark.parametrize("source", ["../etc", "a/b", "x", "$HOME", "~", "vol\n"])
def test_a_source_that_is_no_name_is_not_looked_up(ask, source):
    assert ask.refused(*in_binds(source, ask.facts)).rule == "volume-name"


def test_the_text_of_a_restricted_mount_is_the_documented_one(ask):
    error = ask.refused(*in_binds("/etc/docker/daemon.json", ask.facts))
    assert (error.status, error.rule, error.message) == (403, "restricted-mount", RESTRICTED.format("/etc/docker/daemon.json"))


@pytest.mark.parametrize(
    "source", ["/run/docker.sock", "/var/run/docker.sock", "//run/./docker.sock", "/var/run/../run/docker.sock"]
)
@pytest.mark.parametrize("carrier", [in_binds, in_mounts])
def test_the_socket_is_for_allowed_images(ask, carrier, source):
    route, body = carrier(source, ask.facts)
    body["Image"] = "docker:cli"
    error = ask.refused(route, body)
    assert (error.status, error.rule, error.message) == (403, "socket-mount", ROW_17)
    ask.facts.allowed.add("docker:cli")
    ask(route, body)


def test_the_socket_of_a_container_that_exists_is_judged_by_the_images_id(ask):
    route, _ = in_an_old_container(SOCKET, ask.facts)
    ask.facts.allowed.add("i")
    assert ask.refused(route).rule == "socket-mount"
    ask.facts.allowed.add("sha256:1")
    ask(route)


def test_an_image_that_is_missing_is_left_to_the_engine_which_makes_the_client_pull_it(ask):
    ask.facts.missing |= {"i", "sha256:1", ""}
    route, body = in_binds(SOCKET, ask.facts)
    ask(route, body)
    assert ask.refused(route, body | {"Image": ""}).rule == "socket-mount"
    assert ask.refused(*in_an_old_container(SOCKET, ask.facts)).rule == "socket-mount"


def test_the_socket_of_another_container_is_judged_by_the_new_ones_image(ask):
    route, body = in_volumes_from(SOCKET, ask.facts)
    assert ask.refused(route, body).rule == "socket-mount"
    ask.facts.allowed.add("i")
    ask(route, body)


def test_a_link_to_the_socket_is_not_the_socket(ask):
    ask.facts.links["/var/srv/s"] = "/run/docker.sock"
    ask.facts.allowed.add("i")
    ask.policy = Policy(mounts_allow_read_write=("/var/srv",))
    assert ask.refused(*in_binds("/var/srv/s", ask.facts)).rule == "restricted-mount"


@pytest.mark.parametrize("allowed", ["/", "/run", "/var/lib", "/run/cofferdam"])
def test_no_policy_gives_away_the_engine(ask, allowed):
    ask.policy = Policy(mounts_allow_read_write=(allowed,))
    for source in (allowed, "/run/cofferdam/dockerd.sock", "/var/lib/docker", "/proc"):
        assert ask.refused(*in_binds(source, ask.facts)).rule == "restricted-mount"


def test_paths_of_the_policy_pass_as_it_says(ask):
    ask.policy = Policy(
        mounts_allow_read_only=("/var/srv/ro",), mounts_allow_read_write=("/var/srv/rw",), mounts_deny=("/var/srv/rw/not",)
    )
    host = {"Binds": ["/var/srv/ro:/a:ro", "/var/srv/ro/x/../y:/b:ro,z", "/var/srv/rw/x:/c"]}
    ask.create(host)
    for bind in (
        "/var/srv/ro:/a",
        "/var/srv/ro:/a:rw",
        "/var/srv/rw/not:/a",
        "/var/srv/rw/not/x:/a:ro",
        "/var/srv/rw:/a",
        "/var/srv/rwx:/a",
        "/var/srv:/a:ro",
    ):
        assert ask.refused_create({"Binds": [bind]}).rule == "restricted-mount", bind


@pytest.mark.parametrize("source", ["srv/x", r"\srv", "./srv"])
def test_a_relative_source_is_not_below_an_allowed_directory(ask, source):
    ask.policy = Policy(mounts_allow_read_write=("/var/srv",))
    assert ask.refused(*in_mounts(source, ask.facts)).rule == "restricted-mount"


def test_a_mount_of_another_container_is_read_only_when_it_is_there_or_here(ask):
    ask.policy = Policy(mounts_allow_read_only=("/var/srv",))
    writable = bind_point("/var/srv")
    ask.facts.containers |= {"writable": {"Mounts": [writable]}, "not": {"Mounts": [writable | {"RW": False}]}}
    ask.create({"VolumesFrom": ["writable:ro", "not", "not:rw,z"]})
    for text in ("writable", "writable:rw", "writable:z"):
        assert ask.refused_create({"VolumesFrom": [text]}).rule == "restricted-mount"


def test_links_in_an_allowed_directory_lead_nowhere_else(ask):
    ask.policy = Policy(mounts_allow_read_write=("/var/srv", "/var/run/mine"))
    ask.facts.shares = ("/home/me",)
    ask.facts.links |= {"/var/srv/link": "/etc", "/home/me/link": "/etc", "/home/me/socket": "/run/docker.sock"}
    assert ask.refused(*in_binds("/var/srv/link", ask.facts)).rule == "restricted-mount"
    assert ask.refused(*in_binds("/var/srv/link/docker", ask.facts)).rule == "restricted-mount"
    for source in ("/home/me/link", "/home/me/socket"):
        ask.refused(*in_binds(source, ask.facts))
    ask(*in_binds("/run/mine/x", ask.facts))


def test_what_is_shared_passes(ask):
    ask.facts.shares = ("/home/me", "/data")
    ask.create({"Binds": ["/home/me:/a", "/data/x:/b", "/home/me/new/directory:/c:ro"]})


@pytest.mark.parametrize("source", ["/home", "/home/meg", "/home/me/../you", "/Users/me", "/root", "/tmp/x"])
def test_what_is_not_shared_is_refused_with_the_way_to_share_it(ask, source):
    ask.facts.shares = ("/home/me", "/data")
    error = ask.refused(*in_binds(source, ask.facts))
    assert error.rule == "share"
    path = sources.clean(source)
    assert f"The path {path} is not shared from the host and is not known to Docker" in error.message
    assert f"inv boot --share {path}" in error.message


def test_a_share_is_no_way_round_the_policys_own_list(ask):
    ask.facts.shares = ("/home/me",)
    ask.policy = Policy(mounts_deny=("/home/me/keys",))
    for source in ("/home/me/keys/x", "/home/me/keys", "/home/me"):
        assert ask.refused(*in_binds(source, ask.facts)).rule == "restricted-mount"
    ask(*in_binds("/home/me/work", ask.facts))


def test_the_authorities_may_be_mounted_read_only(ask):
    ask.create({"Binds": [f"{BUNDLE}:/etc/ssl/certs/ca-certificates.crt:ro"]})
    for binds in ([f"{BUNDLE}:/ca.pem"], [f"{BUNDLE}/x:/ca.pem:ro"], ["/run/cofferdam:/x:ro"], [f"{BUNDLE}.new:/ca.pem:ro"]):
        assert ask.refused_create({"Binds": binds}).rule == "restricted-mount"
    ask.policy = Policy(mounts_deny=(BUNDLE,))
    assert ask.refused_create({"Binds": [f"{BUNDLE}:/ca.pem:ro"]}).rule == "restricted-mount"
    ask.policy = Policy(mounts_allow_read_write=(BUNDLE,))
    assert ask.refused_create({"Binds": [f"{BUNDLE}:/ca.pem"]}).rule == "restricted-mount", "no policy makes it writable"


def test_the_kernels_modules_may_be_mounted_read_only(ask):
    ask.facts.links["/lib"] = "/usr/lib"
    for source in ("/lib/modules", "/usr/lib/modules/7.3.4", "/lib/../lib/modules/"):
        ask.create({"Binds": [f"{source}:/lib/modules:ro"]})
        assert ask.refused_create({"Binds": [f"{source}:/lib/modules"]}).rule == "restricted-mount"
    for source in ("/lib", "/usr/lib/modules/..", "/usr/lib/modules-load.d", "/lib/systemd"):
        assert ask.refused_create({"Binds": [f"{source}:/x:ro"]}).rule == "restricted-mount"
    ask.policy = Policy(mounts_deny=("/usr/lib/modules",))
    assert ask.refused_create({"Binds": ["/lib/modules:/lib/modules:ro"]}).rule == "restricted-mount"


@pytest.mark.parametrize("kind", ["npipe", "cluster", "", "overlay"])
def test_other_types_of_mounts_are_refused(ask, kind):
    assert ask.refused_create({"Mounts": [{"Type": kind, "Source": "x", "Target": "/x"}]}).rule == "mount"


@pytest.mark.parametrize(
    "mount",
    [
        {"Type": "tmpfs", "Target": "/x", "TmpfsOptions": {"SizeBytes": 1}},
        {"Type": "image", "Source": "alpine", "Target": "/x"},
        {"Type": "volume", "Target": "/x"},
        {"Type": "volume", "Source": "new-volume", "Target": "/x", "VolumeOptions": {"Subpath": "a"}},
    ],
)
def test_mounts_of_the_engines_own_pass(ask, mount):
    ask.create({"Mounts": [mount]})


@pytest.mark.parametrize("target", ["/", "/proc", "/proc/sys", "/sys", "//proc/.", "/x/../proc", "/../proc", "/dev"])
@pytest.mark.parametrize("carrier", ["Binds", "Mounts", "Volumes", "Tmpfs", "commit"])
def test_the_kernels_view_of_a_container_is_not_covered(ask, target, carrier):
    requests = {
        "Binds": ("ContainerCreate", {"HostConfig": {"Binds": [f"vol:{target}"]}}),
        "Mounts": ("ContainerCreate", {"HostConfig": {"Mounts": [{"Type": "volume", "Source": "vol", "Target": target}]}}),
        "Volumes": ("ContainerCreate", {"Volumes": {target: {}}}),
        "Tmpfs": ("ContainerCreate", {"HostConfig": {"Tmpfs": {target: ""}}}),
        "commit": ("ImageCommit", {"Volumes": {target: {}}}),
    }
    error = ask.refused(*requests[carrier])
    assert f"can't mount on {target}: it belongs to the container's own kernel view" in error.message


def test_other_targets_pass(ask):
    ask.create({"Binds": ["vol:/procx", "/data"], "Tmpfs": {"/dev/shm": "", "/sys/fs/x": "ro"}}, Volumes={"/data": {}})
    ask("ImageCommit", {"Volumes": {"/data": {}}})


@pytest.mark.parametrize("flags", ["bind", "rbind", "remount", "size=1,lower=/etc", "mpol=x", "exec,,ro"])
def test_flags_that_make_a_tmpfs_something_else_are_refused(ask, flags):
    assert ask.refused_create({"Tmpfs": {"/x": flags}}).rule == "mount"


def test_the_wrapper_takes_every_flag_of_a_tmpfs_that_is_taken_here():
    assert {*mountoptions.SET, *mountoptions.IGNORED} >= volumes.FLAGS
    assert set(volumes.TMPFS_VALUES) == mountoptions.TMPFS


def test_a_container_that_takes_volumes_of_none_is_left_to_the_engine(ask):
    ask.create({"VolumesFrom": ["nobody"]})
    ask("ContainerStart", named="nobody")


def test_what_cannot_be_looked_up_is_not_allowed(ask):
    async def broken(name):
        raise OSError("no answer")

    ask.facts.volume = broken
    with pytest.raises(OSError, match="no answer"):
        ask.create({"Binds": ["vol:/x"]})


def test_a_bind_with_too_many_parts_is_refused(ask):
    for text in ("/a:/b:ro:x", ":/b", r"C:\x:/b:ro:z"):
        assert ask.refused_create({"Binds": [text]}).status == 400


def test_a_refusal_is_the_proxys_one_exception(ask):
    assert isinstance(ask.refused(*in_binds("/etc", ask.facts)), Denied)
