"""Beats: only fresh ones of the partner count, and our own pause is not the other's death."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.cluster.detector import Beat, BeatListener, seal_beat
from ipsecha.cluster.epoch import EPOCH_LIMIT

KEY, BOOT = b"k" * 32, b"b" * 16


def _beat(counter: int, boot_id: bytes = BOOT, key: bytes = KEY) -> bytes:
    return seal_beat(Beat(boot_id, counter, 0x21, True, 2, 1000.0, 0x11), key)


@pytest.fixture
def listener() -> BeatListener:
    listener = BeatListener(3)
    listener.expect(BOOT, KEY)
    return listener


def test_a_fresh_beat_is_opened_and_keeps_the_partner_alive(listener: BeatListener) -> None:
    listener.tick()
    for counter in range(1, 10):
        listener.tick()
        beat = listener.open("lan", _beat(counter))
        assert beat == Beat(BOOT, counter, 0x21, True, 2, 1000.0, 0x11)
        assert listener.missed == 0
    assert not listener.silent
    assert listener.refused == 0


@pytest.mark.parametrize(("epoch", "time"), [(EPOCH_LIMIT, 1000.0), (-1, 1000.0), (0x21, math.nan), (0x21, math.inf)])
def test_what_no_member_can_have_come_to_is_refused(listener: BeatListener, epoch: int, time: float) -> None:
    assert listener.open("lan", seal_beat(Beat(BOOT, 1, epoch, True, 2, time, 0x11), KEY)) is None
    assert listener.refused == 1


def test_three_ticks_without_anything_are_silence(listener: BeatListener) -> None:
    listener.tick()  # the hello was heard in this one
    for missed in (1, 2):
        listener.tick()
        assert listener.missed == missed
        assert not listener.silent
    listener.tick()
    assert listener.silent
    listener.heard()
    assert not listener.silent


def test_a_late_tick_counts_once(listener: BeatListener) -> None:
    """A member that slept for an hour has missed one tick, and hears what waited for it before the next."""
    listener.tick()
    listener.tick()
    assert listener.missed == 1
    assert listener.open("lan", _beat(5))
    listener.tick()
    assert listener.missed == 0


def test_before_the_hello_no_beat_counts() -> None:
    listener = BeatListener(3)
    assert listener.open("lan", _beat(1)) is None
    assert listener.open("lan", seal_beat(Beat(b"", 1, 0, True, 0, 0.0), b"")) is None
    assert listener.refused == 2


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_beat_with_one_octet_changed_is_refused(position: int, difference: int) -> None:
    listener = BeatListener(3)
    listener.expect(BOOT, KEY)
    octets = bytearray(_beat(1))
    octets[position % len(octets)] ^= difference
    assert listener.open("lan", bytes(octets)) is None
    assert listener.refused == 1


@given(st.binary(max_size=100))
def test_arbitrary_octets_are_refused(data: bytes) -> None:
    listener = BeatListener(3)
    listener.expect(BOOT, KEY)
    assert listener.open("lan", data) is None


@given(st.binary(max_size=40))
def test_octets_that_are_no_beat_are_refused_even_with_the_right_key(body: bytes) -> None:
    import hashlib
    import hmac

    listener = BeatListener(3)
    listener.expect(BOOT, KEY)
    assert listener.open("lan", body + hmac.digest(KEY, body, hashlib.sha256)[:16]) is None


def test_a_replayed_beat_is_refused_on_its_path_and_counts_on_another(listener: BeatListener) -> None:
    assert listener.open("lan", _beat(4))
    assert listener.open("lan", _beat(4)) is None
    assert listener.open("lan", _beat(3)) is None
    assert listener.open("synch", _beat(4))
    assert listener.refused == 2


def test_beats_recorded_on_one_path_and_played_back_on_another_keep_nobody_alive(listener: BeatListener) -> None:
    assert listener.open("lan", _beat(100))
    assert listener.open("synch", _beat(96)) is None
    assert listener.open("synch", _beat(97))


def test_beats_of_a_former_boot_are_refused(listener: BeatListener) -> None:
    assert listener.open("lan", _beat(50))
    listener.expect(b"c" * 16, b"n" * 32)
    assert listener.open("lan", _beat(51)) is None
    assert listener.open("lan", _beat(51, key=b"n" * 32)) is None
    assert listener.open("lan", _beat(1, b"c" * 16, b"n" * 32))


def test_another_hello_of_the_same_process_does_not_open_the_door_for_replays(listener: BeatListener) -> None:
    assert listener.open("lan", _beat(9))
    listener.expect(BOOT, KEY)
    assert listener.open("lan", _beat(9)) is None


def test_refused_beats_do_not_break_the_silence(listener: BeatListener) -> None:
    listener.open("lan", _beat(1))
    for _ in range(4):
        listener.tick()
        assert listener.open("lan", _beat(1)) is None
        assert listener.open("lan", _beat(2, key=b"x")) is None
    assert listener.silent
