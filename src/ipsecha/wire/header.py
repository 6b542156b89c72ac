"""The IKE header (RFC 7296 section 3.1)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ipsecha.model.errors import WireError

HEADER_LENGTH = 28

# plain integers: arithmetic with IntFlag members costs more than parsing the whole header
FLAG_INITIATOR = 0x08
FLAG_RESPONSE = 0x20

_VERSION = 0x20
_HEADER = struct.Struct(">8s8s4BII")
_new = tuple.__new__  # Header(...) would do the same through one more Python call


class Header(NamedTuple):
    """The header's fields; ``length`` is that of the whole message, ``version`` the major version."""

    spi_i: bytes
    spi_r: bytes
    next_payload: int
    exchange: int
    flags: int
    message_id: int
    length: int
    version: int = 2

    @property
    def from_initiator(self) -> bool:
        """The I flag: the sender is the original initiator of the IKE SA."""
        return self.flags & FLAG_INITIATOR != 0

    @property
    def is_response(self) -> bool:
        """The R flag."""
        return self.flags & FLAG_RESPONSE != 0


def parse_header(data: bytes) -> Header:
    """The header of the message ``data`` (without a non-ESP marker).

    The minor version and unknown flags are ignored (RFC 7296 section 2.5).  A major version other than 2 is left to
    the caller, who may owe the sender an INVALID_MAJOR_VERSION.
    Raises WireError where the message is too short or its Length field is not the length of ``data``.
    """
    if len(data) < HEADER_LENGTH:
        raise WireError(f"IKE message of {len(data)} octets")
    spi_i, spi_r, next_payload, version, exchange, flags, message_id, length = _HEADER.unpack_from(data)
    if length != len(data):
        raise WireError(f"IKE message of {len(data)} octets says it has {length}")
    return _new(Header, (spi_i, spi_r, next_payload, exchange, flags, message_id, length, version >> 4))


def build_header(
    spi_i: bytes, spi_r: bytes, next_payload: int, exchange: int, flags: int, message_id: int, length: int
) -> bytes:
    """The 28 octets of a version 2.0 header; ``length`` counts header and payloads."""
    try:
        return _HEADER.pack(spi_i, spi_r, next_payload, _VERSION, exchange, flags, message_id, length)
    except struct.error as error:
        raise WireError(f"IKE header: {error}") from None
