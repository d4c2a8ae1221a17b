"""What host and guest have to agree on about a data disk that is sealed to a TPM."""

WORD = "cofferdam.seal"
"""On the signed command line: SHA-256 of the public key whose signature a later image needs to open the disk."""

PARTITION = "cofferdam-seal"
"""Of a signed disk: the public key, and the signature of the one state of the TPM in which this image runs."""

CREDENTIAL = "seal-key"
"""The recovery key, when the disk is to be made, or opened without the TPM that it was sealed to."""

MAKING = "cofferdam-making"
"""Label of a disk, sealed or not, that holds nothing yet."""

HEAD_BYTES = 72
"""Bytes of a disk that `luks_label` needs."""

# Of the LUKS2 header on disk, its specification's first table.
_MAGIC, _LABEL_AT = b"LUKS\xba\xbe", 24


def luks_label(head: bytes) -> str | None:
    """The label of an encrypted disk; None of a disk that is not encrypted, empty of one in LUKS' first format."""
    if not head.startswith(_MAGIC):
        return None
    if head[6:8] != b"\x00\x02":
        return ""
    return head[_LABEL_AT:HEAD_BYTES].split(b"\0")[0].decode("ascii", "replace")
