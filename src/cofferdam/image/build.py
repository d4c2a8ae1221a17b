"""Builds an image: tools tree, kernel, root, manifest; each from the cache unless what it is made from has changed."""

from __future__ import annotations

import os
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path

from cofferdam.cache import Stage, digest, file_digest, write_text
from cofferdam.guestconfig import dataformat
from cofferdam.image.model import (
    CONFIG,
    COPYRIGHTS,
    HASHES,
    KERNEL,
    MANIFEST,
    PACKAGES,
    POLICY,
    ROOT,
    SSH_HOST_KEY,
    SSH_KEY,
    FileFacts,
    Image,
    Ingredients,
    KernelFacts,
    Manifest,
    RootFacts,
    latest_link,
    open_image,
)
from cofferdam.image.verity import Verity, make_hashes
from cofferdam.kernel.build import Kernel, build_kernel, ensure_source
from cofferdam.kernel.source import KernelSource, lock_contents
from cofferdam.paths import cache_home
from cofferdam.policy import profile_policy
from cofferdam.profile import Profile
from cofferdam.progress import Progress
from cofferdam.rootfs.base import Base, build_base
from cofferdam.rootfs.build import Root, build_root
from cofferdam.rootfs.entries import ROOTFS
from cofferdam.tools.lists import read_list
from cofferdam.tools.lock import KERNEL_SOURCE, TOOLS, Lock, pinned, root_tree
from cofferdam.tools.tree import ensure_tools

_VERSION = 6
"""To be raised when this module makes the image in another way."""


def build_vm(profile: Profile, progress: Progress, *, refresh: bool = False, lock: Lock | None = None) -> Image:
    """Build the image of a profile, or find it in the cache.

    Args:
        profile: the recipe.
        progress: where to report.
        refresh: ask the archive again for newer packages and kernel sources; without it, what was fetched once is used.
        lock: make the trees from these packages and no others.

    Returns:
        The image; it is also the latest one of its profile from now on.

    Raises:
        BuildError, HostError: a stage failed; the message says what to do.
        PolicyFileError: the profile's policy is not there, or has errors.
    """
    policy = profile_policy(profile)
    tools = ensure_tools(progress, pinned(lock, TOOLS))
    stamp = package_stamp(renew=refresh)
    source = ensure_source(profile, tools, progress, refresh, pinned(lock, KERNEL_SOURCE))
    kernel = build_kernel(profile, tools, source, progress)
    base = build_base(profile, progress, stamp, pinned(lock, root_tree(profile.name)))
    root = build_root(profile, tools, base, progress)
    facts = kernel_facts(kernel, source)
    words = [*read_list(ROOTFS / "cmdline.list"), *profile.cmdline]
    inputs = {"root": root.key, "profile": profile.model_dump(), "kernel": facts.model_dump(), "image": file_digest(kernel.path)}
    stage = Stage("image", digest({**inputs, "cmdline": words, "version": _VERSION}))

    def make(work: Path, log: Path) -> None:
        _collect(work, kernel, root, base)
        verity = make_hashes(work / ROOT, file_digest(work / ROOT), work / HASHES, tools, log)
        ingredients = Ingredients(root=base.contents, tools=tools.contents, kernel=lock_contents(source))
        (work / PACKAGES).write_text(ingredients.model_dump_json(indent=1, exclude={"image_tools"}) + "\n", encoding="utf-8")
        (work / POLICY).write_bytes(policy.data)
        manifest = _manifest(profile, words, facts, base, verity, work)
        (work / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")

    path = stage.build(make, progress, f"profile {profile.name}")
    publish(profile.name, path)
    return open_image(path)


def package_stamp(*, renew: bool) -> str:
    """Names the state of the archive that this cache was filled from; empty until the first renewal.

    Args:
        renew: start a new state.
    """
    path = cache_home() / "packages.stamp"
    if renew:
        write_text(path, datetime.now(UTC).isoformat(timespec="seconds"))
    return path.read_text(encoding="ascii") if path.exists() else ""


def kernel_facts(kernel: Kernel, source: KernelSource) -> KernelFacts:
    """The manifest's part about the kernel."""
    return KernelFacts(
        version=kernel.version,
        config_sha256=kernel.config_sha256,
        source_package=source.package,
        source_version=source.version,
        source_suite=source.suite,
        source_sha256=source.sha256,
    )


def publish(profile: str, directory: Path) -> None:
    """Make a directory the latest image of a profile, in one step."""
    link = latest_link(profile)
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{profile}.{secrets.token_hex(4)}")
    temporary.symlink_to(os.path.relpath(directory, link.parent))
    temporary.replace(link)


def _collect(work: Path, kernel: Kernel, root: Root, base: Base) -> None:
    """Put the files together; they are links to the stages' own where the file system allows, so that they take no room twice."""
    for source, name in (
        (kernel.path, KERNEL),
        (kernel.config, CONFIG),
        (root.image, ROOT),
        (root.ssh_key, SSH_KEY),
        (root.ssh_host_key, SSH_HOST_KEY),
        (base.copyrights, COPYRIGHTS),
    ):
        if source is None:
            continue
        try:
            os.link(source, work / name)
        except OSError:
            shutil.copy2(source, work / name)


def _manifest(profile: Profile, words: list[str], kernel: KernelFacts, base: Base, verity: Verity, directory: Path) -> Manifest:
    names = (KERNEL, CONFIG, ROOT, HASHES, POLICY)
    return Manifest(
        profile=profile.name,
        description=profile.description,
        isolation=profile.isolation,
        ssh=profile.ssh,
        cmdline=words,
        kernel=kernel,
        root=RootFacts(suite=profile.root.suite, compression=profile.root.compression, archives=base.contents.archives),
        files={name: FileFacts(sha256=file_digest(directory / name), size=(directory / name).stat().st_size) for name in names},
        packages=base.contents.packages,
        verity=verity,
        data_format=dataformat.FORMAT,
    )
