"""IKE_AUTH, responder (RFC 7296 sections 1.2, 2.15, 2.21.2): who the peer is, and the first child SA.

The connection is chosen among those that the addresses allow, by the peer's identity and by the one it asks for.
Failures of the child SA leave the IKE SA up; failures of authentication end it with AUTHENTICATION_FAILED, and the
operator gets one line that says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ipsecha.crypto.identity_binding import same_identity
from ipsecha.crypto.key_derivation import derive_child_keys, pack_record_keys
from ipsecha.crypto.protection import ike_protection
from ipsecha.ike import auth_initiator, children, counter_sync, sharing
from ipsecha.ike.auth_message import AuthMessage, Signed, check_proof, parse_auth_message, prove
from ipsecha.ike.flags import CLOSED, ENCAPSULATE, FRAGMENTATION
from ipsecha.ike.half_open import HalfOpen
from ipsecha.ike.message import Envelope, message_limit, open_message, seal_message
from ipsecha.ike.reassembly import Whole
from ipsecha.ike.window import Payloads, digest_of
from ipsecha.model.errors import CryptoError, PeerError, WireError
from ipsecha.model.identity import Identity
from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.policy import Connection
from ipsecha.model.proposals import ChildSuite
from ipsecha.model.records import Address, IkeSa
from ipsecha.model.spi import FIRST_FREE_ESP_SPI
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, Header
from ipsecha.wire.payloads.identification import build_identity, parse_identity
from ipsecha.wire.payloads.notify import build_notify
from ipsecha.wire.payloads.selectors import build_selectors, parse_selectors

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

_AUTH_MESSAGE_ID = 1
NARROWED_LIMIT = 1024
_IKE_AUTH = int(ExchangeType.IKE_AUTH)
_NOTIFY, _IDR = int(Payload.NOTIFY), int(Payload.IDR)
_SA, _TSI, _TSR = int(Payload.SA), int(Payload.TSI), int(Payload.TSR)


def receive(
    endpoint: IkeEndpoint, own: bytes, header: Header, data: bytes, local: Address, remote: Address, now: float
) -> bool:
    """A message for an IKE SA that does not stand yet; False where ``own`` names none."""
    if not header.flags & FLAG_INITIATOR:
        return auth_initiator.receive(endpoint, own, header, data, local, remote, now)
    half_open = sharing.find(endpoint, own, now)
    if half_open is None or half_open.spi_i != header.spi_i:
        return False
    expected = header.exchange == _IKE_AUTH and header.message_id == _AUTH_MESSAGE_ID
    if not expected or header.flags & FLAG_RESPONSE:
        endpoint.count("unexpected-in-half-open")
        return True
    whole = _open_whole(endpoint, half_open, header, data)
    if whole is not None:
        _receive_request(endpoint, half_open, whole, local, remote, now)
    return True


def _open_whole(endpoint: IkeEndpoint, half_open: HalfOpen, header: Header, data: bytes) -> Whole | None:
    keys = half_open.keys
    try:
        opened = open_message(ike_protection(half_open.suite, keys.sk_ei, keys.sk_ai), header, data)
    except (WireError, CryptoError):
        endpoint.count("not-authentic")
        return None
    if not opened.fragments:
        return Whole(opened.first_payload, opened.octets, digest_of(data))
    if not half_open.flags & FRAGMENTATION:
        endpoint.count("unexpected-fragment")
        return None
    return endpoint.reassembly.add(half_open.spi_r + b"q", _AUTH_MESSAGE_ID, opened, digest_of(data))


def _receive_request(
    endpoint: IkeEndpoint, half_open: HalfOpen, whole: Whole, local: Address, remote: Address, now: float
) -> None:
    """The whole IKE_AUTH request: the half-open IKE SA ends here, well or ill."""
    endpoint.half_open.remove(half_open)
    try:
        message = parse_auth_message(whole.first_payload, whole.octets)
        half_open.flags |= message.supported
        connection, peer, proof = _authenticate(endpoint, half_open, message)
        child = _choose_child(endpoint, connection, message, half_open.flags)
    except PeerError as error:
        refused = error.notify == Notify.AUTHENTICATION_FAILED
        event, text = "authentication-failed" if refused else "malformed-message", error.reason
        payloads = [(_NOTIFY, build_notify(error.notify, error.data))]
    except WireError as error:
        event, text = "malformed-message", str(error)
        payloads = [(_NOTIFY, build_notify(Notify.INVALID_SYNTAX))]
    else:
        established = _Established(half_open, connection, peer, proof, child, whole.digest, local, remote)
        _establish(endpoint, established, initial_contact=message.initial_contact, now=now)
        return
    endpoint.report_stranger(event, f"{remote[0]} is refused: {text}", half_open.candidates[0])
    datagrams = _seal_response(endpoint, half_open, payloads, 0, remote)
    endpoint.remember_last_response(whole.digest, datagrams)
    endpoint.transmit(datagrams, local, remote, stateless=True)


def _authenticate(
    endpoint: IkeEndpoint, half_open: HalfOpen, message: AuthMessage
) -> tuple[Connection, Identity, Payloads]:
    """The connection, the peer's identity, and our own IDr, CERT and AUTH payloads.  Raises PeerError."""
    if not message.id_i:
        raise WireError("IDi is missing")
    peer = parse_identity(message.id_i)
    if not message.auth_data:
        raise PeerError(Notify.AUTHENTICATION_FAILED, f"{peer} asks for EAP, which is not supported")
    wanted = parse_identity(message.id_r) if message.id_r else None
    matching = _matching(endpoint, half_open, peer, wanted)
    if not matching:
        asked = f" asking for {wanted}" if wanted is not None else ""
        raise PeerError(Notify.AUTHENTICATION_FAILED, f"no connection for identity {peer}{asked}")
    reason: CryptoError | None = None
    for connection in matching:
        signed = Signed(half_open.suite.prf, half_open.request, half_open.nr, half_open.keys.sk_pi, message.id_i)
        try:
            check_proof(endpoint, connection, peer, signed, message)
            id_body = build_identity(connection.local_id)
            ours = Signed(half_open.suite.prf, half_open.response, half_open.ni, half_open.keys.sk_pr, id_body)
            proof = [(_IDR, id_body), *prove(endpoint, connection, ours, half_open.peer_hashes)]
            # one identity object for all IKE SAs of the connection, where the peer is a known one
            return connection, connection.remote_id if peer == connection.remote_id else peer, proof
        except CryptoError as error:
            reason = reason or error
    raise PeerError(Notify.AUTHENTICATION_FAILED, f"{peer} for connection {matching[0].name}: {reason}")


def _matching(endpoint: IkeEndpoint, half_open: HalfOpen, peer: Identity, wanted: Identity | None) -> list[Connection]:
    """The candidates for the two identities, those that name the peer first."""
    named: list[Connection] = []
    anyone: list[Connection] = []
    for name in half_open.candidates:
        connection = endpoint.connection_named(name)
        if connection is None or not endpoint.suites.allowed(half_open.suite, connection):
            continue
        if wanted is not None and not same_identity(wanted, connection.local_id):
            continue
        if connection.remote_id is None:
            anyone.append(connection)
        elif same_identity(connection.remote_id, peer):
            named.append(connection)
    return named + anyone


class FirstSelectors(NamedTuple):
    """The first child SA's policy and selectors, and the TSi and TSr payloads that say so."""

    narrowed: children.Narrowed
    ts_i: bytes
    ts_r: bytes


class _Child(NamedTuple):
    """What the first child SA will be."""

    selectors: FirstSelectors
    suite: ChildSuite
    spi_out: int
    sa_before_spi: bytes
    sa_after_spi: bytes


def _choose_child(
    endpoint: IkeEndpoint, connection: Connection, message: AuthMessage, flags: int
) -> _Child | PeerError | None:
    """The first child SA, or the error that takes its place, or None where the peer asks for none (RFC 6023).

    Raises WireError: a malformed part makes the whole message malformed (section 2.21.2).
    """
    if not (message.sa and message.ts_i and message.ts_r):
        return None
    selectors = _narrow(endpoint, connection, message.ts_i, message.ts_r)
    if selectors is None:
        local, remote = _text(message.ts_r), _text(message.ts_i)
        return PeerError(Notify.TS_UNACCEPTABLE, f"wants {local} for {remote}, which is not configured")
    policy = selectors.narrowed.policy
    choice = endpoint.suites.child(message.sa, (connection.name, policy.name), policy.proposals)
    if choice is None:
        return PeerError(Notify.NO_PROPOSAL_CHOSEN, f"offers no algorithms that are configured for {policy.name}")
    try:
        children.check_path(choice.suite, flags)
    except PeerError as error:
        return PeerError(error.notify, f"asks for what its path does not carry: {error.reason}")
    spi_out = int.from_bytes(message.sa[choice.spi_at : choice.spi_at + 4], "big")
    if spi_out < FIRST_FREE_ESP_SPI:
        raise WireError(f"a child SA with the reserved SPI {spi_out}")
    return _Child(selectors, choice.suite, spi_out, choice.before_spi, choice.after_spi)


def _narrow(endpoint: IkeEndpoint, connection: Connection, ts_i: bytes, ts_r: bytes) -> FirstSelectors | None:
    """The narrowed selectors, memoised: where many clients want the same they also share the result."""
    key = (connection.name, ts_i, ts_r)
    try:
        return endpoint.narrowed[key]
    except KeyError:
        pass
    narrowed = children.narrow_offer(connection, parse_selectors(ts_i), parse_selectors(ts_r))
    selectors = None
    if narrowed is not None:
        answer_i, answer_r = build_selectors(narrowed.remote_ts), build_selectors(narrowed.local_ts)
        selectors = FirstSelectors(narrowed, answer_i, answer_r)
    if len(endpoint.narrowed) >= NARROWED_LIMIT:
        endpoint.narrowed.clear()
    endpoint.narrowed[key] = selectors
    return selectors


def _text(selectors: bytes) -> str:
    """Selectors for the operator's eyes."""
    return ", ".join(str(selector) for selector in parse_selectors(selectors)[:4]) or "nothing that is understood"


class _Established(NamedTuple):
    """An authenticated peer, before its IKE SA is made."""

    half_open: HalfOpen
    connection: Connection
    peer: Identity
    proof: Payloads
    child: _Child | PeerError | None
    digest: bytes
    local: Address
    remote: Address


def _establish(endpoint: IkeEndpoint, one: _Established, *, initial_contact: bool, now: float) -> None:
    half_open, connection = one.half_open, one.connection
    if initial_contact and connection.unique:
        replace_others(endpoint, connection, one.peer)
    sa = IkeSa(
        spi_i=half_open.spi_i,
        spi_r=half_open.spi_r,
        initiator=False,
        connection=connection.name,
        suite=half_open.suite,
        keys=pack_record_keys(half_open.keys),
        local=endpoint.shared_address(one.local),
        remote=one.remote,
        local_id=connection.local_id,
        remote_id=one.peer,
        flags=half_open.flags | ENCAPSULATE if connection.encapsulate else half_open.flags,
        created_at=now,
        rekey_at=now + endpoint.jittered(connection.rekey_s) if connection.rekey_s else 0.0,
        expires_at=now + connection.life_s,
        next_request_id=0,
        expected_request_id=_AUTH_MESSAGE_ID + 1,
        last_inbound_at=now,
        request_digest=one.digest,
    )
    endpoint.add_sa(sa)
    endpoint.sharing.release(sa.spi_r)
    endpoint.report("ike-established", f"{one.peer} at {one.remote[0]}, {sa.suite}", connection.name)
    payloads = one.proof + counter_sync.support(sa.flags)
    if isinstance(one.child, _Child):
        payloads += _make_child(endpoint, sa, half_open, one.child, now)
    elif one.child is not None:
        endpoint.report("child-refused", f"{one.peer} {one.child.reason}", connection.name, level=30)
        payloads.append((_NOTIFY, build_notify(one.child.notify)))
    sa.responses = _seal_response(endpoint, half_open, payloads, sa.iv_counter, one.remote)
    sa.iv_counter += len(sa.responses)
    endpoint.transmit(sa.responses, one.local, one.remote)


def _make_child(endpoint: IkeEndpoint, sa: IkeSa, half_open: HalfOpen, chosen: _Child, now: float) -> Payloads:
    """Install the first child SA; the payloads that tell the peer of it."""
    policy, local_ts, remote_ts, more = chosen.selectors.narrowed
    keys = derive_child_keys(half_open.suite.prf, half_open.keys.sk_d, chosen.suite, half_open.ni, half_open.nr)
    spi_in = endpoint.new_child_spi(sa.spi_r)
    child = children.make(endpoint, policy, spi_in, chosen.spi_out, chosen.suite, keys, False, local_ts, remote_ts, now)
    children.install(endpoint, sa, child)
    payloads = [
        (_SA, chosen.sa_before_spi + spi_in.to_bytes(4, "big") + chosen.sa_after_spi),
        (_TSI, chosen.selectors.ts_i),
        (_TSR, chosen.selectors.ts_r),
    ]
    if more:
        payloads.append((_NOTIFY, build_notify(Notify.ADDITIONAL_TS_POSSIBLE)))
    return payloads


def replace_others(endpoint: IkeEndpoint, connection: Connection, peer: Identity) -> None:
    """INITIAL_CONTACT: the peer has lost whatever IKE SAs it had with us (section 2.4)."""
    for sa in endpoint.sas_of_peer(connection.name, peer):
        if not sa.flags & CLOSED:  # those go by themselves
            endpoint.report("ike-replaced", f"{peer} has started afresh", connection.name)
            endpoint.remove_sa(sa)


def _seal_response(
    endpoint: IkeEndpoint, half_open: HalfOpen, payloads: Payloads, iv_counter: int, remote: Address
) -> tuple[bytes, ...]:
    connection = endpoint.connection_named(half_open.candidates[0])
    limit = 0
    if half_open.flags & FRAGMENTATION and connection is not None:
        limit = message_limit(connection.fragment_size, remote[0])
    return seal_message(
        ike_protection(half_open.suite, half_open.keys.sk_er, half_open.keys.sk_ar),
        Envelope(half_open.spi_i, half_open.spi_r, _IKE_AUTH, FLAG_RESPONSE, _AUTH_MESSAGE_ID),
        payloads,
        first_iv=endpoint.first_iv(iv_counter),
        entropy=endpoint.entropy,
        limit=limit,
    )
