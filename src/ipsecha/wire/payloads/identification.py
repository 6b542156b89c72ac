"""Identification payloads IDi and IDr (RFC 7296 section 3.5).

The body, RESERVED octets included, is the IDi' or IDr' that AUTH signs (section 2.15): keep it as received.
"""

from __future__ import annotations

from ipsecha.model.errors import WireError
from ipsecha.model.identity import Identity

_FIXED_LENGTHS = {1: 4, 5: 16}  # ID_IPV4_ADDR, ID_IPV6_ADDR


def parse_identity(body: bytes) -> Identity:
    """The identity; raises WireError where the body is too short or an address has the wrong length."""
    if len(body) < 4:
        raise WireError(f"Identification payload with {len(body)} octets")
    identity = Identity(body[0], body[4:])
    expected = _FIXED_LENGTHS.get(identity.kind)
    if expected is not None and len(identity.data) != expected:
        raise WireError(f"identity of type {identity.kind} with {len(identity.data)} octets")
    return identity


def build_identity(identity: Identity) -> bytes:
    return bytes((identity.kind, 0, 0, 0)) + identity.data
