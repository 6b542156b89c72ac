"""IKE_SA_INIT: what RFC 7296 demands of the first exchange and of answers outside of an IKE SA."""

from __future__ import annotations

import struct

import pytest

from ike_pair import LEFT_IP, RIGHT_IP, START, Packet, Pair, left_connection, proposal, right_connection
from ipsecha.ike.init_message import parse_init
from ipsecha.model.effects import Transmit
from ipsecha.model.numbers import Notify
from ipsecha.wire.chain import join_payloads, split_payloads
from ipsecha.wire.header import build_header, parse_header
from ipsecha.wire.payloads.notify import parse_notify

LEFT, RIGHT = (LEFT_IP, 500), (RIGHT_IP, 500)


def first_request(pair: Pair) -> Packet:
    pair.left.endpoint.initiate("site", None, pair.now)
    pair.gather()
    return pair.queue.pop(0)


def answers(pair: Pair, data: bytes, source: tuple[str, int] = LEFT) -> list[bytes]:
    """What the right side answers to ``data``, all of it stateless."""
    pair.right.endpoint.receive(data, RIGHT, source, pair.now)
    effects = [effect for effect in pair.right.endpoint.take_effects() if isinstance(effect, Transmit)]
    assert all(effect.stateless and effect.remote == source for effect in effects)
    return [data for effect in effects for data in effect.datagrams]


def notification(data: bytes) -> tuple[int, bytes]:
    """The only payload of an unprotected answer."""
    header = parse_header(data)
    (payload,) = split_payloads(header.next_payload, data[28:])
    notify = parse_notify(payload.body)
    return notify.type, notify.data


def rebuilt(data: bytes, change: list[tuple[int, bytes]] | None = None, **fields: int) -> bytes:
    """The message with other payloads or header fields."""
    header = parse_header(data)
    payloads = [(one.type, one.body) for one in split_payloads(header.next_payload, data[28:])]
    first, octets = join_payloads(payloads if change is None else change)
    return (
        build_header(
            header.spi_i,
            header.spi_r,
            first,
            fields.get("exchange", header.exchange),
            fields.get("flags", header.flags),
            fields.get("message_id", header.message_id),
            28 + len(octets),
        )
        + octets
    )


def test_the_first_request_has_message_id_0_and_no_spi_of_the_responder() -> None:
    """RFC 7296 section 3.1: the responder's SPI MUST be zero in the first message; section 2.2: message ID 0."""
    header = parse_header(first_request(Pair()).data)
    assert (header.spi_r, header.message_id, header.flags) == (bytes(8), 0, 0x08)
    assert header.spi_i != bytes(8)


def test_nonces_have_at_least_half_the_prf_key() -> None:
    """Section 2.10: at least 128 bits and at least half the key size of the negotiated PRF."""
    suite = (proposal("aes128gcm16-prfsha512-x25519"),)
    pair = Pair(left_connection(proposals=suite), right_connection(proposals=suite))
    request = first_request(pair).data
    header = parse_header(request)
    assert len(parse_init(header, request).nonce) >= 32
    payloads = [(one.type, one.body) for one in split_payloads(header.next_payload, request[28:])]
    short = [(kind, body[:16] if kind == 40 else body) for kind, body in payloads]
    (answer,) = answers(pair, rebuilt(request, short))
    assert notification(answer)[0] == Notify.INVALID_SYNTAX
    assert not pair.right.endpoint.half_open


def test_a_repeated_request_gets_the_same_answer_and_no_new_state() -> None:
    """Section 2.1: the response to a retransmitted request is the same, bitwise."""
    pair = Pair()
    request = first_request(pair).data
    assert answers(pair, request) == answers(pair, request)
    assert len(pair.right.endpoint.half_open) == 1


def test_a_colliding_spi_blocks_nobody() -> None:
    """Section 2.1: the whole packet, its hash or the nonce tells requests apart, not SPIi and address."""
    pair = Pair()
    request = first_request(pair).data
    payloads = [(one.type, one.body) for one in split_payloads(parse_header(request).next_payload, request[28:])]
    other = rebuilt(request, [(kind, body[::-1] if kind == 40 else body) for kind, body in payloads])
    (attackers,), (ours,) = answers(pair, other), answers(pair, request)
    assert attackers[:8] == ours[:8]
    assert attackers[8:16] != ours[8:16]
    pair.left.endpoint.receive(ours, LEFT, RIGHT, pair.now)
    pair.run()
    assert pair.left.sa.children


def test_a_flood_is_met_with_cookies_and_no_state() -> None:
    """Section 2.6: with many half-open IKE SAs, a request without a valid cookie gets a COOKIE and nothing else."""
    pair = Pair(cookie_threshold=0)
    request = first_request(pair).data
    (demand,) = answers(pair, request)
    kind, cookie = notification(demand)
    assert kind == Notify.COOKIE
    assert 1 <= len(cookie) <= 64
    assert parse_header(demand).spi_r == bytes(8)
    assert len(pair.right.endpoint.half_open) == 0
    pair.left.endpoint.receive(demand, LEFT, RIGHT, pair.now)
    pair.gather()
    again = pair.queue.pop(0)
    header = parse_header(again.data)
    payloads = split_payloads(header.next_payload, again.data[28:])
    first = parse_notify(payloads[0].body)
    assert (first.type, first.data, header.message_id) == (Notify.COOKIE, cookie, 0)
    original = split_payloads(parse_header(request).next_payload, request[28:])
    assert payloads[1:] == original
    pair.deliver(again)
    pair.run()
    assert pair.left.sa.children


def test_a_wrong_cookie_counts_as_none() -> None:
    """Section 2.6: an invalid cookie leads to a new COOKIE."""
    pair = Pair(cookie_threshold=0)
    request = first_request(pair).data
    payloads = [(one.type, one.body) for one in split_payloads(parse_header(request).next_payload, request[28:])]
    forged = (41, struct.pack(">BBH", 0, 0, Notify.COOKIE) + b"c" * 17)
    (demand,) = answers(pair, rebuilt(request, [forged, *payloads]))
    assert notification(demand)[0] == Notify.COOKIE


def test_a_cookie_is_bound_to_the_address() -> None:
    """Section 2.6: the cookie covers Ni, IPi and SPIi."""
    pair = Pair(cookie_threshold=0)
    request = first_request(pair).data
    (demand,) = answers(pair, request)
    pair.left.endpoint.receive(demand, LEFT, RIGHT, pair.now)
    pair.gather()
    (stolen,) = answers(pair, pair.queue.pop(0).data, ("203.0.113.66", 500))
    assert notification(stolen)[0] == Notify.COOKIE


def test_an_initiator_does_not_follow_cookies_for_ever() -> None:
    """Section 2.6: a limit on the number of cookie exchanges."""
    pair = Pair(cookie_threshold=0)
    pair.left.endpoint.initiate("site", None, pair.now)
    pair.right.endpoint.cookies.check = lambda *arguments: False  # type: ignore[method-assign]
    pair.run()
    assert len([packet for packet in pair.sent if not packet.is_response]) < 10
    pair.advance(5.0)
    assert "initiation-failed" in pair.left.events


def test_another_group_is_asked_for_and_the_proposals_stay_whole() -> None:
    """Section 1.2: INVALID_KE_PAYLOAD names the group; the retry MUST again propose the full set."""
    pair = Pair(left_connection(proposals=(proposal("aes128gcm16-prfsha256-x25519-ecp256"),)))
    pair.right.endpoint.configure(
        type(pair.right.policy)((right_connection(proposals=(proposal("aes128gcm16-prfsha256-ecp256"),)),)),
        pair.right.endpoint.credentials,
        pair.now,
    )
    request = first_request(pair)
    (answer,) = answers(pair, request.data)
    assert notification(answer) == (Notify.INVALID_KE_PAYLOAD, b"\0\x13")
    assert parse_header(answer).spi_r == bytes(8)
    pair.left.endpoint.receive(answer, LEFT, RIGHT, pair.now)
    pair.gather()
    again = pair.queue.pop(0)
    before, after = (parse_init(parse_header(one.data), one.data) for one in (request, again))
    assert before.sa == after.sa
    assert (before.group, after.group) == (31, 19)
    assert before.nonce == after.nonce


def test_a_group_that_was_not_offered_is_not_used() -> None:
    """Section 1.2: an unauthenticated INVALID_KE_PAYLOAD must not talk us into anything that we did not propose."""
    pair = Pair()
    request = first_request(pair).data
    header = parse_header(request)
    first, octets = join_payloads([(41, struct.pack(">BBHH", 0, 0, Notify.INVALID_KE_PAYLOAD, 2))])
    bad = build_header(header.spi_i, bytes(8), first, 34, 0x20, 0, 28 + len(octets)) + octets
    pair.left.endpoint.receive(bad, LEFT, RIGHT, pair.now)
    pair.gather()
    assert not pair.queue


@pytest.mark.parametrize("notify", [Notify.NO_PROPOSAL_CHOSEN, Notify.INVALID_SYNTAX, 4000])
def test_an_unauthenticated_error_is_not_believed_at_once(notify: int) -> None:
    """Section 2.21.1: the recipient should wait for a better answer before it gives up."""
    pair = Pair()
    request = first_request(pair)
    header = parse_header(request.data)
    first, octets = join_payloads([(41, struct.pack(">BBH", 0, 0, notify))])
    forged = build_header(header.spi_i, bytes(8), first, 34, 0x20, 0, 28 + len(octets)) + octets
    pair.left.endpoint.receive(forged, LEFT, RIGHT, pair.now)
    pair.deliver(request)
    pair.run()
    assert pair.left.sa.children
    assert pair.left.events == ["ike-established"]


def test_a_response_from_elsewhere_is_ignored() -> None:
    """Section 2.21.1: errors of IKE_SA_INIT are not authenticated; at least they must come from where we asked."""
    pair = Pair()
    request = first_request(pair)
    (answer,) = answers(pair, request.data)
    pair.left.endpoint.receive(answer, LEFT, ("203.0.113.9", 500), pair.now)
    assert pair.left.endpoint.take_effects() == []


@pytest.mark.parametrize(
    "fields", [{"message_id": 1}, {"flags": 0}, {"flags": 0x28}, {"exchange": 35}, {"exchange": 99}]
)
def test_an_odd_first_message_makes_no_state(fields: dict[str, int]) -> None:
    """Sections 2.2 and 3.1: message ID 0, initiator flag, IKE_SA_INIT."""
    pair = Pair()
    answers(pair, rebuilt(first_request(pair).data, **fields))
    assert len(pair.right.endpoint.half_open) == 0
    assert not pair.right.endpoint.sas


def test_payloads_may_come_in_any_order() -> None:
    """Section 2.5: payloads MAY appear in any order, a message MUST NOT be rejected for it."""
    pair = Pair()
    request = first_request(pair).data
    payloads = [(one.type, one.body) for one in split_payloads(parse_header(request).next_payload, request[28:])]
    (answer,) = answers(pair, rebuilt(request, payloads[::-1]))
    assert parse_header(answer).spi_r != bytes(8)


def test_unknown_payloads_are_skipped_unless_they_are_critical() -> None:
    """Section 2.5: critical and unknown: UNSUPPORTED_CRITICAL_PAYLOAD with the type; else skipped."""
    pair = Pair()
    request = first_request(pair).data
    payloads = [(one.type, one.body) for one in split_payloads(parse_header(request).next_payload, request[28:])]
    (answer,) = answers(pair, rebuilt(request, [(200, b"what is this"), *payloads]))
    assert parse_header(answer).spi_r != bytes(8)
    critical = bytearray(rebuilt(request, [(200, b"what is that"), *payloads]))
    critical[29] = 0x80
    (refusal,) = answers(pair, bytes(critical))
    assert notification(refusal) == (Notify.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xc8")


def test_the_critical_bit_of_a_known_payload_means_nothing() -> None:
    """Section 2.5: the critical bit is ignored for payload types that are understood."""
    pair = Pair()
    request = bytearray(first_request(pair).data)
    request[29] |= 0x80
    (answer,) = answers(pair, bytes(request))
    assert parse_header(answer).spi_r != bytes(8)


def test_reserved_bits_and_the_minor_version_are_ignored() -> None:
    """Sections 2.5 and 3.1: the minor version, the V flag and reserved flags MUST be ignored on receipt."""
    pair = Pair()
    request = bytearray(first_request(pair).data)
    request[17], request[19] = 0x2F, request[19] | 0x10 | 0xC0 | 0x07
    (answer,) = answers(pair, bytes(request))
    header = parse_header(answer)
    assert answer[17] == 0x20
    assert header.flags == 0x20


def test_a_later_major_version_is_answered_with_ours() -> None:
    """Section 2.5: drop it and SHOULD answer INVALID_MAJOR_VERSION with the highest version supported."""
    pair = Pair()
    request = bytearray(first_request(pair).data)
    request[17] = 0x30
    (answer,) = answers(pair, bytes(request))
    assert notification(answer)[0] == Notify.INVALID_MAJOR_VERSION
    assert answer[17] >> 4 == 2
    request[17] = 0x10
    assert answers(pair, bytes(request)) == []


def test_a_request_for_an_unknown_ike_sa_is_answered_unprotected() -> None:
    """Section 2.21.4: INVALID_IKE_SPI with the same SPIs and message ID, as a response, to where it came from."""
    pair = Pair()
    stray = build_header(b"initiatr", b"unknown!", 46, 37, 0x08, 12, 60) + bytes(32)
    (answer,) = answers(pair, stray, ("203.0.113.7", 4711))
    header = parse_header(answer)
    assert notification(answer)[0] == Notify.INVALID_IKE_SPI
    assert (header.spi_i, header.spi_r, header.message_id, header.exchange) == (b"initiatr", b"unknown!", 12, 37)
    assert header.flags == 0x20


def test_a_response_is_never_answered() -> None:
    """Section 2.21.4: a message marked as a response MUST NOT be answered."""
    pair = Pair()
    for exchange in (34, 35, 36, 37):
        stray = build_header(b"initiatr", b"unknown!", 46, exchange, 0x28, 12, 60) + bytes(32)
        assert answers(pair, stray) == []
        newer = bytearray(stray)
        newer[17] = 0x30
        assert answers(pair, bytes(newer)) == []


def test_unprotected_answers_are_limited_in_rate() -> None:
    """Section 2.21.4: a node needs to limit the rate of its answers to unprotected messages."""
    pair = Pair()
    stray = build_header(b"initiatr", b"unknown!", 46, 37, 0x08, 12, 60) + bytes(32)
    count = sum(len(answers(pair, stray)) for _ in range(1000))
    assert count == 100
    pair.now += 1.0
    assert sum(len(answers(pair, stray)) for _ in range(1000)) == 50


def test_half_open_ike_sas_are_limited_and_expire() -> None:
    """Section 2.6: state for those who never come back is bounded in number and time."""
    pair = Pair(cookie_threshold=0, half_open_limit=1, half_open_s=10.0)
    pair.right.endpoint.cookies.check = lambda *arguments: True  # type: ignore[method-assign]
    request = first_request(pair).data
    payloads = [(one.type, one.body) for one in split_payloads(parse_header(request).next_payload, request[28:])]
    for number in range(3):
        cookie = (41, struct.pack(">BBH", 0, 0, Notify.COOKIE) + bytes((number,)) * 17)
        answers(pair, rebuilt(request, [cookie, *payloads]))
    assert len(pair.right.endpoint.half_open) == 1
    assert pair.right.endpoint.next_timer() == START + 10.0
    pair.right.endpoint.handle_timer(START + 10.1)
    assert len(pair.right.endpoint.half_open) == 0


def test_an_answer_to_a_stranger_may_wait_for_nothing() -> None:
    """Half-open IKE SAs are not replicated: what a stranger does costs the synch channel nothing (I7)."""
    pair = Pair()
    pair.right.endpoint.receive(first_request(pair).data, RIGHT, LEFT, pair.now)
    assert [type(effect) for effect in pair.right.endpoint.take_effects()] == [Transmit]
