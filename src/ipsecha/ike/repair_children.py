"""Child SAs that were made or deleted in steps of which nobody knows any more (``repair``).

A rekey finds out.  A peer that knows the child SA makes a new one with us, one that does not answers
CHILD_SA_NOT_FOUND, and a new one follows.  ESP with an SPI that we do not know, from a suspect's peer, is a child SA
that only the peer knows: it is deleted by that SPI.

Tasks are only queued here: these are called in the middle of steps that run the queue at their end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import bring_up, children, collisions, window
from ipsecha.ike.flags import CHANGING, ENCAPSULATE, IN_DOUBT, LEAVING
from ipsecha.model.errors import PeerError
from ipsecha.model.numbers import Notify
from ipsecha.model.records import Address, ChildSa, ChildState, ExchangeKind, IkeSa, Task

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

MAX_ORPHANS = 16
"""Child SAs that only the peer knows and that wait for their DELETE: strangers name some, too."""

YOUNG_S = 1.0
"""A child SA may be missing at the peer for so long after we made it."""


def verify(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    """Rekey the child SAs of ``sa``; those that only we know are replaced in that way."""
    for child in sa.children:
        if child.state == ChildState.ESTABLISHED:
            _queue(endpoint, sa, Task(ExchangeKind.REKEY_CHILD, child.spi_in, child.name))


def doubt(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    """There is proof that the peer's view of the child SAs is another than ours: they are verified when the repair is
    through, or now, but once for each takeover."""
    repair = endpoint.suspects.get(sa.local_spi)
    if repair is not None:
        repair.lost = True
    elif sa.local_spi in endpoint.suspects:
        sa.flags |= CHANGING
    elif endpoint.repairs.first_evidence(sa):
        verify(endpoint, sa)
        restore(endpoint, sa)


def _queue(endpoint: IkeEndpoint, sa: IkeSa, task: Task) -> None:
    if all((task.kind, task.spi, task.child) != (other.kind, other.spi, other.child) for other in sa.queue):
        sa.queue = (*sa.queue, task)
        endpoint.touch(sa)


def replace(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa) -> None:
    """The peer does not know ``child`` (any more)."""
    children.remove(endpoint, sa, child)
    collisions.child_gone(endpoint, sa, child)
    if all(other.name != child.name for other in sa.children):
        _queue(endpoint, sa, Task(ExchangeKind.NEW_CHILD, child=child.name))


def refuse_stale(endpoint: IkeEndpoint, sa: IkeSa, old: ChildSa | None, name: str) -> None:
    """Raise PeerError(TEMPORARY_FAILURE) for a request of the peer's on an SA in doubt, for a child SA in the place of
    ``old`` or (None) for a new one called ``name``, that may be the repetition of one which a predecessor has granted:
    we would make a child SA that the peer does not know.  We ask for one ourselves instead."""
    if not sa.flags & IN_DOUBT:
        return
    if old is not None and _is_ours(endpoint, sa, old):
        return
    if old is not None:
        _queue(endpoint, sa, Task(ExchangeKind.REKEY_CHILD, old.spi_in, old.name))
    elif all(child.name != name for child in sa.children):
        _queue(endpoint, sa, Task(ExchangeKind.NEW_CHILD, child=name))
    raise PeerError(Notify.TEMPORARY_FAILURE, "updates were lost: we ask for the child SA ourselves")


def _is_ours(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa) -> bool:
    """Whether ``child`` was made since the takeover: a request that names it is no repetition, so that the
    peer's message IDs are certain from now on."""
    if child.created_at < max(endpoint.repairs.since(sa), endpoint.active_since):
        return False
    sa.flags &= ~IN_DOUBT
    endpoint.touch(sa)
    return True


def child_deleted(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa) -> None:
    """The peer has deleted ``child``.  One from before the takeover may have been replaced in a step that was lost:
    a new one is made; a peer that does not want it deletes it once more."""
    if not endpoint.repairs.knows(sa) or _is_ours(endpoint, sa, child):
        return
    if all(other.name != child.name for other in sa.children):
        _queue(endpoint, sa, Task(ExchangeKind.NEW_CHILD, child=child.name))


def peer_lacks(endpoint: IkeEndpoint, sa: IkeSa, spi_out: int, now: float) -> None:
    """INVALID_SPI inside the IKE SA (RFC 7296 section 1.5): our packets arrive at a peer that has no such child SA."""
    child = sa.child_by_outbound_spi(spi_out)
    if child is not None and child.state == ChildState.ESTABLISHED and now - child.created_at > YOUNG_S:
        text = f"child {child.name!r}: {sa.remote[0]} does not know SPI {spi_out:08x}: it is replaced"
        endpoint.report("child-lost", text, sa.connection, level=30)
        replace(endpoint, sa, child)


def unknown_spi(endpoint: IkeEndpoint, spi: int, remote: Address, now: float) -> None:
    """ESP with an SPI that is not ours.  Not authenticated: heeded at a limited rate, for peers in doubt only."""
    repairs = endpoint.repairs
    peers = repairs.at(remote[0])
    if not peers or spi in endpoint.child_index or not repairs.hints.take(now) or not repairs.is_new(spi):
        return
    for connection, identity in peers:
        for sa in endpoint.sas_of_peer(connection, identity):
            waiting = sum(task.orphan for task in sa.queue)
            if not sa.flags & LEAVING and _may_come_from(sa, remote) and waiting < MAX_ORPHANS:
                endpoint.count("orphans-deleted")
                _queue(endpoint, sa, Task(ExchangeKind.DELETE_CHILD, spi, orphan=True))
                doubt(endpoint, sa)
                window.run_queue(endpoint, sa, now)


def _may_come_from(sa: IkeSa, remote: Address) -> bool:
    """Whether this is where ESP of the peer's comes from.  Only behind no NAT does it come without a port: the address
    of a NAT is that of many."""
    return remote == sa.remote or (remote == (sa.remote[0], 0) and not sa.flags & ENCAPSULATE)


def restore(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    """The peer has had a child SA that we do not know: where we have none at all, those that the policy knows are made,
    or the peer would be left without."""
    connection = endpoint.connection_of(sa) if not sa.children else None
    for policy in connection.children if connection is not None else ():
        if connection is not None and not bring_up.is_up(endpoint, connection, policy.name):
            _queue(endpoint, sa, Task(ExchangeKind.NEW_CHILD, child=policy.name))
