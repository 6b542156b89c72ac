"""NAT detection (RFC 7296 section 2.23)."""

from __future__ import annotations

import hashlib
import ipaddress
from functools import lru_cache

from ipsecha.ike.flags import ENCAPSULATE, LOCAL_NAT, REMOTE_NAT
from ipsecha.model.records import Address


@lru_cache(maxsize=4096)
def packed(ip: str) -> bytes:
    """The 4 or 16 octets of an address."""
    return ipaddress.ip_address(ip).packed


def detection_hash(spi_i: bytes, spi_r: bytes, address: Address) -> bytes:
    """The data of NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP: SHA-1 by the RFC, a mere comparison."""
    octets = spi_i + spi_r + packed(address[0]) + address[1].to_bytes(2, "big")
    return hashlib.sha1(octets, usedforsecurity=False).digest()


def forced_hash(spi_i: bytes, spi_r: bytes, address: Address) -> bytes:
    """A source hash that matches no address (port 0): the peer takes us to be behind a NAT and encapsulates."""
    return detection_hash(spi_i, spi_r, (address[0], 0))


def detect(
    spi_i: bytes, spi_r: bytes, local: Address, remote: Address, sources: list[bytes], destinations: list[bytes]
) -> int:
    """The flags for what the peer's notifies say: a source that is not where its message came from means that the peer
    is behind a NAT, a destination that is not where the message arrived that we are.  None of them: no NAT traversal.
    """
    flags = 0
    if sources and detection_hash(spi_i, spi_r, remote) not in sources:
        flags |= REMOTE_NAT | ENCAPSULATE
    if destinations and detection_hash(spi_i, spi_r, local) not in destinations:
        flags |= LOCAL_NAT | ENCAPSULATE
    return flags
