"""Certificate and Certificate Request payloads (RFC 7296 sections 3.6 and 3.7)."""

from __future__ import annotations

from collections.abc import Sequence

from ipsecha.model.errors import WireError

AUTHORITY_HASH_LENGTH = 20

_HASHED_ENCODINGS = (4, 12, 13)  # X.509 signature, hash and URL of a certificate or a bundle


def parse_cert(body: bytes) -> tuple[int, bytes]:
    """The certificate encoding and the certificate; raises WireError where it is absent."""
    if len(body) < 2:
        raise WireError("CERT payload without certificate")
    return body[0], body[1:]


def build_cert(encoding: int, data: bytes) -> bytes:
    return bytes((encoding,)) + data


def parse_certreq(body: bytes) -> tuple[int, tuple[bytes, ...]]:
    """The wanted encoding and the SHA-1 hashes of the trust anchors' SubjectPublicKeyInfo.

    For encodings that have no such hashes the tuple is empty.  Raises WireError where the authorities are no
    sequence of 20-octet hashes.
    """
    if not body:
        raise WireError("empty CERTREQ payload")
    encoding = body[0]
    if encoding not in _HASHED_ENCODINGS:
        return encoding, ()
    if (len(body) - 1) % AUTHORITY_HASH_LENGTH:
        raise WireError(f"CERTREQ payload with {len(body) - 1} octets of hashes")
    return encoding, tuple(body[at : at + AUTHORITY_HASH_LENGTH] for at in range(1, len(body), AUTHORITY_HASH_LENGTH))


def build_certreq(encoding: int, authorities: Sequence[bytes]) -> bytes:
    """The body; ``authorities`` are hashes of 20 octets each."""
    if any(len(authority) != AUTHORITY_HASH_LENGTH for authority in authorities):
        raise WireError("a certification authority is named by 20 octets")
    return bytes((encoding,)) + b"".join(authorities)
