"""What an IKE SA has to do at which time: all of it follows from the record, so any owner can take it up."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ipsecha.ike import children, message_sync, repair, window
from ipsecha.ike.flags import CLOSING, LEAVING, LOCAL_NAT, REKEYED
from ipsecha.model.effects import Keepalive
from ipsecha.model.policy import Connection
from ipsecha.model.records import ChildSa, ChildState, Exchange, ExchangeKind, IkeSa, Task

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

REKEY_RETRY_S = 30.0  # a rekey that came to nothing is tried again
DELETE_GRACE_S = 60.0  # for a DELETE of what has expired to be answered
SOONEST = 0.1  # of the liveness interval, in which the SAs of a new owner have their turns


def next_deadline(endpoint: IkeEndpoint, sa: IkeSa) -> float:
    """The earliest time at which ``fire`` has something to do."""
    when = sa.expires_at
    if sa.rekey_at and not sa.flags & LEAVING:
        when = min(when, sa.rekey_at)
    for child in sa.children:
        when = min(when, child.expires_at)
        if child.rekey_at and child.state == ChildState.ESTABLISHED:
            when = min(when, child.rekey_at)
    due_for_repair = repair.is_due(endpoint, sa) if sa.local_spi in endpoint.suspects else math.inf
    if due_for_repair < math.inf:
        when = min(when, due_for_repair)
    elif sa.exchange is not None:
        when = min(when, window.retransmit_at(endpoint, sa, sa.exchange), message_sync.due_at(sa))
    else:
        connection = endpoint.connection_of(sa)
        if connection is not None and connection.dpd_s and not sa.flags & LEAVING:
            when = min(when, _silent_at(endpoint, sa, connection.dpd_s))
        if sa.queue:
            when = min(when, min(task.not_before for task in sa.queue))
    return min(when, endpoint.keepalives.get(sa.local_spi, math.inf))


def fire(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """Do what is due for ``sa`` and arm its timer for the rest."""
    connection = endpoint.connection_of(sa)
    if connection is not None and sa.flags & LOCAL_NAT:
        _keepalive(endpoint, sa, connection, now)
    if sa.expires_at <= now:
        _expire(endpoint, sa, now)
    elif _rekey_due(sa, now):
        sa.rekey_at = now + REKEY_RETRY_S
        window.enqueue(endpoint, sa, Task(ExchangeKind.REKEY_IKE), now)
    for child in sa.children:
        _fire_child(endpoint, sa, child, now)
    exchange = sa.exchange
    if sa.local_spi in endpoint.suspects and (due := repair.is_due(endpoint, sa)) < math.inf:
        if due <= now:
            repair.fire(endpoint, sa, now)
    elif exchange is not None:
        _fire_exchange(endpoint, sa, exchange, now)
    else:
        if _silent(endpoint, sa, connection, now):
            window.enqueue(endpoint, sa, Task(ExchangeKind.LIVENESS), now)
        window.run_queue(endpoint, sa, now)
    if sa.local_spi in endpoint.sas:
        endpoint.rearm(sa)


def _fire_exchange(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, now: float) -> None:
    overdue = window.retransmit_at(endpoint, sa, exchange) <= now
    if message_sync.is_superseded(sa, exchange, now, overdue=overdue):
        message_sync.set_aside(endpoint, sa, now)
        window.run_queue(endpoint, sa, now)
    elif overdue:
        if exchange.kind == ExchangeKind.MESSAGE_ID_SYNC:
            if exchange.tries > 1 and repair.drop_if_replaced(endpoint, sa):
                return
            message_sync.renew(endpoint, sa, exchange)
        window.retransmit(endpoint, sa, exchange, now)


def _rekey_due(sa: IkeSa, now: float) -> bool:
    """By time, or because message IDs come to their end: they never wrap (section 2.2)."""
    if sa.flags & LEAVING:
        return False
    used_up = max(sa.next_request_id, sa.expected_request_id) >= window.REKEY_MESSAGE_ID and sa.rekey_at <= now
    return used_up or 0 < sa.rekey_at <= now


def _silent_at(endpoint: IkeEndpoint, sa: IkeSa, dpd_s: float) -> float:
    """When the peer has been silent for so long that it has to show that it lives.

    The last sign of life that a record of another owner knows is old: it counts from the takeover, and sooner, for each
    SA at a moment of its own, or all would be asked at once.
    """
    if sa.last_inbound_at >= endpoint.active_since:
        return sa.last_inbound_at + dpd_s
    fraction = int.from_bytes(sa.local_spi[-2:], "big") / 0x10000
    return endpoint.active_since + dpd_s * (SOONEST + (1.0 - SOONEST) * fraction)


def _silent(endpoint: IkeEndpoint, sa: IkeSa, connection: Connection | None, now: float) -> bool:
    """Whether the peer has to show that it lives (section 2.4)."""
    if connection is None or not connection.dpd_s or sa.flags & LEAVING:
        return False
    return _silent_at(endpoint, sa, connection.dpd_s) <= now


def _expire(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """The hard lifetime: DELETE, and if that is not answered in time, gone all the same."""
    if sa.flags & CLOSING:
        endpoint.remove_sa(sa)
        return
    sa.expires_at = now + DELETE_GRACE_S
    endpoint.touch(sa)  # the DELETE may wait already
    if not sa.flags & REKEYED:
        endpoint.report("ike-expired", "the IKE SA has reached its lifetime", sa.connection, level=30)
    window.enqueue(endpoint, sa, Task(ExchangeKind.DELETE_IKE), now)


def _fire_child(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa, now: float) -> None:
    if child.expires_at <= now:
        if child.state == ChildState.DELETING:
            children.remove(endpoint, sa, child)
            return
        if child.state == ChildState.ESTABLISHED and child.rekey_at:
            # Its rekey has come to nothing until the end: the IKE SA must go (RFC 7296 section 2.8).
            endpoint.report("child-expired", f"child {child.name!r} could not be rekeyed", sa.connection, level=30)
            window.enqueue(endpoint, sa, Task(ExchangeKind.DELETE_IKE), now)
        child.expires_at = now + DELETE_GRACE_S
        endpoint.touch(sa)
        window.enqueue(endpoint, sa, Task(ExchangeKind.DELETE_CHILD, child.spi_in, child.name), now)
    elif child.rekey_at and child.rekey_at <= now and child.state == ChildState.ESTABLISHED:
        child.rekey_at = now + REKEY_RETRY_S
        window.enqueue(endpoint, sa, Task(ExchangeKind.REKEY_CHILD, child.spi_in, child.name), now)


def _keepalive(endpoint: IkeEndpoint, sa: IkeSa, connection: Connection, now: float) -> None:
    """One octet keeps the mapping of the NAT in front of us alive (RFC 3948 section 4)."""
    due = endpoint.keepalives.get(sa.local_spi)
    if due is None or due <= now:
        if due is not None:
            endpoint.emit(Keepalive(sa.local, sa.remote))
        endpoint.keepalives[sa.local_spi] = now + connection.keepalive_s
