"""The record and the frames of version 0.1, as they were: for tests of rolling upgrades.  Never to be changed.

Nothing here is taken from the code under test: a member of version 0.1 decodes and encodes like this, whatever the
present version does.  ``frame_through_version_0_1`` is what such a member makes of a frame, in either direction.
"""

from __future__ import annotations

from typing import Any

import msgspec

Ids = tuple[int, bytes]
Where = tuple[str, int]


class Struct(msgspec.Struct, array_like=True):
    pass


class IkeSuite(Struct):
    encr: int
    key_bits: int
    integ: int
    prf: int
    group: int


class ChildSuite(Struct):
    protocol: int
    encr: int
    key_bits: int
    integ: int
    group: int
    esn: bool


class Selector(Struct):
    start: bytes
    end: bytes
    protocol: int = 0
    start_port: int = 0
    end_port: int = 65535


class Task(Struct):
    kind: int
    spi: int = 0
    child: str = ""
    not_before: float = 0.0
    group: int = 0
    tries: int = 0
    packet: tuple[Selector, ...] = ()
    orphan: bool = False


class Exchange(Struct):
    kind: int
    message_id: int
    request: tuple[bytes, ...]
    started_at: float
    tries: int = 1
    child: str = ""
    old_spi: int = 0
    new_spi: bytes = b""
    nonce: bytes = b""
    group: int = 0
    private_key: bytes = b""
    rival_nonce: bytes = b""
    rival_spi: bytes = b""
    local_ts: tuple[Selector, ...] = ()
    remote_ts: tuple[Selector, ...] = ()
    gone_spis: tuple[int, ...] = ()
    task: Task | None = None


class ChildSa(Struct):
    name: str
    spi_in: int
    spi_out: int
    suite: ChildSuite
    keys: bytes
    local_ts: tuple[Selector, ...]
    remote_ts: tuple[Selector, ...]
    created_at: float
    rekey_at: float
    expires_at: float
    state: int = 0
    use_outbound: bool = True
    in_ceiling: int = 0
    out_ceiling: int = 0
    replaces: int = 0


class IkeSa(Struct):
    spi_i: bytes
    spi_r: bytes
    initiator: bool
    connection: str
    suite: IkeSuite
    keys: bytes
    local: Where
    remote: Where
    local_id: Ids
    remote_id: Ids
    flags: int
    created_at: float
    rekey_at: float
    expires_at: float
    next_request_id: int
    expected_request_id: int
    iv_counter: int = 0
    responses: tuple[bytes, ...] = ()
    children: tuple[ChildSa, ...] = ()
    exchange: Exchange | None = None
    queue: tuple[Task, ...] = ()
    last_inbound_at: float = 0.0
    request_digest: bytes = b""
    predecessor: bytes = b""
    refused_since: float = 0.0
    refused_at: float = 0.0


class Hello(Struct):
    version: int
    cluster: str
    member_index: int
    boot_id: bytes
    active: bool
    epoch: int
    state_rank: int
    beat_key: bytes
    cluster_time: float
    lineage: int = 0


class Epoch(Struct):
    """Join, Nack, SwitchoverRequest, Taken, Goodbye, Pulse."""

    epoch: int


class Commit(Struct):
    epoch: int
    number: int
    changes: tuple[tuple[bytes, bytes | None], ...]


class Leases(Struct):
    epoch: int
    number: int
    packed: bytes


class SnapshotEnd(Struct):
    epoch: int
    number: int
    highest_epoch: int = 0


class Ack(Struct):
    epoch: int
    number: int


class Handover(Struct):
    epoch: int
    packed: bytes


class Forward(Struct):
    data: bytes


FRAMES: dict[int, type[Struct]] = {
    1: Hello,
    2: Epoch,
    3: Commit,
    4: Leases,
    5: SnapshotEnd,
    6: Ack,
    7: Epoch,
    8: Epoch,
    9: Handover,
    10: Epoch,
    11: Forward,
    12: Epoch,
    13: Epoch,
}


class Beat(Struct):
    boot_id: bytes
    counter: int
    epoch: int
    active: bool
    health: int
    cluster_time: float
    lineage: int = 0
    dismissal: int = 0


def record_through_version_0_1(record: bytes) -> bytes:
    """A record as a member of version 0.1 has it: what has been appended since is gone.  Raises msgspec.DecodeError
    where that member could not have read it."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(record, type=IkeSa))


def frame_through_version_0_1(frame: bytes) -> bytes | None:
    """A frame as a member of version 0.1 reads or writes it; None: of a type that it does not know, and ignores."""
    kind = FRAMES.get(frame[0])
    if kind is None:
        return None
    body: Any = msgspec.msgpack.decode(frame[1:], type=kind)
    if isinstance(body, Commit):
        body.changes = tuple(
            (key, None if record is None else record_through_version_0_1(record)) for key, record in body.changes
        )
    return frame[:1] + msgspec.msgpack.encode(body)
