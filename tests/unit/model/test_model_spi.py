"""SPIs: the slot in their top bits, and that nobody gets one that is taken (RFC 6027 sections 3.7 and 3.9)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipsecha.model.spi import (
    FIRST_FREE_ESP_SPI,
    SLOTS,
    new_esp_spi,
    new_ike_spi,
    slot_of_esp_spi,
    slot_of_ike_spi,
)

SLOT = st.integers(0, SLOTS - 1)


@given(SLOT, st.binary(min_size=8, max_size=8).filter(any))
def test_the_slot_is_read_from_any_spi(slot: int, drawn: bytes) -> None:
    """All other bits stay those that were drawn: nobody can predict them."""
    drawn = b"\x40" + drawn[1:]  # neither all zero nor reserved, whatever the slot
    ike = new_ike_spi(slot, lambda length: drawn[:length])
    assert len(ike) == 8
    assert slot_of_ike_spi(ike) == slot
    assert ike[1:] == drawn[1:]
    esp = new_esp_spi(slot, lambda length: drawn[:length])
    assert slot_of_esp_spi(esp) == slot
    assert esp & 0x3FFFFFF == int.from_bytes(drawn[:4], "big") >> 6


@given(SLOT)
def test_spis_that_are_taken_or_reserved_are_drawn_again(slot: int) -> None:
    """RFC 7296 section 3.1: an IKE SPI is not zero; RFC 4303 section 2.1: ESP SPIs up to 255 are reserved."""
    draws = iter([bytes(8), b"\x40" + bytes(6) + b"\1", b"\x40" + bytes(6) + b"\2"])
    taken = {new_ike_spi(slot, lambda length: b"\x40" + bytes(6) + b"\1")}
    assert new_ike_spi(slot, lambda length: next(draws), taken | {bytes((slot << 2,)) + bytes(7)})[-1] == 2
    draws = iter([bytes(4), b"\0\0\x40\0", b"\0\1\0\0", b"\0\2\0\0"])
    first = slot << 26 | 0x10000 >> 6
    found = new_esp_spi(
        slot, lambda length: next(draws), {first} | {slot << 26, slot << 26 | 0x100} if slot else {first}
    )
    assert found >= FIRST_FREE_ESP_SPI
    assert found not in (first, slot << 26)


@given(SLOT, SLOT)
def test_spis_of_two_slots_never_meet(one: int, other: int) -> None:
    draw = bytes(range(1, 9))
    same = new_esp_spi(one, lambda length: draw[:length]) == new_esp_spi(other, lambda length: draw[:length])
    assert same == (one == other)
