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
    when = now if at_once else now + endpoint.jittered(_pause(endpoint, connection))
    endpoint.timers.arm(connection.name, when)


def _pause(endpoint: IkeEndpoint, connection: Connection) -> float:
    """Between two attempts: longer and longer as they fail."""
    failures = endpoint.failures.get(connection.name, 0)
    return min(FIRST_RETRY_S * RETRY_FACTOR ** min(failures, 16), LAST_RETRY_S)


def failed(endpoint: IkeEndpoint, connection: Connection, now: float, child: str = "") -> None:
    """An attempt to bring up ``connection``, or only its ``child``, has come to nothing."""
    endpoint.resting[connection.name, child] = now + _pause(endpoint, connection)
    endpoint.failures[connection.name] = endpoint.failures.get(connection.name, 0) + 1
    plan(endpoint, connection, now)


def is_resting(endpoint: IkeEndpoint, connection: Connection, child: str, now: float) -> bool:
    """Whether the last attempt failed so recently that a packet must not start another: traffic that goes on would
    otherwise repeat a refused handshake as fast as the peer answers."""
    return any(now < endpoint.resting.get((connection.name, name), 0.0) for name in ("", child))


def lost(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """An IKE SA or one of its child SAs is gone."""
    connection = endpoint.connection_of(sa)
    if connection is not None and endpoint.active:
        plan(endpoint, connection, now)
