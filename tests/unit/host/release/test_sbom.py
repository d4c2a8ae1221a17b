"""Bills of materials: valid by their formats' own validators, the same for the same image, and true to the copyright files."""

from __future__ import annotations

import json

import pytest

from cofferdam.errors import BuildError, UsageError
from cofferdam.release.folder import ingredients
from cofferdam.release.licences import read_licence, to_spdx
from cofferdam.release.sbom import check_sbom, make_sbom

EPOCH = 1_790_000_000


def document(image, kind):
    text = make_sbom(image, ingredients(image), kind, EPOCH)
    assert check_sbom(text, kind) == []
    assert text == make_sbom(image, ingredients(image), kind, EPOCH)
    return json.loads(text)


def test_cyclonedx_holds_packages_with_licences(image):
    found = document(image, "cyclonedx")
    assert (found["bomFormat"], found["specVersion"], found["metadata"]["timestamp"]) == (
        "CycloneDX",
        "1.6",
        "2026-09-21T14:13:20+00:00",
    )
    parts = {each["name"]: each for each in found["components"]}
    assert {"crun", "libcrun", "odd", "silent", "cofferdam-guest", "linux", "vm/kernel-config/base.config"} <= set(parts)
    crun = parts["crun"]
    assert crun["purl"] == "pkg:deb/debian/crun@1.21-1%2Bb2?arch=amd64&distro=trixie"
    assert crun["hashes"] == [{"alg": "SHA-256", "content": f"{4:064x}"}]
    licences = [each["license"].get("id") or each["license"]["name"] for each in crun["licenses"]]
    assert set(licences) == {"GPL-2.0-or-later", "(MIT OR LGPL-2.1-only)", "LicenseRef-crun-public-domain-by-hand"}
    texts = {
        each["license"]["name"]: each["license"]["text"]["content"] for each in crun["licenses"] if "text" in each["license"]
    }
    assert texts == {"LicenseRef-crun-public-domain-by-hand": "Take it."}
    assert "2002 Grace" in crun["copyright"]
    assert parts["libcrun"]["licenses"] == crun["licenses"], "the same source"
    assert "Do as you like." in parts["odd"]["licenses"][0]["license"]["text"]["content"]
    assert "licenses" not in parts["silent"]
    assert parts["linux"]["licenses"] == [{"expression": "GPL-2.0-only WITH Linux-syscall-note"}]
    assert parts["linux"]["purl"].startswith("pkg:deb/debian/linux-source-7.3@7.3.4-1~bpo13%2B1")
    assert {"name": "cofferdam:source", "value": "crun"} in parts["libcrun"]["properties"]
    assert {"name": "cofferdam:config-sha256", "value": "c" * 64} in parts["linux"]["properties"]


def test_spdx_holds_the_same(image):
    found = document(image, "spdx")
    assert (found["spdxVersion"], found["creationInfo"]["created"]) == ("SPDX-2.3", "2026-09-21T14:13:20Z")
    parts = {each["name"]: each for each in found["packages"]}
    assert (
        parts["crun"]["licenseDeclared"]
        == "(MIT OR LGPL-2.1-only) AND GPL-2.0-or-later AND LicenseRef-crun-public-domain-by-hand"
    )
    assert "2002 Grace" in parts["crun"]["copyrightText"]
    assert parts["libcrun"]["sourceInfo"] == "source: crun"
    (purl,) = parts["crun"]["externalRefs"]
    assert (purl["referenceCategory"], purl["referenceType"], purl["referenceLocator"]) == (
        "PACKAGE-MANAGER",
        "purl",
        "pkg:deb/debian/crun@1.21-1%2Bb2?arch=amd64&distro=trixie",
    )
    assert parts["silent"]["licenseDeclared"] == "NOASSERTION"
    texts = {each["licenseId"]: each["extractedText"] for each in found["hasExtractedLicensingInfos"]}
    assert texts["LicenseRef-crun-public-domain-by-hand"] == "Take it."
    assert "Do as you like." in texts["LicenseRef-odd-copyright"]
    assert parts["linux"]["checksums"][0]["checksumValue"]
    contained = [each for each in found["relationships"] if each["relationshipType"] == "CONTAINS"]
    assert len(contained) == len(parts) - 1


def test_documents_that_differ_have_identifiers_that_differ(image, monkeypatch):
    """Both formats want one that no other document has; the same image is in the releases of several commits."""

    def names(epoch):
        cyclonedx, spdx = (json.loads(make_sbom(image, ingredients(image), kind, epoch)) for kind in ("cyclonedx", "spdx"))
        return cyclonedx["serialNumber"], spdx["documentNamespace"]

    one, later = names(EPOCH), names(EPOCH + 1)
    monkeypatch.setattr("cofferdam.release.inventory._version", lambda _: "9.9.9")
    other = names(EPOCH)
    assert len({*one, *later, *other}) == 6


@pytest.mark.parametrize("kind", ["cyclonedx", "spdx"])
def test_the_image_as_a_whole_is_under_no_single_licence(image, kind):
    found = document(image, kind)
    if kind == "cyclonedx":
        assert "licenses" not in found["metadata"]["component"] and "copyright" not in found["metadata"]["component"]
    else:
        (whole,) = [each for each in found["packages"] if each["name"] == "cofferdam-default"]
        assert (whole["licenseDeclared"], whole["copyrightText"]) == ("NOASSERTION", "NOASSERTION")


@pytest.mark.parametrize(
    ("kind", "text"), [("cyclonedx", '{"bomFormat": "CycloneDX"}'), ("spdx", '{"spdxVersion": "SPDX-2.3"}'), ("spdx", "[]")]
)
def test_what_is_no_bill_of_materials_is_told(kind, text):
    assert check_sbom(text, kind) != []


def test_an_image_without_copyright_files_claims_nothing(image):
    (image.directory / "copyrights.json").unlink()
    parts = {each["name"]: each for each in document(image, "spdx")["packages"]}
    assert parts["crun"]["licenseDeclared"] == "NOASSERTION"
    assert parts["linux"]["licenseDeclared"] != "NOASSERTION"


def test_an_image_of_an_earlier_version_is_told(image):
    (image.directory / "packages.json").unlink()
    with pytest.raises(BuildError, match="does not say what it was made with"):
        ingredients(image)


def test_an_unknown_format_is_refused(image):
    with pytest.raises(UsageError, match="--format swid"):
        make_sbom(image, ingredients(image), "swid", EPOCH)


@pytest.mark.parametrize(
    ("debian", "spdx"),
    [
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPLv3+", "GPL-3.0-or-later"),
        ("GPL-2.0-or-later", "GPL-2.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("Expat", "MIT"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("apache-2.0", "Apache-2.0"),
        ("ISC", "ISC"),
        ("Artistic or GPL-1+", "Artistic-1.0 OR GPL-1.0-or-later"),
        ("GPL-2 and MIT", "GPL-2.0-only AND MIT"),
        ("public-domain", "LicenseRef-p-public-domain"),
        ("GPL-2 with OpenSSL exception", "LicenseRef-p-GPL-2-with-OpenSSL-exception"),
        ("GPL-2+ with OpenSSL exception", "LicenseRef-p-GPL-2-plus-with-OpenSSL-exception"),
        ("zlib/libpng", "Zlib"),
        ("A or B, and C", "LicenseRef-p-A-or-B-and-C"),
    ],
)
def test_debians_names_of_licences(debian, spdx):
    assert to_spdx("p", debian)[0] == spdx


SEVERAL = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: Larry
License: REGCOMP, and GPL-1+ or Artistic

Files: a
Copyright: nobody
License: public-domain
 Ada gave it away.

Files: b
Copyright: nobody
License: public-domain
 Grace never asked for it.

License: REGCOMP
 Do not blame Henry.

License: GPL-1+
 The usual place.
"""


def test_no_text_of_a_licence_is_lost():
    texts = read_licence("p", SEVERAL).texts
    assert texts["LicenseRef-p-public-domain"] == "Ada gave it away.\n\nGrace never asked for it."
    mixed = texts["LicenseRef-p-REGCOMP-and-GPL-1-plus-or-Artistic"]
    assert mixed.startswith("REGCOMP, and GPL-1+ or Artistic\n\n")
    assert "REGCOMP:\nDo not blame Henry." in mixed and "GPL-1+:\nThe usual place." in mixed


@pytest.mark.parametrize("text", ["", "Format: nonsense", "Format: 1\n\nFiles *\n", "\x00\n\n:"])
def test_a_file_that_is_not_machine_readable_is_a_text(text):
    found = read_licence("demo", text)
    assert found.expression == "LicenseRef-demo-copyright"
    assert found.texts == {"LicenseRef-demo-copyright": text}
