"""INFORMATIONAL exchanges: DELETE of child SAs and of the IKE SA, liveness, notifications (RFC 7296 section 1.4).

An IKE SA that the peer has deleted is kept for a while without its child SAs (CLOSED): its record holds the answer, and
whoever owns it by then can repeat that answer when it gets lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import children, collisions, counter_sync, repair_children
from ipsecha.ike.flags import CLOSED, CLOSING, LEAVING, REKEYED
from ipsecha.ike.window import Payloads, start_request
from ipsecha.model.numbers import ExchangeType, Notify, Payload, Protocol
from ipsecha.model.records import ChildState, Exchange, ExchangeKind, IkeSa, Task
from ipsecha.wire.chain import RawPayload
from ipsecha.wire.payloads.delete import DeletePayload, build_delete, parse_delete
from ipsecha.wire.payloads.notify import parse_notify

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

LINGER_S = 180.0
"""For how long the answer to a DELETE of the IKE SA is kept; longer than a peer repeats a request."""

MAX_GONE_SPIS = 64


# Initiator


def start(endpoint: IkeEndpoint, sa: IkeSa, task: Task, now: float) -> None:
    """Send a DELETE, or with LIVENESS an empty request."""
    payloads: Payloads = []
    if sa.flags & CLOSED:
        return
    if task.kind == ExchangeKind.DELETE_IKE:
        payloads = [(Payload.DELETE, build_delete(Protocol.IKE))]
        sa.flags |= CLOSING
        sa.queue = ()  # the DELETE of the IKE SA is the last request on it (section 2.8)
    elif task.kind == ExchangeKind.DELETE_CHILD:
        protocol = _begin_child_delete(endpoint, sa, task)
        if protocol is None:
            return
        payloads = [(Payload.DELETE, build_delete(protocol, (task.spi.to_bytes(4, "big"),)))]
    elif sa.flags & LEAVING:
        return
    exchange = Exchange(task.kind, 0, (), now, child=task.child, old_spi=task.spi, task=task)
    start_request(endpoint, sa, ExchangeType.INFORMATIONAL, payloads, exchange, now)


def _begin_child_delete(endpoint: IkeEndpoint, sa: IkeSa, task: Task) -> int | None:
    """The protocol of the child SA that is to be deleted; None where that is moot by now."""
    child = sa.child_by_inbound_spi(task.spi)
    if child is None:
        connection = endpoint.connection_of(sa)
        policy = connection.child(task.child) if connection is not None else None
        return children.protocol_of(policy) if task.orphan else None
    child.state = ChildState.DELETING
    children.use_outbound(endpoint, sa, child, False)
    return child.suite.protocol


def handle_response(
    endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, payloads: list[RawPayload], now: float
) -> None:
    """The answer to our DELETE or liveness check.  What the peer lists in its D payloads is the other half of what we
    have named: nothing to be learned from it."""
    del payloads, now
    if exchange.kind == ExchangeKind.DELETE_IKE:
        if not sa.flags & REKEYED:
            endpoint.report("ike-closed", f"the IKE SA with {sa.remote[0]} is closed", sa.connection)
        endpoint.remove_sa(sa)
    elif exchange.kind == ExchangeKind.DELETE_CHILD:
        child = sa.child_by_inbound_spi(exchange.old_spi)
        if child is not None:
            children.remove(endpoint, sa, child)
            collisions.child_gone(endpoint, sa, child)


# Responder


def handle_request(endpoint: IkeEndpoint, sa: IkeSa, payloads: list[RawPayload], now: float) -> Payloads:
    """The peer deletes SAs, tells something or asks whether we are alive."""
    deletes = [parse_delete(payload.body) for payload in payloads if payload.type == Payload.DELETE]
    if any(delete.protocol == Protocol.IKE for delete in deletes):
        collisions.ike_deleted(endpoint, sa, now)
        if not sa.flags & LEAVING:
            endpoint.report("ike-closed", f"{sa.remote[0]} has closed the IKE SA", sa.connection)
        close(endpoint, sa, now)
        return []
    collisions.ike_used(endpoint, sa, now)
    _notifications(endpoint, sa, payloads)
    answer: Payloads = []
    for protocol in (Protocol.ESP, Protocol.AH):
        spis = _delete_children(endpoint, sa, protocol, deletes)
        if spis:
            answer.append((Payload.DELETE, build_delete(protocol, spis)))
    return answer


def _delete_children(endpoint: IkeEndpoint, sa: IkeSa, protocol: int, deletes: list[DeletePayload]) -> list[bytes]:
    """Delete the child SAs that the peer names by its inbound SPIs; ours of the same pairs go into the answer, but for
    those that we are deleting as well (section 1.4.1) and those that we do not know."""
    answer: list[bytes] = []
    for spi in (spi for delete in deletes if delete.protocol == protocol for spi in delete.spis):
        child = sa.child_by_outbound_spi(int.from_bytes(spi, "big"))
        if child is None:
            exchange = sa.exchange
            if exchange is not None and exchange.kind in collisions.CREATIONS:
                exchange.gone_spis = (*exchange.gone_spis[-MAX_GONE_SPIS:], int.from_bytes(spi, "big"))
        elif child.suite.protocol != protocol or child.state == ChildState.DELETING:
            continue
        else:
            answer.append(child.spi_in.to_bytes(4, "big"))
            children.remove(endpoint, sa, child)
            collisions.child_gone(endpoint, sa, child)
            repair_children.child_deleted(endpoint, sa, child)
    return answer


def _notifications(endpoint: IkeEndpoint, sa: IkeSa, payloads: list[RawPayload]) -> None:
    """Errors of the peer's are shown; what we do not know is ignored (section 3.10.1)."""
    for payload in payloads:
        if payload.type != Payload.NOTIFY:
            continue
        notify = parse_notify(payload.body)
        if notify.type in (Notify.INVALID_SPI, Notify.INVALID_SELECTORS, Notify.INVALID_MESSAGE_ID):
            text = f"{sa.remote[0]} says {Notify(notify.type).name} {(notify.spi or notify.data[:8]).hex()}"
            endpoint.report("peer-complains", text, sa.connection, level=30)
            if notify.type == Notify.INVALID_SPI and len(notify.data) == 4:
                repair_children.peer_lacks(endpoint, sa, int.from_bytes(notify.data, "big"), endpoint.now)
        elif notify.type == Notify.IPSEC_REPLAY_COUNTER_SYNC:
            counter_sync.answer(endpoint, sa, notify.data)
        else:
            endpoint.count("ignored-notify")


def close(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """The IKE SA and its child SAs are gone; the record stays for LINGER_S to repeat its last answer."""
    sa.flags |= CLOSING | CLOSED
    endpoint.closed[sa.local_spi] = None
    sa.queue = ()
    exchange, sa.exchange = sa.exchange, None
    endpoint.in_flight.pop(sa.local_spi, None)
    if exchange is not None and exchange.kind in collisions.CREATIONS:
        endpoint.release_child_spi(int.from_bytes(exchange.new_spi, "big"))
    for child in sa.children:
        children.remove(endpoint, sa, child)
    sa.expires_at = now + LINGER_S
    endpoint.touch(sa)
    endpoint.rearm(sa)
