"""CREATE_CHILD_SA that replaces the IKE SA itself (RFC 7296 sections 1.3.2 and 2.18), both roles.

The new IKE SA inherits the child SAs, what was negotiated about the peer (addresses, NAT, extensions) and the requests
that wait; its message IDs start at 0.  The initiator of the exchange deletes the old one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.crypto.key_derivation import derive_rekeyed_ike_keys, pack_record_keys, unpack_record_keys
from ipsecha.crypto.key_exchange import new_key_exchange, restore_key_exchange
from ipsecha.ike import collisions, retries
from ipsecha.ike.create_child import NONCE_LENGTH, read_error, read_message, require_group
from ipsecha.ike.flags import LEAVING, UNSURE
from ipsecha.ike.negotiation import accept_ike_answer, choose_ike_suite, number_proposals
from ipsecha.ike.window import Payloads, start_request
from ipsecha.model.errors import PeerError
from ipsecha.model.numbers import ExchangeType, Notify, Payload, Protocol
from ipsecha.model.policy import Connection
from ipsecha.model.proposals import IkeSuite, Proposal
from ipsecha.model.records import Exchange, ExchangeKind, IkeSa, Task
from ipsecha.wire.chain import RawPayload
from ipsecha.wire.payloads.ke import build_ke
from ipsecha.wire.payloads.sa import build_sa

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

IKE_SPI_LENGTH = 8


# Initiator


def start(endpoint: IkeEndpoint, sa: IkeSa, task: Task, now: float) -> None:
    """Ask the peer for an IKE SA in the place of ``sa``."""
    connection = endpoint.connection_of(sa)
    groups = retries.groups_of(connection.proposals) if connection is not None else ()
    if connection is None or not groups or sa.flags & LEAVING:
        return
    # The equivalent IKE SA (section 2.8): its group is tried first.
    group = task.group or (sa.suite.group if sa.suite.group in groups else groups[0])
    key_exchange = new_key_exchange(group, endpoint.entropy)
    exchange = Exchange(
        kind=task.kind,
        message_id=0,
        request=(),
        started_at=now,
        new_spi=endpoint.new_ike_spi(sa),
        nonce=endpoint.entropy(NONCE_LENGTH),
        group=group,
        private_key=key_exchange.private,
        task=task,
    )
    payloads: Payloads = [
        (Payload.SA, build_sa(number_proposals(connection.proposals, exchange.new_spi))),
        (Payload.NONCE, exchange.nonce),
        (Payload.KE, build_ke(group, key_exchange.public)),
    ]
    start_request(endpoint, sa, ExchangeType.CREATE_CHILD_SA, payloads, exchange, now)


def handle_response(
    endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, payloads: list[RawPayload], now: float
) -> None:
    """The peer's answer.  Raises PeerError for one that is not a choice out of our offer: the peer has moved the child
    SAs to an IKE SA that we cannot use, there is nothing left to go on with."""
    connection = endpoint.connection_of(sa)
    if connection is None:
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN, f"connection {sa.connection!r} is not configured any more")
    error = read_error(payloads)
    if error is not None:
        _refused(endpoint, sa, connection, exchange, error.type, error.data, now)
        return
    retries.accepted(sa)
    answer = read_message(payloads)
    suite, spi_r = accept_ike_answer(answer.proposals, number_proposals(connection.proposals, exchange.new_spi))
    if len(spi_r) != IKE_SPI_LENGTH or suite.group != exchange.group or answer.group != exchange.group:
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN, "the peer's answer has another group or no SPI")
    shared = restore_key_exchange(exchange.group, exchange.private_key).shared(answer.public)
    spis = exchange.new_spi, spi_r
    new = _successor(endpoint, sa, connection, suite, shared, (exchange.nonce, answer.nonce), spis, True, now)
    collisions.ike_made(endpoint, sa, exchange, new, answer.nonce, now)


def _refused(
    endpoint: IkeEndpoint,
    sa: IkeSa,
    connection: Connection,
    exchange: Exchange,
    reason: int,
    data: bytes,
    now: float,
) -> None:
    if collisions.ike_refused(endpoint, sa, exchange, now):
        return
    task = exchange.task or Task(ExchangeKind.REKEY_IKE)
    if reason == Notify.TEMPORARY_FAILURE:
        retries.try_later(endpoint, sa, task, now)
    elif reason != Notify.INVALID_KE_PAYLOAD or not retries.try_group(
        endpoint, sa, task, connection.proposals, data, now
    ):
        text = f"the peer answers the IKE SA's rekey with {PeerError(reason)}"
        endpoint.report("ike-rekey-failed", text, sa.connection, level=30)


# Responder


def handle_request(endpoint: IkeEndpoint, sa: IkeSa, payloads: list[RawPayload], now: float) -> Payloads:
    """The peer asks for an IKE SA in the place of ``sa``."""
    collisions.ike_used(endpoint, sa, now)
    request = read_message(payloads)
    collisions.refuse_ike_rekey(sa)
    connection = endpoint.connection_of(sa)
    if connection is None:
        raise PeerError(Notify.NO_ADDITIONAL_SAS, f"connection {sa.connection!r} is not configured any more")
    offer = tuple(proposal for proposal in request.proposals if len(proposal.spi) == IKE_SPI_LENGTH)
    choice = choose_ike_suite(offer, connection.proposals, request.group)
    if choice is None or not choice.suite.group:
        # Without a key exchange there is no rekey (section 2.18).
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN, "for the IKE SA's rekey")
    suite = choice.suite
    require_group(suite.group, request.group)
    spi_i = next(proposal.spi for proposal in offer if proposal.number == choice.number)
    if spi_i == bytes(IKE_SPI_LENGTH):
        raise PeerError(Notify.INVALID_SYNTAX, "an IKE SPI of zero")
    key_exchange = new_key_exchange(suite.group, endpoint.entropy)
    shared = key_exchange.shared(request.public)
    nonces = request.nonce, endpoint.entropy(NONCE_LENGTH)
    spi_r = endpoint.new_ike_spi(sa)
    new = _successor(endpoint, sa, connection, suite, shared, nonces, (spi_i, spi_r), False, now)
    collisions.ike_answered(endpoint, sa, new, nonces, now)
    return [
        (Payload.SA, build_sa((Proposal(choice.number, Protocol.IKE, spi_r, choice.transforms),))),
        (Payload.NONCE, nonces[1]),
        (Payload.KE, build_ke(suite.group, key_exchange.public)),
    ]


def _successor(
    endpoint: IkeEndpoint,
    old: IkeSa,
    connection: Connection,
    suite: IkeSuite,
    shared: bytes,
    nonces: tuple[bytes, bytes],
    spis: tuple[bytes, bytes],
    initiator: bool,
    now: float,
) -> IkeSa:
    """The new IKE SA, without child SAs; not yet in the tables."""
    sk_d = unpack_record_keys(old.suite, old.keys).sk_d
    keys = derive_rekeyed_ike_keys(old.suite, sk_d, suite, shared, *nonces, *spis)
    return IkeSa(
        spi_i=spis[0],
        spi_r=spis[1],
        initiator=initiator,
        connection=old.connection,
        suite=suite,
        keys=pack_record_keys(keys),
        local=old.local,
        remote=old.remote,
        local_id=old.local_id,
        remote_id=old.remote_id,
        flags=old.flags & ~(LEAVING | UNSURE),
        created_at=now,
        rekey_at=now + endpoint.jittered(connection.rekey_s) if connection.rekey_s else 0.0,
        expires_at=now + connection.life_s,
        next_request_id=0,
        expected_request_id=0,
        last_inbound_at=now,
    )
