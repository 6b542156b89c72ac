"""What follows when the peer refuses a CREATE_CHILD_SA request of ours (RFC 7296 sections 1.3, 2.25 and 3.10.1).

INVALID_KE_PAYLOAD is answered at once with the group that the peer wants, once.  TEMPORARY_FAILURE is answered by the
same request later, later and later; when that goes on for minutes, the two sides do not share one view and the IKE SA
is closed.  CHILD_SA_NOT_FOUND says that a child SA is only ours: it goes without a word, and a new one is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ipsecha.ike import children, collisions, connections
from ipsecha.ike.window import enqueue
from ipsecha.model.errors import PeerError
from ipsecha.model.numbers import Notify, TransformType
from ipsecha.model.proposals import Proposal
from ipsecha.model.records import Exchange, ExchangeKind, IkeSa, Task
from ipsecha.wire.payloads.notify import NotifyPayload

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

FIRST_PAUSE_S = 1.0
LAST_PAUSE_S = 30.0
PATIENCE_S = 300.0
"""TEMPORARY_FAILURE for so long means that the state is out of sync (section 2.25: "several minutes")."""


def groups_of(proposals: tuple[Proposal, ...]) -> tuple[int, ...]:
    """The key exchange methods on offer, NONE left out, in order of preference."""
    groups = (transform.id for proposal in proposals for transform in proposal.of_type(TransformType.KE))
    return tuple(dict.fromkeys(group for group in groups if group))


def first_group(proposals: tuple[Proposal, ...]) -> int:
    """The group of our KE payload; 0: no KE payload."""
    groups = groups_of(proposals)
    return groups[0] if groups else 0


def accepted(sa: IkeSa) -> None:
    """The peer grants a request: refusals count anew."""
    sa.refused_since = sa.refused_at = 0.0


def child_failed(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, error: NotifyPayload, now: float) -> None:
    """The peer has refused a child SA; ``error`` is its reason."""
    old = sa.child_by_inbound_spi(exchange.old_spi)
    if collisions.child_refused(endpoint, sa, exchange, now):
        if old is not None and error.type == Notify.CHILD_SA_NOT_FOUND:
            _drop_silently(endpoint, sa, exchange.old_spi)
        return
    task = exchange.task or Task(exchange.kind, exchange.old_spi, exchange.child)
    connection = endpoint.connection_of(sa)
    policy = connection.child(exchange.child) if connection is not None else None
    if error.type == Notify.TEMPORARY_FAILURE:
        try_later(endpoint, sa, task, now)
    elif error.type == Notify.INVALID_KE_PAYLOAD and policy is not None:
        if not try_group(endpoint, sa, task, policy.proposals, error.data, now):
            _give_up(endpoint, sa, exchange, error, now)
    elif error.type == Notify.CHILD_SA_NOT_FOUND and exchange.kind == ExchangeKind.REKEY_CHILD:
        if old is not None:
            _drop_silently(endpoint, sa, exchange.old_spi)
            enqueue(endpoint, sa, Task(ExchangeKind.NEW_CHILD, child=exchange.child), now)
    else:
        _give_up(endpoint, sa, exchange, error, now)


def _drop_silently(endpoint: IkeEndpoint, sa: IkeSa, spi_in: int) -> None:
    child = sa.child_by_inbound_spi(spi_in)
    if child is not None:
        children.remove(endpoint, sa, child)
        collisions.child_gone(endpoint, sa, child)


def _give_up(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, error: NotifyPayload, now: float) -> None:
    """A refusal for good: the IKE SA stays (section 1.3.1), a rekey is tried again before the lifetime ends."""
    text = f"child {exchange.child!r}: the peer answers {PeerError(error.type)}"
    endpoint.report("child-failed", text, sa.connection, level=30)
    connection = endpoint.connection_of(sa)
    if exchange.kind == ExchangeKind.NEW_CHILD and connection is not None:
        connections.failed(endpoint, connection, now, exchange.child)


def try_later(endpoint: IkeEndpoint, sa: IkeSa, task: Task, now: float) -> None:
    """TEMPORARY_FAILURE: never at once (section 2.25), and not for ever."""
    pause = min(FIRST_PAUSE_S * 2.0**task.tries, LAST_PAUSE_S)
    if not sa.refused_since or now - sa.refused_at > 4 * LAST_PAUSE_S:
        sa.refused_since = now
    sa.refused_at = now
    if now - sa.refused_since > PATIENCE_S:
        endpoint.report("out-of-sync", "TEMPORARY_FAILURE for minutes: the IKE SA is closed", sa.connection, level=30)
        enqueue(endpoint, sa, Task(ExchangeKind.DELETE_IKE), now)
        return
    # Two peers that refuse each other must not meet again: the pause has a random part of half its length.
    jitter = endpoint.entropy(1)[0] / 255
    not_before = now + pause * (1.0 + jitter / 2)
    enqueue(endpoint, sa, msgspec.structs.replace(task, not_before=not_before, tries=min(task.tries + 1, 16)), now)
    endpoint.rearm(sa)


def try_group(
    endpoint: IkeEndpoint, sa: IkeSa, task: Task, proposals: tuple[Proposal, ...], data: bytes, now: float
) -> bool:
    """INVALID_KE_PAYLOAD: ask again with the group that the peer names, if we have offered it and do so the first time.
    False: nothing more can be done."""
    group = int.from_bytes(data, "big")
    if len(data) != 2 or task.group or group not in groups_of(proposals):
        return False
    enqueue(endpoint, sa, msgspec.structs.replace(task, group=group, not_before=0.0), now)
    return True
