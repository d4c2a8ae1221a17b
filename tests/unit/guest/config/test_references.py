"""Image references: normalised as dockerd does, and refused where they could mean two things."""

from __future__ import annotations

import pytest

from cofferdam_guest.config.references import BadReference, host_of, parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "name", "tag", "digest"),
    [
        ("docker", "docker.io/library/docker", "latest", None),
        ("docker:cli", "docker.io/library/docker", "cli", None),
        ("docker:*", "docker.io/library/docker", "*", None),
        (f"docker@{DIGEST}", "docker.io/library/docker", None, DIGEST),
        (f"docker:cli@{DIGEST}", "docker.io/library/docker", None, DIGEST),
        ("docker.io/docker", "docker.io/library/docker", "latest", None),
        ("index." + "docker.io/docker", "docker.io/library/docker", "latest", None),
        ("docker.io/localstack/localstack:*", "docker.io/localstack/localstack", "*", None),
        ("testcontainers/ryuk:0.8", "docker.io/testcontainers/ryuk", "0.8", None),
        ("a/b/c", "docker.io/a/b/c", "latest", None),
        ("localhost/x", "localhost/x", "latest", None),
        ("localhost:5000/x:1", "localhost:5000/x", "1", None),
        ("registry.example.com/x", "registry.example.com/x", "latest", None),
        ("registry.example.com:5000/team/x:v1.2_3-4", "registry.example.com:5000/team/x", "v1.2_3-4", None),
        ("host:5000", "docker.io/library/host", "5000", None),
        ("[::1]:5000/x", "[::1]:5000/x", "latest", None),
        ("Host/x", "Host/x", "latest", None),
        ("a__b/c--d", "docker.io/a__b/c--d", "latest", None),
        ("x:" + "t" * 128, "docker.io/library/x", "t" * 128, None),
    ],
)
def test_normal_form(text, name, tag, digest):
    found = parse(text)
    assert (found.name, found.tag, found.digest) == (name, tag, digest)
    assert parse(str(found)) == found, "the normal form is its own normal form"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no image"),
        (" docker", "names no image"),
        ("docker\n", "names no image"),
        ("docker.io/", "names no image"),
        ("Docker", "lower case"),
        ("foo/Bar", "lower case"),
        ("a//b", "not a repository name"),
        ("a..b/c/", "not a repository|not a registry host"),
        ("-a", "not a repository name"),
        ("../x", "not a registry host"),
        ("a:b:c", "not a repository name"),
        ("docker:", "not a tag"),
        ("docker:-x", "not a tag"),
        ("x:" + "t" * 129, "not a tag"),
        ("docker:cl*", "not a tag"),
        ("*", "repositories have no wildcard"),
        ("*:*", "repositories have no wildcard"),
        ("testcontainers/*:*", "repositories have no wildcard: name each one"),
        ("registry.example.com/ci-tools/*:*", "repositories have no wildcard"),
        (f"docker:*@{DIGEST}", "beside a digest"),
        ("docker@", "not a digest"),
        ("docker@sha256:abc", "not a digest"),
        (f"docker@{DIGEST.upper()}", "not a digest"),
        (f"docker@{DIGEST}@{DIGEST}", "not a digest"),
        ("a" * 64, "image ID"),
        ("x/" * 130 + "x", "255"),
        ("https://registry.example.com/x", "not a"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_reason(text, says):
    with pytest.raises(BadReference, match=says):
        parse(text)


def test_a_container_cannot_name_any_tag():
    assert parse("docker:cli", wildcard=False).tag == "cli"
    with pytest.raises(BadReference, match="cannot stand here"):
        parse("docker:*", wildcard=False)


@pytest.mark.parametrize(
    ("text", "host"),
    [("docker.io", "docker.io"), ("Registry.Example.com:5000", "registry.example.com:5000"), ("localhost", "localhost")],
)
def test_hosts(text, host):
    assert host_of(text) == host


@pytest.mark.parametrize("text", ["", "https://a", "a/b", "a b", "a:port", "*.a", "-a", "a\n", "a:123456"])
def test_what_is_no_host(text):
    with pytest.raises(BadReference):
        host_of(text)
