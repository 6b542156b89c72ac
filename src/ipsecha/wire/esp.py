"""ESP header (RFC 4303 section 2) and what shares UDP port 4500 with it (RFC 3948 section 2)."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from ipsecha.model.errors import WireError

ESP_HEADER_LENGTH = 8
NON_ESP_MARKER = bytes(4)
NAT_KEEPALIVE = b"\xff"

_ESP = struct.Struct(">II")


class DatagramKind(IntEnum):
    """What a datagram on the encapsulation port holds."""

    KEEPALIVE = 0
    IKE = 1  # behind the 4 octets of the non-ESP marker
    ESP = 2


KEEPALIVE = DatagramKind.KEEPALIVE
IKE = DatagramKind.IKE
ESP = DatagramKind.ESP


class EspHeader(NamedTuple):
    """``seq`` is the low half where the SA uses extended sequence numbers."""

    spi: int
    seq: int


def parse_esp(packet: bytes) -> EspHeader:
    """The header of an ESP packet; raises WireError for fewer than 8 octets and for the SPI 0, which is never sent
    (RFC 4303 section 2.1).
    """
    if len(packet) < ESP_HEADER_LENGTH:
        raise WireError(f"ESP packet of {len(packet)} octets")
    spi, seq = _ESP.unpack_from(packet)
    if not spi:
        raise WireError("ESP packet with SPI 0")
    return EspHeader(spi, seq)


def build_esp(spi: int, seq: int) -> bytes:
    """The 8 octets before the IV; of ``seq`` the low 32 bits go out."""
    return _ESP.pack(spi, seq & 0xFFFFFFFF)


def classify(datagram: bytes) -> DatagramKind:
    """What a datagram from UDP port 4500 is (RFC 3948 section 2); IKE begins at ``datagram[4:]``.

    Raises WireError where it is too short to be any of the three.
    """
    if len(datagram) >= ESP_HEADER_LENGTH:
        return IKE if datagram[:4] == NON_ESP_MARKER else ESP
    if datagram == NAT_KEEPALIVE:
        return KEEPALIVE
    raise WireError(f"datagram of {len(datagram)} octets on the encapsulation port")
