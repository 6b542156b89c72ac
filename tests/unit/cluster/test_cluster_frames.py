"""Frames of the synch channel: what goes in comes out, and nothing else than ClusterError for anything else."""

from __future__ import annotations

import contextlib
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.cluster import frames
from ipsecha.cluster.epoch import EPOCH_LIMIT
from ipsecha.cluster.frames import Frame, check_reach, decode_frame, encode_frame, pack_leases, unpack_leases
from ipsecha.cluster.pair import PairMember, PairSettings
from ipsecha.model.errors import ClusterError
from ipsecha.model.records import LeaseEntry

NUMBER = st.integers(0, 2**63)
OCTETS = st.binary(max_size=64)
CHANGES = st.lists(st.tuples(OCTETS, st.none() | OCTETS), max_size=4).map(tuple)
LEASES = st.lists(st.builds(LeaseEntry, st.integers(0, 2**32 - 1), NUMBER, NUMBER), max_size=5)

FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(
        frames.Hello,
        version=st.integers(0, 255),
        cluster=st.text(max_size=20),
        member_index=st.integers(0, 15),
        boot_id=OCTETS,
        active=st.booleans(),
        epoch=NUMBER,
        state_rank=st.integers(0, 2),
        beat_key=OCTETS,
        cluster_time=st.floats(allow_nan=False),
        lineage=NUMBER,
    ),
    st.builds(frames.Join, NUMBER),
    st.builds(frames.Commit, NUMBER, NUMBER, CHANGES, CHANGES),
    st.builds(frames.HalfOpen, NUMBER, OCTETS),
    st.builds(frames.Touched, NUMBER, st.lists(OCTETS, max_size=3).map(tuple)),
    st.builds(frames.Leases, NUMBER, NUMBER, LEASES.map(pack_leases)),
    st.builds(frames.SnapshotEnd, NUMBER, NUMBER, NUMBER),
    st.builds(frames.Ack, NUMBER, NUMBER),
    st.builds(frames.Nack, NUMBER),
    st.builds(frames.SwitchoverRequest, NUMBER),
    st.builds(frames.Handover, NUMBER, LEASES.map(pack_leases)),
    st.builds(frames.Taken, NUMBER),
    st.builds(frames.Forward, OCTETS),
    st.builds(frames.Goodbye, NUMBER),
)


@given(FRAMES)
def test_what_is_encoded_is_decoded(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(FRAMES, st.lists(st.integers() | st.none() | OCTETS, min_size=1, max_size=3))
def test_fields_of_a_newer_version_are_ignored(frame: Frame, more: list[object]) -> None:
    data = encode_frame(frame)
    fields = msgspec.msgpack.decode(data[1:])
    more = [value for value in more if not isinstance(value, int) or abs(value) < 2**63]
    # an appended field of ours may be missing in the frame, but what a newer version appends comes behind all of them
    assert decode_frame(data[:1] + msgspec.msgpack.encode([*fields, *more])) == frame


def test_fields_that_an_older_version_does_not_send_have_defaults() -> None:
    hello = frames.Hello(1, "c", 0, b"b", True, 7, 2, b"k", 1.0, 7)
    fields = msgspec.msgpack.decode(encode_frame(hello)[1:])
    older = decode_frame(b"\x01" + msgspec.msgpack.encode(fields[:9]))
    assert isinstance(older, frames.Hello)
    assert older.lineage == 0
    end = decode_frame(b"\x05" + msgspec.msgpack.encode([3, 4]))
    assert end == frames.SnapshotEnd(3, 4, 0)


@given(st.integers(64, 255), st.binary(max_size=40))
def test_a_frame_of_an_unknown_type_is_none(kind: int, body: bytes) -> None:
    assert decode_frame(bytes((kind,)) + body) is None


@given(st.binary(max_size=200))
def test_arbitrary_octets_are_a_frame_or_nothing_or_a_cluster_error(data: bytes) -> None:
    try:
        frame = decode_frame(data)
    except ClusterError:
        return
    assert frame is None or encode_frame(frame)[:1] == data[:1]


@given(FRAMES, st.data())
def test_spoiled_frames_raise_nothing_but_cluster_errors(frame: Frame, data: st.DataObject) -> None:
    octets = bytearray(encode_frame(frame))
    for _ in range(data.draw(st.integers(1, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(octets)))
    with contextlib.suppress(ClusterError):
        decode_frame(bytes(octets[:cut]))


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x03\xc1", b"\x03\x93\x01\x02\x81\x01\x02", b"\x0b\x91\xa1\xff"])
def test_octets_that_are_no_frame(data: bytes) -> None:
    with pytest.raises(ClusterError):
        decode_frame(data)


HELLO = frames.Hello(1, "berlin", 0, b"b" * 16, True, 0x110, 2, b"k" * 32, 1000.0)


@pytest.mark.parametrize(
    "frame",
    [
        *(frames.Ack(epoch, 1) for epoch in (-1, EPOCH_LIMIT, 2**64 - 1)),
        frames.SnapshotEnd(0x110, 1, EPOCH_LIMIT),
        msgspec.structs.replace(HELLO, epoch=EPOCH_LIMIT),
        *(msgspec.structs.replace(HELLO, cluster_time=time) for time in (math.nan, math.inf, -math.inf, 1e300)),
    ],
)
def test_what_no_member_can_have_come_to_is_refused(frame: Frame) -> None:
    """A successor of such an epoch could not be said any more, and such a clock would stop all timers."""
    with pytest.raises(ClusterError, match="nobody can have"):
        check_reach(frame)
    alpha = PairMember(PairSettings("berlin", ("alpha", "beta"), 1), lambda count: bytes(count))
    alpha.start(0.0, 1.0)
    alpha.channel_up(0.0)
    alpha.receive_frame(encode_frame(HELLO), 0.0)
    alpha.receive_frame(encode_frame(frame), 0.0)
    assert alpha.counters["malformed frame"] == 1


@given(LEASES)
def test_leases_take_twenty_octets_each(entries: list[LeaseEntry]) -> None:
    packed = pack_leases(entries)
    assert len(packed) == 20 * len(entries)
    assert unpack_leases(packed) == entries


@given(st.binary(max_size=100).filter(lambda data: len(data) % 20))
def test_a_lease_array_of_another_length_is_refused(packed: bytes) -> None:
    with pytest.raises(ClusterError):
        unpack_leases(packed)
