"""Refusals on the desktop, id ranges in an inspect, and the status page that shows both: the real thing, end to end."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from cofferdam.machine import denied
from cofferdam.machine.denied import Denied
from cofferdam.machine.instance import Instance
from cofferdam.paths import ROOT
from vmtest.flows import box, shifted_base, wait_until
from vmtest.vm import Vm

pytestmark = pytest.mark.vm


def refusals(vm: Vm, after: int) -> list[Denied]:
    return [each for each in denied.read(Instance(vm.instance).denied) if each.number > after]


def latest(vm: Vm) -> int:
    found = denied.read(Instance(vm.instance).denied)
    return found[-1].number if found else 0


@pytest.fixture
def page(vm: Vm) -> Iterator[Callable[[], str]]:
    """`inv page`, as whoever has its link sees it, until an interrupt ends it."""
    command = [sys.executable, "-u", "-m", "invoke", "page", "--name", vm.instance]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    link, cookie = urlsplit(process.stdout.readline().split()[-1]), ""

    def get(path: str) -> tuple[int, str, str]:
        """Status, cookie and text of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", link.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Cookie": cookie})
            answer = connection.getresponse()
            return answer.status, str(answer.getheader("set-cookie")), answer.read().decode()
        finally:
            connection.close()

    try:
        assert get(link.path)[0] == 403
        cookie = get(f"{link.path}?{link.query}")[1].partition(";")[0]
        yield lambda: get(link.path)[2]
    finally:
        process.send_signal(signal.SIGINT)
        told, _ = process.communicate(timeout=60)
    assert told.endswith("the page has ended\n")


def test_refusal_of_the_proxy_reaches_the_desktop(vm: Vm) -> None:
    before = latest(vm)
    message = vm.fail("run", "--rm", "--pid=host", vm.image("busybox"), "true", match="share namespaces")
    wait_until(lambda: bool(refusals(vm, before)), "the refusal is in denied.jsonl", seconds=120)
    (told,) = refusals(vm, before)
    assert (told.rule, told.door) == ("host-namespace", "host")
    assert told.reason in message and told.request.endswith("/containers/create")


def test_refusal_of_the_engine_reaches_the_desktop(vm: Vm) -> None:
    before, name, image = latest(vm), vm.name(), vm.image("busybox")
    vm.boundary.fail("run", "--name", name, "--device", "/dev/vdb", image, "true", match="/dev/vdb")
    container = vm.succeed("inspect", "--format", "{{.Id}}", name).strip()
    wait_until(lambda: bool(refusals(vm, before)), "the refusal is in denied.jsonl", seconds=120)
    (told,) = refusals(vm, before)
    assert (told.rule, told.container) == ("device", container)
    assert told.image in (image, f"{image}:latest", f"docker.io/{image}")


def test_nothing_in_a_container_reaches_the_messenger(vm: Vm) -> None:
    vm.fail("run", "--rm", "-v", "/run/cofferdam/refusals:/s", vm.image("busybox"), "true", match="restricted")
    assert vm.shell("stat -c '%a %U %F' /run/cofferdam/refusals").split(maxsplit=2) == ["600", "root", "socket\n"]


def test_inspect_shows_the_id_range(vm: Vm) -> None:
    with box(vm) as made:
        first = shifted_base(made.exec("cat", "/proc/self/uid_map"))
        shown = vm.succeed("inspect", "--format", "{{.Cofferdam.IdRange.First}} {{.Cofferdam.IdRange.Size}}", made.name)
        assert shown.split() == [str(first), "65536"]


def test_page_shows_a_container_with_its_range_and_a_refusal(vm: Vm, page: Callable[[], str]) -> None:
    name = vm.name("paged")
    assert name not in page()
    vm.succeed("run", "-d", "--name", name, vm.image("busybox"), "sleep", "100000")
    first = shifted_base(vm.succeed("exec", name, "cat", "/proc/self/uid_map"))
    wait_until(lambda: name in page() and f">{first}<" in page(), "the page shows the container and its first id", seconds=120)
    refused = vm.name("refused")
    vm.boundary.fail("run", "--name", refused, "--pid=host", vm.image("busybox"), "true", match="share namespaces")
    container = vm.succeed("inspect", "--format", "{{.Id}}", refused).strip()
    wait_until(lambda: container[:12] in page(), "the page shows the refusal", seconds=120)
    sha256 = vm.succeed("info", "--format", "{{json .SecurityOptions}}").partition("policy=sha256:")[2][:64]
    assert sha256 in page() and "have changed since the boot" not in page()
    vm.succeed("rm", "-f", name)
    wait_until(lambda: f">{name}<" not in page(), "the container has gone from the page", seconds=120)
