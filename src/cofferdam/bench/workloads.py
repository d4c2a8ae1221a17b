"""What is run inside a container to measure it: each prints one number, seconds or a rate."""

from __future__ import annotations

SYSCALLS = """
import os, time
start = time.perf_counter()
for _ in range(100000):
    os.getppid()
print(100000 / (time.perf_counter() - start))
"""
"""System calls a second through CPython (getppid has no cache)."""

WRITES = """
import os, time
path, block = "DIR/bench.data", os.urandom(1 << 20)
start = time.perf_counter()
with open(path, "wb", buffering=0) as sink:
    for _ in range(64):
        sink.write(block)
    os.fsync(sink.fileno())
print(64 / (time.perf_counter() - start))
os.unlink(path)
"""
"""MiB a second written and synced to a directory."""

FILES = """
import os, time
base = "DIR/bench.files"
os.mkdir(base)
start = time.perf_counter()
for number in range(2000):
    name = f"{base}/{number}"
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))
    os.stat(name)
    os.chown(name, 1, 1)
    os.unlink(name)
print(2000 / (time.perf_counter() - start))
os.rmdir(base)
"""
"""Files a second: create, stat, chown, unlink."""

FILLING = """
import os
block = os.urandom(1 << 20)
with open("DIR/bench.read", "wb", buffering=0) as sink:
    for _ in range(64):
        sink.write(block)
    os.fsync(sink.fileno())
for number in range(TREE):
    directory = f"DIR/bench.tree/{number % (TREE // 50)}"
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/{number}", "wb") as sink:
        sink.write(block[:2048])
if os.spawnlp(os.P_WAIT, "tar", "tar", "-cf", "ARCHIVE", "-C", "DIR", "bench.tree"):
    raise SystemExit("tar has failed")
"""
"""Not a measurement itself: a file of 64 MiB and a tree of TREE small files in a directory, and ARCHIVE with that tree."""

READS = """
import os, time
start = time.perf_counter()
with open("DIR/bench.read", "rb", buffering=0) as source:
    size = 0
    while block := source.read(1 << 20):
        size += len(block)
print(size / (1 << 20) / (time.perf_counter() - start))
"""
"""MiB a second read from FILLING's file, from its beginning to its end."""

RANDOM_READS = """
import os, time
source = os.open("DIR/bench.read", os.O_RDONLY)
os.posix_fadvise(source, 0, 0, os.POSIX_FADV_RANDOM)
start = time.perf_counter()
for number in range(1000):
    # a prime beside the file's 16384 blocks: never the same one, never the next one
    os.pread(source, 4096, number * 7919 % 16384 * 4096)
print(1000 / (time.perf_counter() - start))
"""
"""Reads of 4 KiB a second, all over FILLING's file."""

UNPACKING = """
import os, time
os.mkdir("DIR/bench.out")
start = time.perf_counter()
if os.spawnlp(os.P_WAIT, "tar", "tar", "-xf", "ARCHIVE", "--no-same-owner", "-C", "DIR/bench.out"):
    raise SystemExit("tar has failed")
print(TREE / (time.perf_counter() - start))
os.spawnlp(os.P_WAIT, "rm", "rm", "-r", "DIR/bench.out")
"""
"""Files a second that tar makes of FILLING's archive."""

LOOKING = """
import os, time
start = time.perf_counter()
count = 0
for directory, inner, names in os.walk("DIR/bench.tree"):
    if ".git" in inner:
        inner.remove(".git")
    for name in names:
        os.stat(f"{directory}/{name}")
        count += 1
print(count / (time.perf_counter() - start))
"""
"""Files a second of FILLING's tree that are found and asked for their status."""

COMMITTING = """
import subprocess
git = ["git", "-c", "safe.directory=*", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "-C", "DIR/bench.tree"]
for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "bench"]):
    subprocess.run([*git, *words], check=True, stdout=subprocess.DEVNULL)
"""
"""Not a measurement itself: FILLING's tree becomes a git repository with one commit."""

STATUS = """
import subprocess, time
start = time.perf_counter()
done = subprocess.run(
    ["git", "-c", "safe.directory=*", "-C", "DIR/bench.tree", "status", "--porcelain"], check=True, capture_output=True
)
took = time.perf_counter() - start
if done.stdout:
    raise SystemExit("git status tells of changes")
print(TREE / took)
"""
"""Files a second of COMMITTING's repository that git status looks at; it finds none changed."""

SERVING = """
import socket
block = bytes(65536)
listener = socket.create_server(("", PORT))
while True:
    client, _ = listener.accept()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, client.makefile("rb") as asked:
        for line in asked:
            left = int(line)
            while left > 0:
                left -= client.send(block[:left])
"""
"""Not a measurement itself: on PORT, answers each line with as many bytes as it says; see `cofferdam.bench.portprobe`."""

ANSWERING = """
import sys
block = bytes(65536)
for _ in sys.stdin.buffer:
    for _ in range(16 * MIB):
        sys.stdout.buffer.write(block)
    sys.stdout.buffer.flush()
"""
"""Not a measurement itself: answers each line with MIB mebibytes."""


def in_directory(script: str, directory: str) -> str:
    """The script for one directory."""
    return script.replace("DIR", directory)
