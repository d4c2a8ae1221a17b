"""The TPM of a machine: one swtpm, from the image tools tree, run as the user; its state is in the instance's directory.

It listens on a socket that is bound before it starts, and ends when QEMU's connection does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cofferdam.machine.channels import listening
from cofferdam.machine.hostos import private_directory, process_start
from cofferdam.machine.instance import Instance, Record, ServedTpm
from cofferdam.run import Process, spawn

KIND = "tpm"
"""Names the socket."""


@dataclass(frozen=True)
class TpmServer:
    """A TPM that waits for QEMU: where it listens, and its process."""

    socket: Path
    process: Process[bytes]

    @property
    def served(self) -> ServedTpm:
        """What an instance's record says of it."""
        return ServedTpm(pid=self.process.pid, process_start=process_start(self.process.pid))


def program(tree: Path) -> tuple[str, ...]:
    """The words that start swtpm from a Debian tree: by its own loader and libraries, as those of this machine may be older."""
    (loader,) = tree.glob("usr/lib/*/ld-linux*.so.*")
    libraries = f"{loader.parent}:{loader.parent / 'swtpm'}"
    return str(loader), "--library-path", libraries, str(tree / "usr/bin/swtpm")


def server_arguments(words: Sequence[str], fd: int) -> list[str]:
    """The command of a TPM whose state is in the working directory.

    Args:
        words: what starts swtpm.
        fd: descriptor of its listening socket.
    """
    # A path could hold a comma, which swtpm takes for the next option.
    state = ["--tpmstate", "dir=.,mode=0600"]
    return [*words, "socket", "--tpm2", *state, "--ctrl", f"type=unixio,fd={fd}", "--terminate"]


@contextmanager
def serving(words: Sequence[str], instance: Instance) -> Iterator[TpmServer | None]:
    """Start the TPM of an instance; when the block fails it is ended. None without words."""
    if not words:
        yield None
        return
    private_directory(instance.tpm_state)
    with listening(instance.socket(KIND)) as channel, instance.tpm_log.open("ab") as log:
        assert channel.handle is not None, "TPMs are Linux's"
        arguments = server_arguments(words, channel.handle)
        process = spawn(arguments, stdout=log, stderr=log, cwd=instance.tpm_state, pass_fds=[channel.handle])
    try:
        yield TpmServer(instance.socket(KIND), process)
    except BaseException:
        process.kill()
        process.wait()
        raise


def tpm_ended(record: Record) -> bool:
    """Whether a boot had a TPM that is no more."""
    tpm = record.tpm
    return tpm is not None and (tpm.process_start is None or process_start(tpm.pid) != tpm.process_start)
