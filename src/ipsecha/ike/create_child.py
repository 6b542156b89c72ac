"""CREATE_CHILD_SA for child SAs, new ones and rekeys, with and without PFS (RFC 7296 sections 1.3.1 and 1.3.3).

The responder installs its child SA before it answers, and in a rekey does not send on it until the initiator shows that
it is ready: by traffic, or by deleting the old one (section 2.8).  The initiator sends on it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipsecha.crypto.key_derivation import derive_child_keys, unpack_record_keys
from ipsecha.crypto.key_exchange import new_key_exchange, restore_key_exchange
from ipsecha.ike import children, collisions, retries
from ipsecha.ike.flags import LEAVING
from ipsecha.ike.negotiation import accept_child_answer, choose_child_suite, number_proposals
from ipsecha.ike.window import Payloads, enqueue, start_request
from ipsecha.model.errors import PeerError, WireError
from ipsecha.model.numbers import LAST_ERROR_NOTIFY, ExchangeType, Notify, Payload
from ipsecha.model.policy import ChildPolicy, Connection
from ipsecha.model.proposals import Proposal
from ipsecha.model.records import ChildSa, ChildState, Exchange, ExchangeKind, IkeSa, Task
from ipsecha.model.selectors import TrafficSelector
from ipsecha.model.spi import FIRST_FREE_ESP_SPI
from ipsecha.wire.chain import RawPayload
from ipsecha.wire.payloads.ke import build_ke, parse_ke
from ipsecha.wire.payloads.nonce import parse_nonce
from ipsecha.wire.payloads.notify import NotifyPayload, build_notify, parse_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa
from ipsecha.wire.payloads.selectors import build_selectors, parse_selectors

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

NONCE_LENGTH = 32
MAX_CHILDREN = 64
"""Per IKE SA: bounds what one authenticated peer can make us keep."""


class Message(NamedTuple):
    """A CREATE_CHILD_SA message as read; selectors are empty where it rekeys the IKE SA, ``group`` 0 without KE."""

    proposals: tuple[Proposal, ...]
    nonce: bytes
    group: int
    public: bytes
    ts_i: tuple[TrafficSelector, ...]
    ts_r: tuple[TrafficSelector, ...]


def read_notifies(payloads: list[RawPayload]) -> list[NotifyPayload]:
    """All notifications of a message, in order.  Raises WireError."""
    return [parse_notify(payload.body) for payload in payloads if payload.type == Payload.NOTIFY]


def read_error(payloads: list[RawPayload]) -> NotifyPayload | None:
    """The notification that refuses our request: any of an error type, known or not (section 3.10.1)."""
    for notify in read_notifies(payloads):
        if notify.type <= LAST_ERROR_NOTIFY:
            return notify
    return None


def read_message(payloads: list[RawPayload]) -> Message:
    """Raises WireError for a malformed payload, or where SA or nonce are missing."""
    bodies: dict[int, bytes] = {}
    for payload in payloads:
        bodies.setdefault(payload.type, payload.body)
    if Payload.SA not in bodies or Payload.NONCE not in bodies:
        raise WireError("a CREATE_CHILD_SA message without SA or nonce")
    group, public = parse_ke(bodies[Payload.KE]) if Payload.KE in bodies else (0, b"")
    return Message(
        parse_sa(bodies[Payload.SA]),
        parse_nonce(bodies[Payload.NONCE]),
        group,
        public,
        parse_selectors(bodies[Payload.TSI]) if Payload.TSI in bodies else (),
        parse_selectors(bodies[Payload.TSR]) if Payload.TSR in bodies else (),
    )


def require_group(chosen: int, sent: int) -> None:
    """Raise PeerError(INVALID_KE_PAYLOAD) where the suite that we choose has another group than the initiator's KE
    payload (section 1.3); its data name the group."""
    if chosen and chosen != sent:
        raise PeerError(Notify.INVALID_KE_PAYLOAD, f"group {chosen} instead of {sent}", chosen.to_bytes(2, "big"))


# Initiator


def start(endpoint: IkeEndpoint, sa: IkeSa, task: Task, now: float) -> None:
    """Ask the peer for a new child SA (NEW_CHILD) or for one in the place of another (REKEY_CHILD)."""
    connection = endpoint.connection_of(sa)
    if connection is None or sa.flags & LEAVING:
        return
    old = None
    if task.kind == ExchangeKind.REKEY_CHILD:
        old = sa.child_by_inbound_spi(task.spi)
        if old is None or old.state != ChildState.ESTABLISHED:
            return
    policy = connection.child(old.name if old is not None else task.child)
    if policy is None:
        return
    _request(endpoint, sa, policy, old, task, now)


def _request(
    endpoint: IkeEndpoint, sa: IkeSa, policy: ChildPolicy, old: ChildSa | None, task: Task, now: float
) -> None:
    spi = endpoint.new_child_spi(sa.local_spi)
    local_ts, remote_ts = children.offer_selectors(policy, old, task.packet)
    group = task.group or retries.first_group(policy.proposals)
    exchange = Exchange(
        kind=task.kind,
        message_id=0,
        request=(),
        started_at=now,
        child=policy.name,
        old_spi=old.spi_in if old is not None else 0,
        new_spi=spi.to_bytes(4, "big"),
        nonce=endpoint.entropy(NONCE_LENGTH),
        group=group,
        local_ts=local_ts,
        remote_ts=remote_ts,
        task=task,
    )
    payloads: Payloads = []
    if old is not None:
        old.state = ChildState.REKEYING
        rekey = build_notify(Notify.REKEY_SA, protocol=old.suite.protocol, spi=old.spi_in.to_bytes(4, "big"))
        payloads.append((Payload.NOTIFY, rekey))
    payloads.append((Payload.SA, build_sa(number_proposals(policy.proposals, exchange.new_spi))))
    payloads.append((Payload.NONCE, exchange.nonce))
    if group:
        key_exchange = new_key_exchange(group, endpoint.entropy)
        exchange.private_key = key_exchange.private
        payloads.append((Payload.KE, build_ke(group, key_exchange.public)))
    payloads.append((Payload.TSI, build_selectors(local_ts)))
    payloads.append((Payload.TSR, build_selectors(remote_ts)))
    start_request(endpoint, sa, ExchangeType.CREATE_CHILD_SA, payloads, exchange, now)


def handle_response(
    endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, payloads: list[RawPayload], now: float
) -> None:
    """The peer's answer to our request for a child SA."""
    spi = int.from_bytes(exchange.new_spi, "big")
    endpoint.release_child_spi(spi)
    error = read_error(payloads)
    if error is not None:
        retries.child_failed(endpoint, sa, exchange, error, now)
        return
    retries.accepted(sa)
    connection = endpoint.connection_of(sa)
    policy = connection.child(exchange.child) if connection is not None else None
    answer = read_message(payloads)
    try:
        if policy is None:
            raise PeerError(Notify.TS_UNACCEPTABLE, f"child {exchange.child!r} is not configured any more")
        child = _accept(endpoint, sa, policy, exchange, answer, now)
    except PeerError as problem:
        # The peer has a child SA that we do not want: it goes, the old one stays.
        endpoint.report("child-failed", f"child {exchange.child!r}: {problem}", sa.connection, level=30)
        collisions.child_refused(endpoint, sa, exchange, now)
        enqueue(endpoint, sa, Task(ExchangeKind.DELETE_CHILD, spi, exchange.child, orphan=True), now)
        return
    if child.spi_out in exchange.gone_spis:
        collisions.child_refused(endpoint, sa, exchange, now)
        endpoint.child_lost(sa, exchange.child)
        return
    collisions.child_made(endpoint, sa, exchange, child, answer.nonce, now)
    _report(endpoint, sa, child, rekey=exchange.kind == ExchangeKind.REKEY_CHILD)


def _accept(
    endpoint: IkeEndpoint, sa: IkeSa, policy: ChildPolicy, exchange: Exchange, answer: Message, now: float
) -> ChildSa:
    """The child SA that the answer makes.  Raises PeerError where it is not what we asked for, CryptoError for an
    invalid public value."""
    suite, spi = accept_child_answer(answer.proposals, number_proposals(policy.proposals, exchange.new_spi))
    if suite.group not in (0, exchange.group) or (suite.group and answer.group != suite.group):
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN, f"the peer's answer has group {suite.group} without its KE payload")
    children.check_path(suite, sa.flags)
    old = sa.child_by_inbound_spi(exchange.old_spi)
    children.check_answer(exchange.local_ts, answer.ts_i, old.local_ts if old is not None else ())
    children.check_answer(exchange.remote_ts, answer.ts_r, old.remote_ts if old is not None else ())
    shared = b""
    if suite.group:
        shared = restore_key_exchange(exchange.group, exchange.private_key).shared(answer.public)
    sk_d = unpack_record_keys(sa.suite, sa.keys).sk_d
    keys = derive_child_keys(sa.suite.prf, sk_d, suite, exchange.nonce, answer.nonce, shared)
    spi_in, spi_out = int.from_bytes(exchange.new_spi, "big"), int.from_bytes(spi, "big")
    child = children.make(endpoint, policy, spi_in, spi_out, suite, keys, True, answer.ts_i, answer.ts_r, now)
    child.replaces = exchange.old_spi
    return child


# Responder


def handle_request(endpoint: IkeEndpoint, sa: IkeSa, payloads: list[RawPayload], now: float) -> Payloads:
    """The peer asks for a child SA, new or in the place of another."""
    collisions.ike_used(endpoint, sa, now)
    request = read_message(payloads)
    rekey = next((notify for notify in read_notifies(payloads) if notify.type == Notify.REKEY_SA), None)
    collisions.refuse_creation(sa)
    old = None
    if rekey is not None:
        old = sa.child_by_outbound_spi(int.from_bytes(rekey.spi, "big"))
        try:
            collisions.refuse_child_rekey(sa, old)
        except PeerError as refusal:
            if refusal.notify != Notify.CHILD_SA_NOT_FOUND:
                raise
            body = build_notify(Notify.CHILD_SA_NOT_FOUND, protocol=rekey.protocol, spi=rekey.spi)
            return [(Payload.NOTIFY, body)]
    connection = endpoint.connection_of(sa)
    if connection is None or len(sa.children) >= MAX_CHILDREN:
        raise PeerError(Notify.NO_ADDITIONAL_SAS, f"{len(sa.children)} child SAs")
    narrowed = _narrow(connection, old, request)
    endpoint.repairs.refuse_stale(endpoint, sa, old, narrowed.policy.name)
    return _answer(endpoint, sa, narrowed, old, request, now)


def _narrow(connection: Connection, old: ChildSa | None, request: Message) -> children.Narrowed:
    narrowed = None
    if old is None:
        narrowed = children.narrow_offer(connection, request.ts_i, request.ts_r)
    else:
        policy = connection.child(old.name)
        if policy is not None:
            narrowed = children.narrow_rekey(policy, old, request.ts_i, request.ts_r)
    if narrowed is None:
        raise PeerError(Notify.TS_UNACCEPTABLE, f"{request.ts_i} to {request.ts_r}")
    return narrowed


def _answer(
    endpoint: IkeEndpoint, sa: IkeSa, narrowed: children.Narrowed, old: ChildSa | None, request: Message, now: float
) -> Payloads:
    found = choose_child_suite(request.proposals, narrowed.policy.proposals, request.group)
    if found is None or int.from_bytes(found[1], "big") < FIRST_FREE_ESP_SPI:
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN, f"for child {narrowed.policy.name!r}")
    choice, spi_out = found
    suite = choice.suite
    children.check_path(suite, sa.flags)
    require_group(suite.group, request.group)
    shared, key_payload = b"", b""
    if suite.group:
        key_exchange = new_key_exchange(suite.group, endpoint.entropy)
        shared = key_exchange.shared(request.public)
        key_payload = build_ke(suite.group, key_exchange.public)
    nonce = endpoint.entropy(NONCE_LENGTH)
    sk_d = unpack_record_keys(sa.suite, sa.keys).sk_d
    keys = derive_child_keys(sa.suite.prf, sk_d, suite, request.nonce, nonce, shared)
    spi_in = endpoint.new_child_spi(sa.local_spi)
    policy, local_ts, remote_ts, more = narrowed
    child = children.make(
        endpoint, policy, spi_in, int.from_bytes(spi_out, "big"), suite, keys, False, local_ts, remote_ts, now
    )
    if old is not None:
        child.replaces = old.spi_in
        child.use_outbound = False
    children.install(endpoint, sa, child)
    if old is not None:
        collisions.child_answered(endpoint, sa, old, child, (request.nonce, nonce), now)
    _report(endpoint, sa, child, rekey=old is not None)
    payloads: Payloads = [(Payload.NOTIFY, build_notify(Notify.ADDITIONAL_TS_POSSIBLE))] if more else []
    proposal = Proposal(choice.number, suite.protocol, spi_in.to_bytes(4, "big"), choice.transforms)
    payloads += [(Payload.SA, build_sa((proposal,))), (Payload.NONCE, nonce)]
    if key_payload:
        payloads.append((Payload.KE, key_payload))
    payloads += [(Payload.TSI, build_selectors(remote_ts)), (Payload.TSR, build_selectors(local_ts))]
    return payloads


def _report(endpoint: IkeEndpoint, sa: IkeSa, child: ChildSa, *, rekey: bool) -> None:
    event = "child-rekeyed" if rekey else "child-established"
    text = f"child {child.name!r}: inbound SPI {child.spi_in:08x}, outbound {child.spi_out:08x}, {child.suite}"
    endpoint.report(event, text, sa.connection)
