"""Which directories are shared: what is asked for, what the policy lets, what the VM can mount, and never our own."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cofferdam.errors import HostError, UsageError
from cofferdam.guestconfig import Policy, Share, shares
from cofferdam.machine.instance import Instance
from cofferdam.machine.settings import boot_settings, shares_option
from cofferdam.machine.shares.choice import Choice, choose, private_directories

OPEN = Policy()


@pytest.fixture(autouse=True)
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A user's home directory, with Cofferdam's directories where they usually are."""
    # Not below tmp_path, which may lie where the VM cannot mount.
    top = Path(tempfile.mkdtemp(prefix="shares-", dir="/tmp")).resolve()
    made = top / "user"
    for name in ("src", "data", ".local/state/cofferdam", ".cache/cofferdam"):
        (made / name).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(made))
    for name in ("COFFERDAM_STATE_HOME", "COFFERDAM_CACHE_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    yield made
    shutil.rmtree(top)


def policy(*folders: str, default: tuple[str, ...] = ()) -> Policy:
    return Policy(shares=(*folders, *default), shares_default=default)


def paths(choice: Choice) -> list[str]:
    return [each.path + (":ro" if each.read_only else "") for each in choice.shares]


def asked(*words: str) -> tuple[str, ...] | None:
    """What `choose` gets for the words of `--share`."""
    return boot_settings(shares=shares_option(words)).shares


def refusal(held: Policy | None, *words: str) -> UsageError:
    with pytest.raises(UsageError) as error:
        choose(asked(*words), held)
    assert error.value.hint
    return error.value


# --- by default


@pytest.mark.parametrize("folders", [None, ("$HOME",), ("/",), ("/tmp",)])
def test_the_home_directory_is_shared_where_the_policy_lets(desk, folders):
    choice = choose(None, Policy(shares=folders))
    assert choice.shares == (Share(str(desk), read_only=False, tag="share0"),)
    assert choice.notes == ()


def test_else_those_that_the_policy_shares_by_default(desk):
    choice = choose(None, policy("$HOME/other", default=("$HOME/src", "$HOME/data/")))
    assert choice.shares == (Share(f"{desk}/src", tag="share0"), Share(f"{desk}/data", tag="share1"))
    assert choice.notes == ()


def test_one_that_cannot_be_shared_by_default_is_a_note_and_the_others_are(desk):
    (desk / "file").touch()
    state = f"{desk}/.local/state/cofferdam"
    choice = choose(None, policy(default=("$HOME/gone", "/etc", "$HOME/file", state, "$NOTHING/x", "$HOME/src")))
    assert paths(choice) == [f"{desk}/src"]
    there, kept = "there is no such directory", "it holds machines and images, which no container may see"
    assert choice.notes[0] == f"{desk}/gone is not shared: {there}"
    assert choice.notes[1].startswith("/etc is not shared: the VM can mount below /Users, ")
    assert choice.notes[2:] == (f"{desk}/file is not shared: {there}", f"{state} is not shared: {kept}")


@pytest.mark.parametrize("folders", [("$HOME/src", "$HOME/src/deep"), ("$HOME/src/deep", "$HOME/src"), ("$HOME/src",) * 2])
def test_of_folders_in_one_another_the_first_is_shared(desk, folders):
    (desk / "src/deep").mkdir()
    assert paths(choose(None, policy(default=folders))) == [folders[0].replace("$HOME", str(desk))]


def test_more_folders_than_the_bus_has_places_for_are_told(desk):
    folders = tuple(f"{desk}/data/{number}" for number in range(16))
    for each in folders:
        Path(each).mkdir()
    choice = choose(None, policy(default=folders))
    assert paths(choice) == list(folders[:14])
    assert choice.notes == tuple(f"{each} is not shared: 14 others are" for each in folders[14:])


def test_no_home_directory_is_a_note(desk, monkeypatch):
    monkeypatch.setenv("HOME", f"{desk}/gone")
    choice = choose(None, OPEN)
    assert (choice.shares, choice.notes) == ((), (f"{desk}/gone is not shared: there is no such directory",))
    assert choice.document() is None


def test_an_image_without_a_policy_shares_nothing_and_says_so_when_asked(desk):
    assert choose(None, None) == Choice()
    error = refusal(None, f"{desk}/src")
    assert str(error) == "this image has no policy, and so shares nothing"
    assert "--share none" in error.hint


def test_only_linux_shares(desk, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert choose(None, OPEN) == Choice()
    assert choose(asked("none"), OPEN) == Choice()
    with pytest.raises(HostError, match="from Linux only") as error:
        choose(asked(f"{desk}/src"), OPEN)
    assert "volumes" in error.value.hint


# --- as asked


def test_directories_are_shared_in_order_with_tags_of_their_own(desk):
    choice = choose(asked(f"{desk}/src", f"{desk}/data:ro"), policy("$HOME"))
    assert choice.shares == (Share(f"{desk}/src", tag="share0"), Share(f"{desk}/data", read_only=True, tag="share1"))
    assert choice.notes == ()


def test_the_guest_gets_what_was_chosen_and_what_the_policys_variables_are(desk, monkeypatch):
    monkeypatch.setenv("TMP", "/tmp/mine")
    monkeypatch.delenv("TEMP", raising=False)
    choice = choose(asked(f"{desk}/data:ro"), OPEN)
    read = shares.from_json(choice.document() or b"")
    assert read.shares == (Share(f"{desk}/data", read_only=True, tag="share0"),)
    assert read.variables == {"$HOME": str(desk), "$TMP": "/tmp/mine", "$TEMP": tempfile.gettempdir()}


@pytest.mark.parametrize("variable", ["HOME", "TMP", "TEMP"])
def test_a_policys_variables_are_this_machines(desk, monkeypatch, variable):
    monkeypatch.setenv(variable, f"{desk}/src")
    assert paths(choose(asked(f"{desk}/src"), policy(f"${variable}"))) == [f"{desk}/src"]
    refusal(policy(f"${variable}"), f"{desk}/data")


@pytest.mark.parametrize(
    ("word", "path"),
    [
        ("src", "{}/src"),
        ("./src/", "{}/src"),
        ("src/../data", "{}/data"),
        (".", "{}"),
        ("~", "{}"),
        ("~/src", "{}/src"),
        ("~/src:ro", "{}/src:ro"),
        ("src:ro", "{}/src:ro"),
        ("{}/src/.:rw", "{}/src"),
        ("{}/src//", "{}/src"),
    ],
)
def test_paths_become_absolute_and_normal(desk, monkeypatch, word, path):
    monkeypatch.chdir(desk)
    assert asked(word.format(desk)) == (path.format(desk),)
    assert paths(choose(asked(word.format(desk)), OPEN)) == [path.format(desk)]


def test_a_link_is_shared_under_the_name_it_has(desk):
    (desk / "link").symlink_to("src")
    assert paths(choose(asked(f"{desk}/link"), policy("$HOME"))) == [f"{desk}/link"]


def test_a_policy_whose_own_folder_is_behind_a_link_holds_all_the_same(desk, monkeypatch):
    """As where `/home` itself is a link."""
    (desk.parent / "link").symlink_to(desk)
    monkeypatch.setenv("HOME", f"{desk.parent}/link")
    assert paths(choose(None, policy("$HOME"))) == [f"{desk.parent}/link"]
    assert paths(choose(asked("~/src"), policy("$HOME/src"))) == [f"{desk.parent}/link/src"]


@pytest.mark.parametrize("path", ["{}", "{}/data", "{}/src-not", "/tmp/..{}/data", "{}/src/../data"])
def test_what_the_policy_does_not_have_is_refused_with_what_it_has(desk, path):
    (desk / "src-not").mkdir()
    error = refusal(policy("$HOME/src", "/srv/sets"), path.format(desk))
    real = os.path.normpath(path.format(desk))
    assert str(error) == f"--share {real}: filesharingAllowedDirectories of the policy does not have it"
    assert error.hint == "The policy lets these be shared: $HOME/src, /srv/sets. `inv policy.show` shows it."


def test_a_policy_that_has_no_folder_lets_nothing_be_shared(desk):
    assert "these be shared: none." in refusal(policy(), f"{desk}/src").hint
    assert choose(None, policy()) == Choice((), choose(None, OPEN).variables)


def test_a_link_in_an_allowed_directory_does_not_lead_out_of_it(desk):
    """A container that was given the directory may have made it."""
    (desk / "src/all").symlink_to(desk)
    (desk / "src/up").symlink_to("..")
    for name in ("all", "all/data", "up/data"):
        assert "filesharingAllowedDirectories" in str(refusal(policy("$HOME/src"), f"{desk}/src/{name}"))
    assert paths(choose(asked(f"{desk}/src/all/src"), policy("$HOME/src"))) == [f"{desk}/src/all/src"]


@pytest.mark.parametrize("name", ["gone", "gone:ro", "file", "dangling", "src:rox"])
def test_what_is_no_directory_is_refused(desk, name):
    (desk / "file").touch()
    (desk / "dangling").symlink_to("nowhere")
    error = refusal(OPEN, f"{desk}/{name}")
    assert str(error) == f"--share {desk}/{name.removesuffix(':ro')}: there is no such directory"
    assert "--share none" in error.hint


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/etc", "{}: the VM can mount below /Users, "),
        ("/var/x", "{}: the VM can mount below /Users, "),
        ("/", "{}: the VM can mount below /Users, "),
        ("/homes/a", "{}: the VM can mount below /Users, "),
        ("/home/../etc:ro", "/etc cannot be shared: the VM can mount below /Users, "),
        ("/tmp", "{}: the VM has its own /tmp: share a directory in it"),
        ("/tmp/", "/tmp cannot be shared: the VM has its own /tmp: share a directory in it"),
        ("//tmp/x", "{}: it is not an absolute path"),
        ("/tmp/a\nb", "/tmp/a\nb cannot be shared: it is not an absolute path"),
        (":ro", "name a directory"),
    ],
)
def test_what_the_vm_cannot_mount_is_refused_by_the_option(path, why):
    with pytest.raises(UsageError) as error:
        asked(path)
    assert why.format(f"{path} cannot be shared") in str(error.value)
    assert str(error.value).startswith("--share ")
    assert error.value.hint == "See `inv --help boot`."


@pytest.mark.parametrize(
    ("one", "other"),
    [("src", "src/deep"), ("src/deep", "src"), ("src", "src"), ("src:ro", "src"), ("src/", "src/deep/../deep:ro")],
)
def test_directories_in_one_another_are_refused_with_both_names(desk, monkeypatch, one, other):
    monkeypatch.chdir(desk)
    (desk / "src/deep").mkdir()
    first, second = (os.path.normpath(desk / each.removesuffix(":ro")) for each in (one, other))
    assert str(refusal(OPEN, one, "data", other)) == f"--share {first} and --share {second}: one is in the other"


def test_directories_whose_names_only_begin_alike_are_two(desk):
    (desk / "src-2").mkdir()
    assert len(choose(asked(f"{desk}/src", f"{desk}/src-2"), OPEN).shares) == 2


def test_the_bus_has_fourteen_places(desk):
    words = [f"{desk}/data/{number}" for number in range(15)]
    for each in words:
        Path(each).mkdir()
    assert paths(choose(asked(*words[:14]), OPEN)) == words[:14]
    assert len({each.tag for each in choose(asked(*words[:14]), OPEN).shares}) == 14
    assert str(refusal(OPEN, *words)) == "15 directories cannot be shared"


def test_none_shares_nothing_whatever_the_policy_shares_by_default():
    assert asked("none") == ()
    assert choose((), policy(default=("$HOME/src",))) == Choice()
    assert choose((), None) == Choice()


@pytest.mark.parametrize("words", [("none", "/home/a"), ("/home/a", "none"), ("none", "none")])
def test_none_stands_alone(words):
    with pytest.raises(UsageError, match="--share none and a directory") as error:
        shares_option(words)
    assert error.value.hint
    assert error.value.exit_code == 2


def test_no_option_is_the_default():
    assert shares_option([]) is None
    assert boot_settings(shares=None).shares is None


# --- directories of our own


@pytest.mark.parametrize("name", [".local/state/cofferdam", ".cache/cofferdam", ".cache/cofferdam/root", "link", "link/root"])
def test_our_own_directories_are_refused_by_any_name(desk, name):
    (desk / ".cache/cofferdam/root").mkdir()
    (desk / "link").symlink_to(".cache/cofferdam")
    error = refusal(OPEN, f"{desk}/{name}")
    assert str(error) == f"--share {desk}/{name}: it holds machines and images, which no container may see"


def test_the_directory_of_our_sockets_is_refused(desk, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{desk}/run")
    directory = Instance("box").socket("qmp").parent
    assert "no container may see" in str(refusal(OPEN, str(directory)))
    assert directory in private_directories(str(desk))


def test_our_own_directories_in_a_share_are_covered(desk):
    state, cache = desk / ".local/state/cofferdam", desk / ".cache/cofferdam"
    assert private_directories(str(desk)) == [cache, state]
    assert private_directories(f"{desk}/.local") == [state]
    assert private_directories(f"{desk}/src") == []
    (desk / ".local/state/cofferdam-not").mkdir()
    assert private_directories(f"{desk}/.local/state/cofferdam-not") == []


def test_links_hide_none_of_them(desk, monkeypatch):
    """The home directory is a link, our directory is one, and a share is one."""
    (desk / "data/state").mkdir()
    (desk / "to-state").symlink_to("data/state")
    (desk / "to-data").symlink_to("data")
    (desk.parent / "link").symlink_to(desk)
    monkeypatch.setenv("COFFERDAM_STATE_HOME", f"{desk.parent}/link/to-state")
    assert private_directories(f"{desk}/to-data") == [desk / "data/state"]
    assert private_directories(f"{desk}/data") == [desk / "data/state"]
    assert private_directories(f"{desk.parent}/link") == [desk / ".cache/cofferdam", desk / "data/state"]


def test_one_in_another_is_covered_with_it(desk, monkeypatch):
    """A mount in the empty directory that covers the outer one would fail."""
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", f"{desk}/.local/state/cofferdam/cache")
    assert private_directories(str(desk)) == [desk / ".local/state/cofferdam"]
    monkeypatch.setenv("COFFERDAM_CACHE_HOME", f"{desk}/.local/state/cofferdam")
    assert private_directories(str(desk)) == [desk / ".local/state/cofferdam"]
