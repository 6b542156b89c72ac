"""Bringing up child SAs: on an IKE SA that is there, on one that is being made, or on a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import initiation, initiation_records, window
from ipsecha.ike.connections import wanted
from ipsecha.ike.flags import CLOSING, LEAVING
from ipsecha.ike.half_open import Stage
from ipsecha.model.policy import Connection
from ipsecha.model.records import ExchangeKind, Task
from ipsecha.model.selectors import TrafficSelector

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


def is_up(endpoint: IkeEndpoint, connection: Connection, child: str) -> bool:
    """Whether a child SA of this name is there or on its way."""
    for sa in endpoint.sas_of(connection.name):
        if sa.flags & CLOSING:
            continue
        if any(installed.name == child for installed in sa.children):
            return True
        if any(task.kind == ExchangeKind.NEW_CHILD and task.child == child for task in sa.queue):
            return True
        exchange = sa.exchange
        if exchange is not None and exchange.kind == ExchangeKind.NEW_CHILD and exchange.child == child:
            return True
    return any(
        under_way.connection == connection.name and under_way.stage is not Stage.REFUSED and child in under_way.children
        for under_way in endpoint.initiations.values()
    )


def bring_up(
    endpoint: IkeEndpoint, connection: Connection, child: str, now: float, packet: tuple[TrafficSelector, ...] = ()
) -> None:
    """Make the child SA ``child``, on an IKE SA that is there, on one that is being made, or on a new one.

    Where an IKE SA is there, the selectors of a waiting ``packet`` (local, remote) go first (RFC 7296 section 2.9).
    """
    for sa in endpoint.sas_of(connection.name):
        if not sa.flags & LEAVING:
            window.enqueue(endpoint, sa, Task(ExchangeKind.NEW_CHILD, child=child, packet=packet), now)
            return
    for under_way in endpoint.initiations.values():
        if under_way.connection == connection.name and under_way.stage is not Stage.REFUSED:
            if child not in under_way.children:
                under_way.children = (*under_way.children, child)
                initiation_records.replicate(endpoint, under_way)
            return
    initiation.start(endpoint, connection, (child,), now)


def fire(endpoint: IkeEndpoint, name: str, now: float) -> None:
    """The connection's timer: bring up what is missing."""
    connection = endpoint.connection_named(name)
    if connection is None or name in endpoint.held:
        return
    for child in wanted(connection):
        if not is_up(endpoint, connection, child.name):
            bring_up(endpoint, connection, child.name, now)
