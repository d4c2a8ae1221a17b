"""Rows of pipes, sockets, content, times and the file system as a whole; see filepair.py."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import stat
import struct
from typing import Any

from vmtest.fileops import libc, outcome, put, read, row

KEEP_SIZE, PUNCH_HOLE = 1, 2
IN_CREATE, IN_MODIFY = 0x100, 0x2


def blocks(path: str) -> int:
    """Bytes that are not a hole."""
    return os.stat(path).st_blocks * 512


# --- what is no plain file


@row([True, "through"])
def fifo() -> list[Any]:
    os.mkfifo("pipe", 0o600)
    if (child := os.fork()) == 0:
        put("pipe", "through")
        os._exit(0)
    text = read("pipe")
    os.waitpid(child, 0)
    return [stat.S_ISFIFO(os.stat("pipe").st_mode), text]


@row([True, "said", "EADDRINUSE", "ECONNREFUSED"])
def unix_socket() -> list[Any]:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("socket"), server.listen()
        client.connect("socket")
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"said")
        text = client.recv(9).decode()
        with socket.socket(socket.AF_UNIX) as second:
            taken = outcome(lambda: second.bind("socket"))
    with socket.socket(socket.AF_UNIX) as late:
        return [stat.S_ISSOCK(os.stat("socket").st_mode), text, taken, outcome(lambda: late.connect("socket"))]


@row(["runs", 0])
def a_script_runs_where_it_lies() -> list[Any]:
    os.chmod(put("script", "#!/bin/sh\necho runs >said\n"), 0o755)
    status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("./script", ["script"], os.environ), 0)[1])
    return [read("said").strip(), status]


# --- content


@row([10, "head" + "\0" * 6, "he", "EISDIR", "EINVAL"])
def truncate() -> list[Any]:
    os.truncate(put("file", "head"), 10)
    said = [os.stat("file").st_size, read("file"), (os.truncate("file", 2), read("file"))[1]]
    os.mkdir("dir")
    with open("file") as file:
        return [*said, outcome(lambda: os.truncate("dir", 0)), outcome(lambda: os.ftruncate(file.fileno(), 0))]


@row([1_234_567_890_123_456_789, 987_654_321, 5_000_000_007])
def nanoseconds() -> list[int]:
    os.utime(put("file"), ns=(987_654_321, 1_234_567_890_123_456_789))
    os.symlink("file", "link"), os.utime("link", ns=(1, 5_000_000_007), follow_symlinks=False)
    status = os.stat("file")
    return [status.st_mtime_ns, status.st_atime_ns, os.lstat("link").st_mtime_ns]


@row([True, True, True])
def times_move_by_themselves() -> list[bool]:
    os.mkdir("dir"), put("dir/file"), os.utime("dir", (1, 1)), os.utime("dir/file", (1, 1))
    put("dir/file", "x"), put("dir/new")
    before = os.stat("dir/file").st_ctime_ns
    os.chmod("dir/file", 0o600)
    return [os.stat("dir").st_mtime > 1, os.stat("dir/file").st_mtime > 1, os.stat("dir/file").st_ctime_ns >= before > 1]


@row([2000, True])
def append_by_two_descriptors() -> list[Any]:
    """Each write goes behind the other's."""
    files = [os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2)]
    for number in range(100):
        for each, file in enumerate(files):
            os.write(file, b"%d:%07d\n" % (each, number))
    for file in files:
        os.close(file)
    lines = read("log").split()
    return [os.stat("log").st_size, lines == [f"{each}:{number:07}" for number in range(100) for each in range(2)]]


@row(["mapped", "written", "private"])
def memory_maps() -> list[str]:
    """What is written by a shared map is read by the file, and the reverse; a private one changes nothing."""
    with open("map", "w+b") as file:
        file.truncate(3 * mmap.PAGESIZE)
        with mmap.mmap(file.fileno(), 0) as view, mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE) as own:
            view[5000:5006] = b"mapped"
            seen = os.pread(file.fileno(), 6, 5000).decode()
            os.pwrite(file.fileno(), b"written", 100)
            own[9000:9007] = b"private"
            said = [seen, view[100:107].decode(), own[9000:9007].decode()]
            view.flush()
    return said


@row([1 << 20, (3 << 20) - (1 << 20), True, True])
def holes() -> list[Any]:
    """Found, and made."""
    with open("sparse", "w+b") as file:
        file.write(b"x" * (1 << 20)), file.seek(3 << 20), file.write(b"y" * (1 << 20)), file.flush(), os.fsync(file.fileno())
        hole = os.lseek(file.fileno(), 0, os.SEEK_HOLE)
        data = os.lseek(file.fileno(), hole, os.SEEK_DATA)
        small = blocks("sparse") < (3 << 20)
        libc("fallocate", file.fileno(), KEEP_SIZE | PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(1 << 20))
        os.fsync(file.fileno())
        file.seek(0)
        emptied = file.read(1 << 20) == bytes(1 << 20) and blocks("sparse") < (2 << 20)
    return [hole, data - hole, small, emptied]


@row([(1 << 20) + 5, True])
def room_is_set_aside() -> list[Any]:
    with open("file", "wb") as file:
        os.posix_fallocate(file.fileno(), 5, 1 << 20)
    return [os.stat("file").st_size, blocks("file") >= 1 << 20]


@row([(5 << 30) + 3, "end"])
def beyond_four_gigabytes() -> list[Any]:
    with open("large", "w+b") as file:
        file.seek(5 << 30), file.write(b"end"), file.flush(), file.seek(5 << 30)
        return [os.fstat(file.fileno()).st_size, file.read().decode()]


@row(["copied", 6])
def copy_file_range() -> list[Any]:
    with open(put("from", "is copied"), "rb") as source, open("to", "wb") as target:
        count = os.copy_file_range(source.fileno(), target.fileno(), 6, 3)
    return [read("to"), count]


@row([None, None, None])
def forced_to_the_disk() -> list[Any]:
    with open("file", "w") as file:
        file.write("x"), file.flush()
        directory = os.open(".", os.O_RDONLY)
        said = [os.fsync(file.fileno()), os.fdatasync(file.fileno()), os.fsync(directory)]
        os.close(directory)
    return said


@row(["ENOTSUP", "ENOTSUP", "ENOTSUP"])
def no_extended_attributes() -> list[Any]:
    put("file")
    calls = (lambda: os.setxattr("file", "user.x", b"1"), lambda: os.getxattr("file", "user.x"), lambda: os.listxattr("file"))
    return ["ENOTSUP" if (said := outcome(each)) in ("EOPNOTSUPP", []) else said for each in calls]


@row([255, True, True])
def file_system_facts() -> list[Any]:
    facts = os.statvfs(".")
    put("statvfs", json.dumps([facts.f_blocks * facts.f_frsize, facts.f_files]))
    return [facts.f_namemax, 0 < facts.f_bavail <= facts.f_bfree <= facts.f_blocks, facts.f_bsize >= 512]


def watch() -> int:
    """A descriptor of what is made and changed in this directory."""
    fd = libc("inotify_init1", os.O_NONBLOCK)
    libc("inotify_add_watch", fd, b".", IN_CREATE | IN_MODIFY)
    return fd


def events(fd: int) -> list[tuple[int, str]]:
    """What was made and changed by now: kind and name."""
    found, data = [], os.read(fd, 1 << 20)
    while data:
        _, mask, _, length = struct.unpack_from("iIII", data)
        found.append((mask, data[16 : 16 + length].rstrip(b"\0").decode()))
        data = data[16 + length :]
    return found


@row([[IN_CREATE, "file"], [IN_MODIFY, "file"]])
def inotify() -> list[list[Any]]:
    fd = watch()
    put("file", "x")
    return [list(each) for each in events(fd)[:2]]
