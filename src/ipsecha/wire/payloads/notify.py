"""Notify payload (RFC 7296 section 3.10)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ipsecha.model.errors import WireError

_FIXED = struct.Struct(">BBH")
_new = tuple.__new__  # NotifyPayload(...) would do the same through one more Python call


class NotifyPayload(NamedTuple):
    """``protocol`` is meaningful only beside a non-empty ``spi`` and to be ignored otherwise (section 3.10)."""

    protocol: int
    spi: bytes
    type: int
    data: bytes


def parse_notify(body: bytes) -> NotifyPayload:
    """The notification; raises WireError where the SPI runs over the end."""
    if len(body) < 4:
        raise WireError(f"Notify payload with {len(body)} octets")
    protocol, spi_size, kind = _FIXED.unpack_from(body)
    if not spi_size:
        return _new(NotifyPayload, (protocol, b"", kind, body[4:]))
    stop = 4 + spi_size
    if stop > len(body):
        raise WireError(f"Notify payload: SPI of {spi_size} octets in a body of {len(body)}")
    return NotifyPayload(protocol, body[4:stop], kind, body[stop:])


def build_notify(type: int, data: bytes = b"", protocol: int = 0, spi: bytes = b"") -> bytes:
    """The body; ``protocol`` stays 0 without an SPI unless the notification's RFC says otherwise."""
    if len(spi) > 255:
        raise WireError(f"SPI of {len(spi)} octets")
    return _FIXED.pack(protocol, len(spi), type) + spi + data
