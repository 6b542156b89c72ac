"""What happens when both peers act on the same SAs at once (RFC 7296 sections 2.8.1, 2.8.2 and 2.25).

Theory of operation.  A window of 1 allows each side one request in flight, so at most two exchanges overlap.  What ours
is about stands in ``sa.exchange``; what the peer wants is in its request:

    our request in flight        the peer's request      our answer
    delete child X               rekey X                 TEMPORARY_FAILURE
    rekey child X                rekey X                 as usual; the nonces decide
    none that concerns X         rekey X, X unknown      CHILD_SA_NOT_FOUND
    delete child X               delete X                without D; outbound is gone now, inbound with our answer
    rekey child X                delete X                as usual, with D
    none that concerns X         delete X, X unknown     without D
    create, rekey, delete child  rekey IKE SA            TEMPORARY_FAILURE
    rekey IKE SA                 rekey IKE SA            as usual; the nonces decide
    delete IKE SA                rekey IKE SA            TEMPORARY_FAILURE
    rekey IKE SA                 delete IKE SA           as usual; our rekey is forgotten
    delete IKE SA                delete IKE SA           as usual; our delete is forgotten
    rekey IKE SA                 create or rekey child   TEMPORARY_FAILURE
    rekey IKE SA                 delete child            as usual, with D

Both rekey the same SA: after both exchanges there are two new SAs, and both sides know four nonces.  The SA of the
exchange with the lowest nonce loses; who initiated that exchange deletes it, and who initiated the other deletes the
old SA.  What a side knows before it has the answer to its own request is kept in that exchange: the lower nonce of the
peer's exchange and the SA that it made, the *rival*.

An IKE SA that a collided exchange has made (we responded) is *undecided*: it has a ``predecessor``, no child SAs and
the flag REKEYED, under which nobody starts anything on it.  It comes to an end in one of four ways.  Our answer arrives
and the nonces decide.  The peer deletes the old IKE SA: it knows nothing of our rekey, its own counts.  The peer uses
the undecided IKE SA: it has decided in favour of it.  Or the peer deletes it: it has decided against it.

A request of the peer that names a child SA which we do not know, while it may already have made the one that we have
asked for: the answer to ours may just be lost.  We answer a rekey with TEMPORARY_FAILURE, and note an SPI that it has
deleted, so that our child SA is not made when the answer comes (RFC 4718 sections 5.11.6 and 5.11.7 leave both open).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import children
from ipsecha.ike.flags import CLOSING, REKEYED
from ipsecha.ike.window import enqueue
from ipsecha.model.effects import UpdateChild
from ipsecha.model.errors import PeerError
from ipsecha.model.numbers import Notify
from ipsecha.model.records import ChildSa, ChildState, Exchange, ExchangeKind, IkeSa, Task

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

REPLACED_LIFE_S = 180.0
"""How long we wait for the peer to delete what it has to delete; longer than a peer repeats a request."""

CREATIONS = (ExchangeKind.NEW_CHILD, ExchangeKind.REKEY_CHILD)
_CHILD_EXCHANGES = (*CREATIONS, ExchangeKind.DELETE_CHILD)


def in_flight(sa: IkeSa, *kinds: int) -> bool:
    """Whether our request in flight is one of ``kinds``."""
    return sa.exchange is not None and sa.exchange.kind in kinds


def is_closing(sa: IkeSa) -> bool:
    """Whether our DELETE for this IKE SA is on its way, or waits only for the window."""
    return bool(sa.flags & CLOSING) or any(task.kind == ExchangeKind.DELETE_IKE for task in sa.queue)


def _is_closing_child(sa: IkeSa, child: ChildSa) -> bool:
    return child.state == ChildState.DELETING or any(
        task.kind == ExchangeKind.DELETE_CHILD and task.spi == child.spi_in for task in sa.queue
    )


# Rows of the table that refuse


def refuse_creation(sa: IkeSa) -> None:
    """Raise PeerError(TEMPORARY_FAILURE) for a child SA's creation or rekey while the IKE SA itself changes."""
    if is_closing(sa) or sa.flags & REKEYED:
        raise PeerError(Notify.TEMPORARY_FAILURE, "the IKE SA is being closed")
    if in_flight(sa, ExchangeKind.REKEY_IKE):
        raise PeerError(Notify.TEMPORARY_FAILURE, "the IKE SA is being rekeyed")


def refuse_child_rekey(sa: IkeSa, child: ChildSa | None) -> None:
    """Raise PeerError for the rekey of a child SA that we are closing, or do not know (None)."""
    if child is None:
        if in_flight(sa, *CREATIONS):
            raise PeerError(Notify.TEMPORARY_FAILURE, "a child SA is being created")
        raise PeerError(Notify.CHILD_SA_NOT_FOUND, "rekey of a child SA that is not there")
    if _is_closing_child(sa, child):
        raise PeerError(Notify.TEMPORARY_FAILURE, f"child {child.name!r} is being closed")


def refuse_ike_rekey(sa: IkeSa) -> None:
    """Raise PeerError(TEMPORARY_FAILURE) for the rekey of an IKE SA that we close, have rekeyed, or change."""
    if is_closing(sa) or sa.flags & REKEYED:
        raise PeerError(Notify.TEMPORARY_FAILURE, "the IKE SA is being closed")
    if in_flight(sa, *_CHILD_EXCHANGES):
        raise PeerError(Notify.TEMPORARY_FAILURE, "a child SA is being created, rekeyed or closed")


# Child SAs


def child_answered(
    endpoint: IkeEndpoint, sa: IkeSa, old: ChildSa, child: ChildSa, nonces: tuple[bytes, bytes], now: float
) -> None:
    """We have answered the peer's rekey of ``old`` with ``child`` (installed): the peer deletes ``old`` in the end,
    unless our own rekey of it, in flight, turns out to win."""
    exchange = sa.exchange
    if exchange is not None and exchange.kind == ExchangeKind.REKEY_CHILD and exchange.old_spi == old.spi_in:
        exchange.rival_nonce = min(nonces)
        exchange.rival_spi = child.spi_in.to_bytes(4, "big")
    else:
        _await_delete(endpoint, sa, old, now)


def child_made(
    endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, child: ChildSa, nonce_r: bytes, now: float
) -> None:
    """The answer to our rekey: ``child`` (not yet installed) replaces the old child SA, or loses against a rival."""
    old = sa.child_by_inbound_spi(exchange.old_spi)
    rival = _rival_child(sa, exchange)
    if rival is not None and min(exchange.nonce, nonce_r) < exchange.rival_nonce:
        child.state = ChildState.REKEYED
        child.use_outbound = False
        child.expires_at = min(child.expires_at, now + REPLACED_LIFE_S)
        children.install(endpoint, sa, child)
        if old is not None:
            _await_delete(endpoint, sa, old, now)
        enqueue(endpoint, sa, Task(ExchangeKind.DELETE_CHILD, child.spi_in, child.name), now)
        return
    children.install(endpoint, sa, child)
    if rival is not None:
        children.use_outbound(endpoint, sa, rival, False)
        _await_delete(endpoint, sa, rival, now)
    _take_over(endpoint, sa, child)
    if old is not None:
        _await_delete(endpoint, sa, old, now)
        enqueue(endpoint, sa, Task(ExchangeKind.DELETE_CHILD, old.spi_in, old.name), now)


def child_refused(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, now: float) -> bool:
    """The peer has refused our rekey of a child SA.  True: there is a rival, that rekey counts and ours is settled."""
    old = sa.child_by_inbound_spi(exchange.old_spi)
    rival = _rival_child(sa, exchange)
    if old is not None and old.state == ChildState.REKEYING:
        old.state = ChildState.ESTABLISHED
        if rival is not None:
            _await_delete(endpoint, sa, old, now)
        endpoint.rearm(sa)
    return rival is not None


def child_used(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa) -> None:
    """Authentic traffic has come in on ``child``: its initiator is ready to receive there (section 2.8)."""
    if child.use_outbound or child.state not in (ChildState.ESTABLISHED, ChildState.REKEYING):
        return
    children.use_outbound(endpoint, sa, child, True)
    _take_over(endpoint, sa, child)


def child_gone(endpoint: IkeEndpoint, sa: IkeSa, gone: ChildSa) -> None:
    """The child SA ``gone`` is deleted (and removed): what replaces it carries the traffic from now on (section 2.8).
    Where nothing does, the peer did not want the answer to its rekey: what ``gone`` was to replace stays."""
    for child in sa.children:
        if child.replaces == gone.spi_in:
            child_used(endpoint, sa, child)
    old = sa.child_by_inbound_spi(gone.replaces)
    if old is None or old.state != ChildState.REKEYED:
        return
    if any(child.replaces == old.spi_in for child in sa.children) or _is_closing_child(sa, old):
        return
    connection = endpoint.connection_of(sa)
    policy = connection.child(old.name) if connection is not None else None
    if policy is not None:
        old.state = ChildState.ESTABLISHED
        old.expires_at = old.created_at + policy.life_s
        children.use_outbound(endpoint, sa, old, True)
        endpoint.rearm(sa)


def _take_over(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa) -> None:
    """``child`` sends from now on: none that it replaces does, directly or by way of another."""
    old = sa.child_by_inbound_spi(child.replaces)
    while old is not None:
        children.use_outbound(endpoint, sa, old, False)
        old = sa.child_by_inbound_spi(old.replaces)


def _rival_child(sa: IkeSa, exchange: Exchange) -> ChildSa | None:
    """The child SA of the peer's colliding exchange, unless the peer has deleted it."""
    return sa.child_by_inbound_spi(int.from_bytes(exchange.rival_spi, "big")) if exchange.rival_spi else None


def _await_delete(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa, now: float) -> None:
    """``child`` is not needed any more; should no DELETE come or be answered, its lifetime ends soon."""
    if child.state != ChildState.DELETING:
        child.state = ChildState.REKEYED
    child.expires_at = min(child.expires_at, now + REPLACED_LIFE_S)
    endpoint.touch(sa)
    endpoint.rearm(sa)


# IKE SAs


def ike_answered(endpoint: IkeEndpoint, old: IkeSa, new: IkeSa, nonces: tuple[bytes, bytes], now: float) -> None:
    """We have answered the peer's rekey of ``old`` with ``new``: it takes over at once, or stays undecided while our
    own rekey is in flight."""
    exchange = old.exchange
    if exchange is None or exchange.kind != ExchangeKind.REKEY_IKE:
        endpoint.add_sa(new)
        replace_ike(endpoint, old, new, now)
        return
    exchange.rival_nonce = min(nonces)
    exchange.rival_spi = new.local_spi
    new.predecessor = old.local_spi
    retire_ike(endpoint, new, now)
    endpoint.add_sa(new)


def ike_made(endpoint: IkeEndpoint, old: IkeSa, exchange: Exchange, new: IkeSa, nonce_r: bytes, now: float) -> None:
    """The answer to our rekey: ``new`` takes over and we delete ``old``; or it loses, and we delete ``new``."""
    rival = endpoint.sas.get(exchange.rival_spi)
    if rival is not None and min(exchange.nonce, nonce_r) < exchange.rival_nonce:
        replace_ike(endpoint, old, rival, now)
        retire_ike(endpoint, new, now)
        endpoint.add_sa(new)
        enqueue(endpoint, new, Task(ExchangeKind.DELETE_IKE), now)
        return
    if rival is not None:
        rival.predecessor = b""
        endpoint.touch(rival)
    endpoint.add_sa(new)
    replace_ike(endpoint, old, new, now)
    enqueue(endpoint, old, Task(ExchangeKind.DELETE_IKE), now)


def ike_refused(endpoint: IkeEndpoint, old: IkeSa, exchange: Exchange, now: float) -> bool:
    """The peer has refused our rekey.  True: its own has made a rival, which takes over."""
    rival = endpoint.sas.get(exchange.rival_spi)
    if rival is None:
        return False
    replace_ike(endpoint, old, rival, now)
    return True


def ike_deleted(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """The peer deletes ``sa``, on which our own request may be in flight: it is forgotten, a rival takes over."""
    exchange = sa.exchange
    if exchange is not None and exchange.kind == ExchangeKind.REKEY_IKE:
        ike_refused(endpoint, sa, exchange, now)
    if sa.predecessor:
        old = endpoint.sas.get(sa.predecessor)
        if old is not None and old.exchange is not None and old.exchange.rival_spi == sa.local_spi:
            old.exchange.rival_spi = old.exchange.rival_nonce = b""
            endpoint.touch(old)


def ike_used(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """The peer, which initiated ``sa``, sends requests on it: if it was undecided, the peer has decided for it.  Our
    own rekey is forgotten; what it makes at the peer's is not used by either side."""
    if not sa.predecessor:
        return
    old = endpoint.sas.get(sa.predecessor)
    sa.predecessor = b""
    if old is None:
        _reinstate(endpoint, sa, now)
        return
    if in_flight(old, ExchangeKind.REKEY_IKE):
        old.exchange = None
        endpoint.in_flight.pop(old.local_spi, None)
    replace_ike(endpoint, old, sa, now)


def replace_ike(endpoint: IkeEndpoint, old: IkeSa, new: IkeSa, now: float) -> None:
    """``new`` inherits the child SAs of ``old`` and what waits there (section 2.8); ``old`` waits for its DELETE."""
    if new.flags & REKEYED:
        _reinstate(endpoint, new, now)
    moved, waiting = old.children, old.queue
    old.children, old.queue = (), ()
    new.children = (*new.children, *moved)
    new.queue = (*new.queue, *(task for task in waiting if task.kind != ExchangeKind.REKEY_IKE))
    for child in moved:
        endpoint.child_index[child.spi_in] = new.local_spi
        endpoint.emit(UpdateChild(new, child))
    endpoint.touch(new)  # before the old one: whoever follows the records sees the child SAs move, not vanish
    retire_ike(endpoint, old, now)
    endpoint.touch(old)
    endpoint.rearm(new)
    endpoint.rearm(old)
    endpoint.report("ike-rekeyed", f"the IKE SA is now {new.spi_i.hex()}_i {new.spi_r.hex()}_r", new.connection)


def retire_ike(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """``sa`` waits for its DELETE, ours or the peer's, for a limited time."""
    sa.flags |= REKEYED
    sa.expires_at = min(sa.expires_at, now + REPLACED_LIFE_S)


def _reinstate(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """An undecided IKE SA has won."""
    connection = endpoint.connection_of(sa)
    sa.flags &= ~REKEYED
    sa.predecessor = b""
    sa.expires_at = sa.created_at + connection.life_s if connection is not None else now + REPLACED_LIFE_S
    endpoint.touch(sa)
