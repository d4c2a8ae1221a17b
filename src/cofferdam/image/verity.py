"""dm-verity: every block of the root is compared with a tree of hashes when it is read, and the tree with one hash."""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cofferdam.errors import BuildError
from cofferdam.tools.failures import explained
from cofferdam.tools.tree import ToolsTree

BLOCK = 4096
DIRECT_DATA, DIRECT_HASHES = "/dev/vda", "/dev/vdc"
"""Where the two are when QEMU boots the kernel itself."""

_SECTORS = BLOCK // 512
_ROOT_HASH = re.compile(r"^Root hash:\s+([0-9a-f]{64})$", re.MULTILINE)

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Verity(BaseModel):
    """How a root is verified: the hash of its tree, the tree's salt, and how many blocks of 4 KiB there are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    root_hash: Sha256
    salt: Sha256
    blocks: int = Field(gt=0)

    def words(self, data: str, hashes: str) -> list[str]:
        """Words of the kernel's command line that make the verified root, with no program's help.

        A block that does not fit ends the machine: a system of which a part cannot be read is none to go on with.

        Args:
            data: the device with the root, as the kernel names it.
            hashes: the one with the tree.
        """
        target = f"verity 1 {data} {hashes} {BLOCK} {BLOCK} {self.blocks} 1 sha256 {self.root_hash} {self.salt}"
        table = f"0 {self.blocks * _SECTORS} {target} 1 panic_on_corruption"
        return ["root=/dev/dm-0", f'dm-mod.create="root,,,ro,{table}"']

    @property
    def direct_words(self) -> list[str]:
        """The words for a machine whose kernel QEMU boots itself."""
        return self.words(DIRECT_DATA, DIRECT_HASHES)

    @property
    def partitions(self) -> tuple[uuid.UUID, uuid.UUID]:
        """Identifiers of the partitions with root and tree: the halves of the root hash, as the Discoverable Partitions say."""
        return uuid.UUID(self.root_hash[:32]), uuid.UUID(self.root_hash[32:])

    @property
    def disk_words(self) -> list[str]:
        """The words for a machine that boots a disk, on whatever bus; disks that are found late are waited for."""
        data, hashes = (f"PARTUUID={each}" for each in self.partitions)
        return [*self.words(data, hashes), f"dm-mod.waitfor={data},{hashes}"]


def make_hashes(root: Path, root_sha256: str, tree: Path, tools: ToolsTree, log: Path) -> Verity:
    """Write the tree of a root file system.

    Args:
        root: the file system.
        root_sha256: its SHA-256; salt and identifier come from it, so that the same root has the same tree.
        tree: the file to write.
        tools: the tree that has veritysetup.
        log: file for its output.

    Raises:
        BuildError: it failed.
    """
    salt = hashlib.sha256(f"cofferdam verity salt {root_sha256}".encode()).hexdigest()
    identifier = uuid.UUID(hashlib.sha256(f"cofferdam verity uuid {root_sha256}".encode()).hexdigest()[:32])
    sizes = [f"--data-block-size={BLOCK}", f"--hash-block-size={BLOCK}", "--hash=sha256"]
    sizes += [f"--salt={salt}", f"--uuid={identifier}"]
    words = ["veritysetup", "format", *sizes, "/verity/data", f"/verity/out/{tree.name}"]
    with explained("verity", log):
        said = tools.run(words, binds={root: "/verity/data", tree.parent: "/verity/out"}, log=log, capture=True).stdout
    found = _ROOT_HASH.search(said)
    if found is None:
        raise BuildError("veritysetup named no root hash", hint="See the log.", log=log)
    tree.chmod(0o644)
    return Verity(root_hash=found[1], salt=salt, blocks=root.stat().st_size // BLOCK)
