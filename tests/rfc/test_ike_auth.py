"""IKE_AUTH: what RFC 7296 demands of authentication, of the first child SA, and of errors in it."""

from __future__ import annotations

import struct

import pytest

from ike_pair import PSK, Packet, Pair, Side, child_policy, left_connection, right_connection
from ipsecha.crypto.credentials import ConnectionSecrets
from ipsecha.crypto.protection import ike_protection
from ipsecha.ike.message import Envelope, open_message, seal_message
from ipsecha.model.effects import RemoveChild, Withdraw
from ipsecha.model.numbers import Notify, Payload
from ipsecha.wire.chain import split_payloads
from ipsecha.wire.header import parse_header
from ipsecha.wire.payloads.identification import build_identity
from ipsecha.wire.payloads.notify import build_notify, parse_notify

Payloads = list[tuple[int, bytes]]


def until_auth(pair: Pair) -> Packet:
    """Run IKE_SA_INIT; the IKE_AUTH request is not delivered."""
    pair.left.endpoint.initiate("site", None, pair.now)
    for _ in range(2):
        pair.gather()
        pair.deliver(pair.queue.pop(0))
    pair.gather()
    return pair.queue.pop(0)


def opened(pair: Pair, packet: Packet) -> Payloads:
    """The payloads of an IKE_AUTH message."""
    (initiation,) = pair.left.endpoint.initiations.values()
    assert initiation.keys is not None
    assert initiation.suite is not None
    header = parse_header(packet.data)
    key = initiation.keys.sk_ei if header.from_initiator else initiation.keys.sk_er
    inner = open_message(ike_protection(initiation.suite, key, b""), header, packet.data)
    return [(one.type, one.body) for one in split_payloads(inner.first_payload, inner.octets)]


def with_payloads(pair: Pair, packet: Packet, payloads: Payloads) -> Packet:
    """The IKE_AUTH request with other payloads, sealed as the initiator would."""
    (initiation,) = pair.left.endpoint.initiations.values()
    assert initiation.keys is not None
    assert initiation.suite is not None
    (data,) = seal_message(
        ike_protection(initiation.suite, initiation.keys.sk_ei, b""),
        Envelope(initiation.spi_i, initiation.spi_r, 35, 0x08, 1),
        payloads,
        first_iv=99,
        entropy=bytes,
    )
    return packet._replace(data=data)


def answer_to(pair: Pair, packet: Packet) -> Payloads:
    pair.deliver(packet)
    pair.gather()
    (answer,) = pair.queue
    pair.queue.clear()
    return opened(pair, answer)


def notifications(payloads: Payloads) -> list[int]:
    return [parse_notify(body).type for kind, body in payloads if kind == Payload.NOTIFY]


def test_the_request_says_who_we_are_and_whom_we_want() -> None:
    """Section 1.2: IDi, AUTH, SA, TSi, TSr MUST be there; IDr names the wanted identity."""
    pair = Pair()
    payloads = opened(pair, until_auth(pair))
    assert [kind for kind, _ in payloads] == [35, 36, 39, 41, 41, 33, 44, 45]
    assert dict(payloads)[36] == build_identity(right_connection().local_id)


def test_initial_contact_is_never_sent() -> None:
    """Section 2.4: MUST NOT be sent by an entity that may be replicated."""
    pair = Pair()
    request = until_auth(pair)
    assert Notify.INITIAL_CONTACT not in notifications(opened(pair, request))
    assert Notify.INITIAL_CONTACT not in notifications(answer_to(pair, request))


def test_no_key_exchange_is_offered_for_the_first_child() -> None:
    """Section 1.2: SA payloads in IKE_AUTH cannot contain a KE transform other than NONE."""
    pair = Pair()
    body = dict(opened(pair, until_auth(pair)))[33]
    assert b"\x04\x00\x00\x1f" not in body


def test_the_answer_has_idr_auth_and_the_child() -> None:
    """Section 1.2: IDr, AUTH, SA, TSi, TSr."""
    pair = Pair()
    assert [kind for kind, _ in answer_to(pair, until_auth(pair))] == [36, 39, 41, 41, 33, 44, 45]


def test_reserved_octets_of_the_identity_are_signed_as_received() -> None:
    """Section 2.15: IDi' is the body with its RESERVED octets."""
    pair = Pair()
    request = until_auth(pair)
    payloads = [(kind, body[:1] + b"abc" + body[4:] if kind == 35 else body) for kind, body in opened(pair, request)]
    assert notifications(answer_to(pair, with_payloads(pair, request, payloads))) == [Notify.AUTHENTICATION_FAILED]


def test_a_failed_authentication_is_told_and_leaves_nothing() -> None:
    """Section 2.21.2: AUTHENTICATION_FAILED, usually the only payload of the protected response."""
    pair = Pair(left_secrets=ConnectionSecrets(psk=b"not the secret"))
    payloads = answer_to(pair, until_auth(pair))
    assert payloads == [(41, build_notify(Notify.AUTHENTICATION_FAILED))]
    assert not pair.right.sas
    assert not pair.right.endpoint.half_open


def test_the_refusal_is_repeated_for_a_repeated_request() -> None:
    """Section 2.1: the responder MUST remember each response until it is safe to forget it."""
    pair = Pair(left_secrets=ConnectionSecrets(psk=b"not the secret"))
    request = until_auth(pair)
    assert answer_to(pair, request) == answer_to(pair, request)


def test_the_answer_is_repeated_octet_for_octet() -> None:
    """Section 2.1, for IKE_AUTH: a repeated request makes no second IKE SA."""
    pair = Pair()
    request = until_auth(pair)
    for _ in range(2):
        pair.deliver(request)
    pair.gather()
    first, second = pair.queue
    assert first.data == second.data
    assert len(pair.right.sas) == 1
    assert len(pair.right.installed) == 1


@pytest.mark.parametrize("missing", [35, 39])
def test_a_request_without_identity_or_proof_is_refused(missing: int) -> None:
    """Section 2.21.2; without AUTH the peer asks for EAP (section 2.16), which is not supported."""
    pair = Pair()
    request = until_auth(pair)
    payloads = [(kind, body) for kind, body in opened(pair, request) if kind != missing]
    expected = Notify.INVALID_SYNTAX if missing == 35 else Notify.AUTHENTICATION_FAILED
    assert notifications(answer_to(pair, with_payloads(pair, request, payloads))) == [expected]
    assert not pair.right.sas


def test_a_critical_unknown_payload_rejects_the_whole_request() -> None:
    """Section 2.21.2: MUST lead only to UNSUPPORTED_CRITICAL_PAYLOAD, without a look at the authentication."""
    pair = Pair()
    request = until_auth(pair)
    (initiation,) = pair.left.endpoint.initiations.values()
    assert initiation.keys is not None
    assert initiation.suite is not None
    protection = ike_protection(initiation.suite, initiation.keys.sk_ei, b"")
    original = open_message(protection, parse_header(request.data), request.data)
    inner = struct.pack(">BBH", original.first_payload, 0x80, 8) + b"what" + original.octets
    length = protection.sealed_length(len(inner))
    prefix = request.data[:24] + struct.pack(">IBBH", 32 + length, 201, 0, 4 + length)
    data = prefix + protection.seal(prefix, bytes(8), inner)
    payloads = answer_to(pair, request._replace(data=data))
    assert payloads == [(41, build_notify(Notify.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc9"))]
    assert not pair.right.sas


@pytest.mark.parametrize("broken", [33, 44, 45, 39])
def test_a_malformed_request_is_rejected_entirely(broken: int) -> None:
    """Section 2.21.2: MUST only lead to INVALID_SYNTAX."""
    pair = Pair()
    request = until_auth(pair)
    payloads = [(kind, body[:3] if kind == broken else body) for kind, body in opened(pair, request)]
    assert notifications(answer_to(pair, with_payloads(pair, request, payloads))) == [Notify.INVALID_SYNTAX]
    assert not pair.right.sas
    assert not pair.right.installed


def test_a_message_that_is_not_authentic_does_not_end_the_half_open_ike_sa() -> None:
    """Section 2.21.2: only what passes the integrity check is acted upon."""
    pair = Pair()
    request = until_auth(pair)
    pair.deliver(request._replace(data=request.data[:-1] + bytes((request.data[-1] ^ 1,))))
    pair.deliver(request)
    pair.run()
    assert pair.left.sa.children


def test_a_child_failure_leaves_the_ike_sa_up_and_authenticated() -> None:
    """Section 1.2: IDr and AUTH come with the error; the initiator MUST NOT fail the authentication for it."""
    pair = Pair(left_connection(children=(child_policy(remote="172.16.0.0/24"),)))
    request = until_auth(pair)
    payloads = answer_to(pair, request)
    assert [kind for kind, _ in payloads] == [36, 39, 41, 41, 41]
    assert notifications(payloads)[2:] == [Notify.TS_UNACCEPTABLE]
    pair.deliver(request)
    pair.run()
    assert pair.left.sa.spi_i == pair.right.sa.spi_i


def test_a_request_without_a_child_makes_the_ike_sa_alone() -> None:
    """RFC 6023: SA and TS payloads left out."""
    pair = Pair()
    request = until_auth(pair)
    payloads = [(kind, body) for kind, body in opened(pair, request) if kind not in (33, 44, 45)]
    assert [kind for kind, _ in answer_to(pair, with_payloads(pair, request, payloads))] == [36, 39, 41, 41]
    assert pair.right.sa.children == ()


def initial_contact(pair: Pair) -> None:
    """The left side has lost its memory, comes again and says so."""
    pair.left = Side("left, restarted", pair.left.policy.connections, {"site": ConnectionSecrets(psk=PSK)})
    pair.left.endpoint.activate(8, pair.now)
    request = until_auth(pair)
    payloads = [*opened(pair, request), (int(Payload.NOTIFY), build_notify(Notify.INITIAL_CONTACT))]
    pair.deliver(with_payloads(pair, request, payloads))
    pair.run()


def test_initial_contact_replaces_what_the_peer_has_lost() -> None:
    """Section 2.4: the recipient may delete other IKE SAs to the same authenticated identity, without a DELETE."""
    pair = Pair()
    pair.establish()
    old, child = pair.right.sa.local_spi, pair.right.sa.children[0].spi_in
    pair.right.effects.clear()
    initial_contact(pair)
    assert pair.right.sa.local_spi != old
    assert Withdraw(old) in pair.right.effects
    assert RemoveChild(child) in pair.right.effects


def test_initial_contact_is_not_honoured_where_peers_are_not_unique() -> None:
    """Section 2.4: it is a matter of policy."""
    pair = Pair(right=right_connection(unique=False))
    pair.establish()
    initial_contact(pair)
    assert len(pair.right.sas) == 2


def test_an_initiator_tells_the_responder_that_it_is_not_believed() -> None:
    """Section 2.21.2: in a separate INFORMATIONAL exchange; the responder drops the IKE SA without a DELETE."""
    pair = Pair(right_secrets=ConnectionSecrets(psk=PSK))
    request = until_auth(pair)
    pair.deliver(request)
    pair.gather()
    pair.queue.clear()
    assert pair.right.sas
    (initiation,) = pair.left.endpoint.initiations.values()
    initiation.response = initiation.response[:-1] + b"\0"
    pair.deliver(request)
    pair.run()
    assert not pair.left.sas
    assert not pair.right.sas
    assert not pair.left.endpoint.initiations
    assert "authentication-failed" in pair.left.events
    assert "authentication-failed" in pair.right.events


def test_message_ids_go_on_from_ike_auth() -> None:
    """Section 2.2: IKE_SA_INIT is 0, IKE_AUTH 1; the responder's own requests begin at 0."""
    pair = Pair()
    pair.establish()
    assert (pair.left.sa.next_request_id, pair.left.sa.expected_request_id) == (2, 0)
    assert (pair.right.sa.next_request_id, pair.right.sa.expected_request_id) == (0, 2)


def test_message_ids_never_wrap() -> None:
    """Section 2.2: the IKE SA MUST be closed or rekeyed before a message ID would be used again."""
    pair = Pair(left_connection(rekey_s=0.0, life_s=1e9), right_connection(rekey_s=0.0, life_s=1e9))
    pair.establish()
    before = pair.left.sa.spi_i
    pair.left.sa.next_request_id = pair.right.sa.expected_request_id = 0xFFFF0000
    pair.advance(60.0)
    (current,) = [sa for sa in pair.left.sas if sa.children]
    assert current.spi_i != before
    assert current.next_request_id < 100
