"""Rows of modes, owners, links, renames and names; see filepair.py."""

from __future__ import annotations

import os
from typing import Any

from vmtest.fileops import libc, mode, outcome, put, read, row

NOREPLACE, EXCHANGE = 1, 2
NAMES = ["é", "e\u0301", "日本 語", "a b\tc", "-rf", "new\nline", "\U0001f40b", "." + "x" * 254]


def renameat2(source: str, target: str, flags: int) -> int:
    return libc("renameat2", -100, source.encode(), -100, target.encode(), flags)


# --- modes and owners


@row(["0o640", "0o1777", "0o0", "0o2755"])
def chmod() -> list[str]:
    put("file"), os.mkdir("dir"), os.mkdir("group")
    os.chmod("file", 0o640), os.chmod("dir", 0o1777), os.chmod("group", 0o2755)
    return [mode("file"), mode("dir"), (os.chmod("file", 0), mode("file"))[1], mode("group")]


@row(["0o600", "0o750"])
def umask() -> list[str]:
    before = os.umask(0o027)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o600)), os.mkdir("dir", 0o777)
    os.umask(before)
    return [mode("file"), mode("dir")]


@row([0, 0])
def chown_changes_nothing() -> list[int]:
    os.chown(put("file"), 1234, 77)
    status = os.stat("file")
    return [status.st_uid, status.st_gid]


@row("ENOENT")
def chmod_of_nothing() -> None:
    os.chmod("none", 0o600)


@row(["EACCES", "EACCES", "EACCES", "text"], "user")
def modes_are_held_against_their_owner() -> list[Any]:
    put("file", "text"), os.mkdir("dir")
    os.chmod("file", 0), os.chmod("dir", 0o600)
    said = [outcome(lambda: read("file")), outcome(lambda: put("file")), outcome(lambda: put("dir/file"))]
    os.chmod("file", 0o400), os.chmod("dir", 0o700)
    return [*said, read("file")]


@row(["EACCES", "EACCES"], "user")
def a_directory_without_write_takes_and_loses_nothing() -> list[Any]:
    os.mkdir("dir"), put("dir/file"), os.chmod("dir", 0o500)
    said = [outcome(lambda: put("dir/new")), outcome(lambda: os.unlink("dir/file"))]
    os.chmod("dir", 0o700)
    return said


@row([True, False, True], "user")
def access() -> list[bool]:
    os.chmod(put("file"), 0o500)
    return [os.access("file", each) for each in (os.R_OK, os.W_OK, os.X_OK)]


# --- link, unlink, rename


@row([2, True, "both"])
def link() -> list[Any]:
    os.link(put("file", "both"), "other")
    one, other = os.stat("file"), os.stat("other")
    os.unlink("file")
    return [one.st_nlink, one.st_ino == other.st_ino, read("other")]


@row(["EEXIST", "EPERM", "ENOENT"])
def link_refused() -> list[Any]:
    os.mkdir("dir"), put("file"), put("there")
    pairs = (("file", "there"), ("dir", "new"), ("none", "new"))
    return [outcome(lambda pair=pair: os.link(*pair)) for pair in pairs]


@row(["EISDIR", "ENOENT", "ENOTDIR", "ENOTEMPTY", "ENOTDIR"])
def unlink_refused() -> list[Any]:
    os.makedirs("dir/inner"), put("file")
    calls = ((os.unlink, "dir"), (os.unlink, "none"), (os.rmdir, "file"), (os.rmdir, "dir"), (os.unlink, "file/x"))
    return [outcome(lambda call=call, path=path: call(path)) for call, path in calls]


@row(["old", "new", 0])
def rename_over_an_open_file() -> list[Any]:
    with open(put("target", "old")) as held:
        os.rename(put("source", "new"), "target")
        return [held.read(), read("target"), os.fstat(held.fileno()).st_nlink]


@row(["was here", False, 0])
def an_unlinked_file_lives_while_it_is_open() -> list[Any]:
    with open("file", "w+") as held:
        os.unlink("file")
        held.write("was here"), held.flush(), held.seek(0)
        return [held.read(), os.path.exists("file"), os.fstat(held.fileno()).st_nlink]


@row(["ENOTEMPTY", "EISDIR", "ENOTDIR", "EINVAL", "ENOENT"])
def rename_refused() -> list[Any]:
    os.makedirs("full/inner"), os.mkdir("dir"), put("file")
    pairs = (("dir", "full"), ("file", "dir"), ("dir", "file"), ("full", "full/inner/x"), ("none", "x"))
    return [outcome(lambda pair=pair: os.rename(*pair)) for pair in pairs]


@row(["kept", ["empty", "open"]])
def rename_of_a_directory() -> list[Any]:
    """Over an empty one; and what was opened in it is still there by its descriptor."""
    os.mkdir("full"), put("full/file", "kept"), os.mkdir("empty"), os.mkdir("open")
    directory = os.open("full", os.O_RDONLY | os.O_DIRECTORY)
    os.rename("full", "empty")
    file = os.open("file", os.O_RDONLY, dir_fd=directory)
    text = os.read(file, 9).decode()
    os.close(file), os.close(directory)
    return [text, sorted(os.listdir("."))]


@row(["same", "same"])
def rename_to_another_name_of_the_same_file_does_nothing() -> list[str]:
    os.link(put("one", "same"), "two")
    os.rename("one", "two")
    return [read("one"), read("two")]


@row(["EEXIST", "one", 0, "two"])
def renameat2_flags() -> list[Any]:
    put("one", "one"), put("two", "two")
    said = [outcome(lambda: renameat2("two", "one", NOREPLACE)), read("one")]
    return [*said, outcome(lambda: renameat2("one", "two", EXCHANGE)), read("one")]


# --- names and paths


@row(["EEXIST", "EEXIST", "EEXIST"])
def exclusive() -> list[Any]:
    put("file"), os.symlink("none", "dangling")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    return [
        *(outcome(lambda path=path: os.open(path, flags)) for path in ("file", "dangling")),
        outcome(lambda: os.mkdir("file")),
    ]


@row(["ELOOP", "ELOOP", "ENOTDIR", "ENOENT"])
def resolution_refused() -> list[Any]:
    os.symlink("b", "a"), os.symlink("a", "b"), os.symlink(put("file"), "link")
    nofollow = os.O_RDONLY | os.O_NOFOLLOW
    return [
        *(outcome(lambda: os.open("a", os.O_RDONLY)), outcome(lambda: os.open("link", nofollow))),
        *(outcome(lambda: os.stat("file/x")), outcome(lambda: os.stat(""))),
    ]


@row(["ENAMETOOLONG"] * 4)
def too_long() -> list[Any]:
    long = "x" * 256
    calls = (lambda: put(long), lambda: os.mkdir(long), lambda: os.symlink("x" * 5000, "link"), lambda: os.stat("d/" * 3000))
    return [outcome(each) for each in calls]


@row([True, True])
def directories_of_any_script() -> list[bool]:
    for name in NAMES:
        os.mkdir(name), put(f"{name}/{name}", name)
    said = [sorted(os.listdir(".")) == sorted(NAMES), all(read(f"{name}/{name}") == name for name in NAMES)]
    return said


@row([1000, "0o777", "ENOENT"])
def symlink() -> list[Any]:
    os.symlink("t/" * 500, "link")
    assert os.readlink("link") == "t/" * 500
    return [os.lstat("link").st_size, mode("link"), outcome(lambda: os.stat("link"))]


@row([500, 500, 0, True])
def a_large_directory() -> list[Any]:
    """Each entry once, also of one that is emptied while it is read."""
    for number in range(500):
        put(f"{number}")
    names = os.listdir(".")
    with os.scandir(".") as entries:
        kinds = all(entry.is_file(follow_symlinks=False) and (os.unlink(entry.path) or True) for entry in entries)
    return [len(names), len(set(names)), len(os.listdir(".")), kinds]
