"""What the operator and the data plane ask of an endpoint."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from ipsecha.ike import attempts, bring_up, connections, window
from ipsecha.ike.flags import LEAVING
from ipsecha.model.errors import PolicyError
from ipsecha.model.records import ExchangeKind, IkeSa, Task
from ipsecha.model.selectors import TrafficSelector

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

ORPHANS_PER_CALL = 128  # in one turn and one commit


def initiate(endpoint: IkeEndpoint, name: str, child: str | None, now: float) -> None:
    """Bring up one child SA of a connection, or with None all of them that are not up.

    Raises PolicyError for a connection or child that is not configured.
    """
    connection = endpoint.connection_named(name)
    if connection is None:
        raise PolicyError(f"there is no connection {name!r}")
    if child is not None and connection.child(child) is None:
        names = ", ".join(policy.name for policy in connection.children)
        raise PolicyError(f"connection {name!r} has no child {child!r}; it has {names}")
    endpoint.held.discard(name)
    endpoint.failures.pop(name, None)
    for policy in connection.children:
        if child is None and not bring_up.is_up(endpoint, connection, policy.name):
            bring_up.bring_up(endpoint, connection, policy.name, now)
    if child is not None:
        bring_up.bring_up(endpoint, connection, child, now)


def acquire(endpoint: IkeEndpoint, name: str, child: str, packet: tuple[TrafficSelector, ...], now: float) -> None:
    """Bring up a child SA for a packet that waits, unless it is there or on its way, or has just been refused."""
    connection = endpoint.connection_named(name)
    if connection is None or not endpoint.active or connections.is_resting(endpoint, connection, child, now):
        return
    if connection.child(child) is not None and not bring_up.is_up(endpoint, connection, child):
        bring_up.bring_up(endpoint, connection, child, now, packet)


def terminate(endpoint: IkeEndpoint, now: float, name: str, local_spi: bytes, spi_in: int, child: str) -> int:
    """Delete what is named; the number of SAs concerned."""
    if spi_in or child:
        return _terminate_children(endpoint, now, name, spi_in, child)
    if local_spi:
        sa = endpoint.sas.get(local_spi)
        chosen = [sa] if sa is not None else []
    else:
        hold(endpoint, name)
        chosen = list(endpoint.sas_of(name))
    for sa in chosen:
        enqueue(endpoint, sa, ExchangeKind.DELETE_IKE, 0, now)
    return len(chosen)


def hold(endpoint: IkeEndpoint, name: str) -> None:
    """From now on a connection is not brought up by itself; what is under way for it is given up."""
    endpoint.held.add(name)
    for under_way in [one for one in endpoint.initiations.values() if one.connection == name]:
        attempts.abandon(endpoint, under_way)


def _terminate_children(endpoint: IkeEndpoint, now: float, name: str, spi_in: int, child: str) -> int:
    if spi_in:
        sa = endpoint.sa_of_child(spi_in)
        sas = [sa] if sa is not None else []
    else:
        sas = list(endpoint.sas_of(name))
    count = 0
    for sa in sas:
        for installed in sa.children:
            if installed.spi_in == spi_in or (not spi_in and installed.name == child):
                count += 1
                enqueue(endpoint, sa, ExchangeKind.DELETE_CHILD, installed.spi_in, now)
    return count


def enqueue(endpoint: IkeEndpoint, sa: IkeSa, kind: ExchangeKind, spi_in: int, now: float) -> None:
    """Queue a task for an IKE SA or, with ``spi_in``, for one of its child SAs."""
    child = sa.child_by_inbound_spi(spi_in) if spi_in else None
    if spi_in and child is None:
        return
    window.enqueue(endpoint, sa, Task(kind, spi_in, child.name if child is not None else ""), now)


def after_reload(endpoint: IkeEndpoint, now: float) -> None:
    """Bring up what is new, give up what is under way for connections that are gone.  Their IKE SAs are ``Orphans``."""
    for under_way in list(endpoint.initiations.values()):
        if endpoint.connection_named(under_way.connection) is None:
            attempts.abandon(endpoint, under_way)
    for connection in endpoint.policy.connections:
        connections.plan(endpoint, connection, now, at_once=True)


class Orphans:
    """Deletes the IKE SAs of connections that reloads took away, a batch at a time.  A further reload replaces it."""

    def __init__(self, endpoint: IkeEndpoint) -> None:
        self._left = _orphans(endpoint)

    def run(self, endpoint: IkeEndpoint, now: float) -> bool:
        """Do one batch; False when all is done."""
        batch = list(islice(self._left, ORPHANS_PER_CALL))
        for spi in batch:
            sa = endpoint.sas.get(spi)
            if sa is not None and not sa.flags & LEAVING:
                enqueue(endpoint, sa, ExchangeKind.DELETE_IKE, 0, now)
        return len(batch) == ORPHANS_PER_CALL


def _orphans(endpoint: IkeEndpoint) -> Iterator[bytes]:
    for name in sorted(endpoint.gone):
        yield from endpoint.walk_of(name)
