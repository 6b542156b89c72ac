"""After a takeover: IKE SAs whose owner may have done more than its records say (RFC 6027 section 3.6).

Theory of operation.  A record that was OPEN when its owner died makes the SA a *suspect*: with ``commit = "lazy"`` the
peer may have seen steps that nobody else knows.  Nothing else is sent on it until it is repaired.

Peers that support it agree on message IDs by RFC 6311 (``message_sync``).  All others are *probed* under our next
request ID n.  With a window of 1 (RFC 7296 section 2.3) a peer that expects

    n        answers: nothing of ours was lost
    n + 1    takes it for a repetition and gives us the answer to the lost request n: what is in it tells what n was
    n + k    drops it, so we try n + 1, n + 2, ... a moment apart; one of them is one of the cases above

An answer to a lost request may also be late, or be played back by somebody who has recorded it.  So the probe is a
request whose answer repeats something of it: the rekey of a child SA that does not exist, which changes nothing and is
refused by CHILD_SA_NOT_FOUND with its random SPI (section 2.25).  Only that is the end; any other answer says no more
than that the next message ID is due.  A slow peer answers all probes in turn; then the last one counts, since its
ID must not be used again.  A request that the record knows as being in flight is repeated first.

The peer's requests may be ahead of ours in the same way: it has had the answer to n, and our record has not.  Such a
request is authentic, and proves by itself that n was answered, so a suspect takes it (IN_DOUBT, until the IKE SA is
rekeyed).  Whoever plays back old requests gains little: those that we would take are the very ones whose effects were
lost, each at most once, and only forwards.  A peer behind a NAT then seems to be where they came from, until it sends.

Child SAs that were made or deleted in lost steps are the business of ``repair_children``.

A suspect that answers no probe is *doomed*, or the peer cannot be reached at the moment.  A new IKE SA is begun beside
it, where we know whom to ask; if that succeeds the old one goes without a word.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ipsecha.ike import attempts, initiation, message_sync, repair_children, window
from ipsecha.ike.create_child import NONCE_LENGTH
from ipsecha.ike.flags import CHANGING, IN_DOUBT, LEAVING, MESSAGE_ID_SYNC, OPEN, REMOTE_NAT
from ipsecha.ike.negotiation import number_proposals
from ipsecha.ike.suspects import Doubtful, Repair
from ipsecha.model.numbers import ExchangeType, Notify, Payload, Protocol
from ipsecha.model.records import Exchange, ExchangeKind, IkeSa, Task
from ipsecha.wire.chain import RawPayload
from ipsecha.wire.payloads.delete import parse_delete
from ipsecha.wire.payloads.notify import build_notify, parse_notify
from ipsecha.wire.payloads.sa import build_sa
from ipsecha.wire.payloads.selectors import build_selectors

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

PAUSE_S = 0.15  # between two probes, or two transmissions of one

GRACE_S = 0.4
"""For the answer to a request that the record knows as being in flight."""

PROBES = 8  # without any answer

ANSWERS = 32
"""That are not the probe's own: a peer that gives so many does not repeat our SPI at all, and has taken every probe."""

REPETITIONS = 2 * PROBES
REPLACEMENTS = 256  # handshakes under way at a time


def begin(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """The turn of a suspect has come, or somebody wants to use it; nothing happens where its repair has begun."""
    spi = sa.local_spi
    if spi not in endpoint.suspects or endpoint.suspects[spi] is not None:
        return
    if sa.flags & LEAVING:  # its births and ends are never lazy: there is nothing to be repaired
        _clear(endpoint, sa)
        endpoint.rearm(sa)
        return
    endpoint.repairs.add(sa, now)
    if sa.flags & MESSAGE_ID_SYNC:
        endpoint.suspects[spi] = Repair(syncing=True)
        asked = sa.exchange is not None and sa.exchange.kind == ExchangeKind.MESSAGE_ID_SYNC  # by a predecessor
        if asked or message_sync.start_sync(endpoint, sa, now, True, 0):
            return
    repair = endpoint.suspects[spi] = Repair()
    sa.flags |= IN_DOUBT
    exchange = sa.exchange
    if exchange is None:
        _send_probe(endpoint, sa, repair, now)
    else:
        if exchange.kind == ExchangeKind.PROBE:  # a predecessor's
            repair.probes = min(len(exchange.request), PROBES // 2)
        endpoint.transmit(exchange.request, sa.local, sa.remote)
        repair.due_at = now + GRACE_S
    endpoint.touch(sa)
    endpoint.rearm(sa)


def waits(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> bool:
    """Whether nothing may be sent on a suspect yet.  Begins its repair, or goes on with it where the request in flight
    was answered that the record knew of."""
    repair = endpoint.suspects[sa.local_spi]
    if repair is None:
        begin(endpoint, sa, now)
        return sa.local_spi in endpoint.suspects
    if sa.flags & LEAVING:
        _end(endpoint, sa, now)
    elif not repair.syncing and sa.exchange is None:
        _send_probe(endpoint, sa, repair, now)
        endpoint.rearm(sa)
    return sa.local_spi in endpoint.suspects and not repair.syncing


def is_due(endpoint: IkeEndpoint, sa: IkeSa) -> float:
    """When ``fire`` has something to do; infinity where the repair leaves the pace to others."""
    repair = endpoint.suspects.get(sa.local_spi)
    return math.inf if repair is None else repair.due_at


def fire(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """There was no answer in time."""
    repair, exchange = endpoint.suspects[sa.local_spi], sa.exchange
    if sa.flags & LEAVING:
        _end(endpoint, sa, now)
    if repair is None or exchange is None or sa.flags & LEAVING:
        return
    if exchange.kind == ExchangeKind.REKEY_IKE:  # its answer may still lead to the child SAs
        repair.due_at = math.inf
    elif exchange.kind != ExchangeKind.PROBE:
        alone = len(exchange.request) == 1 and exchange.message_id + 1 == sa.next_request_id
        message_sync.set_aside(endpoint, sa, now)
        repair.lost = True
        _send_probe(endpoint, sa, repair, now, exchange.request if alone else ())
    elif (repair.catching_up or not repair.repeated) and repair.repetitions < REPETITIONS:
        repair.repeated = True
        repair.repetitions += 1
        endpoint.transmit(exchange.request[:1], sa.local, sa.remote)
        repair.due_at = now + PAUSE_S
    elif repair.probes < PROBES and not repair.catching_up:
        _send_probe(endpoint, sa, repair, now)
    else:
        _give_up(endpoint, sa, repair, exchange, now)


def _send_probe(endpoint: IkeEndpoint, sa: IkeSa, repair: Repair, now: float, before: tuple[bytes, ...] = ()) -> None:
    """One probe more, under the next message ID; those before are not answered.  ``before``: a request that was in
    flight, repeated below the first probe, for a peer that has never had it takes no later one."""
    exchange = sa.exchange
    if exchange is None:
        echo = endpoint.new_child_spi(sa.local_spi)
        endpoint.release_child_spi(echo)
        exchange = sa.exchange = Exchange(ExchangeKind.PROBE, 0, before, now, new_spi=echo.to_bytes(4, "big"))
        endpoint.in_flight[sa.local_spi] = None
    exchange_type, payloads = _question(endpoint, sa, exchange.new_spi)
    datagrams = window.seal_request(endpoint, sa, exchange_type, payloads)
    exchange.message_id = sa.next_request_id - 1
    exchange.request = (*exchange.request, *datagrams)
    repair.probes += 1
    repair.due_at = now + PAUSE_S
    endpoint.count("probes")
    endpoint.touch(sa)
    endpoint.transmit(datagrams, sa.local, sa.remote)


def _question(endpoint: IkeEndpoint, sa: IkeSa, echo: bytes) -> tuple[ExchangeType, window.Payloads]:
    """The rekey of a child SA that does not exist, never cut into fragments; a sign of life where there is no child."""
    connection = endpoint.connection_of(sa)
    if connection is None or not connection.children:
        return ExchangeType.INFORMATIONAL, []
    policy = connection.children[0]
    return ExchangeType.CREATE_CHILD_SA, [
        (Payload.NOTIFY, build_notify(Notify.REKEY_SA, protocol=policy.proposals[0].protocol, spi=echo)),
        (Payload.SA, build_sa(number_proposals(policy.proposals[:1], echo))),
        (Payload.NONCE, endpoint.entropy(NONCE_LENGTH)),
        (Payload.TSI, build_selectors(policy.local_ts[:1])),
        (Payload.TSR, build_selectors(policy.remote_ts[:1])),
    ]


def _is_echo(payloads: list[RawPayload], echo: bytes) -> bool:
    """Whether this is the answer to our question, and to no other request that had the same message ID."""
    notifies = [parse_notify(payload.body) for payload in payloads if payload.type == Payload.NOTIFY]
    return any(notify.type == Notify.CHILD_SA_NOT_FOUND and notify.spi == echo for notify in notifies)


def handle_response(
    endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, payloads: list[RawPayload], now: float
) -> None:
    """The answer to a probe, or to the request that the peer takes the probe for.  Later probes that are not answered
    stand in ``exchange.request`` still.

    A repair that has ended with its IKE SA (the peer has rekeyed it) wants to know nothing any more; one that has not
    begun yet, after another takeover, asks for itself."""
    repair = endpoint.suspects.get(sa.local_spi)
    if repair is None:
        return
    left = len(exchange.request) if sa.exchange is not None else 0
    answered = _is_echo(payloads, exchange.new_spi)
    if not answered:
        repair.lost = True
        _learn(endpoint, sa, payloads)
    repair.catching_up = left > 0
    repair.repeated = False
    if left:
        endpoint.transmit(exchange.request[:1], sa.local, sa.remote)
        repair.due_at = now + PAUSE_S
    elif answered or repair.answers >= ANSWERS or endpoint.connection_of(sa) is None:
        _settle(endpoint, sa, now)
    else:
        repair.answers += 1
        repair.probes = 0
        _send_probe(endpoint, sa, repair, now)
        endpoint.rearm(sa)


def _learn(endpoint: IkeEndpoint, sa: IkeSa, payloads: list[RawPayload]) -> None:
    """What the answer says about a request that was lost."""
    for payload in payloads:
        if payload.type == Payload.DELETE:
            delete = parse_delete(payload.body)
            for spi in delete.spis if delete.protocol != Protocol.IKE else ():
                child = sa.child_by_outbound_spi(int.from_bytes(spi, "big"))
                if child is not None:
                    repair_children.replace(endpoint, sa, child)
        elif payload.type == Payload.SA:
            endpoint.report("lost-child", f"{sa.remote[0]} has a child SA that is not known here", sa.connection)


def _settle(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """Message IDs agree: what has waited may go on, and child SAs are verified where they may differ."""
    repair = endpoint.suspects[sa.local_spi]
    changing = sa.flags & CHANGING
    _clear(endpoint, sa)
    endpoint.count("repaired")
    if repair is not None and repair.replacement in endpoint.initiations:
        attempts.abandon(endpoint, endpoint.initiations[repair.replacement])
    if repair is not None and repair.lost:
        endpoint.report("repaired", f"updates were lost; {sa.remote[0]} and we agree again", sa.connection)
    if changing or (repair is not None and repair.lost):
        endpoint.repairs.first_evidence(sa)
        repair_children.verify(endpoint, sa)
        repair_children.restore(endpoint, sa)
    endpoint.rearm(sa)


def synchronised(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """RFC 6311 has brought the message IDs into agreement."""
    if endpoint.suspects.get(sa.local_spi) is not None:
        _settle(endpoint, sa, now)


def _end(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """The IKE SA ends before its repair does.  Where the peer has rekeyed it, its child SAs have moved: they are
    verified where they are now."""
    _clear(endpoint, sa)
    for heir in endpoint.sas_of_peer(sa.connection, sa.remote_id):
        if not heir.flags & LEAVING and heir.local_spi not in endpoint.suspects:
            endpoint.repairs.first_evidence(heir)
            repair_children.verify(endpoint, heir)
            repair_children.restore(endpoint, heir)
            window.run_queue(endpoint, heir, now)


def _clear(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    endpoint.suspects.pop(sa.local_spi, None)
    sa.flags &= ~(OPEN | CHANGING)
    endpoint.touch(sa)


# Requests of the peer, hints, and what is doomed


def may_be_ahead(endpoint: IkeEndpoint, sa: IkeSa, message_id: int) -> bool:
    """Whether an authentic request beyond the expected one proves that updates were lost.  No honest peer comes to the
    end of the message IDs: none would be left."""
    if message_id >= window.REKEY_MESSAGE_ID:
        return False
    return bool(sa.flags & IN_DOUBT) or (sa.local_spi in endpoint.suspects and not sa.flags & MESSAGE_ID_SYNC)


def leapt(endpoint: IkeEndpoint, sa: IkeSa, message_id: int) -> None:
    """The peer's request is ahead, and authentic: its predecessors were answered."""
    count = message_id - sa.expected_request_id
    endpoint.report("lost-requests", f"{count} requests of {sa.remote[0]} were lost here", sa.connection)
    sa.expected_request_id = message_id
    repair_children.doubt(endpoint, sa)


def hint(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """Somebody says, unprotected, that the peer does not know the SA.  Anybody can: the peer is asked whether it lives,
    at a limited rate, unless it is being asked already (RFC 7296 section 2.4)."""
    endpoint.count("unprotected-hint")
    if sa.exchange is None and not sa.flags & LEAVING and endpoint.repairs.hints.take(now):
        window.enqueue(endpoint, sa, Task(ExchangeKind.LIVENESS), now)


def _give_up(endpoint: IkeEndpoint, sa: IkeSa, repair: Repair, exchange: Exchange, now: float) -> None:
    """No probe was answered.  The SA stays until the peer is known to be dead, or to have a new one with us."""
    if drop_if_replaced(endpoint, sa):
        return
    if len(endpoint.initiations) >= REPLACEMENTS:  # many are doomed: one after the other
        repair.due_at = now + PAUSE_S
        return
    repair.due_at = math.inf
    repair.doomed = True
    exchange.started_at, exchange.tries = now, 1
    endpoint.touch(sa)
    connection = endpoint.connection_of(sa)
    address = initiation.literal_address(connection) if connection is not None else None
    if address is None and not sa.flags & REMOTE_NAT:
        address = sa.remote[0]
    names = tuple(dict.fromkeys(child.name for child in sa.children))
    endpoint.report("doomed", f"{sa.remote[0]} answers no request after the takeover", sa.connection, level=30)
    if connection is None or address is None or not names or sa.connection in endpoint.held:
        return
    if all(one.remote[0] != address for one in endpoint.initiations.values()):
        repair.replacement = initiation.start(endpoint, connection, names, now, address)


def _stands_for(other: IkeSa, doomed: IkeSa) -> bool:
    """Whether ``other`` is a later IKE SA with the same peer, at the same place."""
    return (
        other is not doomed
        and other.created_at > doomed.created_at
        and other.remote == doomed.remote
        and not other.flags & (LEAVING | OPEN)
    )


def drop_if_replaced(endpoint: IkeEndpoint, sa: IkeSa) -> bool:
    """``sa`` is a suspect that answers nothing: whether the peer has a later IKE SA with us, so that it is gone now.
    The other owner may have made that one (``rival``)."""
    stale = sa.local_spi in endpoint.suspects
    if stale and any(_stands_for(other, sa) for other in endpoint.sas_of_peer(sa.connection, sa.remote_id)):
        _drop_doomed(endpoint, sa)
        return True
    return False


def _drop_doomed(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    endpoint.report("replaced", f"the IKE SA with {sa.remote[0]} was doomed and is replaced", sa.connection)
    endpoint.remove_sa(sa)


def replaced(endpoint: IkeEndpoint, new: IkeSa) -> None:
    """The peer has a new IKE SA with us: those with it that have answered no probe are not needed any more."""
    for sa in endpoint.sas_of_peer(new.connection, new.remote_id):
        repair = endpoint.suspects.get(sa.local_spi)
        if sa is not new and repair is not None and repair.doomed:
            _drop_doomed(endpoint, sa)


class Repairs(Doubtful):
    """What an endpoint knows of repairs, and what the window and the timers ask it."""

    waits = staticmethod(waits)
    may_be_ahead = staticmethod(may_be_ahead)
    leapt = staticmethod(leapt)
    hint = staticmethod(hint)
    synchronised = staticmethod(synchronised)
    refuse_stale = staticmethod(repair_children.refuse_stale)
