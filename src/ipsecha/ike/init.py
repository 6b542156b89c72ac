"""IKE_SA_INIT, responder (RFC 7296 sections 1.2, 2.6, 2.7, 2.14, 2.23).

What a stranger costs is kept small and in this order: a look-up (a repeated request is known by all of its octets, so
that a colliding SPIi blocks nobody), the cookie while there are many half-open IKE SAs, the choice of algorithms
(memoised), and only then a key exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.crypto.key_derivation import derive_ike_keys
from ipsecha.crypto.key_exchange import X25519_LENGTH, KeyExchange, new_key_exchange, restore_key_exchange
from ipsecha.crypto.prf import PRF_KEY_LENGTH
from ipsecha.ike import initiation, nat, sharing
from ipsecha.ike.candidates import CandidateSet
from ipsecha.ike.flags import ENCAPSULATE, FRAGMENTATION
from ipsecha.ike.half_open import HalfOpen, source_of
from ipsecha.ike.init_message import FRAGMENTATION_NOTIFY, HASHES_NOTIFY, InitMessage, parse_init
from ipsecha.ike.unprotected import refuse, response_with_notify
from ipsecha.ike.window import digest_of
from ipsecha.model.errors import CryptoError, PeerError, WireError
from ipsecha.model.numbers import ExchangeType, Group, Notify, Payload
from ipsecha.model.policy import Authentication
from ipsecha.model.proposals import IkeSuite
from ipsecha.model.records import Address
from ipsecha.model.spi import SLOT_BITS, new_ike_spi
from ipsecha.wire.chain import join_payloads
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, HEADER_LENGTH, Header, build_header
from ipsecha.wire.payloads.cert import build_certreq
from ipsecha.wire.payloads.ke import build_ke
from ipsecha.wire.payloads.notify import build_notify

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

NO_SPI = bytes(8)
NONCE_LENGTH = 32
MAX_REQUEST = 4096
"""Octets of an IKE_SA_INIT request: more than any peer sends (RFC 7296 section 2 asks for 3000); it is kept until
IKE_AUTH, so this bounds what a half-open IKE SA costs."""
_SHARE = 8  # no source may hold more than this part of all half-open IKE SAs
_X25519 = int(Group.CURVE25519)
_X509_SIGNATURE = 4
_SOURCE, _DESTINATION = Notify.NAT_DETECTION_SOURCE_IP, Notify.NAT_DETECTION_DESTINATION_IP
_SA, _KE, _NONCE, _NOTIFY = int(Payload.SA), int(Payload.KE), int(Payload.NONCE), int(Payload.NOTIFY)


def receive(endpoint: IkeEndpoint, header: Header, data: bytes, local: Address, remote: Address, now: float) -> None:
    """An IKE_SA_INIT message, request or response."""
    if header.flags & FLAG_RESPONSE:
        initiation.receive(endpoint, header, data, local, remote, now)
        return
    sound = header.flags & FLAG_INITIATOR and header.message_id == 0 and header.spi_r == NO_SPI != header.spi_i
    if not sound:
        endpoint.count("malformed-init")
        return
    if len(data) > MAX_REQUEST:
        endpoint.count("oversized-init")
        return
    digest = digest_of(data)
    known = endpoint.half_open.find_request(digest)
    response = known.response if known is not None else endpoint.held_half_opens.response_to(digest)
    if response is not None:
        endpoint.count("repeated-init")
        endpoint.transmit((response,), local, remote, stateless=True)
        return
    try:
        request = parse_init(header, data)
        if not request.complete:
            raise WireError("SA, KE or nonce is missing")
        verified = _wants_cookie(endpoint, now)
        if not verified or _cookie_settled(endpoint, header, request, local, remote, now):
            half_open = _respond(endpoint, header, data, digest, request, local, remote, now)
            sharing.offer(endpoint, half_open, local, remote, now, verified=verified)
    except PeerError as error:
        refuse(endpoint, header, error.notify, error.data, local, remote, now)
    except (WireError, CryptoError):
        refuse(endpoint, header, Notify.INVALID_SYNTAX, b"", local, remote, now)


def _wants_cookie(endpoint: IkeEndpoint, now: float) -> bool:
    """Whether requests may go on with our cookie only (section 2.6): while there are many half-open IKE SAs, or many
    requests that come to nothing: those leave no state, but cost as much to look at."""
    return len(endpoint.half_open) >= endpoint.policy.limits.cookie_threshold or endpoint.init_answers.is_empty(now)


def _cookie_settled(
    endpoint: IkeEndpoint, header: Header, request: InitMessage, local: Address, remote: Address, now: float
) -> bool:
    """Whether the request bears our cookie, and there is room for it."""
    if not (request.cookie and endpoint.cookies.check(now, request.cookie, request.nonce, remote[0], header.spi_i)):
        endpoint.count("cookie-demanded")
        cookie = endpoint.cookies.make(now, request.nonce, remote[0], header.spi_i)
        response = response_with_notify(header, Notify.COOKIE, cookie)
        endpoint.transmit((response,), local, remote, stateless=True)
        return False
    limits = endpoint.policy.limits
    if len(endpoint.half_open) >= limits.half_open_limit:
        endpoint.count("half-open-limit")
        return False
    # the cookie has shown that the source is real: one that holds its share must not keep others out
    if endpoint.half_open.of_source(remote[0]) >= max(1, limits.half_open_limit // _SHARE):
        endpoint.count("half-open-source-limit")
        return False
    return True


def _respond(
    endpoint: IkeEndpoint,
    header: Header,
    data: bytes,
    digest: bytes,
    request: InitMessage,
    local: Address,
    remote: Address,
    now: float,
) -> HalfOpen:
    candidates = endpoint.candidates.find(local[0], remote[0])
    if candidates is None:
        endpoint.report_stranger("no-connection", f"no connection for {remote[0]} at {local[0]}")
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN)
    suite, answer = _choose_suite(endpoint, request, candidates, remote)
    spi_r, nr, exchange = _fresh(endpoint, suite.group)
    keys = derive_ike_keys(suite, exchange.shared(request.public), request.nonce, nr, header.spi_i, spi_r)
    flags = nat.detect(header.spi_i, NO_SPI, local, remote, request.sources, request.destinations)
    if candidates.encapsulate and request.sources:
        flags |= ENCAPSULATE
    if candidates.fragmentation and request.fragmentation:
        flags |= FRAGMENTATION
    payloads = [(_SA, answer), (_KE, build_ke(suite.group, exchange.public)), (_NONCE, nr)]
    if request.sources:
        source = nat.forced_hash if candidates.encapsulate else nat.detection_hash
        payloads.append((_NOTIFY, build_notify(_SOURCE, source(header.spi_i, spi_r, local))))
        payloads.append((_NOTIFY, build_notify(_DESTINATION, nat.detection_hash(header.spi_i, spi_r, remote))))
    payloads += _certificate_requests(endpoint, candidates)
    if flags & FRAGMENTATION:
        payloads.append((_NOTIFY, FRAGMENTATION_NOTIFY))
    if request.hashes is not None:
        payloads.append((_NOTIFY, HASHES_NOTIFY))
    first, octets = join_payloads(payloads)
    length = HEADER_LENGTH + len(octets)
    response = build_header(header.spi_i, spi_r, first, ExchangeType.IKE_SA_INIT, FLAG_RESPONSE, 0, length) + octets
    half_open = HalfOpen(
        header.spi_i,
        spi_r,
        candidates.names,
        suite,
        keys,
        data,
        response,
        digest,
        request.nonce,
        nr,
        flags,
        request.hashes,
        now,
        source_of(remote[0]),
    )
    endpoint.half_open.add(half_open, endpoint.policy.limits.half_open_s)
    endpoint.transmit((response,), local, remote, stateless=True)
    return half_open


def _choose_suite(
    endpoint: IkeEndpoint, request: InitMessage, candidates: CandidateSet, remote: Address
) -> tuple[IkeSuite, bytes]:
    """The suite and the SA payload that answers.  Raises PeerError (NO_PROPOSAL_CHOSEN, INVALID_KE_PAYLOAD)."""
    chosen = endpoint.suites.ike(request.sa, request.group, candidates.names, candidates.proposals)
    if chosen is None:
        names = ", ".join(candidates.names)
        endpoint.report_stranger(
            "no-proposal", f"{remote[0]} offers no algorithms that are configured ({names})", candidates.names[0]
        )
        raise PeerError(Notify.NO_PROPOSAL_CHOSEN)
    suite = chosen[0]
    if suite.group != request.group:
        raise PeerError(Notify.INVALID_KE_PAYLOAD, "", suite.group.to_bytes(2, "big"))
    if 2 * len(request.nonce) < PRF_KEY_LENGTH[suite.prf]:
        raise WireError("the nonce is shorter than half the PRF's key (section 2.10)")
    return chosen


def _fresh(endpoint: IkeEndpoint, group: int) -> tuple[bytes, bytes, KeyExchange]:
    """Our SPI, nonce and key pair: with X25519 from one draw of entropy."""
    x25519 = group == _X25519
    octets = endpoint.entropy(8 + NONCE_LENGTH + (X25519_LENGTH if x25519 else 0))
    slot = endpoint.pick_slot(octets[1])
    spi = bytes((slot << (8 - SLOT_BITS) | octets[0] >> SLOT_BITS,)) + octets[1:8]
    tables = (endpoint.sas, endpoint.half_open.by_spi, endpoint.held_half_opens, endpoint.initiations)
    if spi == NO_SPI or any(spi in table for table in tables):
        spi = new_ike_spi(slot, endpoint.entropy, endpoint.sas)
    nonce = octets[8 : 8 + NONCE_LENGTH]
    if x25519:
        return spi, nonce, restore_key_exchange(group, octets[8 + NONCE_LENGTH :])
    return spi, nonce, new_key_exchange(group, endpoint.entropy)


def _certificate_requests(endpoint: IkeEndpoint, candidates: CandidateSet) -> list[tuple[int, bytes]]:
    """A CERTREQ with the trust anchors of the connections whose peers use certificates, if there are any."""
    anchors: dict[bytes, None] = {}
    for connection in candidates.connections:
        if connection.remote_auth is Authentication.CERTIFICATE:
            anchors.update(dict.fromkeys(endpoint.credentials.certreq(connection.name)))
    return [(Payload.CERTREQ, build_certreq(_X509_SIGNATURE, tuple(anchors)))] if anchors else []
