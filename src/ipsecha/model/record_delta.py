"""Small changes of a record: what every exchange moves, without the rest.

A liveness check changes message IDs, the last response and the time of the last sign of life; keys, identities,
selectors and child SAs stay.  A *delta* is the MessagePack array of the fields that move, by their fixed positions.  It
makes a newer record of one whose other fields are the same: whoever sends it has to know that.
"""

from __future__ import annotations

import hashlib

import msgspec

from ipsecha.model.records import IkeSa

MOVING = tuple(
    IkeSa.__struct_fields__.index(name)
    for name in (
        "next_request_id",
        "expected_request_id",
        "iv_counter",
        "responses",
        "exchange",
        "last_inbound_at",
        "request_digest",
    )
)
"""Positions in the record.  Fields are only ever appended, so they are the same in all versions."""

_fields = msgspec.msgpack.Decoder(list[msgspec.Raw])
_encode = msgspec.msgpack.Encoder().encode


def split(record: bytes, moving: tuple[int, ...] = MOVING) -> tuple[bytes, bytes]:
    """A digest of the fields that stay, and the delta: the one that makes this record of any other with this digest."""
    fields = _fields.decode(record)
    delta = _encode([fields[position] for position in moving])
    for position in moving:
        fields[position] = msgspec.Raw(b"")
    return hashlib.blake2b(b"\0".join(fields), digest_size=8).digest(), delta


def splice(record: bytes, delta: bytes, moving: tuple[int, ...] = MOVING) -> bytes:
    """The newer record.  Raises msgspec.DecodeError or ValueError for octets that are not of these kinds."""
    fields, values = _fields.decode(record), _fields.decode(delta)
    for position, value in zip(moving, values, strict=True):
        fields[position] = value
    return _encode(fields)
