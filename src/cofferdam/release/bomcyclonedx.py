"""A bill of materials in CycloneDX 1.6, JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import AttachedText, HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.spdx import is_supported_id
from cyclonedx.validation.json import JsonStrictValidator

from cofferdam.release.inventory import Inventory, Item
from cofferdam.release.licences import Licence

_KINDS = {
    "image": ComponentType.OPERATING_SYSTEM,
    "package": ComponentType.LIBRARY,
    "own": ComponentType.APPLICATION,
    "kernel": ComponentType.OPERATING_SYSTEM,
    "fragment": ComponentType.FILE,
}


def write(found: Inventory, epoch: int, name: str) -> str:
    """The document; the same inventory, time stamp and name give the same bytes."""
    bom = Bom(serial_number=uuid5(NAMESPACE_URL, name))
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    bom.metadata.component = whole = _component(found.image)
    for item in found.items:
        bom.components.add(_component(item))
    bom.register_dependency(whole, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def problems(text: str) -> list[str]:
    """What is wrong with a document by CycloneDX's schema."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return [str(error)[:200]] if error is not None else []


def _component(item: Item) -> Component:
    return Component(
        bom_ref=item.ref,
        name=item.name,
        version=item.version or None,
        type=_KINDS[item.kind],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=item.sha256)] if item.sha256 else [],
        licenses=_licences(item.licence),
        copyright=item.licence.copyright or None,
        purl=item.purl,
        properties=[Property(name=f"cofferdam:{key}", value=value) for key, value in item.facts],
    )


def _licences(licence: Licence) -> list[LicenseExpression | DisjunctiveLicense]:
    """One expression, or when there are texts a list: a document may hold only one of the two."""
    if not licence.expression:
        return []
    if not licence.texts:
        return [LicenseExpression(licence.expression)]
    parts = licence.expression.split(" AND ")
    named = [part for part in parts if part not in licence.texts]
    return [
        *(DisjunctiveLicense(id=part) if is_supported_id(part) else DisjunctiveLicense(name=part) for part in named),
        *(DisjunctiveLicense(name=name, text=AttachedText(content=text)) for name, text in licence.texts.items()),
    ]
