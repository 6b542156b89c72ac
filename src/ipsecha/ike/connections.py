"""Connections that are to be up: brought up, and brought up again with a growing pause when they are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.model.policy import ChildPolicy, Connection, Start
from ipsecha.model.records import IkeSa

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

FIRST_RETRY_S = 1.0
RETRY_FACTOR = 2.0
LAST_RETRY_S = 60.0


def wanted(connection: Connection) -> tuple[ChildPolicy, ...]:
    """The child SAs that are to be up all the time."""
    return tuple(child for child in connection.children if child.start is Start.START)


def plan(endpoint: IkeEndpoint, connection: Connection, now: float, *, at_once: bool = False) -> None:
    """Bring up what is missing of ``connection``: soon, or later and later as it keeps failing."""
    if not wanted(connection) or connection.name in endpoint.held:
        return
    failures = endpoint.failures.get(connection.name, 0)
    pause = min(FIRST_RETRY_S * RETRY_FACTOR ** min(failures, 16), LAST_RETRY_S)
    endpoint.timers.arm(connection.name, now if at_once else now + endpoint.jittered(pause))


def failed(endpoint: IkeEndpoint, connection: Connection, now: float) -> None:
    """An attempt to bring up ``connection`` has come to nothing."""
    endpoint.failures[connection.name] = endpoint.failures.get(connection.name, 0) + 1
    plan(endpoint, connection, now)


def lost(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """An IKE SA or one of its child SAs is gone."""
    connection = endpoint.connection_of(sa)
    if connection is not None and endpoint.active:
        plan(endpoint, connection, now)
