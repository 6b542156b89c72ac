"""IKE_AUTH, initiator (RFC 7296 sections 1.2, 2.15, 2.21.2).

A responder that fails our check takes itself to be authenticated: it is told by an INFORMATIONAL request with
AUTHENTICATION_FAILED, so that it does not keep an IKE SA that nobody shares.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.crypto.identity_binding import same_identity
from ipsecha.crypto.key_derivation import IkeKeys, derive_child_keys, pack_record_keys
from ipsecha.crypto.protection import ike_protection
from ipsecha.ike import attempts, children, connections, counter_sync, window
from ipsecha.ike.auth_message import AuthMessage, Signed, check_proof, parse_auth_message, prove
from ipsecha.ike.flags import FRAGMENTATION, MESSAGE_ID_SYNC, REPLAY_COUNTER_SYNC
from ipsecha.ike.half_open import Initiation, Stage
from ipsecha.ike.message import Envelope, message_limit, open_message, seal_message
from ipsecha.ike.negotiation import accept_child_answer, number_proposals
from ipsecha.ike.reassembly import Whole
from ipsecha.ike.window import Payloads, digest_of
from ipsecha.model.errors import CryptoError, PeerError, WireError
from ipsecha.model.identity import Identity
from ipsecha.model.numbers import CertEncoding, ExchangeType, Notify, Payload
from ipsecha.model.policy import Authentication, ChildPolicy, Connection
from ipsecha.model.proposals import IkeSuite
from ipsecha.model.records import Address, ExchangeKind, IkeSa, Task
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, Header
from ipsecha.wire.payloads.cert import build_certreq
from ipsecha.wire.payloads.identification import build_identity, parse_identity
from ipsecha.wire.payloads.notify import build_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa
from ipsecha.wire.payloads.selectors import build_selectors, parse_selectors

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


def start(endpoint: IkeEndpoint, initiation: Initiation, connection: Connection, now: float) -> None:
    """The keys stand: prove who we are and ask for the first child SA."""
    suite, keys = _agreed(initiation)
    id_body = build_identity(connection.local_id)
    signed = Signed(suite.prf, initiation.request[0], initiation.nr, keys.sk_pi, id_body)
    try:
        proof = prove(endpoint, connection, signed, initiation.peer_hashes)
    except CryptoError as error:
        attempts.fail(endpoint, initiation, f"cannot authenticate ourselves: {error}", now)
        return
    payloads: Payloads = [(Payload.IDI, id_body), *proof[:-1]]
    if connection.remote_auth is Authentication.CERTIFICATE:
        anchors = endpoint.credentials.certreq(connection.name)
        payloads.append((Payload.CERTREQ, build_certreq(CertEncoding.X509_SIGNATURE, anchors)))
    if connection.remote_id is not None:
        payloads.append((Payload.IDR, build_identity(connection.remote_id)))
    payloads.append(proof[-1])
    payloads += counter_sync.support(MESSAGE_ID_SYNC | REPLAY_COUNTER_SYNC)
    policy = _first_policy(connection, initiation)
    if policy is not None:
        payloads += _offer_child(endpoint, initiation, policy)
    initiation.stage = Stage.AUTH
    _send(endpoint, initiation, connection, ExchangeType.IKE_AUTH, 1, payloads, now)


def _agreed(initiation: Initiation) -> tuple[IkeSuite, IkeKeys]:
    assert initiation.suite is not None
    assert initiation.keys is not None
    return initiation.suite, initiation.keys


def _first_policy(connection: Connection, initiation: Initiation) -> ChildPolicy | None:
    return connection.child(initiation.children[0]) if initiation.children else None


def _offer_child(endpoint: IkeEndpoint, initiation: Initiation, policy: ChildPolicy) -> Payloads:
    initiation.child_spi = endpoint.new_child_spi(initiation.spi_i)
    spi = initiation.child_spi.to_bytes(4, "big")
    initiation.child_offer = number_proposals(policy.proposals, spi, key_exchange=False)
    return [
        (Payload.SA, build_sa(initiation.child_offer)),
        (Payload.TSI, build_selectors(policy.local_ts)),
        (Payload.TSR, build_selectors(policy.remote_ts)),
    ]


def _send(
    endpoint: IkeEndpoint,
    initiation: Initiation,
    connection: Connection,
    exchange: int,
    message_id: int,
    payloads: Payloads,
    now: float,
) -> None:
    suite, keys = _agreed(initiation)
    fragments = initiation.flags & FRAGMENTATION
    datagrams = seal_message(
        ike_protection(suite, keys.sk_ei, keys.sk_ai),
        Envelope(initiation.spi_i, initiation.spi_r, exchange, FLAG_INITIATOR, message_id),
        payloads,
        first_iv=endpoint.first_iv(initiation.iv_counter),
        entropy=endpoint.entropy,
        limit=message_limit(connection.fragment_size, initiation.remote[0]) if fragments else 0,
    )
    initiation.iv_counter += len(datagrams)
    initiation.message_id = message_id
    attempts.send(endpoint, initiation, datagrams, now)


def receive(
    endpoint: IkeEndpoint, own: bytes, header: Header, data: bytes, local: Address, remote: Address, now: float
) -> bool:
    """A message of the responder before the IKE SA stands; False where ``own`` names no initiation."""
    initiation = endpoint.initiations.get(own)
    connection = endpoint.connection_named(initiation.connection) if initiation is not None else None
    if initiation is None or connection is None or initiation.spi_r != header.spi_r:
        return False
    expected = header.flags & FLAG_RESPONSE and header.message_id == initiation.message_id
    if not expected or initiation.stage is Stage.INIT:
        endpoint.count("unexpected-in-initiation")
        return True
    whole = _open_whole(endpoint, initiation, header, data)
    if whole is None:
        return True
    if initiation.stage is Stage.REFUSED:
        attempts.abandon(endpoint, initiation)
    else:
        _receive_response(endpoint, initiation, connection, whole, local, remote, now)
    return True


def _open_whole(endpoint: IkeEndpoint, initiation: Initiation, header: Header, data: bytes) -> Whole | None:
    suite, keys = _agreed(initiation)
    try:
        opened = open_message(ike_protection(suite, keys.sk_er, keys.sk_ar), header, data)
    except (WireError, CryptoError):
        endpoint.count("not-authentic")
        return None
    if not opened.fragments:
        return Whole(opened.first_payload, opened.octets, b"")
    if not initiation.flags & FRAGMENTATION:
        endpoint.count("unexpected-fragment")
        return None
    return endpoint.reassembly.add(initiation.spi_i + b"r", header.message_id, opened, digest_of(data))


def _receive_response(
    endpoint: IkeEndpoint,
    initiation: Initiation,
    connection: Connection,
    whole: Whole,
    local: Address,
    remote: Address,
    now: float,
) -> None:
    try:
        message = parse_auth_message(whole.first_payload, whole.octets)
        if not message.auth_data:
            reason = f"{remote[0]} refuses us: {PeerError(message.error or Notify.INVALID_SYNTAX)}"
            attempts.fail(endpoint, initiation, f"{reason}{_advice(message.error)}", now)
            return
        peer = _check_peer(endpoint, initiation, connection, message)
    except (WireError, PeerError) as error:
        _refuse(endpoint, initiation, connection, Notify.INVALID_SYNTAX, f"malformed IKE_AUTH answer: {error}", now)
        return
    except CryptoError as error:
        text = f"authentication of {remote[0]} failed: {error}"
        _refuse(endpoint, initiation, connection, Notify.AUTHENTICATION_FAILED, text, now)
        return
    _establish(endpoint, initiation, connection, peer, message, local, remote, now)


def _advice(notify: int) -> str:
    if notify == Notify.AUTHENTICATION_FAILED:
        return " (check our identity and secret, and the identity that we expect of the peer)"
    return ""


def _check_peer(
    endpoint: IkeEndpoint, initiation: Initiation, connection: Connection, message: AuthMessage
) -> Identity:
    """The responder's authenticated identity, which must be the configured one.  Raises CryptoError."""
    if not message.id_r:
        raise WireError("IDr is missing")
    peer = parse_identity(message.id_r)
    if connection.remote_id is not None and not same_identity(connection.remote_id, peer):
        raise CryptoError(f"it says that it is {peer}, expected is {connection.remote_id}")
    suite, keys = _agreed(initiation)
    signed = Signed(suite.prf, initiation.response, initiation.ni, keys.sk_pr, message.id_r)
    check_proof(endpoint, connection, peer, signed, message)
    return peer


def _refuse(
    endpoint: IkeEndpoint, initiation: Initiation, connection: Connection, notify: int, reason: str, now: float
) -> None:
    """Tell the responder that its IKE SA does not stand (section 2.21.2), and the operator why."""
    endpoint.report("authentication-failed", reason, connection.name, level=40)
    if initiation.child_spi:
        endpoint.release_child_spi(initiation.child_spi)
        initiation.child_spi = 0
    initiation.stage = Stage.REFUSED
    payloads: Payloads = [(Payload.NOTIFY, build_notify(notify))]
    _send(endpoint, initiation, connection, ExchangeType.INFORMATIONAL, 2, payloads, now)
    connections.failed(endpoint, connection, now)


def _establish(
    endpoint: IkeEndpoint,
    initiation: Initiation,
    connection: Connection,
    peer: Identity,
    message: AuthMessage,
    local: Address,
    remote: Address,
    now: float,
) -> None:
    suite, keys = _agreed(initiation)
    sa = IkeSa(
        spi_i=initiation.spi_i,
        spi_r=initiation.spi_r,
        initiator=True,
        connection=connection.name,
        suite=suite,
        keys=pack_record_keys(keys),
        local=local,
        remote=remote,
        local_id=connection.local_id,
        remote_id=peer,
        flags=initiation.flags | message.supported,
        created_at=now,
        rekey_at=now + endpoint.jittered(connection.rekey_s) if connection.rekey_s else 0.0,
        expires_at=now + connection.life_s,
        next_request_id=2,
        expected_request_id=0,
        iv_counter=initiation.iv_counter,
        last_inbound_at=now,
    )
    endpoint.add_sa(sa)
    endpoint.report("ike-established", f"{peer} at {remote[0]}, {suite}", connection.name)
    child_spi, initiation.child_spi = initiation.child_spi, 0
    attempts.abandon(endpoint, initiation)
    endpoint.rearm(sa)
    policy = _first_policy(connection, initiation)
    if policy is not None:
        _first_child(endpoint, initiation, sa, policy, child_spi, message, now)
    for name in initiation.children[1:]:
        window.enqueue(endpoint, sa, Task(ExchangeKind.NEW_CHILD, child=name), now)


def _first_child(
    endpoint: IkeEndpoint,
    initiation: Initiation,
    sa: IkeSa,
    policy: ChildPolicy,
    child_spi: int,
    message: AuthMessage,
    now: float,
) -> None:
    """Install the first child SA, or say why there is none; the IKE SA stands in either case."""
    try:
        if not (message.sa and message.ts_i and message.ts_r):
            raise PeerError(message.error or Notify.INVALID_SYNTAX, "the peer makes no child SA")
        suite, spi_out = accept_child_answer(parse_sa(message.sa), initiation.child_offer)
        children.check_path(suite, sa.flags)
        local_ts, remote_ts = parse_selectors(message.ts_i), parse_selectors(message.ts_r)
        children.check_answer(policy.local_ts, local_ts)
        children.check_answer(policy.remote_ts, remote_ts)
    except (PeerError, WireError) as error:
        endpoint.release_child_spi(child_spi)
        text = f"child SA {policy.name}: {error}"
        endpoint.report("child-failed", text, sa.connection, level=30)
        connection = endpoint.connection_of(sa)
        if connection is not None:
            connections.failed(endpoint, connection, now, policy.name)
        if message.sa:
            # The peer has made what we cannot use: without the IKE SA it goes away on both sides.
            window.enqueue(endpoint, sa, Task(ExchangeKind.DELETE_IKE), now)
        return
    assert initiation.keys is not None
    keys = derive_child_keys(sa.suite.prf, initiation.keys.sk_d, suite, initiation.ni, initiation.nr)
    child = children.make(
        endpoint,
        policy,
        child_spi,
        int.from_bytes(spi_out, "big"),
        suite,
        keys,
        True,
        local_ts,
        remote_ts,
        now,
    )
    children.install(endpoint, sa, child)
