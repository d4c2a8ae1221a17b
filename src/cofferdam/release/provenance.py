"""Provenance: an in-toto statement with SLSA's predicate, that says from what and by whom the artefacts were made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cofferdam.cache import digest
from cofferdam.image.model import Ingredients
from cofferdam.release.manifest import ReleaseManifest
from cofferdam.release.purl import deb_purl
from cofferdam.tools.packages import Package

BUILD_TYPE = "urn:cofferdam:build-vm:1"
BUILDER = "urn:cofferdam:builder:local"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Resource(_Model):
    """A file or source, by its digests."""

    name: str
    digest: dict[str, str] = Field(min_length=1)
    uri: str | None = None


class BuildDefinition(_Model):
    """What was asked for, and what it was made from."""

    buildType: str
    externalParameters: dict[str, Any]
    internalParameters: dict[str, Any] = Field(default_factory=dict)
    resolvedDependencies: list[Resource]


class Builder(_Model):
    """Who has built it."""

    id: str
    version: dict[str, str]


class Metadata(_Model):
    """Which run of the builder it was."""

    invocationId: str


class RunDetails(_Model):
    """The run."""

    builder: Builder
    metadata: Metadata


class Predicate(_Model):
    """SLSA's provenance, version 1."""

    buildDefinition: BuildDefinition
    runDetails: RunDetails


class Statement(_Model):
    """The whole file."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(default="https://in-toto.io/Statement/v1", alias="_type")
    subject: list[Resource] = Field(min_length=1)
    predicateType: Literal["https://slsa.dev/provenance/v1"] = "https://slsa.dev/provenance/v1"
    predicate: Predicate

    def subjects(self) -> dict[str, str]:
        """Checksums of what it speaks of.

        Raises:
            ValueError: a subject stands there twice, or has no SHA-256.
        """
        found: dict[str, str] = {}
        for each in self.subject:
            if each.name in found or "sha256" not in each.digest:
                raise ValueError(f"subject {each.name} stands there twice or has no SHA-256")
            found[each.name] = each.digest["sha256"]
        return found

    def commit(self) -> str | None:
        """The commit of the project that it names."""
        sources = self.predicate.buildDefinition.resolvedDependencies
        return next((each.digest.get("gitCommit") for each in sources if each.name == "cofferdam"), None)


def make_statement(
    manifest: ReleaseManifest, subjects: Mapping[str, str], ingredients: Iterable[Ingredients], *, builder: str = BUILDER
) -> Statement:
    """The provenance of a release.

    Args:
        manifest: of the release.
        subjects: checksums of its files.
        ingredients: the packages of its images.
        builder: who builds, a URI.
    """
    definition = BuildDefinition(
        buildType=BUILD_TYPE,
        externalParameters={
            "version": manifest.version,
            "artefacts": [{"name": each.name, "profile": each.profile, "format": each.format} for each in manifest.artefacts],
        },
        resolvedDependencies=[
            Resource(name="cofferdam", uri="urn:cofferdam:source", digest={"gitCommit": manifest.commit}),
            *(Resource(name=each.name, uri=deb_purl(each), digest={"sha256": each.sha256}) for each in packages(ingredients)),
        ],
    )
    run = RunDetails(
        builder=Builder(id=builder, version={"cofferdam": manifest.version}),
        metadata=Metadata(invocationId=f"urn:cofferdam:run:{digest([dict(subjects), definition.model_dump()])}"),
    )
    return Statement(
        subject=[Resource(name=name, digest={"sha256": sha256}) for name, sha256 in sorted(subjects.items())],
        predicate=Predicate(buildDefinition=definition, runDetails=run),
    )


def packages(ingredients: Iterable[Ingredients]) -> list[Package]:
    """Every package that any of the images was made with, each once."""
    found = {
        package
        for each in ingredients
        for tree in (each.root, each.tools, each.kernel, each.image_tools)
        if tree is not None
        for package in tree.packages
    }
    return sorted(found, key=lambda package: (package.name, package.version, package.architecture))
