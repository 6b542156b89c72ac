"""Which IKE SAs may have lost an update, and how far their repair has come (``ipsecha.ike.repair``)."""

from __future__ import annotations

import math

from ipsecha.ike.limits import TokenBucket
from ipsecha.model.identity import Identity
from ipsecha.model.records import IkeSa

HINT_RATE, HINT_BURST = 5.0, 20.0
REMEMBERED_SPIS = 64

Peer = tuple[str, Identity]
"""A peer's connection and authenticated identity: what stays when its IKE SA is rekeyed."""


class Repair:
    """One suspect that is being repaired.  ``due_at``: the next step of ours; infinity while others set the pace."""

    __slots__ = (
        "answers",
        "catching_up",
        "doomed",
        "due_at",
        "lost",
        "probes",
        "repeated",
        "repetitions",
        "replacement",
        "syncing",
    )

    def __init__(self, *, syncing: bool = False) -> None:
        self.due_at = math.inf
        self.syncing = syncing  # by RFC 6311
        self.probes = 0  # sent since the last answer
        self.answers = 0  # to other requests than ours
        self.repeated = False  # the last of them
        self.repetitions = 0
        self.catching_up = False  # the peer answers, but has not come to the last probe yet
        self.lost = False  # an update has been lost for certain
        self.doomed = False  # no probe was answered
        self.replacement = b""  # SPI of the handshake that is to replace it


class Doubtful:
    """Peers that may hold child SAs which we do not know, by address; what strangers may cost us on their account."""

    def __init__(self) -> None:
        self._peers: dict[str, dict[Peer, bool]] = {}  # True: their child SAs have been verified
        self._since: dict[Peer, float] = {}
        self._named: dict[int, None] = {}  # unknown SPIs that were dealt with
        self.hints = TokenBucket(HINT_RATE, HINT_BURST)

    def add(self, sa: IkeSa, now: float) -> None:
        peer = sa.connection, sa.remote_id
        self._peers.setdefault(sa.remote[0], {})[peer] = False
        self._since[peer] = now

    def since(self, sa: IkeSa) -> float:
        """Child SAs made later are known to both sides."""
        return self._since.get((sa.connection, sa.remote_id), 0.0)

    def knows(self, sa: IkeSa) -> bool:
        return (sa.connection, sa.remote_id) in self._peers.get(sa.remote[0], ())

    def at(self, address: str) -> list[Peer]:
        return list(self._peers.get(address, ()))

    def first_evidence(self, sa: IkeSa) -> bool:
        """Whether this is the first proof that the peer's view of the child SAs is another than ours."""
        peers = self._peers.setdefault(sa.remote[0], {})
        peer = sa.connection, sa.remote_id
        first = not peers.get(peer, False)
        peers[peer] = True
        return first

    def is_new(self, spi: int) -> bool:
        """Whether an unknown SPI comes for the first time."""
        if spi in self._named:
            return False
        while len(self._named) >= REMEMBERED_SPIS:
            del self._named[next(iter(self._named))]
        self._named[spi] = None
        return True

    def clear(self) -> None:
        self._peers.clear()
        self._since.clear()
        self._named.clear()
