"""The chain of payloads: generic payload headers (RFC 7296 section 3.2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ipsecha.model.errors import WireError

GENERIC_HEADER_LENGTH = 4
MAX_PAYLOADS = 512
"""More payloads than any honest message has; bounds the work that 64 KB of empty payloads can cause."""

_ENCRYPTED = (46, 53)  # SK, SKF
_CRITICAL = 0x80
_GENERIC = struct.Struct(">BBH")
_new = tuple.__new__  # RawPayload(...) would do the same through one more Python call


class RawPayload(NamedTuple):
    """A payload as found: its ``body`` begins after the generic header."""

    type: int
    critical: bool
    body: bytes


def split_payloads(first: int, data: bytes) -> list[RawPayload]:
    """The payloads in ``data``: what follows the IKE header, or the plaintext of an Encrypted payload.

    ``first`` is the type of the first payload (0: none).  Payloads come in the order found, unknown types included
    (RFC 7296 section 2.5).  An SK or SKF payload is the last one, its Next Payload field belongs to its plaintext
    (section 3.14; see ``ipsecha.wire.sk``).
    Raises WireError where a length is below 4, runs over the end or leaves octets behind.
    """
    payloads: list[RawPayload] = []
    kind, offset, end = first, 0, len(data)
    unpack_from = _GENERIC.unpack_from
    while kind:
        if offset + 4 > end or len(payloads) == MAX_PAYLOADS:
            raise WireError(f"payload {kind} at octet {offset}: no generic header, or too many payloads")
        following, reserved, length = unpack_from(data, offset)
        stop = offset + length
        if length < 4 or stop > end:
            raise WireError(f"payload {kind} at octet {offset}: length {length} of {end - offset} octets")
        payloads.append(_new(RawPayload, (kind, reserved >= _CRITICAL, data[offset + 4 : stop])))
        offset = stop
        if kind in _ENCRYPTED:
            break
        kind = following
    if offset != end:
        raise WireError(f"{end - offset} octets after the last payload")
    return payloads


def join_payloads(payloads: Sequence[tuple[int, bytes]]) -> tuple[int, bytes]:
    """The inverse of split_payloads for pairs of type and body: the first type and the octets.

    The Critical bit is never set: all payloads that ipsecha sends are those of RFC 7296 and RFC 7383.
    Raises WireError for a body of more than 65531 octets.
    """
    if not payloads:
        return 0, b""
    parts: list[bytes] = []
    following = 0
    try:
        for kind, body in reversed(payloads):
            parts.append(body)
            parts.append(_GENERIC.pack(following, 0, len(body) + 4))
            following = kind
    except struct.error:
        raise WireError("a payload is too long or its type is not an octet") from None
    parts.reverse()
    return following, b"".join(parts)
