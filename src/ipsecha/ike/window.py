"""Message IDs and the window of an established IKE SA (RFC 7296 sections 2.1 to 2.3).

Theory of operation.  The window is 1 in both directions.  Inbound, ``expected_request_id`` is the only request that is
new; the one before it is answered from ``responses``, octet for octet, whatever it cost to make them; all others are
dropped.  Outbound, at most one request is in flight (``sa.exchange``); what else is wanted waits as a Task in
``sa.queue`` and becomes a request through the starter of its kind.  Requests are repeated bitwise with a growing pause
that follows from the record alone, so that the next owner of the SA carries on where this one ended.

A handler runs inside a step: it may change the SA, emit Install, Update, Remove and Report effects, and ``touch`` other
SAs; the step ends with Replicate effects first and Transmit effects last (``IkeEndpoint.end_step``).

A malformed message that is authentic ends the IKE SA on both sides without a DELETE (section 2.21.3).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ipsecha.crypto.key_derivation import unpack_record_keys
from ipsecha.crypto.protection import Protection, ike_protection
from ipsecha.ike.flags import CLOSED, FRAGMENTATION, LOCAL_NAT, REKEYED, REMOTE_NAT
from ipsecha.ike.message import Envelope, message_limit, open_message, seal_message
from ipsecha.ike.reassembly import Whole
from ipsecha.model.effects import UpdateChild
from ipsecha.model.errors import CryptoError, PeerError, WireError
from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.records import Address, Exchange, ExchangeKind, IkeSa, Task
from ipsecha.wire.chain import RawPayload, split_payloads
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, Header
from ipsecha.wire.payloads.notify import build_notify, parse_notify

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

Payloads = list[tuple[int, bytes]]
"""Payloads to send: type and body (without generic header), in order."""

RequestHandler = Callable[["IkeEndpoint", IkeSa, list[RawPayload], float], Payloads]
ResponseHandler = Callable[["IkeEndpoint", IkeSa, Exchange, list[RawPayload], float], None]
Starter = Callable[["IkeEndpoint", IkeSa, Task, float], None]

DIGEST_LENGTH = 16
LAST_MESSAGE_ID = 0xFFFFFFFF
REKEY_MESSAGE_ID = 0xFFFF0000  # from here on the IKE SA is to be rekeyed
FIRST_AFTER_AUTH = 2
FATAL_AFTER_AUTH = {Notify.AUTHENTICATION_FAILED, Notify.INVALID_SYNTAX, Notify.UNSUPPORTED_CRITICAL_PAYLOAD}
_SYNC = int(ExchangeKind.MESSAGE_ID_SYNC)
KNOWN_PAYLOADS = frozenset(int(payload) for payload in Payload)


def digest_of(data: bytes) -> bytes:
    """The name of a datagram when it comes again."""
    return hashlib.sha256(data).digest()[:DIGEST_LENGTH]


def check_critical(payload: RawPayload) -> None:
    """Raise PeerError(UNSUPPORTED_CRITICAL_PAYLOAD) where ``payload`` is critical and not known (section 2.5)."""
    if payload.critical and payload.type not in KNOWN_PAYLOADS:
        raise PeerError(Notify.UNSUPPORTED_CRITICAL_PAYLOAD, f"payload type {payload.type}", bytes((payload.type,)))


def _split(whole: Whole) -> list[RawPayload]:
    """The payloads of an authentic message.  Raises WireError, PeerError(UNSUPPORTED_CRITICAL_PAYLOAD)."""
    payloads = split_payloads(whole.first_payload, whole.octets)
    for payload in payloads:
        check_critical(payload)
    return payloads


def enqueue(endpoint: IkeEndpoint, sa: IkeSa, task: Task, now: float) -> None:
    """Let ``task`` become a request as soon as the window has room and its ``not_before`` has come.

    A task that waits already (same kind, SPI and child name) is not queued twice.  May start the request at once.
    """
    for waiting in sa.queue:
        if (waiting.kind, waiting.spi, waiting.child) == (task.kind, task.spi, task.child):
            return
    sa.queue = (*sa.queue, task)
    endpoint.touch(sa)
    run_queue(endpoint, sa, now)


def run_queue(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """Start the first task that may start, if no request is in flight.  A starter that finds its task moot (the child
    SA is gone) simply returns: the next task has its turn.  A synchronisation (RFC 6311) waits for nothing but the
    request in flight, and nothing overtakes it: whatever did would be set aside for it."""
    if sa.local_spi in endpoint.suspects and endpoint.repairs.waits(endpoint, sa, now):
        return
    while sa.exchange is None and sa.queue and sa.local_spi in endpoint.sas:
        for task in sa.queue:
            if task.not_before <= now or task.kind == _SYNC:
                break
        else:
            endpoint.rearm(sa)
            return
        sa.queue = tuple(waiting for waiting in sa.queue if waiting is not task)
        endpoint.touch(sa)
        endpoint.starters[task.kind](endpoint, sa, task, now)


def start_request(
    endpoint: IkeEndpoint,
    sa: IkeSa,
    exchange_type: ExchangeType,
    payloads: Payloads,
    exchange: Exchange,
    now: float,
) -> None:
    """Send a request: allocates the message ID, seals, keeps ``exchange`` (its message ID, request and start are
    filled in here) as the request in flight, replicates, transmits and arms the retransmission.

    To be called by starters only, that is when no request is in flight.
    """
    assert sa.exchange is None, "the window has room for one request"
    exchange.message_id = sa.next_request_id
    exchange.request = seal_request(endpoint, sa, exchange_type, payloads)
    exchange.started_at = now
    exchange.tries = 1
    sa.exchange = exchange
    endpoint.in_flight[sa.local_spi] = None
    endpoint.touch(sa)
    endpoint.transmit(exchange.request, sa.local, sa.remote)
    endpoint.rearm(sa)


def seal_request(
    endpoint: IkeEndpoint, sa: IkeSa, exchange_type: ExchangeType, payloads: Payloads
) -> tuple[bytes, ...]:
    """The datagrams of a request under our next message ID, which is used up."""
    assert sa.next_request_id <= LAST_MESSAGE_ID, "an IKE SA is rekeyed before its message IDs are used up"
    message_id = sa.next_request_id
    sa.next_request_id += 1
    return seal(endpoint, sa, exchange_type, 0, message_id, payloads)


def clear_exchange(endpoint: IkeEndpoint, sa: IkeSa) -> None:
    """No request is in flight any more: it is answered, or nobody waits for the answer."""
    sa.exchange = None
    endpoint.in_flight.pop(sa.local_spi, None)


def retransmit_at(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange) -> float:
    """When the request in flight is due again, by the connection's back-off."""
    return exchange.started_at + endpoint.backoff(sa.connection, exchange.tries)


def retransmit(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, now: float) -> None:
    """Repeat the request in flight bitwise (section 2.1), or give the peer up for dead after the last try."""
    connection = endpoint.connection_of(sa)
    tries = connection.retransmit_tries if connection is not None else 1
    if exchange.tries >= tries:
        if not sa.flags & REKEYED:  # one that is replaced proves nothing: the peer may have done with it
            endpoint.report(
                "peer-dead", f"no answer from {sa.remote[0]} after {exchange.tries} tries", sa.connection, level=30
            )
        endpoint.remove_sa(sa)
        return
    exchange.tries += 1
    # After a takeover the record may be long overdue: the next pause counts from now.
    due = exchange.started_at + endpoint.backoff(sa.connection, exchange.tries)
    if due <= now:
        exchange.started_at = now - endpoint.backoff(sa.connection, exchange.tries - 1)
    endpoint.transmit(exchange.request, sa.local, sa.remote)


def receive(
    endpoint: IkeEndpoint, sa: IkeSa, header: Header, data: bytes, local: Address, remote: Address, now: float
) -> None:
    """A message that bears the SPIs of ``sa``."""
    if bool(header.flags & FLAG_INITIATOR) == sa.initiator:
        endpoint.count("wrong-initiator-flag")
    elif header.flags & FLAG_RESPONSE:
        _receive_response(endpoint, sa, header, data, local, remote, now)
    elif header.message_id == sa.expected_request_id or (
        header.message_id > sa.expected_request_id and endpoint.repairs.may_be_ahead(endpoint, sa, header.message_id)
    ):
        if sa.flags & CLOSED:
            endpoint.count("request-after-delete")
            return
        _receive_request(endpoint, sa, header, data, local, remote, now)
    elif header.message_id + 1 == sa.expected_request_id and sa.responses:
        _repeat_response(endpoint, sa, header, data, local, remote)
    else:
        endpoint.count("message-id-out-of-window")


def _receive_request(
    endpoint: IkeEndpoint, sa: IkeSa, header: Header, data: bytes, local: Address, remote: Address, now: float
) -> None:
    whole = _open_whole(endpoint, sa, header, data)
    if whole is None:
        return
    note_inbound(endpoint, sa, local, remote, now)
    if header.message_id > sa.expected_request_id:
        endpoint.repairs.leapt(endpoint, sa, header.message_id)
    response, fatal = _answer(endpoint, sa, header, whole, now)
    sa.expected_request_id += 1
    sa.answered_sync = None  # its answer has arrived, and its message IDs are below the expected one
    sa.responses = seal(endpoint, sa, header.exchange, FLAG_RESPONSE, header.message_id, response)
    sa.request_digest = whole.digest
    endpoint.transmit(sa.responses, local, remote)
    if fatal and sa.local_spi in endpoint.sas:
        endpoint.remove_sa(sa)
    if sa.local_spi in endpoint.sas:
        endpoint.touch(sa)
        run_queue(endpoint, sa, now)
    else:
        endpoint.remember_last_response(sa.request_digest, sa.responses)


def _answer(endpoint: IkeEndpoint, sa: IkeSa, header: Header, whole: Whole, now: float) -> tuple[Payloads, bool]:
    """The payloads of the response, and whether they end the IKE SA."""
    try:
        payloads = _split(whole)
        if header.message_id == FIRST_AFTER_AUTH and not sa.initiator and _refused(payloads):
            endpoint.report(
                "authentication-failed", f"{sa.remote[0]} refuses to believe who we are", sa.connection, level=30
            )
            return [], True
        handler = endpoint.request_handlers.get(header.exchange)
        if handler is None:
            raise PeerError(Notify.INVALID_SYNTAX, f"exchange type {header.exchange}")
        return handler(endpoint, sa, payloads, now), False
    except PeerError as error:
        fatal = error.notify == Notify.INVALID_SYNTAX
        endpoint.report("request-refused", str(error), sa.connection, level=30)
        return [(Payload.NOTIFY, build_notify(error.notify, error.data))], fatal
    except (WireError, CryptoError) as error:
        endpoint.report("malformed-message", f"from {sa.remote[0]}: {error}", sa.connection, level=30)
        return [(Payload.NOTIFY, build_notify(Notify.INVALID_SYNTAX))], True


def _repeat_response(
    endpoint: IkeEndpoint, sa: IkeSa, header: Header, data: bytes, local: Address, remote: Address
) -> None:
    """The peer repeats its last request: it gets the same octets.  Of a fragmented request only the first fragment
    counts (RFC 7383 section 2.6.1).  One sealed or cut anew is recognised by opening it: a peer that is a cluster, too,
    asks in this way what became of a request that it does not remember."""
    if digest_of(data) != sa.request_digest:
        try:
            opened = open_message(inbound_protection(sa), header, data)
        except (WireError, CryptoError):
            endpoint.count("not-authentic")
            return
        if opened.fragment > 1:
            endpoint.count("old-request")
            return
    endpoint.count("repeated-request")
    endpoint.transmit(sa.responses, local, remote)


def _receive_response(
    endpoint: IkeEndpoint, sa: IkeSa, header: Header, data: bytes, local: Address, remote: Address, now: float
) -> None:
    exchange = sa.exchange
    if header.next_payload == Payload.NOTIFY:
        endpoint.repairs.hint(endpoint, sa, now)
        return
    later = exchange.message_id - header.message_id if exchange is not None else -1
    if exchange is None or not _is_asked(exchange, later):
        endpoint.count("unexpected-response")
        return
    whole = _open_whole(endpoint, sa, header, data)
    if whole is None:
        return
    note_inbound(endpoint, sa, local, remote, now)
    if later:
        exchange.request = exchange.request[-later:]
    else:
        clear_exchange(endpoint, sa)
    try:
        payloads = _split(whole)
        if Notify.INVALID_SYNTAX in _notifications(payloads):
            raise WireError("it calls our request malformed")
        endpoint.response_handlers[exchange.kind](endpoint, sa, exchange, payloads, now)
    except (WireError, CryptoError, PeerError) as error:
        # An authentic answer that makes no sense: the peers do not share one view of the SA (section 2.21.3).
        endpoint.report("malformed-message", f"answer from {sa.remote[0]}: {error}", sa.connection, level=30)
        endpoint.remove_sa(sa)
    if sa.local_spi in endpoint.sas:
        endpoint.touch(sa)
        run_queue(endpoint, sa, now)


def _is_asked(exchange: Exchange, later: int) -> bool:
    """Whether our request in flight bears the message ID that is ``later`` less than its own: probes bear several."""
    return not later or (exchange.kind == ExchangeKind.PROBE and 0 < later < len(exchange.request))


def _refused(payloads: list[RawPayload]) -> bool:
    """Whether the request that follows IKE_AUTH says that our answer was not accepted (section 2.21.2)."""
    return bool(FATAL_AFTER_AUTH & _notifications(payloads))


def _notifications(payloads: list[RawPayload]) -> set[int]:
    return {parse_notify(payload.body).type for payload in payloads if payload.type == Payload.NOTIFY}


def _open_whole(endpoint: IkeEndpoint, sa: IkeSa, header: Header, data: bytes) -> Whole | None:
    """The authentic, whole message of which ``data`` is a part, or None; what is not authentic changes nothing."""
    try:
        opened = open_message(inbound_protection(sa), header, data)
    except (WireError, CryptoError):
        endpoint.count("not-authentic")
        return None
    if not opened.fragments:
        return Whole(opened.first_payload, opened.octets, digest_of(data))
    if not sa.flags & FRAGMENTATION:
        endpoint.count("unexpected-fragment")
        return None
    key = reassembly_key(sa.local_spi, header)
    return endpoint.reassembly.add(key, header.message_id, opened, digest_of(data))


def reassembly_key(local_spi: bytes, header: Header) -> bytes:
    return local_spi + (b"r" if header.flags & FLAG_RESPONSE else b"q")


def note_inbound(endpoint: IkeEndpoint, sa: IkeSa, local: Address, remote: Address, now: float) -> None:
    """An authentic, new message shows that the peer lives, and where (section 2.23)."""
    sa.last_inbound_at = now
    if remote != sa.remote or local != sa.local:
        follow_peer(endpoint, sa, local, remote)


def follow_peer(endpoint: IkeEndpoint, sa: IkeSa, local: Address, remote: Address) -> None:
    """The mapping of the NAT in front of the peer has changed: all its traffic goes to the new address.  A host that is
    behind a NAT itself does not follow: that would open it to a denial of service (section 2.23)."""
    if not sa.flags & REMOTE_NAT or sa.flags & LOCAL_NAT:
        return
    sa.local, sa.remote = local, remote
    for child in sa.children:
        endpoint.emit(UpdateChild(sa, child))
    endpoint.touch(sa)
    endpoint.report("peer-moved", f"the peer's address is now {remote[0]} port {remote[1]}", sa.connection)


def inbound_protection(sa: IkeSa) -> Protection:
    """What opens the peer's messages; built on use, not kept."""
    keys = unpack_record_keys(sa.suite, sa.keys)
    if sa.initiator:
        return ike_protection(sa.suite, keys.sk_er, keys.sk_ar)
    return ike_protection(sa.suite, keys.sk_ei, keys.sk_ai)


def outbound_protection(sa: IkeSa) -> Protection:
    keys = unpack_record_keys(sa.suite, sa.keys)
    if sa.initiator:
        return ike_protection(sa.suite, keys.sk_ei, keys.sk_ai)
    return ike_protection(sa.suite, keys.sk_er, keys.sk_ar)


def seal(
    endpoint: IkeEndpoint, sa: IkeSa, exchange_type: int, flags: int, message_id: int, payloads: Payloads
) -> tuple[bytes, ...]:
    """The datagrams of a message of ours, under IVs never used before (invariant I1)."""
    connection = endpoint.connection_of(sa)
    limit = 0
    if sa.flags & FRAGMENTATION and connection is not None:
        limit = message_limit(connection.fragment_size, sa.remote[0])
    datagrams = seal_message(
        outbound_protection(sa),
        Envelope(sa.spi_i, sa.spi_r, exchange_type, flags | FLAG_INITIATOR if sa.initiator else flags, message_id),
        payloads,
        first_iv=endpoint.first_iv(sa.iv_counter),
        entropy=endpoint.entropy,
        limit=limit,
    )
    sa.iv_counter += len(datagrams)
    return datagrams
