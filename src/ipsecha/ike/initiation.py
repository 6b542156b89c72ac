"""IKE_SA_INIT, initiator (RFC 7296 sections 1.2, 2.6, 2.7, 2.21.1, 2.23), and the repetition of requests until the
IKE SA stands.

An answer to IKE_SA_INIT is not authenticated.  COOKIE and INVALID_KE_PAYLOAD are acted upon, a limited number of times;
any other error is only remembered, and believed if no better answer comes before the next repetition were due.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from ipsecha.crypto.key_derivation import derive_ike_keys
from ipsecha.crypto.key_exchange import KeyExchange, new_key_exchange
from ipsecha.ike import attempts, auth_initiator, nat
from ipsecha.ike.flags import ENCAPSULATE, FRAGMENTATION, LOCAL_NAT, REMOTE_NAT
from ipsecha.ike.half_open import Initiation, Stage
from ipsecha.ike.init_message import FRAGMENTATION_NOTIFY, HASHES_NOTIFY, InitMessage, parse_init
from ipsecha.ike.negotiation import accept_ike_answer, number_proposals
from ipsecha.model.errors import CryptoError, PeerError, WireError
from ipsecha.model.numbers import ExchangeType, Notify, Payload, TransformType
from ipsecha.model.policy import Connection
from ipsecha.model.records import Address
from ipsecha.model.spi import new_ike_spi
from ipsecha.wire.chain import join_payloads
from ipsecha.wire.header import FLAG_INITIATOR, HEADER_LENGTH, Header, build_header
from ipsecha.wire.payloads.ke import build_ke
from ipsecha.wire.payloads.notify import build_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

NO_SPI = bytes(8)
NONCE_LENGTH = 32
MAX_ROUNDS = 6  # of COOKIE and INVALID_KE_PAYLOAD together
_SOURCE, _DESTINATION = Notify.NAT_DETECTION_SOURCE_IP, Notify.NAT_DETECTION_DESTINATION_IP


def start(
    endpoint: IkeEndpoint, connection: Connection, children: tuple[str, ...], now: float, remote_ip: str | None = None
) -> bytes:
    """Begin an IKE SA that is to carry ``children``; ``remote_ip``: where the peer is, if that is known better than the
    policy says.  Gives its SPI, nothing where it cannot begin."""
    remote_ip = remote_ip or literal_address(connection)
    if remote_ip is None or not connection.local:
        text = "cannot initiate: the peer's address is not configured as a single address"
        endpoint.report("cannot-initiate", text, connection.name, level=40)
        return b""
    proposals = number_proposals(connection.proposals, b"")
    initiation = Initiation(
        connection=connection.name,
        children=children,
        spi_i=new_ike_spi(endpoint.pick_slot(len(endpoint.initiations)), endpoint.entropy, endpoint.sas),
        local=(connection.local[0], endpoint.ports[0]),
        remote=(remote_ip, endpoint.ports[0]),
        proposals=proposals,
        ni=endpoint.entropy(NONCE_LENGTH),
        key_exchange=new_key_exchange(proposals[0].of_type(TransformType.KE)[0].id, endpoint.entropy),
        started_at=now,
    )
    endpoint.initiations[initiation.spi_i] = initiation
    _send_init(endpoint, initiation, connection, now)
    return initiation.spi_i


def literal_address(connection: Connection) -> str | None:
    """The first single address among the peer's addresses."""
    for text in connection.remote:
        network = ipaddress.ip_network(text, strict=False)
        if network.num_addresses == 1:
            return str(network.network_address)
    return None


def _exchange(initiation: Initiation) -> KeyExchange:
    assert initiation.key_exchange is not None, "whoever sends IKE_SA_INIT has made the key pair"
    return initiation.key_exchange


def _send_init(endpoint: IkeEndpoint, initiation: Initiation, connection: Connection, now: float) -> None:
    """Send the IKE_SA_INIT request, for the first time or anew with a cookie or another group: all else stays."""
    spi, exchange = initiation.spi_i, _exchange(initiation)
    source = nat.forced_hash if connection.encapsulate else nat.detection_hash
    payloads = [
        (Payload.SA, build_sa(initiation.proposals)),
        (Payload.KE, build_ke(exchange.group, exchange.public)),
        (Payload.NONCE, initiation.ni),
        (Payload.NOTIFY, build_notify(_SOURCE, source(spi, NO_SPI, initiation.local))),
        (Payload.NOTIFY, build_notify(_DESTINATION, nat.detection_hash(spi, NO_SPI, initiation.remote))),
        (Payload.NOTIFY, HASHES_NOTIFY),
    ]
    if connection.fragmentation:
        payloads.append((Payload.NOTIFY, FRAGMENTATION_NOTIFY))
    if initiation.cookie:
        payloads.insert(0, (Payload.NOTIFY, build_notify(Notify.COOKIE, initiation.cookie)))
    first, octets = join_payloads(payloads)
    length = HEADER_LENGTH + len(octets)
    header = build_header(spi, NO_SPI, first, ExchangeType.IKE_SA_INIT, FLAG_INITIATOR, 0, length)
    attempts.send(endpoint, initiation, (header + octets,), now)


def receive(endpoint: IkeEndpoint, header: Header, data: bytes, local: Address, remote: Address, now: float) -> None:
    """A response to IKE_SA_INIT."""
    initiation = endpoint.initiations.get(header.spi_i)
    if initiation is None or initiation.stage is not Stage.INIT or header.flags & FLAG_INITIATOR:
        endpoint.count("unexpected-init-response")
        return
    if header.message_id or remote != initiation.remote:
        endpoint.count("unexpected-init-response")
        return
    connection = endpoint.connection_named(initiation.connection)
    try:
        response = parse_init(header, data)
        if connection is not None:
            _take_response(endpoint, initiation, connection, header, data, response, now)
    except (WireError, CryptoError) as error:
        endpoint.count("malformed-init")
        _note_failure(endpoint, initiation, f"the answer of {remote[0]} is malformed: {error}", now)
    except PeerError as error:
        endpoint.count("bad-init-response")
        _note_failure(endpoint, initiation, f"{remote[0]}: {error}", now)


def _note_failure(endpoint: IkeEndpoint, initiation: Initiation, reason: str, now: float) -> None:
    """Anybody may have sent this: wait for a better answer until the first repetition were due (section 2.21.1)."""
    if not initiation.failure:
        initiation.failure = reason
        initiation.fails_at = now + endpoint.backoff(initiation.connection, 1)
        attempts.arm(endpoint, initiation)


def _take_response(
    endpoint: IkeEndpoint,
    initiation: Initiation,
    connection: Connection,
    header: Header,
    data: bytes,
    response: InitMessage,
    now: float,
) -> None:
    if response.error == Notify.INVALID_KE_PAYLOAD:
        _try_other_group(endpoint, initiation, connection, response, now)
    elif response.error:
        raise PeerError(response.error, _meaning(response.error))
    elif response.cookie and not response.complete:
        if initiation.rounds >= MAX_ROUNDS:
            raise PeerError(Notify.COOKIE, "it keeps demanding cookies")
        initiation.rounds += 1
        initiation.cookie = response.cookie
        _send_init(endpoint, initiation, connection, now)
    elif not response.complete or header.spi_r == NO_SPI:
        raise WireError("SA, KE, nonce or SPI is missing")
    else:
        _establish_keys(endpoint, initiation, connection, header, data, response)
        auth_initiator.start(endpoint, initiation, connection, now)


def _meaning(notify: int) -> str:
    if notify == Notify.NO_PROPOSAL_CHOSEN:
        return "the peer accepts none of our proposals, or does not expect us at this address"
    return "the peer refuses the request"


def _try_other_group(
    endpoint: IkeEndpoint, initiation: Initiation, connection: Connection, response: InitMessage, now: float
) -> None:
    """INVALID_KE_PAYLOAD: once more, with the group that the peer wants and the same proposals (section 1.2)."""
    group = int.from_bytes(response.error_data[:2], "big")
    offered = {transform.id for proposal in initiation.proposals for transform in proposal.of_type(TransformType.KE)}
    if group not in offered or group == _exchange(initiation).group or initiation.rounds >= MAX_ROUNDS:
        raise PeerError(Notify.INVALID_KE_PAYLOAD, f"the peer wants key exchange {group}, which we do not offer")
    initiation.rounds += 1
    initiation.key_exchange = new_key_exchange(group, endpoint.entropy)
    _send_init(endpoint, initiation, connection, now)


def _establish_keys(
    endpoint: IkeEndpoint,
    initiation: Initiation,
    connection: Connection,
    header: Header,
    data: bytes,
    response: InitMessage,
) -> None:
    suite, _ = accept_ike_answer(parse_sa(response.sa), initiation.proposals)
    exchange = _exchange(initiation)
    if not suite.group == response.group == exchange.group:
        raise PeerError(Notify.INVALID_KE_PAYLOAD, "the key exchange of the answer is not the one chosen")
    shared = exchange.shared(response.public)
    spi_i, local, remote = initiation.spi_i, initiation.local, initiation.remote
    initiation.keys = derive_ike_keys(suite, shared, initiation.ni, response.nonce, spi_i, header.spi_r)
    initiation.suite = suite
    initiation.spi_r = header.spi_r
    initiation.nr = response.nonce
    initiation.response = data
    initiation.peer_hashes = response.hashes
    flags = nat.detect(spi_i, header.spi_r, local, remote, response.sources, response.destinations)
    if response.sources and connection.encapsulate:
        flags |= ENCAPSULATE
    if flags & (LOCAL_NAT | REMOTE_NAT | ENCAPSULATE):
        # all further messages use port 4500 on both sides (section 2.23)
        initiation.local, initiation.remote = (local[0], endpoint.ports[1]), (remote[0], endpoint.ports[1])
    if response.fragmentation and connection.fragmentation:
        flags |= FRAGMENTATION
    initiation.flags = flags
