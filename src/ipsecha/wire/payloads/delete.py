"""Delete payload (RFC 7296 section 3.11)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from ipsecha.model.errors import WireError

_FIXED = struct.Struct(">BBH")
_IKE = 1
_ESP_SPI_SIZE = 4


class DeletePayload(NamedTuple):
    """SPIs of the sender's inbound SAs, 4 octets each; none for protocol IKE, which means the IKE SA itself."""

    protocol: int
    spis: tuple[bytes, ...]


def parse_delete(body: bytes) -> DeletePayload:
    """The SPIs to be deleted.

    Raises WireError where the SPI size is not that of the protocol (0 for IKE, 4 for AH and ESP) or the count does
    not match the octets.
    """
    if len(body) < 4:
        raise WireError(f"Delete payload with {len(body)} octets")
    protocol, spi_size, count = _FIXED.unpack_from(body)
    if spi_size != (0 if protocol == _IKE else _ESP_SPI_SIZE):
        raise WireError(f"Delete payload for protocol {protocol} with SPIs of {spi_size} octets")
    if len(body) != 4 + spi_size * count:
        raise WireError(f"Delete payload: {count} SPIs in {len(body) - 4} octets")
    return DeletePayload(protocol, tuple(body[at : at + 4] for at in range(4, len(body), 4)))


def build_delete(protocol: int, spis: Sequence[bytes] = ()) -> bytes:
    """The body; ``spis`` (4 octets each, at most 65535) is empty for protocol IKE."""
    spi_size = 0 if protocol == _IKE else _ESP_SPI_SIZE
    if any(len(spi) != spi_size for spi in spis) or (spis and not spi_size):
        raise WireError(f"SPIs of protocol {protocol} have {spi_size} octets")
    if len(spis) > 0xFFFF:
        raise WireError(f"{len(spis)} SPIs in one Delete payload")
    return _FIXED.pack(protocol, spi_size, len(spis)) + b"".join(spis)
