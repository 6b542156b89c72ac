"""Data of the notifications that synchronise counters after a failover (RFC 6311 section 6)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ipsecha.model.errors import WireError

NONCE_LENGTH = 4
_MESSAGE_IDS = struct.Struct(f">{NONCE_LENGTH}sII")
_DELTA_LENGTHS = (4, 8)


class MessageIdSync(NamedTuple):
    """Data of IKEV2_MESSAGE_ID_SYNC (section 6.3).  Each side states its own view: ``send`` is the message ID of its
    next request, ``receive`` the one that it expects next from the other side."""

    nonce: bytes
    send: int
    receive: int


def parse_message_id_sync(data: bytes) -> MessageIdSync:
    """Raises WireError unless there are exactly 12 octets."""
    if len(data) != _MESSAGE_IDS.size:
        raise WireError(f"IKEV2_MESSAGE_ID_SYNC with {len(data)} octets")
    return MessageIdSync._make(_MESSAGE_IDS.unpack(data))


def build_message_id_sync(sync: MessageIdSync) -> bytes:
    if len(sync.nonce) != NONCE_LENGTH:
        raise WireError(f"IKEV2_MESSAGE_ID_SYNC with a nonce of {len(sync.nonce)} octets")
    return _MESSAGE_IDS.pack(*sync)


def parse_replay_counter_sync(data: bytes) -> int:
    """The delta of IPSEC_REPLAY_COUNTER_SYNC (section 6.4).  Raises WireError unless it has 4 or 8 octets."""
    if len(data) not in _DELTA_LENGTHS:
        raise WireError(f"IPSEC_REPLAY_COUNTER_SYNC with {len(data)} octets")
    return int.from_bytes(data, "big")


def build_replay_counter_sync(delta: int, *, esn: bool) -> bytes:
    """``esn``: the child SAs have extended sequence numbers, the field has 8 octets and not 4."""
    return delta.to_bytes(8 if esn else 4, "big")
