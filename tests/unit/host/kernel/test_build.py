"""Configuration and compilation as cached stages, with a compiler that only pretends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cofferdam.errors import BuildError
from cofferdam.kernel import docker_check
from cofferdam.kernel.audit import AuditError, Lists
from cofferdam.kernel.build import build_kernel, first_error, reproducible_environment
from cofferdam.kernel.config import make_config
from cofferdam.kernel.source import KernelSource
from cofferdam.profile import load_profile

EPOCH = 1_700_000_000
EXTRA = {name: "y" for options in docker_check.NEEDS.values() for name in options}


class Compiler:
    """Unpacks a one-file source; configures by copying the request; drops what it is told to; compiles to a constant."""

    def __init__(self, tools, drop: str = "", fail: str = "") -> None:
        self.drop, self.fail, self.compiled = drop, fail, 0
        tools.answers |= {
            "tar": self.unpack,
            "make -s": self.configure,
            "make --directory=/build/linux": self.make,
        }

    def unpack(self, argv, paths):
        tree = paths["/build"] / "linux"
        (tree / "Makefile").write_text("")
        os.utime(tree / "Makefile", (EPOCH, EPOCH))
        (tree / "Kconfig").write_text("config VETH\n\tdepends on NETDEVICES\n")
        return ""

    def configure(self, argv, paths):
        lines = (paths["/build"] / "merged.config").read_text().splitlines()
        present = {line.split("=")[0].removeprefix("CONFIG_") for line in lines}
        lines += [
            f"CONFIG_{name}=y"
            for name in EXTRA
            if name not in present and not name.startswith(("XFRM", "INET_ESP", "NETFILTER_XT_MATCH_BPF"))
        ]
        (paths["/build"] / "linux/.config").write_text("\n".join(line for line in lines if line != self.drop) + "\n")
        return ""

    def make(self, argv, paths):
        if "kernelrelease" in argv:
            return "7.3.4-cofferdam\n"
        if self.fail:
            return 2, self.fail
        self.compiled += 1
        tree = paths["/build"] / "linux"
        (tree / "arch/x86/boot").mkdir(parents=True)
        (tree / "arch/x86/boot/bzImage").write_bytes(b"image")
        (tree / "System.map").write_text("map")
        return ""


@pytest.fixture
def source(tmp_path: Path) -> KernelSource:
    (tmp_path / "linux-source-7.3.tar.xz").write_text("")
    return KernelSource("7.3.4-1", "linux-source-7.3", "trixie-backports", "ab" * 32, tmp_path / "linux-source-7.3.tar.xz")


@pytest.fixture(autouse=True)
def plenty_of_space(monkeypatch) -> None:
    monkeypatch.setattr("cofferdam.kernel.config.require_space", lambda *_: None)
    monkeypatch.setattr("cofferdam.kernel.build.require_space", lambda *_: None)


def test_a_kernel_is_built_once_and_described(tools, progress, source, cache_home: Path) -> None:
    compiler = Compiler(tools)
    profile = load_profile("default")
    first = build_kernel(profile, tools, source, progress)
    assert build_kernel(profile, tools, source, progress) == first
    assert compiler.compiled == 1
    assert first.path.read_bytes() == b"image"
    assert first.version == "7.3.4-cofferdam"
    assert "CONFIG_USER_NS=y" in first.config.read_text().splitlines()
    facts = json.loads((first.path.parent / "build.json").read_text())
    assert (facts["suite"], facts["source_sha256"], facts["bytes"]) == ("trixie-backports", "ab" * 32, 5)
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["System.map", "build.json", "config", "vmlinuz"]
    assert not list(cache_home.rglob("Makefile"))


def test_the_banner_is_the_same_everywhere(tools, progress, source) -> None:
    Compiler(tools)
    build_kernel(load_profile("default"), tools, source, progress)
    (call,) = [call for call in tools.calls if "bzImage" in call["argv"]]
    assert call["env"] == reproducible_environment(EPOCH)
    assert call["env"]["KBUILD_BUILD_TIMESTAMP"] == f"@{EPOCH}"
    assert call["network"] is False


def test_another_refused_list_repeats_the_audit_and_not_the_compilation(tools, progress, source, monkeypatch) -> None:
    compiler = Compiler(tools)
    profile = load_profile("default")
    build_kernel(profile, tools, source, progress)
    stricter = Lists({**Lists.load().refused, "VETH": "a test refuses it"}, Lists.load().accepted)
    with pytest.raises(AuditError, match="CONFIG_VETH=y is present but refused"):
        make_config(profile.kernel, source, tools, progress, stricter)
    laxer = Lists({"NEVER": "nothing is refused"}, Lists.load().accepted)
    monkeypatch.setattr("cofferdam.kernel.config.Lists.load", lambda: laxer)
    build_kernel(profile, tools, source, progress)
    assert compiler.compiled == 1


def test_a_dropped_option_stops_the_build_with_its_dependency(tools, progress, source) -> None:
    compiler = Compiler(tools, drop="CONFIG_VETH=y")
    with pytest.raises(AuditError) as caught:
        build_kernel(load_profile("default"), tools, source, progress)
    assert "CONFIG_VETH: docker.config:" in str(caught.value)
    assert "depends on NETDEVICES [y]" in str(caught.value)
    assert compiler.compiled == 0


def test_a_compiler_error_names_the_line_and_the_log(tools, progress, source, monkeypatch) -> None:
    Compiler(tools, fail="make: *** [Makefile] Error 2")
    monkeypatch.setattr("cofferdam.kernel.build.first_error", lambda log: f"from {log.suffix}")
    with pytest.raises(BuildError, match=r"does not compile: from \.log") as caught:
        build_kernel(load_profile("default"), tools, source, progress)
    assert caught.value.log is not None
    assert caught.value.log.is_file()


def test_the_first_error_of_a_parallel_build_is_found(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("  CC a.o\nx.c:3:1: error: expected ;\n  CC b.o\nmake: *** [x] Error 2\n", encoding="utf-8")
    assert first_error(log) == "x.c:3:1: error: expected ;"
    log.write_text("  CC a.o\n", encoding="utf-8")
    assert first_error(log) == "no error line in the log"


def test_lists_that_are_behind_the_source_are_noted_and_do_not_stop(tools, progress, source) -> None:
    Compiler(tools)
    config = make_config(load_profile("default").kernel, source, tools, progress)
    assert any("IO_URING" in warning and "no such option" in warning for warning in config.warnings)
    assert any("accepted exception" in warning for warning in config.warnings)
