"""What IKE_AUTH messages say, in both directions, and the proof of identity in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ipsecha.crypto.authentication import signed_octets
from ipsecha.ike.flags import MESSAGE_ID_SYNC, REPLAY_COUNTER_SYNC
from ipsecha.ike.window import check_critical
from ipsecha.model.errors import CryptoError
from ipsecha.model.identity import Identity
from ipsecha.model.numbers import LAST_ERROR_NOTIFY, AuthMethod, CertEncoding, Notify, Payload
from ipsecha.model.policy import Authentication, Connection
from ipsecha.wire.chain import split_payloads
from ipsecha.wire.payloads.auth import build_auth, parse_auth
from ipsecha.wire.payloads.cert import build_cert, parse_cert
from ipsecha.wire.payloads.notify import parse_notify

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

_IDI, _IDR, _CERT, _AUTH = int(Payload.IDI), int(Payload.IDR), int(Payload.CERT), int(Payload.AUTH)
_NOTIFY, _SA, _TSI, _TSR = int(Payload.NOTIFY), int(Payload.SA), int(Payload.TSI), int(Payload.TSR)
_SHARED_KEY = int(AuthMethod.SHARED_KEY)
_INITIAL_CONTACT = int(Notify.INITIAL_CONTACT)
_X509 = int(CertEncoding.X509_SIGNATURE)
_SUPPORTED = {
    int(Notify.IKEV2_MESSAGE_ID_SYNC_SUPPORTED): MESSAGE_ID_SYNC,
    int(Notify.IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED): REPLAY_COUNTER_SYNC,
}


class AuthMessage(msgspec.Struct):
    """The bodies of an IKE_AUTH message's payloads; empty where absent.  ``error`` is the first error notification."""

    id_i: bytes = b""
    id_r: bytes = b""
    chain: tuple[bytes, ...] = ()
    method: int = 0
    auth_data: bytes = b""
    sa: bytes = b""
    ts_i: bytes = b""
    ts_r: bytes = b""
    initial_contact: bool = False
    error: int = 0
    supported: int = 0  # flags of the extensions that the sender asserts


def parse_auth_message(first: int, octets: bytes) -> AuthMessage:
    """Raises WireError for a malformed message, PeerError(UNSUPPORTED_CRITICAL_PAYLOAD) for what that demands."""
    message = AuthMessage()
    for payload in split_payloads(first, octets):
        kind, _, body = payload
        if kind == _AUTH:
            message.method, message.auth_data = parse_auth(body)
        elif kind == _NOTIFY:
            _take_notify(message, body)
        elif kind == _CERT:
            encoding, certificate = parse_cert(body)
            if encoding == _X509:
                message.chain = (*message.chain, certificate)
        elif kind in _FIELDS:
            setattr(message, _FIELDS[kind], body)
        elif payload[1]:
            check_critical(payload)
    return message


_FIELDS = {_IDI: "id_i", _IDR: "id_r", _SA: "sa", _TSI: "ts_i", _TSR: "ts_r"}


def _take_notify(message: AuthMessage, body: bytes) -> None:
    _, _, kind, _ = parse_notify(body)
    if kind == _INITIAL_CONTACT:
        message.initial_contact = True
    elif kind <= LAST_ERROR_NOTIFY and not message.error:
        message.error = kind
    else:
        message.supported |= _SUPPORTED.get(kind, 0)


class Signed(msgspec.Struct):
    """What the AUTH payload of one side signs (RFC 7296 section 2.15): that side's IKE_SA_INIT message, the other
    side's nonce, and its own identity under its SK_p."""

    prf_id: int
    message: bytes
    peer_nonce: bytes
    sk_p: bytes
    id_body: bytes

    def __repr__(self) -> str:
        return "Signed(...)"

    def octets(self) -> bytes:
        return signed_octets(self.message, self.peer_nonce, self.prf_id, self.sk_p, self.id_body)


def prove(
    endpoint: IkeEndpoint, connection: Connection, signed: Signed, peer_hashes: tuple[int, ...] | None
) -> list[tuple[int, bytes]]:
    """Our CERT and AUTH payloads.  Raises CryptoError where we have nothing to prove ourselves with."""
    if connection.local_auth is Authentication.PSK:
        psk = endpoint.credentials.psk(connection.name, connection.remote_id)
        if psk is None:
            raise CryptoError("no shared secret is configured")
        return [(_AUTH, build_auth(_SHARED_KEY, psk.auth(signed.prf_id, signed.octets())))]
    signer = endpoint.credentials.signer(connection.name)
    if signer is None:
        raise CryptoError("no certificate and private key are configured")
    method, data = signer.sign(signed.octets(), peer_hashes)
    certificates = [(_CERT, build_cert(_X509, certificate)) for certificate in signer.chain]
    return [*certificates, (_AUTH, build_auth(method, data))]


def check_proof(
    endpoint: IkeEndpoint, connection: Connection, peer: Identity, signed: Signed, message: AuthMessage
) -> None:
    """Raises CryptoError with one clear reason where the peer has not proved that it is ``peer``."""
    if connection.remote_auth is Authentication.PSK:
        if message.method != _SHARED_KEY:
            raise CryptoError("the peer authenticates with a signature, a shared secret is configured")
        psk = endpoint.credentials.psk(connection.name, peer)
        if psk is None:
            raise CryptoError("no shared secret is configured")
        psk.verify(signed.prf_id, signed.octets(), message.auth_data)
        return
    if message.method == _SHARED_KEY:
        raise CryptoError("the peer authenticates with a shared secret, a certificate is configured")
    endpoint.credentials.verify(
        connection.name,
        peer,
        message.chain,
        message.method,
        message.auth_data,
        signed.octets(),
        endpoint.wall_clock(),
    )
