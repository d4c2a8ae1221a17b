"""The servers of shared directories: one virtiofsd each, which sees only its directory, and less of it than the user.

It runs as the user, in namespaces of its own. Whoever writes in the VM, as whatever user, writes as the user here; what belongs
to the user here is root's there, and the runtime wrapper makes it the container's user's. Directories with images, disks and
keys of ours are covered before it starts. It ends with QEMU's connection.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofferdam.guestconfig import Share
from cofferdam.machine.channels import listening
from cofferdam.machine.hostos import process_start
from cofferdam.machine.instance import Instance, Record, ServedShare
from cofferdam.machine.shares.choice import private_directories
from cofferdam.machine.shares.program import apart
from cofferdam.run import Process, spawn

_ALL = 2**32 - 1
_COVER = """
set -eu
while [ "$1" != -- ]; do
    mount -t tmpfs -o ro,size=4k,nr_inodes=1 cofferdam "$1"
    shift
done
shift
exec "$@"
"""


@dataclass(frozen=True)
class Server:
    """A server that waits for QEMU.

    Attributes:
        share: what it serves.
        socket: where it listens.
        process: its process.
    """

    share: Share
    socket: Path
    process: Process[bytes]

    @property
    def served(self) -> ServedShare:
        """What an instance's record says of it."""
        pid = self.process.pid
        return ServedShare(path=self.share.path, read_only=self.share.read_only, pid=pid, process_start=process_start(pid))


@contextmanager
def serving(chosen: Sequence[Share], program: Sequence[str], instance: Instance) -> Iterator[list[Server]]:
    """Start the servers; when the block fails they are ended."""
    servers: list[Server] = []
    try:
        for share in chosen:
            servers.append(_start(share, program, instance))
        yield servers
    except BaseException:
        for server in servers:
            server.process.kill()
            server.process.wait()
        raise


def _start(share: Share, program: Sequence[str], instance: Instance) -> Server:
    path = instance.socket(share.tag)
    with listening(path) as channel, instance.shares_log.open("ab") as log:
        assert channel.handle is not None, "shares are Linux's"
        private = private_directories(share.path)
        for each in private:
            # What is not there yet cannot be covered, and would be seen once it is.
            each.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory, program = _from_inside(program)
        words = server_arguments(share, program, channel.handle, private, uid=os.getuid())
        process = spawn(words, stdout=log, stderr=log, cwd=directory, pass_fds=[channel.handle])
    return Server(share, path, process)


def _from_inside(program: Sequence[str]) -> tuple[Path, list[str]]:
    """A working directory, and a program's words with their paths from there.

    Debian's virtiofsd lies in the cache, which is covered when it is in the share: by then only who is in there already finds it.
    """
    directory = os.path.commonpath([Path(word).parent for word in program if word.startswith("/")])
    return Path(directory), [f"./{os.path.relpath(word, directory)}" if word.startswith("/") else word for word in program]


def server_arguments(share: Share, program: Sequence[str], fd: int, private: Sequence[Path], *, uid: int) -> list[str]:
    """The command of one server.

    Args:
        share: what it serves.
        program: the words that start virtiofsd, from the working directory.
        fd: descriptor of its listening socket.
        private: directories to cover.
        uid: who starts it.
    """
    root = uid == 0
    return [
        *apart(uid),
        *("sh", "-c", _COVER, "sh", *map(str, private), "--"),
        *program,
        f"--fd={fd}",
        f"--shared-dir={os.path.realpath(share.path)}",
        "--sandbox=namespace",
        "--cache=auto",
        # Mounts of this machine below the directory are part of it, as they are for the user.
        "--no-announce-submounts",
        *(f"--translate-{kind}=squash-guest:0:0:{_ALL}" for kind in ("uid", "gid")),
        # An open descriptor for each file that the VM has looked at is more than many limits allow; handles need root.
        *(("--inode-file-handles=prefer", "--modcaps=+dac_read_search") if root else ()),
        *(("--readonly",) if share.read_only else ()),
        "--log-level=warn",
    ]


def ended(record: Record) -> list[str]:
    """The shared directories of a boot whose servers have ended."""
    # One without a start had ended before anybody could ask.
    return [each.path for each in record.shares if each.process_start is None or process_start(each.pid) != each.process_start]
