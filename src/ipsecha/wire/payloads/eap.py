"""EAP payload (RFC 7296 section 3.16): one EAP packet (RFC 3748 section 4)."""

from __future__ import annotations

from typing import NamedTuple

from ipsecha.model.errors import WireError
from ipsecha.wire.reader import Reader

EAP_REQUEST = 1
EAP_RESPONSE = 2
EAP_SUCCESS = 3
EAP_FAILURE = 4


class EapPacket(NamedTuple):
    """``type`` is 0 and ``data`` empty for Success and Failure, which have neither."""

    code: int
    identifier: int
    type: int = 0
    data: bytes = b""


def parse_eap(body: bytes) -> EapPacket:
    """The EAP packet.

    Raises WireError for an unknown code, a Length field that is not the body's length, a Request or Response
    without type, and a Success or Failure that is longer than 4 octets.
    """
    reader = Reader(body)
    code, identifier, length = reader.uint8(), reader.uint8(), reader.uint16()
    if length != len(body):
        raise WireError(f"EAP packet of {len(body)} octets says it has {length}")
    if code in (EAP_SUCCESS, EAP_FAILURE):
        reader.finish()
        return EapPacket(code, identifier)
    if code not in (EAP_REQUEST, EAP_RESPONSE):
        raise WireError(f"EAP code {code}")
    return EapPacket(code, identifier, reader.uint8(), reader.rest())


def build_eap(packet: EapPacket) -> bytes:
    """The body; raises WireError where the packet is too long, or a Success or Failure has a type or data."""
    final = packet.code in (EAP_SUCCESS, EAP_FAILURE)
    if final and (packet.type or packet.data):
        raise WireError(f"EAP code {packet.code} with a type or data")
    typed = b"" if final else bytes((packet.type,)) + packet.data
    length = 4 + len(typed)
    if length > 0xFFFF:
        raise WireError(f"EAP packet of {length} octets")
    return bytes((packet.code, packet.identifier)) + length.to_bytes(2, "big") + typed
