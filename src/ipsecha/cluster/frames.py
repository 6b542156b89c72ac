"""Frames of the synch channel: one type octet and a MessagePack array.

Forward compatible: fields are appended, a decoder ignores those it does not know; a frame of an unknown type is
ignored and counted.  The channel puts the length in front and bounds it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import msgspec

from ipsecha.cluster.epoch import EPOCH_LIMIT
from ipsecha.model.errors import ClusterError
from ipsecha.model.records import LeaseEntry

VERSION = 1
CLOCK_LIMIT_S = 1e12
"""Of the cluster's clock: what is not below it, or no number, would stop all timers for ever."""

DELTAS = 1
"""A feature: ``Commit.deltas``."""
_LEASE = struct.Struct(">IQQ")
_LOWERED = struct.Struct(">I")
_KNOWN = struct.Struct(">IQ")

Change = tuple[bytes, bytes | None]
"""Key (local IKE SPI) and encoded record; None: withdrawn."""


class Hello(msgspec.Struct, array_like=True, frozen=True):
    """The first frame in both directions.  ``state_rank``: 0 holds no records, 1 was a backup in sync, 2 the owner."""

    version: int
    cluster: str
    member_index: int
    boot_id: bytes
    active: bool
    epoch: int
    state_rank: int
    beat_key: bytes
    cluster_time: float
    lineage: int = 0  # epoch of the cold start that the sender's records go back to
    features: int = 0  # what the sender understands beyond the first version
    from_disk: bool = False  # the records are saved ones, which nobody has confirmed yet
    has_owned: bool = False  # since it was last a backup in sync, or handed over: it may have used what we would use
    highest_epoch: int = 0  # whatever the sender takes next is later; where it is handed our SAs, we must know

    def __repr__(self) -> str:  # without the key
        return f"Hello({self.cluster!r}, member {self.member_index}, epoch {self.epoch:#x}, active={self.active})"


class Join(msgspec.Struct, array_like=True, frozen=True):
    """The sender holds no records any more and asks the owner for a snapshot."""

    epoch: int


class Commit(msgspec.Struct, array_like=True, frozen=True):
    """Records that changed in one turn of the owner, or a part of a snapshot."""

    epoch: int
    number: int
    changes: tuple[Change, ...]
    initiations: tuple[Change, ...] = ()  # the owner's own handshakes, by their initiator's SPI
    deltas: tuple[tuple[bytes, bytes], ...] = ()  # as in model.record_delta, for a partner that knows DELTAS

    def __repr__(self) -> str:  # records hold keys
        return f"Commit(epoch {self.epoch:#x}, number {self.number}, {len(self.changes)} changes)"


class Leases(msgspec.Struct, array_like=True, frozen=True):
    """Counter leases as a packed array: SPI, inbound ceiling, outbound ceiling.

    ``lowered``: the SPIs among them whose inbound ceiling replaces a higher one, packed.  A member that does not know
    this field keeps the higher one, which is safe.  ``known``: SPI and ``LeaseEntry.known`` of SAs that learn.
    """

    epoch: int
    number: int
    packed: bytes
    lowered: bytes = b""
    known: bytes = b""


class SnapshotEnd(msgspec.Struct, array_like=True, frozen=True):
    """Everything has been sent: from here on the receiver is a backup in sync.

    ``highest_epoch``: what its next takeover must leave behind; one that nobody else has seen may be among it.
    """

    epoch: int
    number: int
    highest_epoch: int = 0


class Ack(msgspec.Struct, array_like=True, frozen=True):
    """All numbered frames up to ``number`` have been applied."""

    epoch: int
    number: int


class Nack(msgspec.Struct, array_like=True, frozen=True):
    """The sender has seen ``epoch`` and refuses writes of older ones (invariant I5)."""

    epoch: int


class SwitchoverRequest(msgspec.Struct, array_like=True, frozen=True):
    """The backup's operator asks for a switchover."""

    epoch: int


class Handover(msgspec.Struct, array_like=True, frozen=True):
    """The owner has stopped; ``packed`` are the exact counters of the SAs in use."""

    epoch: int
    packed: bytes


class Taken(msgspec.Struct, array_like=True, frozen=True):
    """The answer to a handover: the new owner's epoch."""

    epoch: int


class Forward(msgspec.Struct, array_like=True, frozen=True):
    """A packet that arrived at the wrong member."""

    data: bytes


class Pulse(msgspec.Struct, array_like=True, frozen=True):
    """Nothing to say: the channel works.  Sent with every beat, since TCP alone does not tell an idle end that the
    other one is gone.  ``cluster_time``: of the owner, for a mirror."""

    epoch: int
    cluster_time: float = 0.0


class PolicyDigest(msgspec.Struct, array_like=True, frozen=True):
    """What the sender has read of its configuration, as one number (``cluster.policies``)."""

    digest: bytes


class Goodbye(msgspec.Struct, array_like=True, frozen=True):
    """The process ends on purpose and uses its SAs no more: as good as proof of death."""

    epoch: int


class HalfOpen(msgspec.Struct, array_like=True, frozen=True):
    """A half-open IKE SA of the owner's, within its budget.  Not numbered: nobody waits for it."""

    epoch: int
    state: bytes

    def __repr__(self) -> str:  # the state holds keys
        return f"HalfOpen(epoch {self.epoch:#x}, {len(self.state)} octets)"


class Touched(msgspec.Struct, array_like=True, frozen=True):
    """From an owner that gives up, before it joins: keys of the records that it changed while both were owners."""

    epoch: int
    keys: tuple[bytes, ...]


class Bequest(msgspec.Struct, array_like=True, frozen=True):
    """From an owner that gives up, before it joins: records of IKE SAs that it made, and that the one that stays cannot
    know.  A member that does not know this frame lets them be made anew."""

    epoch: int
    records: tuple[tuple[bytes, bytes], ...]  # by local IKE SPI

    def __repr__(self) -> str:  # records hold keys
        return f"Bequest(epoch {self.epoch:#x}, {len(self.records)} records)"


class Standing(msgspec.Struct, array_like=True, frozen=True):
    """Between members of a cluster of more than two: what the sender is.  ``partner``: the member (index) that has the
    other seat, or whom a sender without a seat follows (-1: nobody); ``seats``: so many ``Seat`` frames it has received
    on this channel."""

    hello: Hello
    seated: bool
    partner: int
    seats: int


class Seat(msgspec.Struct, array_like=True, frozen=True):
    """From the owner to a mirror in sync: it is the backup from here on, and what follows is what a backup gets."""

    epoch: int


Frame = (
    Hello
    | Join
    | Commit
    | Leases
    | SnapshotEnd
    | Ack
    | Nack
    | SwitchoverRequest
    | Handover
    | Taken
    | Forward
    | Goodbye
    | Pulse
    | HalfOpen
    | Touched
    | Bequest
    | Standing
    | Seat
    | PolicyDigest
)

_TYPES: dict[int, type[Frame]] = {
    1: Hello,
    2: Join,
    3: Commit,
    4: Leases,
    5: SnapshotEnd,
    6: Ack,
    7: Nack,
    8: SwitchoverRequest,
    9: Handover,
    10: Taken,
    11: Forward,
    12: Goodbye,
    13: Pulse,
    14: HalfOpen,
    15: Touched,
    16: PolicyDigest,
    17: Standing,
    18: Seat,
    19: Bequest,
}
SEATING = (bytes((17,)), bytes((18,)))
"""The first octets of frames that are never a pair's."""

_OCTETS = {kind: bytes((number,)) for number, kind in _TYPES.items()}
_DECODERS = {number: msgspec.msgpack.Decoder(kind) for number, kind in _TYPES.items()}
_encoder = msgspec.msgpack.Encoder()


def encode_frame(frame: Frame) -> bytes:
    return _OCTETS[type(frame)] + _encoder.encode(frame)


def decode_frame(data: bytes) -> Frame | None:
    """The frame, or None for a type that this version does not know.  Raises ClusterError for octets that are none."""
    if not data:
        raise ClusterError("empty frame on the synch channel")
    decoder = _DECODERS.get(data[0])
    if decoder is None:
        return None
    try:
        return decoder.decode(memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ClusterError(f"frame of type {data[0]} on the synch channel: {error}") from None


_CLOCKED = (Hello, Pulse)


def check_reach(frame: Frame) -> None:
    """Raises ClusterError for an epoch or a clock that nobody can have come to: the one would leave no room for a
    successor, the other would stop all timers."""
    if not (0 <= getattr(frame, "epoch", 0) < EPOCH_LIMIT and 0 <= getattr(frame, "highest_epoch", 0) < EPOCH_LIMIT):
        raise ClusterError("a frame with an epoch that nobody can have reached")
    if isinstance(frame, _CLOCKED) and not abs(frame.cluster_time) < CLOCK_LIMIT_S:
        raise ClusterError("a frame with a clock that nobody can have")
    if isinstance(frame, Standing):
        check_reach(frame.hello)


def pack_leases(entries: Sequence[LeaseEntry]) -> bytes:
    """20 octets an entry."""
    pack = _LEASE.pack
    return b"".join([pack(entry.spi_in, entry.in_ceiling, entry.out_ceiling) for entry in entries])


def unpack_leases(packed: bytes) -> list[LeaseEntry]:
    """Raises ClusterError when the length is not a multiple of an entry's."""
    if len(packed) % _LEASE.size:
        raise ClusterError(f"lease array of {len(packed)} octets")
    return [LeaseEntry(*fields) for fields in _LEASE.iter_unpack(packed)]


def leases_frame(epoch: int, number: int, entries: Sequence[LeaseEntry]) -> Leases:
    lowered = b"".join([_LOWERED.pack(entry.spi_in) for entry in entries if entry.lowers])
    known = b"".join([_KNOWN.pack(entry.spi_in, entry.known) for entry in entries if entry.known])
    return Leases(epoch, number, pack_leases(entries), lowered, known)


def lease_entries(frame: Leases) -> list[LeaseEntry]:
    """Raises ClusterError where an array's length makes no sense."""
    entries = unpack_leases(frame.packed)
    if not (frame.lowered or frame.known):
        return entries
    if len(frame.lowered) % _LOWERED.size or len(frame.known) % _KNOWN.size:
        raise ClusterError(f"lease arrays of {len(frame.lowered)} and {len(frame.known)} octets")
    lowered = {spi for (spi,) in _LOWERED.iter_unpack(frame.lowered)}
    known: dict[int, int] = dict(_KNOWN.iter_unpack(frame.known))
    return [
        LeaseEntry(one.spi_in, one.in_ceiling, one.out_ceiling, one.spi_in in lowered, known.get(one.spi_in, 0))
        for one in entries
    ]
