"""Connections that are to be up: brought up, and brought up again with a growing pause when they are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import init, window
from ipsecha.ike.flags import CLOSING, LEAVING
from ipsecha.model.policy import ChildPolicy, Connection, Start
from ipsecha.model.records import ExchangeKind, IkeSa, Task

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

FIRST_RETRY_S = 1.0
RETRY_FACTOR = 2.0
LAST_RETRY_S = 60.0


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
        initiation.connection == connection.name and child in initiation.children
        for initiation in endpoint.initiations.values()
    )


def bring_up(endpoint: IkeEndpoint, connection: Connection, child: str, now: float) -> None:
    """Make the child SA ``child``, on an IKE SA that is there, on one that is being made, or on a new one."""
    for sa in endpoint.sas_of(connection.name):
        if not sa.flags & LEAVING:
            window.enqueue(endpoint, sa, Task(ExchangeKind.NEW_CHILD, child=child), now)
            return
    for initiation in endpoint.initiations.values():
        if initiation.connection == connection.name:
            if child not in initiation.children:
                initiation.children = (*initiation.children, child)
            return
    init.initiate(endpoint, connection, (child,), now)


def wanted(connection: Connection) -> tuple[ChildPolicy, ...]:
    """The child SAs that are to be up all the time."""
    return tuple(child for child in connection.children if child.start is Start.START)


def fire(endpoint: IkeEndpoint, name: str, now: float) -> None:
    """The connection's timer: bring up what is missing."""
    connection = endpoint.connection_named(name)
    if connection is None or name in endpoint.held:
        return
    for child in wanted(connection):
        if not is_up(endpoint, connection, child.name):
            bring_up(endpoint, connection, child.name, now)


def plan(endpoint: IkeEndpoint, connection: Connection, now: float) -> None:
    """Bring up what is missing of ``connection`` soon: at once the first time, later and later as it keeps failing."""
    if not wanted(connection) or connection.name in endpoint.held:
        return
    failures = endpoint.failures.get(connection.name, 0)
    pause = min(FIRST_RETRY_S * RETRY_FACTOR ** min(failures, 16), LAST_RETRY_S)
    endpoint.timers.arm(connection.name, now + endpoint.jittered(pause))


def failed(endpoint: IkeEndpoint, connection: Connection, now: float) -> None:
    """An attempt to bring up ``connection`` has come to nothing."""
    endpoint.failures[connection.name] = endpoint.failures.get(connection.name, 0) + 1
    plan(endpoint, connection, now)


def lost(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """An IKE SA or one of its child SAs is gone."""
    connection = endpoint.connection_of(sa)
    if connection is not None and endpoint.active:
        plan(endpoint, connection, now)
