"""docker compose: two services with a network, a volume, a health check, a configuration file and resource limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vmtest.flows import new_name, shifted_base
from vmtest.vm import Vm

pytestmark = pytest.mark.vm

PROJECT = """
services:
  web:
    image: @IMAGE@
    command: ["sh", "-ec", "cp /etc/page /site/index.html; exec httpd -f -p 8080 -h /site"]
    volumes: ["site:/site"]
    networks: [inner]
    configs:
      - source: page
        target: /etc/page
        mode: 0440
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/index.html"]
      interval: 1s
      timeout: 30s
      retries: 60
  client:
    image: @IMAGE@
    command: ["sleep", "100000"]
    init: true
    depends_on:
      web:
        condition: service_healthy
    volumes: ["site:/site:ro"]
    networks: [inner]
    deploy:
      resources:
        limits:
          memory: 32M
          cpus: "0.2"
          pids: 20
configs:
  page:
    content: |
      written by compose
volumes:
  site: {}
networks:
  inner: {}
"""


@dataclass(frozen=True)
class Project:
    """A compose project in a VM."""

    vm: Vm
    name: str
    file: Path

    def __call__(self, *arguments: str, check: bool = True) -> str:
        done = self.vm.docker(
            "compose",
            "--progress",
            "plain",
            "--file",
            str(self.file),
            "--project-name",
            self.name,
            *arguments,
            check=False,
            timeout=600,
        )
        assert not check or done.returncode == 0, f"compose {arguments} ended with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def sh(self, service: str, script: str, *, check: bool = True) -> str:
        return self("exec", "--no-TTY", service, "sh", "-c", script, check=check).strip()

    def services(self) -> dict[str, Any]:
        lines = self("ps", "--all", "--format", "json").strip().split("\n")
        return {row["Service"]: row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def project(vm: Vm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    file = tmp_path_factory.mktemp("compose") / "compose.yaml"
    file.write_text(PROJECT.replace("@IMAGE@", vm.image("busybox")))
    made = Project(vm, new_name("project"), file)
    try:
        made("up", "--detach", "--wait", "--wait-timeout", "240")
        yield made
    finally:
        made("down", "--volumes", "--timeout", "1", check=False)


def test_services_come_up_in_order_and_healthy(project: Project) -> None:
    services = project.services()
    assert {name: row["State"] for name, row in services.items()} == {"web": "running", "client": "running"}
    assert services["web"]["Health"] == "healthy"


@pytest.mark.isolation(why="each service has a range of its own")
def test_services_are_shifted(project: Project) -> None:
    bases = {shifted_base(project.sh(name, "cat /proc/self/uid_map")) for name in ("web", "client")}
    assert len(bases) == 2


def test_services_reach_each_other_by_name(project: Project) -> None:
    assert project.sh("client", "wget -q -O - http://web:8080/index.html") == "written by compose"


def test_configuration_file_and_volume(project: Project) -> None:
    assert project.sh("web", "stat -c %u:%g:%a /etc/page") == "0:0:440"
    assert project.sh("client", "cat /site/index.html; stat -c %u:%g /site/index.html").split("\n") == [
        "written by compose",
        "0:0",
    ]
    assert "Read-only file system" in project.sh("client", "(echo x >/site/index.html) 2>&1", check=False)


def test_resource_limits_hold(project: Project) -> None:
    script = """
    for n in $(seq 40); do sleep 5 & done 2>&1 | grep -c fork
    sh -c 'tail /dev/zero >/dev/null'; echo "tail ended with $?"
    before=$(awk '$1 == "nr_throttled" {print $2}' /sys/fs/cgroup/cpu.stat)
    timeout 3 sh -c 'while :; do :; done'
    after=$(awk '$1 == "nr_throttled" {print $2}' /sys/fs/cgroup/cpu.stat)
    echo throttled $((after > before))
    """
    lines = project.sh("client", script, check=False).split("\n")
    assert int(lines[0]) >= 1, "40 processes fitted into a limit of 20"
    assert "tail ended with 137" in lines
    assert "throttled 1" in lines
    assert project.services()["client"]["State"] == "running"


def test_restart_keeps_the_volume_and_down_removes_everything(project: Project, vm: Vm) -> None:
    project("stop", "--timeout", "1")
    project("start")
    assert project.sh("client", "wget -q -O - http://web:8080/index.html") == "written by compose"
    project("down", "--volumes", "--timeout", "1")
    label = f"label=com.docker.compose.project={project.name}"
    for listing in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        assert vm.succeed(*listing, "--quiet", "--filter", label) == ""
