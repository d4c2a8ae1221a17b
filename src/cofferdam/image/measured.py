"""What a TPM is shown of a signed disk: the one state in which its unified kernel image runs, signed, on a partition of its own.

A data disk is sealed to the signature's key and not to the state: a later image has another state and a signature over that.
"""

from __future__ import annotations

import json
from pathlib import Path

from cofferdam.image.signing import Signer
from cofferdam.image.unified import EPOCH
from cofferdam.tools.failures import explained
from cofferdam.tools.tree import ToolsTree

PART_BYTES = 64 * 2**10
"""Bytes of the partition."""

_MEASURE = "/usr/lib/systemd/systemd-measure"
_SECTIONS = ("linux", "osrel", "cmdline", "initrd", "ucode", "splash", "dtb", "uname", "sbat", "pcrpkey", "profile", "hwids")
"""What systemd-stub measures, where an image has it (src/fundamental/uki.h of systemd)."""


def make_seal(program: Path, signer: Signer, tools: ToolsTree, work: Path, log: Path) -> Path:
    """Write the content of the partition: public key and signature, the same bytes for the same image and key.

    Args:
        program: the unified kernel image, in `work`.
        signer: who has signed it.
        tools: the image tools tree.
        work: directory for it and for what it is made from.
        log: file for the output.

    Raises:
        BuildError, CommandError: it failed.
    """
    sections = work / "sections"
    sections.mkdir()
    words = [f"--section=.{name}:binary@/work/{sections.name}/{name}" for name in _SECTIONS]
    with explained("signature for the TPM", log):
        tools.run(["ukify", "inspect", f"/work/{program.name}", *words], binds={work: "/work"}, log=log)
        found = [f"--{name}=/work/{sections.name}/{name}" for name in _SECTIONS if (sections / name).exists()]
        # No phase: nothing in the guest measures further, since it has no initrd.
        arguments = [_MEASURE, "sign", *found, "--phase=:", "--bank=sha256", "--json=short", *signer.measure_arguments()]
        env = signer.environment(EPOCH)
        done = tools.run(arguments, binds={work: "/work", **signer.binds()}, env=env, capture=True)
    content = {"public_key": signer.public_key().decode(), "signature": json.loads(done.stdout)}
    path = work / "seal"
    path.write_bytes(json.dumps(content, sort_keys=True).encode().ljust(PART_BYTES, b"\0"))
    return path
