"""Rolling upgrades: the record and the frames of version 0.1 beside the present ones.

``version_0_1.json`` holds octets that version 0.1 wrote; ``frozen_encodings`` is how it reads and writes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

import frozen_encodings as frozen
from ipsecha.cluster.detector import Beat
from ipsecha.cluster.frames import decode_frame, encode_frame
from ipsecha.model.records import ChildSa, Exchange, IkeSa, Task, decode_record, encode_record

WRITTEN = json.loads((Path(__file__).parent / "version_0_1.json").read_text())
RECORD = bytes.fromhex(WRITTEN["record"])
FRAMES = {name: bytes.fromhex(octets) for name, octets in WRITTEN["frames"].items()}


def _begins_with(newer: Any, older: Any) -> bool:
    """Whether ``newer`` is ``older`` with nothing but values appended to its arrays."""
    if isinstance(older, list):
        return len(newer) >= len(older) and all(map(_begins_with, newer, older))
    return bool(newer == older)


def test_the_frozen_encodings_are_those_of_version_0_1() -> None:
    assert frozen.record_through_version_0_1(RECORD) == RECORD
    for frame in FRAMES.values():
        assert frozen.frame_through_version_0_1(frame) == frame


def test_a_record_of_version_0_1_is_read() -> None:
    """Each field arrives in its place, and what has been appended since has its default."""
    sa = decode_record(RECORD)
    older = msgspec.msgpack.decode(RECORD, type=frozen.IkeSa)
    _same_fields(sa, older)
    for child, older_child in zip(sa.children, older.children, strict=True):
        _same_fields(child, older_child)
    assert sa.exchange is not None
    assert older.exchange is not None
    _same_fields(sa.exchange, older.exchange)
    assert sa.exchange.task is not None
    assert older.exchange.task is not None
    _same_fields(sa.exchange.task, older.exchange.task)


def _same_fields(newer: IkeSa | ChildSa | Exchange | Task, older: msgspec.Struct) -> None:
    newer_fields, older_fields = newer.__struct_fields__, older.__struct_fields__
    assert newer_fields[: len(older_fields)] == older_fields, "fields are appended, never moved or renamed"
    for name in older_fields:
        if not isinstance(getattr(older, name), (msgspec.Struct, tuple)):
            assert getattr(newer, name) == getattr(older, name)


def test_version_0_1_reads_a_record_of_ours() -> None:
    record = encode_record(decode_record(RECORD))
    assert frozen.record_through_version_0_1(record) == RECORD
    assert _begins_with(msgspec.msgpack.decode(record), msgspec.msgpack.decode(RECORD))


@pytest.mark.parametrize("name", FRAMES)
def test_both_versions_read_each_others_frames(name: str) -> None:
    frame = decode_frame(FRAMES[name])
    assert frame is not None
    assert type(frame).__name__ == name
    ours = encode_frame(frame)
    assert ours[:1] == FRAMES[name][:1]
    assert _begins_with(msgspec.msgpack.decode(ours[1:]), msgspec.msgpack.decode(FRAMES[name][1:]))
    assert frozen.frame_through_version_0_1(ours) == FRAMES[name]


def test_both_versions_read_each_others_beats() -> None:
    written = bytes.fromhex(WRITTEN["beat"])
    beat = msgspec.msgpack.decode(written, type=Beat)
    assert (beat.counter, beat.epoch, beat.lineage, beat.dismissal) == (77, 0x123450, 0x100000, 3)
    older = msgspec.msgpack.decode(msgspec.msgpack.encode(beat), type=frozen.Beat)
    assert msgspec.msgpack.encode(older) == written


def test_a_frame_type_of_later_is_nothing_to_version_0_1() -> None:
    assert frozen.frame_through_version_0_1(b"\x0e" + msgspec.msgpack.encode([1, 2, 3])) is None
