"""The signature schemes of AUTH method 14 and their AlgorithmIdentifiers (RFC 7427 section 3 and appendix A, RFC 8420).

What RFC 8247 section 3.2 rules out is not here: SHA-1, DSS, RSASSA-PSS with empty or default parameters.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.hashes import HashAlgorithm as Hash

from ipsecha.crypto.der import (
    CONTEXT_0,
    INTEGER,
    NULL,
    OBJECT_IDENTIFIER,
    SEQUENCE,
    read_elements,
    read_single,
    read_unsigned,
)
from ipsecha.model.errors import CryptoError
from ipsecha.model.numbers import HashAlgorithm

SUPPORTED_HASH_ALGORITHMS: tuple[int, ...] = (
    HashAlgorithm.SHA2_256,
    HashAlgorithm.SHA2_384,
    HashAlgorithm.SHA2_512,
    HashAlgorithm.IDENTITY,
)
"""What we list in SIGNATURE_HASH_ALGORITHMS."""

HASHES: dict[int, Hash] = {
    HashAlgorithm.SHA2_256: SHA256(),
    HashAlgorithm.SHA2_384: SHA384(),
    HashAlgorithm.SHA2_512: SHA512(),
}


class Padding(Enum):
    """How a signature is made; ECDSA and Ed25519 have only one way each."""

    RSA_PKCS1 = "RSASSA-PKCS1-v1_5"
    RSA_PSS = "RSASSA-PSS"
    ECDSA = "ECDSA"
    ED25519 = "Ed25519"


class Scheme(NamedTuple):
    """``hash_id`` is a number of SIGNATURE_HASH_ALGORITHMS; ``salt_length`` (octets) matters with RSASSA-PSS."""

    padding: Padding
    hash_id: int
    salt_length: int = 0


IDENTIFIERS: dict[Scheme, bytes] = {
    Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_256): bytes.fromhex("300d06092a864886f70d01010b0500"),
    Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_384): bytes.fromhex("300d06092a864886f70d01010c0500"),
    Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_512): bytes.fromhex("300d06092a864886f70d01010d0500"),
    Scheme(Padding.ECDSA, HashAlgorithm.SHA2_256): bytes.fromhex("300a06082a8648ce3d040302"),
    Scheme(Padding.ECDSA, HashAlgorithm.SHA2_384): bytes.fromhex("300a06082a8648ce3d040303"),
    Scheme(Padding.ECDSA, HashAlgorithm.SHA2_512): bytes.fromhex("300a06082a8648ce3d040304"),
    Scheme(Padding.ED25519, HashAlgorithm.IDENTITY): bytes.fromhex("300506032b6570"),
    Scheme(Padding.RSA_PSS, HashAlgorithm.SHA2_256, 32): bytes.fromhex(
        "304606092a864886f70d01010a3039a00f300d06096086480165030402010500"
        "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120a303020101"
    ),
}
"""AlgorithmIdentifiers as sent."""

_BY_IDENTIFIER: dict[bytes, Scheme] = {identifier: scheme for scheme, identifier in IDENTIFIERS.items()} | {
    # RFC 4055 section 5: receivers accept RSA identifiers without the NULL
    bytes.fromhex("300b06092a864886f70d01010b"): Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_256),
    bytes.fromhex("300b06092a864886f70d01010c"): Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_384),
    bytes.fromhex("300b06092a864886f70d01010d"): Scheme(Padding.RSA_PKCS1, HashAlgorithm.SHA2_512),
}

_SHA1_IDENTIFIERS = frozenset(
    bytes.fromhex(text)
    for text in (
        "300d06092a864886f70d0101050500",  # sha1WithRSAEncryption
        "300b06092a864886f70d010105",
        "300906072a8648ce380403",  # dsa-with-sha1
        "300906072a8648ce3d0401",  # ecdsa-with-SHA1
    )
)

_OID_PSS = bytes.fromhex("2a864886f70d01010a")
_OID_MGF1 = bytes.fromhex("2a864886f70d010108")
_OID_SHA1 = bytes.fromhex("2b0e03021a")
_OID_HASHES: dict[bytes, int] = {
    bytes.fromhex("608648016503040201"): HashAlgorithm.SHA2_256,
    bytes.fromhex("608648016503040202"): HashAlgorithm.SHA2_384,
    bytes.fromhex("608648016503040203"): HashAlgorithm.SHA2_512,
}


def parse_identifier(identifier: bytes) -> Scheme:
    """The scheme that a DER AlgorithmIdentifier names; raises CryptoError for what is malformed, not supported or
    ruled out."""
    scheme = _BY_IDENTIFIER.get(identifier)
    if scheme is not None:
        return scheme
    if identifier in _SHA1_IDENTIFIERS:
        raise CryptoError("the signature is made with SHA-1, which RFC 8247 forbids")
    oid, parameters = _read_algorithm(identifier)
    if oid == _OID_PSS:
        return _parse_pss(parameters)
    raise CryptoError(f"signature algorithm {identifier.hex()} is not supported")


def _read_algorithm(identifier: bytes) -> tuple[bytes, bytes]:
    """OID and encoded parameters of ``SEQUENCE { OBJECT IDENTIFIER, parameters }``."""
    content = read_single(identifier, SEQUENCE)
    first = next(read_elements(content), None)
    if first is None or first.tag != OBJECT_IDENTIFIER or len(first.content) > 127:
        raise CryptoError("an algorithm identifier begins with an object identifier")
    return first.content, content[2 + len(first.content) :]


def _parse_pss(parameters: bytes) -> Scheme:
    """RSASSA-PSS-params (RFC 4055 section 3.1): hash, mask and salt length must be explicit."""
    fields = {element.tag - CONTEXT_0: element.content for element in read_elements(read_single(parameters, SEQUENCE))}
    if not fields.keys() >= {0, 1, 2}:
        raise CryptoError("RSASSA-PSS with empty or default parameters stands for SHA-1, which RFC 8247 forbids")
    if fields.keys() - {0, 1, 2, 3} or (3 in fields and read_unsigned(read_single(fields[3], INTEGER)) != 1):
        raise CryptoError("the parameters of RSASSA-PSS are malformed")
    mask, mask_parameters = _read_algorithm(fields[1])
    hash_id = _hash_id(fields[0])
    if mask != _OID_MGF1 or _hash_id(mask_parameters) != hash_id:
        raise CryptoError("RSASSA-PSS is supported with MGF1 and one hash for both")
    salt_length = read_unsigned(read_single(fields[2], INTEGER))
    if salt_length > 64:
        raise CryptoError(f"RSASSA-PSS with a salt of {salt_length} octets is not supported")
    return Scheme(Padding.RSA_PSS, hash_id, salt_length)


def _hash_id(identifier: bytes) -> int:
    oid, parameters = _read_algorithm(identifier)
    if oid == _OID_SHA1:
        raise CryptoError("the signature is made with SHA-1, which RFC 8247 forbids")
    if oid not in _OID_HASHES or parameters not in (b"", bytes((NULL, 0))):
        raise CryptoError("RSASSA-PSS is supported with SHA-256, SHA-384 and SHA-512")
    return _OID_HASHES[oid]
