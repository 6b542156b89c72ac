"""The tables of an endpoint: IKE SAs by local SPI, child SAs by inbound SPI, IKE SAs by connection and peer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any
from zlib import crc32

from ipsecha.ike.flags import CLOSED, OPEN
from ipsecha.ike.sa_table import SaTable
from ipsecha.ike.suspects import Repair
from ipsecha.model.identity import Identity
from ipsecha.model.records import IkeSa
from ipsecha.model.shards import Sharded
from ipsecha.model.spi import Entropy, new_esp_spi, slot_of_ike_spi

_PARTS = 16
"""A connection of a hundred thousand peers has so many dictionaries of them, which grow at different moments."""


def _part_of(peer: Identity) -> int:
    """The same in every process, unlike a hash of strings."""
    return crc32(peer.data) % _PARTS


class Tables:
    """What is found by what.  ``in_flight`` holds the local SPIs of the IKE SAs that wait for an answer: a takeover
    looks after them first.  ``suspects``: those whose predecessor may have done more than their records say; None:
    their repair has not begun.  ``closed``: those that stay only to repeat their last answer."""

    def __init__(self, entropy: Entropy) -> None:
        self.entropy = entropy
        self.sas = SaTable()
        self.child_index = Sharded[bytes]()
        self.in_flight: dict[bytes, None] = {}
        self.suspects: dict[bytes, Repair | None] = {}
        self.closed: dict[bytes, None] = {}
        self._peers: dict[tuple[str, int], dict[Identity, bytes | dict[bytes, None]]] = {}  # one SPI, or several

    def put_into_tables(self, sa: IkeSa) -> None:
        spi = sa.local_spi
        self.sas[spi] = sa
        if sa.exchange is not None:
            self.in_flight[spi] = None
        if sa.flags & OPEN:
            self.suspects[spi] = None
        if sa.flags & CLOSED:
            self.closed[spi] = None
        place = sa.connection, _part_of(sa.remote_id)
        peers = self._peers.get(place)
        if peers is None:
            peers = self._peers[place] = {}
        spis = peers.setdefault(sa.remote_id, spi)
        if isinstance(spis, dict):
            spis[spi] = None
        elif spis != spi:
            peers[sa.remote_id] = {spis: None, spi: None}

    def drop_from_tables(self, sa: IkeSa) -> None:
        spi = sa.local_spi
        if spi in self.sas:
            del self.sas[spi]
        self.in_flight.pop(spi, None)
        self.suspects.pop(spi, None)
        self.closed.pop(spi, None)
        place = sa.connection, _part_of(sa.remote_id)
        peers = self._peers.get(place)
        if peers is None:
            return
        spis = peers.get(sa.remote_id)
        if isinstance(spis, dict):
            spis.pop(spi, None)
        if spis == spi or not spis:
            peers.pop(sa.remote_id, None)
            if not peers:
                del self._peers[place]

    def take_all(self) -> list[dict[Any, Any]]:
        """Empty all tables at once; gives them, to be let go of little by little."""
        gone = [*self.sas.take_all(), *self.child_index.take_all()]
        gone += [self.in_flight, self.suspects, self.closed, *self._peers.values()]
        self.in_flight, self.suspects, self.closed, self._peers = {}, {}, {}, {}
        return gone

    def sas_of(self, connection: str) -> Iterator[IkeSa]:
        """The IKE SAs of a connection."""
        return (self.sas[spi] for spi in self.spis_of(connection) if spi in self.sas)

    def spis_of(self, connection: str) -> list[bytes]:
        """The local SPIs of the IKE SAs of a connection."""
        parts = [self._peers.get((connection, part), {}) for part in range(_PARTS)]
        peers = chain.from_iterable(part.values() for part in parts)
        return [spi for spis in peers for spi in ((spis,) if isinstance(spis, bytes) else spis)]

    def walk_of(self, connection: str) -> Iterator[bytes]:
        """The same, while IKE SAs come and go.  A peer's are looked up when it is its turn: where it has one IKE SA,
        the one that takes its place meanwhile is not missed."""
        for part in range(_PARTS):
            for identity in tuple(self._peers.get((connection, part), ())):
                yield from self._spis_of_peer(connection, identity)

    def sas_of_peer(self, connection: str, identity: Identity) -> list[IkeSa]:
        """The IKE SAs of a connection with one authenticated identity."""
        return [self.sas[spi] for spi in self._spis_of_peer(connection, identity)]

    def _spis_of_peer(self, connection: str, identity: Identity) -> tuple[bytes, ...]:
        spis = self._peers.get((connection, _part_of(identity)), {}).get(identity, {})
        return (spis,) if isinstance(spis, bytes) else tuple(spis)

    def sa_of_child(self, spi_in: int) -> IkeSa | None:
        """The IKE SA that the child SA with this inbound SPI belongs to."""
        return self.sas.get(self.child_index.get(spi_in, b""))

    def new_child_spi(self, local_spi: bytes) -> int:
        """A fresh inbound ESP SPI in the slot of the IKE SA with this local SPI.

        It is reserved in ``child_index`` until ``children.install`` or ``release_child_spi``.
        """
        spi = new_esp_spi(slot_of_ike_spi(local_spi), self.entropy, self.child_index)
        self.child_index[spi] = local_spi
        return spi

    def release_child_spi(self, spi: int) -> None:
        """The child SA that ``spi`` was meant for did not come about."""
        self.child_index.pop(spi, None)
