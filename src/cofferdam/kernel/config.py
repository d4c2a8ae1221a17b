"""From the fragments of a profile to the final, audited configuration of one kernel source."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from cofferdam.cache import Stage, digest
from cofferdam.kernel import fragments, kconfig
from cofferdam.kernel.audit import Lists, audit, require_clean, unknown_refusals
from cofferdam.kernel.source import KernelSource
from cofferdam.profile import KernelProfile
from cofferdam.progress import Progress
from cofferdam.tools.failures import require_space
from cofferdam.tools.tree import ToolsTree

_VERSION = 1
"""To be raised when this module makes the configuration in another way."""

TREE = "linux"
"""Directory of the unpacked source inside a stage's work directory."""

_SPACE_MIB = 3000


@dataclass(frozen=True)
class KernelConfig:
    """A final configuration: its file, and what the audit noted without failing."""

    path: Path
    warnings: tuple[str, ...]


def unpack(source: KernelSource, tools: ToolsTree, work: Path, log: Path) -> None:
    """Unpack the source to `work/linux`."""
    require_space(work, _SPACE_MIB, "kernel source")
    (work / TREE).mkdir()
    argv = [
        "tar",
        "--extract",
        "--no-same-owner",
        "--strip-components=1",
        f"--directory=/build/{TREE}",
        f"--file=/source/{source.tarball.name}",
    ]
    tools.run(argv, binds={work: "/build", source.tarball.parent: "/source"}, log=log)


def make_config(
    profile: KernelProfile, source: KernelSource, tools: ToolsTree, progress: Progress, lists: Lists | None = None
) -> KernelConfig:
    """The final configuration, from the cache when nothing that it depends on has changed.

    Args:
        profile: names the fragments.
        lists: refused options and accepted exceptions; the project's own when not given.

    Raises:
        FragmentError: the fragments are at odds.
        AuditError: the result is not what they ask for, see `audit`.
    """
    lists = lists or Lists.load()
    options = fragments.merge(fragments.fragment_paths(profile.fragments))
    merged = fragments.render(options)
    judged_by = {"refused": dict(lists.refused), "accepted": [row.model_dump() for row in lists.accepted]}
    inputs = {"source": source.sha256, "merged": merged, "lists": judged_by, "tools": tools.key, "version": _VERSION}

    def make(work: Path, log: Path) -> None:
        unpack(source, tools, work, log)
        (work / "merged.config").write_text(merged, encoding="utf-8")
        configure = ["make", "-s", f"--directory=/build/{TREE}", "allnoconfig"]
        tools.run(configure, binds={work: "/build"}, env={"KCONFIG_ALLCONFIG": "/build/merged.config"}, log=log)
        final = (work / TREE / ".config").read_text(encoding="utf-8")
        config = fragments.parse_config(final)
        findings = audit(config, options, lists, profile.fragments, lambda name: kconfig.explain(work / TREE, name, config))
        findings += unknown_refusals(lists.refused, kconfig.symbols(work / TREE))
        with log.open("a", encoding="utf-8") as sink:
            sink.writelines(f"{finding.message}\n" for finding in findings)
        require_clean([finding for finding in findings if finding.fatal], log)
        (work / "config").write_text(final, encoding="utf-8")
        notes = [asdict(finding) for finding in findings]
        (work / "audit.json").write_text(json.dumps(notes, indent=2) + "\n", encoding="utf-8")
        tools.run(["rm", "-r", f"/build/{TREE}"], binds={work: "/build"}, log=log)

    directory = Stage("kernel-config", digest(inputs)).build(
        make, progress, f"{len(options)} options of {len(profile.fragments)} fragments"
    )
    notes = json.loads((directory / "audit.json").read_text(encoding="utf-8"))
    return KernelConfig(directory / "config", tuple(note["message"] for note in notes))
