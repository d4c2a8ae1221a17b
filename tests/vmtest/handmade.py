"""Hand-made containers: the runtime called as root of the VM, past dockerd, with any specification and any command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vmtest.flows import FIRST, RANGE, Box, box, new_name
from vmtest.vm import Vm

Spec = dict[str, Any]
ACT = """
import hashlib, json, os, shutil, subprocess
state = ["--root", "/run/" + job["name"] + ".state"]
folder = "/run/" + job["name"]
config = folder + "/config.json"
os.mkdir(folder)
with open(config, "w") as file:
    file.write(job["config"])
def runtime(*words):
    with open(folder + "/out", "wb") as out:
        status = subprocess.run(["runc", *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder, timeout=100).returncode
    return status, open(folder + "/out", errors="replace").read()
answer = {}
try:
    words = [word.replace("@FOLDER@", folder) for word in job["words"]]
    answer["status"], answer["message"] = runtime(*state, *words) if job["state"] else runtime(*words)
    answer["untouched"] = open(config).read() == job["config"]
    if answer["status"] == 0:
        where = state if job["state"] else []
        shown = json.loads(runtime(*where, "state", job["container"])[1])
        pid = str(shown["pid"])
        def of(name):
            return open("/proc/" + pid + "/" + name).read()
        answer.update(pid=int(pid), uids=of("uid_map").split(), gids=of("gid_map").split(), cgroup=of("cgroup").strip().split(":", 2)[2])
        answer["same"] = [kind for kind in os.listdir("/proc/1/ns") if os.readlink("/proc/1/ns/" + kind) == os.readlink("/proc/" + pid + "/ns/" + kind)]
        if job["then"]:
            answer["then"] = runtime(*where, *job["then"])
    answer["files"] = [path for path in job["look"] if os.path.exists(path)]
finally:
    for where in (state, []):
        runtime(*where, "delete", "--force", job["container"])
    shutil.rmtree(folder)
    shutil.rmtree("/run/" + job["name"] + ".state", ignore_errors=True)
    for path in job["look"]:
        if os.path.exists(path):
            os.unlink(path)
print(json.dumps(answer))
"""


@dataclass(frozen=True)
class Bench:
    """A running container of dockerd's whose specification is the pattern for hand-made ones."""

    vm: Vm
    made: Box
    config: str

    def spec(self) -> Spec:
        """dockerd's specification less its hook and what it binds for that container, with a control group of its own; the program waits."""
        spec: Spec = json.loads(self.config)
        spec.pop("hooks", None)
        spec["linux"]["cgroupsPath"] = f"/docker/{new_name('spec')}"
        spec["process"]["args"] = ["sleep", "100"]
        spec["mounts"] = [each for each in spec["mounts"] if each["type"] != "bind"]
        return spec

    def create(
        self,
        spec: Spec | str,
        *words: str,
        container: str = "",
        look: tuple[str, ...] = (),
        then: tuple[str, ...] = (),
        state: bool = True,
    ) -> Any:
        """Call the runtime as root of the VM; what came of it. Nothing stays behind."""
        name = new_name("spec")
        container = container or name
        job = {
            "name": name,
            "container": container,
            "config": spec if isinstance(spec, str) else json.dumps(spec),
            "words": [word.replace("@NAME@", container) for word in words] or ["create", "--bundle", "@FOLDER@", container],
            "look": look,
            "then": [word.replace("@NAME@", container) for word in then],
            "state": state,
        }
        return self.vm.python(f"job = {job!r}\n{ACT}")

    def refused(self, spec: Spec | str, *words: str, match: str, look: tuple[str, ...] = (), container: str = "") -> None:
        answer = self.create(spec, *words, look=look, container=container)
        assert answer["status"] != 0, answer
        assert re.search(match, answer["message"]), answer["message"]
        assert answer["files"] == []

    def isolated(self, answer: Any) -> None:
        """The container was made, in a range and namespaces of its own."""
        assert answer["status"] == 0, answer["message"]
        assert answer["uids"] == answer["gids"]
        base = int(answer["uids"][1])
        assert (answer["uids"][0], answer["uids"][2]) == ("0", str(RANGE))
        assert base >= FIRST and (base - FIRST) % RANGE == 0
        assert base != self.made.base
        assert [kind for kind in answer["same"] if not kind.endswith("_for_children")] == []
        assert answer["cgroup"].startswith("/docker/")


@contextmanager
def bench_on(vm: Vm) -> Iterator[Bench]:
    """A running container to take the pattern from."""
    with box(vm, "--read-only") as made:
        folder = f"/run/containerd/io.containerd.runtime.v2.task/moby/{made.inspect('{{.Id}}')}"
        yield Bench(vm, made, vm.shell(f"cat {folder}/config.json"))
