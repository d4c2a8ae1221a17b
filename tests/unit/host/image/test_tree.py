"""Running programs in the tools tree: the command, and the real thing in a tree made of the host's own shell."""

import os
from pathlib import Path

import pytest

from cofferdam.run import CommandError, run
from cofferdam.tools.tree import ToolsTree, enter_arguments


def arguments(**changes):
    settings = {"network": False, "env": {}, "uid": 1000, **changes}
    return enter_arguments(Path("/tree"), ["make", "-j2"], {Path("/src"): "/work"}, "/work", **settings)


def test_a_user_gets_a_user_namespace_and_root_does_not():
    assert "--map-root-user" in arguments()
    assert "--user" not in arguments(uid=0)


def test_the_network_is_off_unless_asked_for(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    without, with_network = arguments(), arguments(network=True)
    assert "--net" in without and "http_proxy=http://proxy.example:3128" not in without
    assert "--net" not in with_network and "http_proxy=http://proxy.example:3128" in with_network
    assert "/etc/resolv.conf" in with_network and "/etc/resolv.conf" not in without


def test_words_stay_words_and_nothing_leaks_from_the_environment(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "x")
    argv = arguments(env={"A": "b c"})
    assert argv[-2:] == ["make", "-j2"]
    assert "A=b c" in argv and not [word for word in argv if word.startswith("LD_PRELOAD")]
    assert argv.index("/src") + 1 == argv.index("/work", argv.index("/src"))


def _can_unshare():
    return run(["unshare", "--user", "--map-root-user", "--mount", "true"], check=False, capture=True).returncode == 0


@pytest.fixture
def tree(tmp_path):
    """A tree of links into the host's /usr, bound inside: enough for a shell."""
    if not _can_unshare():
        pytest.skip("user namespaces are forbidden on this machine")
    root = tmp_path / "tree"
    for name in ("proc", "dev", "tmp", "usr", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / name).symlink_to(f"usr/{name}")
    return ToolsTree(root, "0" * 64)


def test_a_program_runs_inside_with_its_binds(tree, tmp_path):
    work = tmp_path / "with space"
    work.mkdir()
    binds = {Path("/usr"): "/usr", work: "/work dir"}
    script = 'id -u; pwd; echo "$A-$LC_ALL"; ls /proc/self/fd >/dev/null && echo content >"result file"'
    done = tree.run(["sh", "-c", script], binds=binds, cwd="/work dir", env={"A": "1 2"}, capture=True)
    assert done.stdout.splitlines() == ["0", "/work dir", "1 2-C.UTF-8"]
    assert (work / "result file").read_text() == "content\n"
    assert (work / "result file").stat().st_uid == os.getuid()


def test_there_is_no_network_inside(tree):
    done = tree.run(["sh", "-c", "cat /proc/net/dev"], binds={Path("/usr"): "/usr"}, capture=True)
    names = [line.split(":")[0].strip() for line in done.stdout.splitlines()[2:]]
    assert names == ["lo"]


def test_a_failing_program_is_an_error_with_its_status(tree):
    with pytest.raises(CommandError) as caught:
        tree.run(["sh", "-c", "echo broken >&2; exit 7"], binds={Path("/usr"): "/usr"}, capture=True)
    assert caught.value.result.returncode == 7
    assert "broken" in str(caught.value)


def test_mounts_end_with_the_program(tree, tmp_path):
    tree.run(["true"], binds={Path("/usr"): "/usr"})
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
