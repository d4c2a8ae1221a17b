"""A bill of materials in SPDX 2.3, JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import StringIO
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from spdx_tools.common.spdx_licensing import spdx_licensing
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.parser.error import SPDXParsingError
from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from cofferdam.release.inventory import Inventory, Item

_DOCUMENT = "SPDXRef-DOCUMENT"
_KINDS = {
    "image": PackagePurpose.OPERATING_SYSTEM,
    "package": PackagePurpose.LIBRARY,
    "own": PackagePurpose.APPLICATION,
    "kernel": PackagePurpose.OPERATING_SYSTEM,
    "fragment": PackagePurpose.FILE,
}


def write(found: Inventory, epoch: int, name: str) -> str:
    """The document; the same inventory, time stamp and name give the same bytes."""
    info = CreationInfo(
        spdx_version="SPDX-2.3",
        spdx_id=_DOCUMENT,
        name=found.image.name,
        document_namespace=f"https://spdx.org/spdxdocs/{found.image.name}-{uuid5(NAMESPACE_URL, name)}",
        creators=[Actor(ActorType.TOOL, f"cofferdam-{found.image.version}")],
        created=datetime.fromtimestamp(epoch, UTC).replace(tzinfo=None),
    )
    whole = _id(found.image)
    relations = [Relationship(_DOCUMENT, RelationshipType.DESCRIBES, whole)]
    relations += [Relationship(whole, RelationshipType.CONTAINS, _id(item)) for item in found.items]
    texts = {reference: text for item in found.items for reference, text in item.licence.texts.items()}
    document = Document(
        info,
        packages=[_package(item) for item in (found.image, *found.items)],
        relationships=relations,
        extracted_licensing_info=[
            ExtractedLicensingInfo(reference, text, license_name=SpdxNoAssertion()) for reference, text in sorted(texts.items())
        ],
    )
    sink = StringIO()
    write_document_to_stream(document, sink, validate=False)
    written = json.loads(sink.getvalue())
    for each in (reference for package in written["packages"] for reference in package.get("externalRefs", [])):
        # The library writes `PACKAGE_MANAGER`, which was the word before SPDX 2.3.
        each["referenceCategory"] = each["referenceCategory"].replace("_", "-")
    return json.dumps(written, indent=1) + "\n"


def problems(text: str) -> list[str]:
    """What is wrong with a document by SPDX's rules."""
    parser: Any = JsonLikeDictParser
    try:
        document = parser().parse(json.loads(text))
    except SPDXParsingError as error:
        return [str(error)]
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return [f"not SPDX: {error}"]
    return [each.validation_message for each in validate_full_spdx_document(document)]


def _id(item: Item) -> str:
    return f"SPDXRef-{item.ref.replace('+', '-plus')}".replace("_", "-")


def _package(item: Item) -> Package:
    purl = ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", item.purl.to_string()) if item.purl else None
    licence = spdx_licensing.parse(item.licence.expression) if item.licence.expression else SpdxNoAssertion()
    return Package(
        spdx_id=_id(item),
        name=item.name,
        version=item.version or None,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, item.sha256)] if item.sha256 else [],
        license_concluded=SpdxNoAssertion(),
        license_declared=licence,
        copyright_text=item.licence.copyright or SpdxNoAssertion(),
        source_info="; ".join(f"{key}: {value}" for key, value in item.facts) or None,
        external_references=[purl] if purl else [],
        primary_package_purpose=_KINDS[item.kind],
    )
