"""Is the other member alive?  Beats on all paths, and what their absence means.

Missed beats are counted by our own ticks, and a tick that comes late counts once: a member that was itself asleep does
not mistake its own pause for the other's death.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from ipsecha.cluster.epoch import EPOCH_LIMIT
from ipsecha.cluster.frames import CLOCK_LIMIT_S

_TAG_LENGTH = 16


class Beat(msgspec.Struct, array_like=True, frozen=True):
    """What a member says of itself ten times a second.  ``health``: how many of the shared links have carrier.

    ``dismissal``: of an owner, the number of its wish that its backup give up being in sync; of the backup, the last
    one that it has heeded.
    """

    boot_id: bytes
    counter: int
    epoch: int
    active: bool
    health: int
    cluster_time: float
    lineage: int = 0  # epoch of the cold start that its records go back to
    dismissal: int = 0


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Beat)


def seal_beat(beat: Beat, key: bytes) -> bytes:
    """The beat and its HMAC-SHA2-256-128 under the sender's key."""
    body = _encoder.encode(beat)
    return body + hmac.digest(key, body, hashlib.sha256)[:_TAG_LENGTH]


class BeatListener:
    """Counts missed beats and refuses what is not a fresh beat of the partner."""

    def __init__(self, missed_beats: int) -> None:
        self.missed_beats = missed_beats
        self.key = b""  # of the partner; agreed on over the synch channel
        self.boot_id = b""
        self.refused = 0
        self._counters: dict[str, int] = {}  # highest of each path: a beat arrives once on every path
        self._heard = False
        self._missed = 0

    @property
    def silent(self) -> bool:
        """Nothing was heard on any path for ``missed_beats`` of our ticks."""
        return self._missed >= self.missed_beats

    @property
    def missed(self) -> int:
        return self._missed

    def expect(self, boot_id: bytes, key: bytes) -> None:
        """The partner said hello: from here on only beats under this key count."""
        if boot_id != self.boot_id or key != self.key:
            self.boot_id, self.key = boot_id, key
            self._counters.clear()
        self.heard()

    def heard(self) -> None:
        """Anything authentic arrived from the partner."""
        self._heard = True
        self._missed = 0

    def tick(self) -> None:
        """One heartbeat interval of ours is over."""
        self._missed = 0 if self._heard else self._missed + 1
        self._heard = False

    def open(self, path: str, data: bytes) -> Beat | None:
        """The beat that came by ``path``, or None where it is forged, foreign or replayed (counted)."""
        body, tag = data[:-_TAG_LENGTH], data[-_TAG_LENGTH:]
        if not self.key or not hmac.compare_digest(hmac.digest(self.key, body, hashlib.sha256)[:_TAG_LENGTH], tag):
            self.refused += 1
            return None
        try:
            beat = _decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.refused += 1
            return None
        if not (0 <= beat.epoch < EPOCH_LIMIT and abs(beat.cluster_time) < CLOCK_LIMIT_S):
            self.refused += 1
            return None
        if beat.boot_id != self.boot_id or beat.counter <= self._counters.get(path, 0) or self._is_stale(beat):
            self.refused += 1
            return None
        self._counters[path] = beat.counter
        self.heard()
        return beat

    def _is_stale(self, beat: Beat) -> bool:
        """Whether another path has brought much newer beats: one that was recorded there and is played back here, where
        it never arrived, must not keep a dead member alive."""
        return beat.counter + self.missed_beats < max(self._counters.values(), default=0)
