"""The steps of a release, in their order: what each makes, what it needs, and on what else it depends."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cofferdam.bench.report import write as write_bench
from cofferdam.cache import file_digest, tree_digest
from cofferdam.checkout import read_checkout
from cofferdam.errors import UsageError
from cofferdam.image.formats import make_artefact
from cofferdam.image.model import COPYRIGHTS, MANIFEST, PACKAGES, POLICY, Image, Manifest, open_image
from cofferdam.profile import load_profile
from cofferdam.progress import Progress
from cofferdam.release.boottest import BootProof, Way, boot_test
from cofferdam.release.folder import Built, assemble
from cofferdam.release.keys import PRINCIPAL
from cofferdam.release.manifest import artefact_name
from cofferdam.release.notes import ReleasedFile, make_notes
from cofferdam.release.order import Order, read_bench, require_clean, require_kernel, require_signature
from cofferdam.release.packing import packed_file
from cofferdam.release.signature import signer_line
from cofferdam.release.testreport import TestSummary, judge_report
from cofferdam.release.verify import trusted
from cofferdam.release.work import Step, Subject, Work
from cofferdam.tools.lock import IMAGE_TOOLS, TOOLS, Pinned
from cofferdam.tools.packages import RECORD

BUILD, ARTEFACT, BOOT, TESTS, BENCH, KEPT, NOTES, FOLDER, VERIFIED = (
    "build",
    "artefact",
    "boot",
    "tests",
    "bench",
    "packages",
    "notes",
    "folder",
    "verified",
)
_DESCRIBING = (MANIFEST, PACKAGES, COPYRIGHTS, POLICY)
"""Files of an image that say what it is; with them its release is put together where it was not built."""

_PROOF, _SUMMARY, _BENCH, _REPORT, _NOTES = "boot.json", "tests.json", "latest.json", "report.xml", "NOTES.md"
_ROOT_HASH = "root_hash"
_BENCH_RUNS = 3


@dataclass
class State:
    """What every step gets: the order, where files are, and the images that this run has at hand."""

    order: Order
    work: Work
    progress: Progress
    images: dict[str, Image] = field(default_factory=dict)

    def image(self, profile: str) -> Image:
        """The whole image of a profile, from the lock; from the cache when it was built before."""
        from cofferdam.image.build import build_vm

        if profile not in self.images:
            self.images[profile] = build_vm(load_profile(profile), self.progress, lock=self.order.lock)
        return self.images[profile]

    def manifest(self, profile: str) -> Manifest:
        """The manifest of a profile's image, as the first step has left it."""
        return Manifest.model_validate_json((self.work.place(BUILD, profile) / MANIFEST).read_text(encoding="utf-8"))

    def artefact(self, profile: str, kind: str) -> Path:
        """The file that is released."""
        return self.work.place(ARTEFACT, profile, kind) / artefact_name(self.order.version, profile, kind)


def _build(state: State, subject: Subject, directory: Path) -> None:
    image = state.image(subject[0])
    for name in _DESCRIBING:
        if (image.directory / name).exists():
            shutil.copyfile(image.directory / name, directory / name)


def _artefact(state: State, subject: Subject, directory: Path) -> None:
    profile, kind = subject
    image = state.image(profile)
    if file_digest(image.manifest) != file_digest(state.work.place(BUILD, profile) / MANIFEST):
        raise UsageError(f"the image of profile `{profile}` is not the one that was built first", hint=_afresh(state))
    made = make_artefact(image, kind, state.progress, signer=state.order.signed(kind), pinned=_image_tools(state))
    packed_file(made.path, directory / artefact_name(state.order.version, profile, kind))
    (directory / _ROOT_HASH).write_text(made.root_hash or "", encoding="ascii")
    if (record := made.path.with_name(RECORD)).exists():
        # The packages that it was made with, for the provenance.
        shutil.copyfile(record, directory / RECORD)


def _boot(state: State, subject: Subject, directory: Path) -> None:
    from cofferdam.tools.tree import ensure_tools

    profile, kind = subject
    tools = ensure_tools(Progress(quiet=True), state.order.lock.pinned(TOOLS))
    signer = state.order.signed(kind)
    way = Way(_image_tools(state), signer.certificate if signer else None)
    described = open_image(state.work.place(BUILD, profile))
    proof = boot_test(state.artefact(profile, kind), described, way, tools.path / "usr/bin/busybox", state.progress)
    _write(directory / _PROOF, proof.model_dump_json(indent=1))


def _tests(state: State, _: Subject, directory: Path) -> None:
    from cofferdam.testing import run_tests

    report, commit = directory / _REPORT, state.order.source.checkout.commit
    if state.order.tests is not None:
        shutil.copyfile(state.order.tests, report)
    else:
        run_tests(extra=f"--junitxml={report}")
    _write(directory / _SUMMARY, judge_report(report, commit).model_dump_json(indent=1))


def _bench(state: State, _: Subject, directory: Path) -> None:
    from cofferdam.bench.main import run_bench

    found = read_bench(state.order.bench) if state.order.bench else run_bench(_BENCH_RUNS, state.progress)
    require_kernel(found, state.manifest(state.order.profiles[0]).kernel.version)
    write_bench(found, directory)


def _keep(state: State, _: Subject, directory: Path) -> None:
    from cofferdam.release.lock import keep_packages

    if state.order.packages:
        keep_packages(directory / KEPT, state.progress, state.order.lock)


def _notes(state: State, _: Subject, directory: Path) -> None:
    order = state.order
    text = make_notes(
        version=order.version,
        commit=order.source.checkout.commit,
        epoch=order.source.checkout.epoch,
        changes=order.source.changes,
        image=state.manifest(order.profiles[0]),
        files=[_released(state, profile, kind) for profile in order.profiles for kind in order.formats],
        tests=TestSummary.model_validate_json((state.work.place(TESTS) / _SUMMARY).read_text(encoding="utf-8")),
        bench=read_bench(state.work.place(BENCH) / _BENCH),
    )
    _write(directory / _NOTES, text)


def _released(state: State, profile: str, kind: str) -> ReleasedFile:
    path = state.artefact(profile, kind)
    proof = BootProof.model_validate_json((state.work.place(BOOT, profile, kind) / _PROOF).read_text(encoding="utf-8"))
    return ReleasedFile(path.name, profile, kind, path.stat().st_size, proof)


def _folder(state: State, _: Subject, directory: Path) -> None:
    order = state.order
    source = order.source.checkout
    # Hours may have passed.
    require_clean(read_checkout(), source.commit)
    built = [
        Built(
            path=state.artefact(profile, kind),
            profile=profile,
            format=kind,  # type: ignore[arg-type]
            kernel=state.manifest(profile).kernel.version,
            root_hash=(state.work.place(ARTEFACT, profile, kind) / _ROOT_HASH).read_text(encoding="ascii") or None,
        )
        for profile in order.profiles
        for kind in order.formats
    ]
    assemble(
        directory / order.target.name,
        version=order.version,
        commit=source.commit,
        epoch=source.epoch,
        built=built,
        images={profile: open_image(state.work.place(BUILD, profile)) for profile in order.profiles},
        key=_key(state),
        packages=state.work.place(KEPT) / KEPT if order.packages else None,
        notes=(state.work.place(NOTES) / _NOTES).read_text(encoding="utf-8"),
    )


def _verified(state: State, _: Subject, directory: Path) -> None:
    signers = directory / "allowed_signers"
    _write(signers, signer_line(PRINCIPAL, _key(state).public_key()))
    trusted(state.work.place(FOLDER) / state.order.target.name, signers)


def _key(state: State) -> Ed25519PrivateKey:
    return require_signature(state.order.key)


def _afresh(state: State) -> str:
    return f"Remove {state.work.directory} and begin again."


def _write(path: Path, text: str) -> None:
    path.write_text(text if text.endswith("\n") else f"{text}\n", encoding="utf-8")


def _commit(state: State, _: Subject) -> object:
    return state.order.source.checkout.commit


def _image_tools(state: State) -> Pinned:
    return state.order.lock.pinned(IMAGE_TOOLS)


def _signed_artefact(state: State, subject: Subject) -> object:
    signer = state.order.signed(subject[1])
    return {"commit": _commit(state, subject), "signer": signer.identity if signer else ""}


def _locked(state: State, subject: Subject) -> object:
    return {"commit": _commit(state, subject), "lock": tree_digest(state.order.lock.directory, "*.json")}


def _test_inputs(state: State, subject: Subject) -> object:
    given = state.order.tests
    return {"commit": _commit(state, subject), "report": file_digest(given) if given else ""}


def _bench_inputs(state: State, subject: Subject) -> object:
    given = state.order.bench
    return {"commit": _commit(state, subject), "results": file_digest(given) if given else ""}


def _kept_inputs(state: State, subject: Subject) -> object:
    return {**dict.fromkeys(("packages",), state.order.packages), "locked": _locked(state, subject)}


def _note_inputs(state: State, subject: Subject) -> object:
    order = state.order
    return {"commit": _commit(state, subject), "version": order.version, "changes": order.source.changes}


def _signed(state: State, subject: Subject) -> object:
    return {"commit": _commit(state, subject), "version": state.order.version, "key": signer_line("", _key(state).public_key())}


STEPS: Sequence[Step[State]] = (
    Step(BUILD, "image, from the lock", "profile", (), _locked, _build),
    Step(ARTEFACT, "the file that people boot", "artefact", (BUILD,), _signed_artefact, _artefact),
    Step(BOOT, "a boot of that file, and an isolated container in it", "artefact", (BUILD, ARTEFACT), _signed_artefact, _boot),
    Step(TESTS, "all tests", "release", (), _test_inputs, _tests),
    Step(BENCH, "measured figures", "release", (BUILD,), _bench_inputs, _bench),
    Step(KEPT, "locked package files, if wanted", "release", (), _kept_inputs, _keep),
    Step(NOTES, "release notes", "release", (BUILD, ARTEFACT, BOOT, TESTS, BENCH), _note_inputs, _notes),
    Step(
        FOLDER,
        "the folder, signed",
        "release",
        (BUILD, ARTEFACT, KEPT, NOTES),
        _signed,
        _folder,
    ),
    Step(VERIFIED, "its verification", "release", (FOLDER,), _signed, _verified),
)
