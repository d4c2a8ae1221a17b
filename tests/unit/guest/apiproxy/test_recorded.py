"""Requests as clients really send them, recorded from the library named by the file, are all understood and reach dockerd.

A client that writes more than dockerd reads, or the same by another name, must not be turned away for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from cofferdam_guest.config.policy import Policy
from proxytest.requests import request, status
from proxytest.stage import Facts, ok, staged

RECORDED = {
    f"{path.stem} {number} {row['method']} {row['target'].partition('?')[0]}": row
    for path in sorted(Path(__file__).with_name("recorded").glob("*.jsonl"))
    for number, row in enumerate(map(json.loads, path.read_text().splitlines()))
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    facts = Facts(image_i={})
    facts.shares = ("/home/x",)
    with staged(tmp_path_factory.mktemp("recorded"), Policy(), facts=facts) as made:
        yield made


def line(stage):
    """The request line that has come to dockerd."""
    return stage.engine.seen[-1].split(b"\r\n", 1)[0].decode().removesuffix(" HTTP/1.1")


@pytest.mark.parametrize("row", RECORDED.values(), ids=RECORDED)
def test_a_recorded_request_reaches_dockerd(stage, row):
    stage.engine.seen.clear()
    stage.engine.answer = lambda method, target, body: ok()
    body = row["body"].encode()
    fields = [f"{name}: {value}" for name, value in row["fields"].items()]
    length = [f"Content-Length: {len(body)}"] if body else []
    answer = stage.send(request(f"{row['method']} {row['target']}", *fields, *length, body=body))
    assert status(answer) == 200, answer
    assert unquote(line(stage).split()[1].partition("?")[0]) == unquote(row["target"].partition("?")[0])


def test_an_image_named_in_one_segment_is_the_image(stage):
    """As docker-java asks for it (gorilla/mux matches the decoded path)."""
    stage.engine.answer = lambda method, target, body: ok()
    assert status(stage.send(request("GET /v1.45/images/registry%2Fa%2Fb:c/json"))) == 200
    assert line(stage) == "GET /v1.45/images/registry/a/b:c/json"


@pytest.mark.parametrize(
    "query", ["NetworkMode=host", "entitlements=network.host", "Networkmode=host&NETWORKMODE=host", "x=1&x=2"]
)
def test_p35_what_dockerd_does_not_read_in_a_query_does_not_reach_it(stage, query):
    assert (
        status(stage.send(request(f"POST /build?q=1&{query}", "Content-Type: application/x-tar", "Content-Length: 1", body=b"x")))
        == 200
    )
    assert line(stage) == "POST /build?q=1"
