"""The standby's side of an endpoint: records are adopted, forgotten and, after a takeover, put to use.

Taking over touches no SA.  What SAs need afterwards (timers, repeated requests) follows in a background pass of a few
hundred SAs a call, those with a request in flight first: their peers wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import attempts, connections, initiation_records, repair
from ipsecha.model.effects import InstallChild, RemoveChild, UpdateChild
from ipsecha.model.records import ChildSa, ExchangeKind, IkeSa, keep_ceilings

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

BACKGROUND_BATCH = 256


def adopt(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    """Take in the record of an IKE SA, new or changed: the data plane gets the children."""
    spi = sa.local_spi
    initiation_records.forget(endpoint, spi)
    endpoint.held_half_opens.pop(spi)
    before = endpoint.sas.get(spi)
    if before is not None:
        kept = {child.spi_in for child in sa.children}
        for child in before.children:
            if child.spi_in not in kept and endpoint.child_index.get(child.spi_in) == spi:
                del endpoint.child_index[child.spi_in]
                endpoint.emit(RemoveChild(child.spi_in))
        _release_offer(endpoint, before)
        endpoint.drop_from_tables(before)
    for child in sa.children:
        known = endpoint.child_index.get(child.spi_in)
        if known is not None:
            _keep_ceilings(before if known == spi else endpoint.sas.get(known), child)
        endpoint.child_index[child.spi_in] = spi
        # Always told of a known child: the data plane and the tables must hold one and the same object, since the
        # ceilings are raised in it.
        endpoint.emit(InstallChild(sa, child) if known is None else UpdateChild(sa, child))
    reserve_offer(endpoint, sa)
    endpoint.put_into_tables(sa)


def reserve_offer(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    """The inbound SPI that the peer may have made a child SA with is given to no other."""
    offer = _offer(sa)
    if offer:
        endpoint.child_index.setdefault(offer, sa.local_spi)


def _offer(sa: IkeSa) -> int:
    """The SPI in our request in flight, which the peer may have made a child SA with; 0: none."""
    exchange = sa.exchange
    if exchange is None or exchange.kind not in (ExchangeKind.NEW_CHILD, ExchangeKind.REKEY_CHILD):
        return 0
    return int.from_bytes(exchange.new_spi, "big")


def _release_offer(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    offer = _offer(sa)
    if offer and endpoint.child_index.get(offer) == sa.local_spi and sa.child_by_inbound_spi(offer) is None:
        del endpoint.child_index[offer]


def _keep_ceilings(holder: IkeSa | None, child: ChildSa) -> None:
    """A record may have left the owner before the lease that overtook it was acknowledged there, and then bears lower
    ceilings than this backup has already acknowledged.  Ceilings never fall."""
    old = holder.child_by_inbound_spi(child.spi_in) if holder is not None else None
    if old is not None:
        keep_ceilings(child, old)


def forget(endpoint: IkeEndpoint, local_spi: bytes) -> None:
    """The owner has withdrawn the IKE SA."""
    sa = endpoint.sas.get(local_spi)
    if sa is None:
        return
    for child in sa.children:
        if endpoint.child_index.get(child.spi_in) == local_spi:
            del endpoint.child_index[child.spi_in]
            endpoint.emit(RemoveChild(child.spi_in))
    _release_offer(endpoint, sa)
    endpoint.drop_from_tables(sa)


class BackgroundPass:
    """Arms the timers of all SAs after a takeover, a batch at a time.  Even the lists of them are made afterwards."""

    def __init__(self, only: list[bytes] | None = None) -> None:
        """``only``: SPIs of the IKE SAs to look after, instead of all."""
        self._urgent = only
        self._pending: list[bytes] | None = None if only is None else []

    def include(self, spis: list[bytes]) -> None:
        """Look after these, too; a pass that has not begun looks after all anyway."""
        if self._urgent is not None:
            self._urgent += spis

    def run(self, endpoint: IkeEndpoint, now: float) -> bool:
        """Do one batch; False when all is done (connections that are to be up are then looked after)."""
        if self._urgent is None:
            self._urgent = [*endpoint.suspects, *endpoint.in_flight, *endpoint.initiations]
        if self._urgent:
            self._arm(endpoint, self._urgent, now)
            return True
        if self._pending is None:
            self._pending = list(endpoint.sas)
        self._arm(endpoint, self._pending, now)
        if self._pending:
            return True
        for connection in endpoint.policy.connections:
            connections.plan(endpoint, connection, now, at_once=True)
        return False

    def _arm(self, endpoint: IkeEndpoint, spis: list[bytes], now: float) -> None:
        batch = spis[-BACKGROUND_BATCH:]
        del spis[-BACKGROUND_BATCH:]
        for spi in batch:
            if spi in endpoint.sas:
                if spi in endpoint.suspects:
                    repair.begin(endpoint, endpoint.sas[spi], now)
                endpoint.rearm(endpoint.sas.peek(spi))  # the record stays octets until something happens to it
            elif spi in endpoint.initiations:
                attempts.resume(endpoint, endpoint.initiations[spi], now)
