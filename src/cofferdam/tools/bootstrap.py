"""mmdebstrap, called in one way: which output, which package exclusions, and errors that say what to do."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from cofferdam.errors import HostError
from cofferdam.run import run
from cofferdam.tools.failures import explained

# dpkg leaves these out while it unpacks, so that they cost neither time nor space.
EXCLUDED_PATHS = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")


COPYRIGHT = "/usr/share/doc/*/copyright"


def bootstrap_arguments(
    suite: str,
    output: Path,
    *,
    variant: str,
    packages: Sequence[str],
    hooks: Sequence[str] = (),
    apt: Sequence[str] = (),
    setup: Sequence[str] = (),
    included: Sequence[str] = (),
) -> list[str]:
    """Arguments of one mmdebstrap run; the mirror is its own default for the suite."""
    # Nothing is customized in a tree that packages are only unpacked into.
    late = "extract" if variant == "extract" else "customize"
    return [
        "mmdebstrap",
        "--mode=auto",
        f"--variant={variant}",
        "--format=tar",
        *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED_PATHS),
        *(f"--dpkgopt=path-include={path}" for path in included),
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Retries "3"',
        *(f"--aptopt={line}" for line in apt),
        *([f"--include={','.join(packages)}"] if packages else []),
        *(f"--setup-hook={hook}" for hook in setup),
        *(f"--{late}-hook={hook}" for hook in hooks),
        suite,
        str(output),
    ]


def bootstrap(
    suite: str,
    output: Path,
    log: Path,
    *,
    variant: str,
    packages: Sequence[str],
    hooks: Sequence[str] = (),
    apt: Sequence[str] = (),
    setup: Sequence[str] = (),
    included: Sequence[str] = (),
    epoch: int | None = None,
) -> None:
    """Make a tar of a Debian tree, as root or with subordinate ids, whichever this user has.

    Args:
        suite: Debian suite.
        output: the tar to write.
        log: file for mmdebstrap's output.
        variant: mmdebstrap's variant.
        packages: names of packages to install besides the variant's.
        hooks: what runs at the end, shell text or mmdebstrap's own `copy-out` and the like.
        apt: further settings of apt, `NAME "value"`.
        setup: hooks that run before apt reads any list.
        included: paths that dpkg unpacks although they are excluded.
        epoch: the time that packages write into files, in seconds; today's when not given.

    Raises:
        HostError: mmdebstrap is not installed.
        BuildError: it failed; known failures say what to do.
    """
    if shutil.which("mmdebstrap") is None:
        raise HostError(
            "mmdebstrap is not installed", hint="Debian, Ubuntu: apt-get install mmdebstrap. Or run `inv doctor --fix`."
        )
    options = {"hooks": hooks, "apt": apt, "setup": setup, "included": included}
    argv = bootstrap_arguments(suite, output, variant=variant, packages=packages, **options)
    with explained(f"packages of {suite}", log):
        today = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
        # What packages' scripts write gets its modes from it.
        before = os.umask(0o022)
        try:
            run(argv, log=log, env={"TMPDIR": str(scratch(output.parent)), "LC_ALL": "C.UTF-8", "TZ": "UTC", **today})
        finally:
            os.umask(before)


def scratch(directory: Path) -> Path:
    """Where mmdebstrap makes what is only there while it runs: a directory of root's, else one that everybody passes through.

    Without root its chroot is entered under a subordinate id, which cannot pass through a private home.
    """
    return directory if os.geteuid() == 0 else Path("/var/tmp")  # noqa: S108 - what is made there has a name of its own
