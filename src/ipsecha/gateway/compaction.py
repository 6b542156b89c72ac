"""Records that nobody uses are kept as octets (``ike.sa_table``, ``ipsec.frozen``).

On a backup a record is frozen when it has been applied.  What something has thawed since, and what a former owner has
left, is frozen by a look at it every few seconds, in small batches.  An owner freezes again what it has thawed for a
moment, a liveness check say: records to which nothing is about to happen, of child SAs that no packet has used.  What
it has made itself, and what carries traffic, stays as it is.
"""

from __future__ import annotations

from ipsecha.gateway.core import Gateway
from ipsecha.ike.flags import LEAVING, UNSURE
from ipsecha.model.records import ChildSa, ChildState, IkeSa

INTERVAL_S = 2.0
"""Between two looks; what was thawed before the last one is frozen."""

BATCH, BATCH_PAUSE_S = 64, 0.01


class Compaction:
    """Ties the IKE core's table to that of the data plane; begins to work with the first look."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._thawed: dict[bytes, None] = {}  # since the last look
        self._waiting: list[bytes] = []  # to be frozen now
        self.was_owner = False  # until now: none of the records is octets

    def start(self) -> None:
        endpoint = self._gateway.endpoint
        endpoint.sas.on_thaw = self._on_thaw
        self._gateway.plane.fetch_from(self._fetch)
        self._gateway.loop.call_later(INTERVAL_S, self._look)

    def freeze(self, local_spi: bytes) -> None:
        """Keep an IKE SA and its child SAs as octets, if there is such an SA."""
        sa = self._gateway.endpoint.sas.freeze(local_spi)
        if sa is not None:
            self._thawed.pop(local_spi, None)
            for child in self._own_children(sa):
                self._gateway.plane.freeze(child.spi_in)

    def _on_thaw(self, sa: IkeSa) -> None:
        self._thawed[sa.local_spi] = None
        for child in self._own_children(sa):
            self._gateway.plane.thaw(sa, child)

    def _own_children(self, sa: IkeSa) -> list[ChildSa]:
        """Without those that have changed hands: until its own newer record comes, an IKE SA that was rekeyed still
        lists them."""
        spi, index = sa.local_spi, self._gateway.endpoint.child_index
        return [child for child in sa.children if index.get(child.spi_in) == spi]

    def _fetch(self, spi_in: int) -> None:
        sa = self._gateway.endpoint.sa_of_child(spi_in)
        child = sa.child_by_inbound_spi(spi_in) if sa is not None else None
        if sa is not None and child is not None:
            self._gateway.plane.thaw(sa, child)

    def _look(self) -> None:
        endpoint = self._gateway.endpoint
        if self._waiting:
            self._freeze_batch()
        else:
            left = self.was_owner and not endpoint.active
            self._waiting = list(endpoint.sas if left else self._thawed)
            self.was_owner = self.was_owner and not left
            self._thawed.clear()
        self._gateway.loop.call_later(BATCH_PAUSE_S if self._waiting else INTERVAL_S, self._look)

    def _freeze_batch(self) -> None:
        active = self._gateway.endpoint.active
        if active and not self._gateway.is_settled:
            return  # what waits to be carried out holds objects; a moment later, then
        for spi in self._waiting[-BATCH:]:
            if not active or self._may_freeze(spi):
                self.freeze(spi)
        del self._waiting[-BATCH:]

    def _may_freeze(self, local_spi: bytes) -> bool:
        """On the owner; an SA that is not idle yet is looked at again, one that carries traffic is not."""
        gateway = self._gateway
        sa = gateway.endpoint.sas.thawed(local_spi)
        if sa is None or any(gateway.plane.in_use(child.spi_in) for child in sa.children):
            return False
        if _is_idle(sa) and local_spi not in gateway.endpoint.suspects:
            return True
        self._thawed[local_spi] = None
        return False


def _is_idle(sa: IkeSa) -> bool:
    if sa.exchange is not None or sa.queue or sa.predecessor or sa.flags & (LEAVING | UNSURE):
        return False
    return all(child.state == ChildState.ESTABLISHED for child in sa.children)
