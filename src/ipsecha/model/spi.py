"""SPIs that carry their slot in the top bits (DESIGN: load sharing): any member reads the owner from a packet.

IKE SPIs are 8 octets (``bytes``), ESP and AH SPIs 32-bit integers.  RFC 7296 section 3.1 forbids the IKE SPI 0;
RFC 4303 section 2.1 reserves the ESP SPIs 0 to 255.
"""

from __future__ import annotations

from collections.abc import Callable, Container

SLOT_BITS = 6
SLOTS = 1 << SLOT_BITS
FIRST_FREE_ESP_SPI = 256

Entropy = Callable[[int], bytes]
"""``entropy(n)`` gives n octets that nobody can predict."""


def slot_of_ike_spi(spi: bytes) -> int:
    """The slot of a local IKE SPI (8 octets)."""
    return spi[0] >> (8 - SLOT_BITS)


def slot_of_esp_spi(spi: int) -> int:
    """The slot of a local (inbound) ESP or AH SPI."""
    return spi >> (32 - SLOT_BITS)


def new_ike_spi(slot: int, entropy: Entropy, taken: Container[bytes] = ()) -> bytes:
    """A fresh local IKE SPI in ``slot``, not in ``taken``; 58 unpredictable bits."""
    while True:
        raw = entropy(8)
        spi = bytes(((slot << (8 - SLOT_BITS)) | (raw[0] >> SLOT_BITS),)) + raw[1:]
        if spi != bytes(8) and spi not in taken:
            return spi


def new_esp_spi(slot: int, entropy: Entropy, taken: Container[int] = ()) -> int:
    """A fresh inbound ESP or AH SPI in ``slot``, not in ``taken``; 26 unpredictable bits."""
    while True:
        spi = (slot << (32 - SLOT_BITS)) | (int.from_bytes(entropy(4), "big") >> SLOT_BITS)
        if spi >= FIRST_FREE_ESP_SPI and spi not in taken:
            return spi
