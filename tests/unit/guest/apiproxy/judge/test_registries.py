import pytest

from cofferdam_guest.config.policy import Policy
from cofferdam_guest.config.references import DEFAULT_HOST

LIMITED = Policy(registries=("docker.io", "registry.example.com:5000", "*.corp.example.com"))

NAMED = [
    ("alpine", "docker.io", True),
    ("docker.io/library/alpine:3", "docker.io", True),
    (f"index.{DEFAULT_HOST}/x/y", "docker.io", True),
    ("registry.example.com:5000/x/y@sha256:" + "0" * 64, "", True),
    ("a.corp.example.com/x", "", True),
    ("quay.example.org/x/y", "quay.example.org", False),
    ("registry.example.com/x", "registry.example.com", False),
    ("registry.example.com:5001/x", "registry.example.com:5001", False),
    ("corp.example.com/x", "corp.example.com", False),
    ("evilcorp.example.com/x", "evilcorp.example.com", False),
    ("localhost:5000/x", "localhost:5000", False),
]
REQUESTS = [
    lambda image: ("ImageCreate", None, {"fromImage": image}),
    lambda image: ("ImagePush", {}, {"named": image.partition("@")[0]}),
    lambda image: ("DistributionInspect", None, {"named": image}),
]


@pytest.mark.parametrize("request_for", REQUESTS)
@pytest.mark.parametrize(("image", "host", "good"), NAMED)
def test_images_come_from_and_go_to_allowed_registries_only(ask, request_for, image, host, good):
    route, body, query = request_for(image)
    ask(route, body, **query)
    ask.policy = LIMITED
    if good:
        ask(route, body, **query)
    else:
        error = ask.refused(route, body, **query)
        assert (error.status, error.rule, error.message) == (403, "registry", f"registry access to {host} is not allowed")


def test_a_name_that_is_none_is_refused_where_there_is_a_list(ask):
    ask.policy = LIMITED
    assert ask.refused("ImageCreate", fromImage="https://quay.example.org/x").status == 400
    ask("ImageCreate", fromImage="alpine:", tag="latest")


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("", True),
        (f"https://index.{DEFAULT_HOST}/v1/", True),
        ("registry.example.com:5000", True),
        ("https://a.corp.example.com/v2/", True),
        ("http://quay.example.org", False),
        ("https://docker.io@quay.example.org/", False),
        ("docker.io\\@quay.example.org", False),
    ],
)
def test_credentials_go_to_allowed_registries_only(ask, address, good):
    ask.policy = LIMITED
    body = {"username": "a", "serveraddress": address}
    ask("SystemAuth", body) if good else ask.refused("SystemAuth", body)


@pytest.mark.parametrize(
    ("term", "good"),
    [("nginx", True), ("library/nginx", True), ("docker.io/nginx", True), ("quay.example.org/x", False), ("localhost/x", False)],
)
def test_searches_ask_allowed_registries_only(ask, term, good):
    ask.policy = LIMITED
    ask("ImageSearch", term=term) if good else ask.refused("ImageSearch", term=term)


def test_a_load_is_blocked_when_the_policy_says_so(ask):
    ask("ImageLoad")
    ask.policy = Policy(block_load=True)
    error = ask.refused("ImageLoad")
    assert error.rule == "load"
    assert "blockDockerLoad" in error.message


GOOD_URLS = [
    "https://example.com/x.tar",
    "http://192.0.2.1:8080/x",
    "https://user:pass@example.com/x.git#main:dir",
    "https://[2001:db8::1]/x",
]
BAD_URLS = [
    *("http://10.0.2.2/x", "http://10.0.2.2:2376/x", "http://10.0.2.15/", "http://127.0.0.1/x", "http://169.254.169.254/latest"),
    *(
        "http://localhost:8080/x",
        "http://LOCALHOST./x",
        "http://foo.localhost/x",
        "http://host.docker.internal/x",
        "http://[::1]/x",
    ),
    *("http://[::ffff:127.0.0.1]/x", "http://[fe80::1]/x", "http://[::ffff:a00:202]/", "http://0.0.0.0/x", "http://0/x"),
    *(
        "http://127.1/x",
        "http://2130706433/x",
        "http://0x7f000001/x",
        "http://0177.0.0.1/x",
        "http://010.0.2.2/x",
        "http://a.0x1/",
    ),
    *(
        "http://example.com@10.0.2.2/x",
        "http://example.com\\@10.0.2.2/x",
        "http://10.0.2.2#@example.com/",
        "http://10.0.2.2?@example.com",
    ),
    *(
        "http:///x",
        "http://",
        "http://exa mple.com/",
        "http://example.com/\n",
        "HTTP://10.0.2.2/x",
        "http:10.0.2.2/x",
        "http://a:b:c/",
    ),
]


@pytest.mark.parametrize("url", GOOD_URLS)
@pytest.mark.parametrize(("route", "parameter"), [("ImageCreate", "fromSrc"), ("ImageBuild", "remote")])
def test_addresses_outside_of_the_vm_can_be_fetched(ask, route, parameter, url):
    assert ask(route, **{parameter: url}).query == {parameter: url}


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize(("route", "parameter"), [("ImageCreate", "fromSrc"), ("ImageBuild", "remote")])
def test_the_vm_and_its_neighbours_are_not_fetched_from(ask, route, parameter, url):
    ask.refused(route, **{parameter: url})


def test_an_import_from_the_client_passes_and_one_without_a_scheme_is_completed(ask):
    ask("ImageCreate", fromSrc="-", repo="x")
    ask("ImageCreate", fromSrc="example.com/x.tar")
    for source in ("10.0.2.2/x", "", None):
        ask.refused("ImageCreate", fromSrc=source)


def test_fetches_obey_the_list_of_registries(ask):
    ask.policy = LIMITED
    assert (
        ask.refused("ImageBuild", remote="https://example.org/x.git").message == "registry access to example.org is not allowed"
    )
    assert ask.refused("ImageBuild", remote="github.com/a/b").message == "registry access to github.com is not allowed"
    ask("ImageBuild", remote="https://a.corp.example.com:443/x.git")
