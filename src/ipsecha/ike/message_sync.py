"""RFC 6311, message IDs: after a failover the cluster and its peer agree on new ones (sections 5.1, 8.1 and 9).

Theory of operation.  The exchange has message ID 0 and stands beside the window: any number of them may bear that ID,
so requests are told apart by their notification, responses by the nonce in it.

As the cluster, ``start_sync`` asks.  Our next message ID jumps by JUMP, far beyond whatever a dead owner may have used
without our knowing; then it is the request in flight like any other, in the record, repeated bitwise, continued by the
next owner.  A peer that keeps to the letter of section 5.1 drops a repetition, too, if its answer has been lost: every
few tries there is a new request with a new nonce and higher numbers.  Until the answer comes, requests of the peer are
not taken: it takes those that are unanswered to be lost.

A request that was in flight before has a message ID below the new ones: the peer would drop it.  Whether the peer has
seen it cannot be told from the answer.  So it is repeated first, for a grace; unanswered, it is *set aside*: what the
peer may have made of it is deleted, and it is made anew, with a new message ID.  The rekey of the
IKE SA has a longer grace: made anew after all, it is refused by a peer that has carried it out.  It must end, though: a
peer that had refused it, and has had later requests since, does not answer it again.

As the peer of a cluster, we take the higher of both views and forget our request in flight in the same way.  Where the
cluster says that it has seen it, its answer may still come; we wait a few more tries for that.

A peer that asserts message IDs without replay counters is not asked where the IKE SA has an AEAD.  strongSwan (5.9.8)
is such a one, and takes its IVs from message IDs: it finds none left for an answer with message ID 0 once it has given
one, and destroys the IKE SA without a word (RFC 8750 section 7 warns of such IVs).

In a failover of both sides at once each is both: neither view ever goes back, the higher one wins (appendix A.4).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ipsecha.ike import collisions, counter_sync, window
from ipsecha.ike.flags import CLOSED, MESSAGE_ID_SYNC, REPLAY_COUNTER_SYNC
from ipsecha.ike.message import open_message
from ipsecha.model.errors import CryptoError, WireError
from ipsecha.model.numbers import ExchangeType, Integ, Notify, Payload
from ipsecha.model.records import Address, AnsweredSync, Exchange, ExchangeKind, IkeSa, Task
from ipsecha.wire.chain import split_payloads
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, Header
from ipsecha.wire.payloads.counter_sync import (
    NONCE_LENGTH,
    MessageIdSync,
    build_message_id_sync,
    parse_message_id_sync,
    parse_replay_counter_sync,
)
from ipsecha.wire.payloads.notify import build_notify, parse_notify

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

JUMP = 1 << 10
"""More requests than an owner can have sent without its backup's knowing; the RFC recommends at least the window."""

GRACE_S = 0.5
"""For the answer to a request that was in flight before."""

REKEY_TRIES = 6  # some twenty seconds by the usual back-off

RENEW_EVERY = 3  # tries
LAST_TRIES = 3  # of a request that the cluster says it has seen

_SYNC = int(ExchangeKind.MESSAGE_ID_SYNC)
_INFORMATIONAL = int(ExchangeType.INFORMATIONAL)
_REPEATED_FOR_NOTHING = (ExchangeKind.LIVENESS, ExchangeKind.NOTIFY, ExchangeKind.PROBE)


# The cluster


def start_sync(endpoint: IkeEndpoint, sa: IkeSa, now: float, message_ids: bool, counter_delta: int) -> bool:
    """Ask the peer of ``sa`` for agreement on message IDs, and with ``counter_delta`` to raise its outbound sequence
    numbers by so much; what it does not support is left out.

    To be called inside a step.  Each part is asked for once in a failover (section 7); False where nothing is asked
    for, now or by the owner before.  The request leaves as soon as there is room for it; one that is in flight has
    GRACE_S to be answered.
    """
    if sa.flags & CLOSED:
        return False
    delta = counter_delta if counter_delta > 0 and counter_sync.possible(sa) else 0
    message_ids = message_ids and _can_answer(sa)
    message_ids = message_ids and max(sa.next_request_id + JUMP, sa.expected_request_id) < window.REKEY_MESSAGE_ID
    if message_ids and _is_under_way(sa):
        return True  # the owner before has asked
    if message_ids and _first_time(endpoint, sa, _SYNC):
        wait = _await_answer(endpoint, sa)
        sa.queue = (Task(_SYNC, delta=delta, not_before=now + GRACE_S if wait else 0.0), *sa.queue)
        if not wait:
            set_aside(endpoint, sa, now)
    elif delta and not message_ids and _first_time(endpoint, sa, ExchangeKind.COUNTER_SYNC):
        first = tuple(task for task in sa.queue if task.kind == _SYNC)  # packets are lost until it is answered
        rest = tuple(task for task in sa.queue if task.kind != _SYNC)
        sa.queue = (*first, Task(ExchangeKind.COUNTER_SYNC, delta=delta), *rest)
    else:
        return False
    endpoint.touch(sa)
    window.run_queue(endpoint, sa, now)
    endpoint.rearm(sa)
    return True


def _is_under_way(sa: IkeSa) -> bool:
    in_flight = sa.exchange is not None and sa.exchange.kind == _SYNC
    return in_flight or any(task.kind == _SYNC for task in sa.queue)


def _can_answer(sa: IkeSa) -> bool:
    """Whether the peer supports it, and an answer will not be the end of it."""
    aead = sa.suite.integ == Integ.NONE
    return bool(sa.flags & MESSAGE_ID_SYNC) and not (aead and not sa.flags & REPLAY_COUNTER_SYNC)


def _first_time(endpoint: IkeEndpoint, sa: IkeSa, kind: int) -> bool:
    """Whether nobody has asked for this since we became the owner."""
    asked = (sa.local_spi, kind)
    if asked in endpoint.asked_sync:
        return False
    endpoint.asked_sync.add(asked)
    return True


def _await_answer(endpoint: IkeEndpoint, sa: IkeSa) -> bool:
    """Repeat the request in flight; False where there is none whose answer would be worth waiting for."""
    exchange = sa.exchange
    if exchange is None or exchange.kind in _REPEATED_FOR_NOTHING:
        return False
    exchange.tries = max(2, exchange.tries)
    endpoint.transmit(exchange.request, sa.local, sa.remote)
    return True


def due_at(sa: IkeSa) -> float:
    """When the request in flight has to make room for a synchronisation that waits; infinity where none does.

    One that has been sent once only has its next try first, the rekey of the IKE SA REKEY_TRIES: a peer that has
    carried it out has the child SAs in an IKE SA that only its answer tells us of."""
    exchange = sa.exchange
    if exchange is None or exchange.tries < (REKEY_TRIES if exchange.kind == ExchangeKind.REKEY_IKE else 2):
        return math.inf
    return next((task.not_before for task in sa.queue if task.kind == _SYNC), math.inf)


def is_superseded(sa: IkeSa, exchange: Exchange, now: float, *, overdue: bool) -> bool:
    """Whether the request in flight, unanswered so far, is to be set aside; ``overdue``: it would be repeated now."""
    if exchange.kind == _SYNC:
        return False
    return due_at(sa) <= now or (overdue and 0 < exchange.last_try <= exchange.tries)


def start(endpoint: IkeEndpoint, sa: IkeSa, task: Task, now: float) -> None:
    """Send the request."""
    if sa.flags & CLOSED:
        return
    exchange = Exchange(task.kind, 0, (), now, task=task)
    _compose(endpoint, sa, exchange)
    sa.exchange = exchange
    endpoint.in_flight[sa.local_spi] = None
    endpoint.touch(sa)
    endpoint.transmit(exchange.request, sa.local, sa.remote)
    endpoint.rearm(sa)


def renew(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange) -> None:
    """Before the next try: after every few, a new request in the place of one that is not answered."""
    if exchange.tries % RENEW_EVERY == 0 and sa.next_request_id + JUMP < window.REKEY_MESSAGE_ID:
        _compose(endpoint, sa, exchange)
        endpoint.touch(sa)


def _compose(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange) -> None:
    sa.next_request_id += JUMP
    exchange.nonce = endpoint.entropy(NONCE_LENGTH)
    payloads = [_payload(sa, exchange.nonce)]
    delta = exchange.task.delta if exchange.task is not None else 0
    if delta and counter_sync.possible(sa):
        payloads.append(counter_sync.request(sa, delta))
    exchange.request = window.seal(endpoint, sa, _INFORMATIONAL, 0, 0, payloads)


def _payload(sa: IkeSa, nonce: bytes) -> tuple[int, bytes]:
    data = build_message_id_sync(MessageIdSync(nonce, sa.next_request_id, sa.expected_request_id))
    return Payload.NOTIFY, build_notify(Notify.IKEV2_MESSAGE_ID_SYNC, data)


def _take_response(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, message: _Message, now: float) -> None:
    """The peer's answer to the request in flight.  Neither message ID goes back, whatever it says."""
    sync = message.sync
    window.clear_exchange(endpoint, sa)
    _expect(endpoint, sa, max(sa.expected_request_id, sync.send))
    sa.next_request_id = max(sa.next_request_id, sync.receive)
    endpoint.touch(sa)
    text = f"message IDs agreed with {sa.remote[0]}: ours from {sa.next_request_id}, its from {sa.expected_request_id}"
    endpoint.report("message-ids-synchronised", text, sa.connection)
    endpoint.repairs.synchronised(endpoint, sa, now)
    if exchange.task is not None and exchange.task.delta:
        endpoint.count("counters-synchronised")
    window.run_queue(endpoint, sa, now)


# The peer of a cluster


def _answer(endpoint: IkeEndpoint, sa: IkeSa, message: _Message, now: float) -> None:
    """The request of a cluster that has failed over; authentic, new and sound."""
    sync = message.sync
    ours = sa.next_request_id
    _expect(endpoint, sa, sync.send)
    sa.next_request_id = max(ours, sync.receive)
    exchange = sa.exchange
    if exchange is not None and exchange.kind != _SYNC:
        if sync.receive == ours and exchange.kind not in _REPEATED_FOR_NOTHING:
            exchange.last_try = exchange.tries + LAST_TRIES
            endpoint.transmit(exchange.request, sa.local, sa.remote)
        else:
            set_aside(endpoint, sa, now)
    if message.delta_data:
        counter_sync.answer(endpoint, sa, message.delta_data)
    responses = window.seal(endpoint, sa, _INFORMATIONAL, FLAG_RESPONSE, 0, [_payload(sa, sync.nonce)])
    sa.answered_sync = AnsweredSync(sync.send, message.digest, responses)
    endpoint.transmit(responses, sa.local, sa.remote)
    endpoint.touch(sa)
    text = f"{sa.remote[0]} has failed over: our message IDs from {sa.next_request_id}, its from {sync.send}"
    endpoint.report("peer-failed-over", text, sa.connection)
    if sa.exchange is None:
        endpoint.repairs.synchronised(endpoint, sa, now)
    window.run_queue(endpoint, sa, now)


def _is_new(endpoint: IkeEndpoint, sa: IkeSa, sync: MessageIdSync) -> bool:
    """Section 5.1: M1 must be above all that the cluster has used, synchronisations included; else it is a replay."""
    answered = sa.answered_sync
    if sync.send < sa.expected_request_id or (answered is not None and sync.send <= answered.message_id):
        endpoint.count("old-sync")
        return False
    return _in_range(endpoint, sync)


# Both


class _Message(NamedTuple):
    """A synchronisation message; ``delta_data``: of the other notification, empty without one."""

    sync: MessageIdSync
    delta_data: bytes
    digest: bytes


def concerns(sa: IkeSa, header: Header) -> bool:
    """Whether ``receive`` is to see the message before the window does."""
    return not header.message_id or (sa.exchange is not None and sa.exchange.kind == _SYNC)


def receive(
    endpoint: IkeEndpoint, sa: IkeSa, header: Header, data: bytes, local: Address, remote: Address, now: float
) -> bool:
    """A message that ``concerns`` synchronisation.  False: it does not after all, the window may have it."""
    if bool(header.flags & FLAG_INITIATOR) == sa.initiator:
        return False
    exchange = sa.exchange if sa.exchange is not None and sa.exchange.kind == _SYNC else None
    if header.flags & FLAG_RESPONSE:
        return exchange is not None and _receive_response(endpoint, sa, exchange, header, data, local, remote, now)
    negotiated = sa.flags & (MESSAGE_ID_SYNC | CLOSED) == MESSAGE_ID_SYNC
    may_be_one = not header.message_id and header.exchange == _INFORMATIONAL and negotiated
    if may_be_one and _receive_request(endpoint, sa, header, data, local, remote, now):
        return True
    if exchange is not None and header.message_id + 1 != sa.expected_request_id:
        # It has been sent before the peer has heard of the new message IDs, and is lost for it (section 9).
        endpoint.count("request-during-sync")
        return True
    return False


def _receive_request(
    endpoint: IkeEndpoint, sa: IkeSa, header: Header, data: bytes, local: Address, remote: Address, now: float
) -> bool:
    """Whether it is a synchronisation: then it has been dealt with, well or ill."""
    answered = sa.answered_sync
    if answered is not None and answered.responses and window.digest_of(data) == answered.digest:
        endpoint.count("repeated-sync")
        endpoint.transmit(answered.responses, local, remote)
        return True
    message = _open(sa, header, data)
    if message is None:
        return False
    if isinstance(message, WireError):
        endpoint.count("malformed-sync")
    elif _is_new(endpoint, sa, message.sync):
        window.note_inbound(endpoint, sa, local, remote, now)
        _answer(endpoint, sa, message, now)
    return True


def _receive_response(
    endpoint: IkeEndpoint,
    sa: IkeSa,
    exchange: Exchange,
    header: Header,
    data: bytes,
    local: Address,
    remote: Address,
    now: float,
) -> bool:
    """A response while our request is in flight; only one with its nonce counts (sections 5.1 and 11)."""
    message = _open(sa, header, data) if not header.message_id else None
    if not isinstance(message, _Message) or message.sync.nonce != exchange.nonce or message.delta_data:
        endpoint.count("unexpected-response")
    elif _in_range(endpoint, message.sync):
        window.note_inbound(endpoint, sa, local, remote, now)
        _take_response(endpoint, sa, exchange, message, now)
    return True


def _open(sa: IkeSa, header: Header, data: bytes) -> _Message | WireError | None:
    """The synchronisation message in ``data``; None where it is something else or not authentic, the error where it
    breaks section 5.1: nothing else may be in it.  It is never fragmented (RFC 7383 section 3)."""
    try:
        opened = open_message(window.inbound_protection(sa), header, data)
        if opened.fragments:
            return None
        payloads = split_payloads(opened.first_payload, opened.octets)
        notifies = [parse_notify(payload.body) for payload in payloads if payload.type == Payload.NOTIFY]
        found = {notify.type: notify.data for notify in notifies}
    except (WireError, CryptoError):
        return None
    data_of_ids = found.pop(Notify.IKEV2_MESSAGE_ID_SYNC, None)
    if data_of_ids is None:
        return None
    delta_data = found.pop(Notify.IPSEC_REPLAY_COUNTER_SYNC, b"")
    try:
        if found or len(payloads) != 1 + bool(delta_data):
            raise WireError("a synchronisation message with other payloads")
        if delta_data:
            parse_replay_counter_sync(delta_data)
        return _Message(parse_message_id_sync(data_of_ids), delta_data, window.digest_of(data))
    except WireError as error:
        return error


def _in_range(endpoint: IkeEndpoint, sync: MessageIdSync) -> bool:
    """Message IDs at their end would leave no request for a rekey: no honest failover jumps so far."""
    if max(sync.send, sync.receive) < window.REKEY_MESSAGE_ID:
        return True
    endpoint.count("sync-out-of-range")
    return False


def _expect(endpoint: IkeEndpoint, sa: IkeSa, message_id: int) -> None:
    """The peer's next request will have this message ID; those below, whole or in part, are lost."""
    if message_id > sa.expected_request_id:
        sa.expected_request_id = message_id
        sa.responses, sa.request_digest = (), b""
        endpoint.reassembly.forget(sa.local_spi + b"q")


def set_aside(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """Forget the request in flight: its message ID is below the new ones, and nobody waits for it any more.

    The peer may have carried it out or not.  What it may have made is deleted, and the request made anew behind that;
    deletes and the rest may as well be said twice.  The caller runs the queue.
    """
    exchange = sa.exchange
    if exchange is None:
        return
    window.clear_exchange(endpoint, sa)
    again = [exchange.task or Task(exchange.kind, exchange.old_spi, exchange.child)]
    if exchange.kind in _REPEATED_FOR_NOTHING:
        again = []
    elif exchange.kind in collisions.CREATIONS:
        spi = int.from_bytes(exchange.new_spi, "big")
        endpoint.release_child_spi(spi)
        if collisions.child_refused(endpoint, sa, exchange, now):
            again = []
        again.insert(0, Task(ExchangeKind.DELETE_CHILD, spi, exchange.child, orphan=True))
    elif exchange.kind == ExchangeKind.REKEY_IKE and collisions.ike_refused(endpoint, sa, exchange, now):
        again = []
    names = {(task.kind, task.spi, task.child) for task in again}
    syncs = [task for task in sa.queue if task.kind == _SYNC]
    rest = [task for task in sa.queue if task.kind != _SYNC and (task.kind, task.spi, task.child) not in names]
    sa.queue = (*syncs, *again, *rest)
    endpoint.count("set-aside")
    endpoint.touch(sa)
