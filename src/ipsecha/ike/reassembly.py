"""Reassembly of fragmented messages (RFC 7383 section 2.6), within fixed bounds.

Only authentic fragments come here.  There is at most one incomplete message per IKE SA and direction; one with another
message ID, or with more fragments in all, replaces it.  All incomplete messages together have a bounded size: the
oldest go first.
"""

from __future__ import annotations

import msgspec

from ipsecha.ike.message import Opened

MAX_FRAGMENTS = 64
OVERHEAD = 256  # octets of memory that a fragment takes besides its own: empty ones count as well
MAX_MESSAGE_OCTETS = (1 << 16) + MAX_FRAGMENTS * OVERHEAD  # what an unfragmented message can have at most
MAX_TOTAL_OCTETS = 4 << 20


class Whole(msgspec.Struct, frozen=True, gc=False):
    """A complete message; ``digest`` is that of the datagram which carried fragment 1."""

    first_payload: int
    octets: bytes
    digest: bytes


class _Incomplete(msgspec.Struct):
    message_id: int
    fragments: int
    size: int
    parts: dict[int, bytes]
    first_payload: int = 0
    digest: bytes = b""


class Reassembly:
    """Incomplete messages by key (the local SPI and the direction)."""

    def __init__(self) -> None:
        self._incomplete: dict[bytes, _Incomplete] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._incomplete)

    def add(self, key: bytes, message_id: int, opened: Opened, digest: bytes) -> Whole | None:
        """The message, if ``opened`` completes it."""
        if opened.fragments > MAX_FRAGMENTS:
            return None
        message = self._incomplete.get(key)
        if message is None or message.message_id != message_id or opened.fragments > message.fragments:
            self.forget(key)
            message = self._incomplete[key] = _Incomplete(message_id, opened.fragments, 0, {})
        elif opened.fragments < message.fragments or opened.fragment in message.parts:
            return None
        message.parts[opened.fragment] = opened.octets
        size = len(opened.octets) + OVERHEAD
        message.size += size
        self._size += size
        if message.size > MAX_MESSAGE_OCTETS:
            self.forget(key)
            return None
        if opened.fragment == 1:
            message.first_payload, message.digest = opened.first_payload, digest
        if len(message.parts) == message.fragments:
            self.forget(key)
            octets = b"".join(message.parts[number] for number in range(1, message.fragments + 1))
            return Whole(message.first_payload, octets, message.digest)
        while self._size > MAX_TOTAL_OCTETS:
            self.forget(next(iter(self._incomplete)))
        return None

    def forget(self, key: bytes) -> None:
        """Drop what has arrived under ``key``."""
        message = self._incomplete.pop(key, None)
        if message is not None:
            self._size -= message.size

    def clear(self) -> None:
        self._incomplete.clear()
        self._size = 0
