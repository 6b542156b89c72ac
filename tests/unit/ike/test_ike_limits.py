"""What a stranger may cost: octets that are kept, half-open IKE SAs, fragments, answers, lines of log."""

from __future__ import annotations

import pytest

from ike_pair import LEFT_IP, RIGHT_IP, Packet, Pair, left_connection, right_connection
from ipsecha.ike import due
from ipsecha.ike.half_open import source_of
from ipsecha.ike.init import MAX_REQUEST
from ipsecha.ike.message import Opened
from ipsecha.ike.reassembly import MAX_FRAGMENTS, MAX_MESSAGE_OCTETS, MAX_TOTAL_OCTETS, Reassembly
from ipsecha.model.numbers import ExchangeType, Notify
from ipsecha.wire.chain import join_payloads, split_payloads
from ipsecha.wire.header import FLAG_INITIATOR, HEADER_LENGTH, build_header, parse_header
from ipsecha.wire.payloads.notify import build_notify, parse_notify

SA_INIT, NONCE, NOTIFY, VENDOR = int(ExchangeType.IKE_SA_INIT), 40, 41, 43
RIGHT = (RIGHT_IP, 500)


def first_request() -> bytes:
    """An honest IKE_SA_INIT request of the left side."""
    pair = Pair()
    pair.left.endpoint.initiate("site", None, pair.now)
    (packet,) = pair.left.collect()
    return packet.data


REQUEST = first_request()


def request(number: int, *, cookie: bytes = b"", padding: int = 0) -> bytes:
    """The same of initiator ``number``, who echoes a cookie."""
    header = parse_header(REQUEST)
    payloads = [(one.type, one.body) for one in split_payloads(header.next_payload, REQUEST[HEADER_LENGTH:])]
    if cookie:
        payloads.insert(0, (NOTIFY, build_notify(Notify.COOKIE, cookie)))
    if padding:
        payloads.append((VENDOR, bytes(padding)))
    first, octets = join_payloads(payloads)
    length = HEADER_LENGTH + len(octets)
    return build_header(number.to_bytes(8, "big"), bytes(8), first, SA_INIT, FLAG_INITIATOR, 0, length) + octets


def answers(pair: Pair) -> list[Packet]:
    return pair.right.collect()


def knock(pair: Pair, number: int, source: str) -> bool:
    """A request of initiator ``number`` with the cookie that it is asked for; whether it is answered."""
    remote = (source, 500)
    pair.right.endpoint.receive(request(number), RIGHT, remote, pair.now)
    cookie = b""
    for packet in answers(pair):
        for payload in split_payloads(packet.data[16], packet.data[HEADER_LENGTH:]):
            if payload.type == NOTIFY and parse_notify(payload.body).type == Notify.COOKIE:
                cookie = parse_notify(payload.body).data
    if not cookie:
        return True
    pair.right.endpoint.receive(request(number, cookie=cookie), RIGHT, remote, pair.now)
    return bool(answers(pair))


def open_to_all(**limits: float) -> Pair:
    return Pair(right=right_connection(remote=()), **limits)


def test_an_oversized_first_request_makes_no_state() -> None:
    """A request is kept until IKE_AUTH: its size is bounded, beyond the 3000 octets of RFC 7296 section 2."""
    pair = Pair()
    fitting = MAX_REQUEST - len(REQUEST) - 4
    pair.right.endpoint.receive(request(1, padding=fitting + 1), RIGHT, (LEFT_IP, 500), pair.now)
    assert answers(pair) == []
    assert len(pair.right.endpoint.half_open) == 0
    assert pair.right.endpoint.counters["oversized-init"] == 1
    pair.right.endpoint.receive(request(1, padding=fitting), RIGHT, (LEFT_IP, 500), pair.now)
    assert len(pair.right.endpoint.half_open) == 1


@pytest.mark.parametrize("addresses", [["198.51.100.9"], [f"2001:db8:9::{number:x}" for number in range(1, 99)]])
def test_one_source_cannot_take_all_half_open_ike_sas(addresses: list[str]) -> None:
    """RFC 7296 section 2.6: a cookie shows that a source is real, not that it means well.  Others still get in."""
    pair = open_to_all(cookie_threshold=5, half_open_limit=80)
    accepted = sum(knock(pair, number, addresses[number % len(addresses)]) for number in range(1, 60))
    assert accepted == len(pair.right.endpoint.half_open) == 10
    assert pair.right.endpoint.counters["half-open-source-limit"] == 49
    assert knock(pair, 1000, "192.0.2.77")
    assert knock(pair, 1001, "2001:db8:a::1")
    pair.advance(pair.right.policy.limits.half_open_s + 1)
    assert len(pair.right.endpoint.half_open) == 0
    assert pair.right.endpoint.half_open._sources == {}
    assert knock(pair, 2000, addresses[0])


def test_sources() -> None:
    assert source_of("192.0.2.1") != source_of("192.0.2.2")
    assert source_of("2001:db8::1") == source_of("2001:db8::ffff:0:0:2") != source_of("2001:db8:0:1::1")
    assert source_of("fe80::1%eth0") == source_of("fe80::2")


def test_strangers_octets_do_not_use_up_the_answers_that_beginners_need() -> None:
    """INVALID_KE_PAYLOAD and the like come from a stock of their own (RFC 7296 section 2.21.1)."""
    pair = Pair()
    for number in range(1, 2000):
        header = build_header(
            number.to_bytes(8, "big"), bytes(7) + b"\1", 46, 37, FLAG_INITIATOR, 5, HEADER_LENGTH + 60
        )
        pair.right.endpoint.receive(header + bytes(60), RIGHT, ("192.0.2.66", 500), pair.now)
    assert len(answers(pair)) < 200
    pair.right.endpoint.receive(REQUEST[:-9] + b"\xff" + REQUEST[-8:], RIGHT, ("203.0.113.9", 500), pair.now)
    (answer,) = answers(pair)
    assert answer.exchange == SA_INIT


def test_a_flood_of_one_report_hides_no_other() -> None:
    pair = Pair()
    for number in range(1, 500):
        pair.right.endpoint.receive(request(number), RIGHT, ("203.0.113.9", 500), pair.now)
    answers(pair)
    assert 0 < pair.right.events.count("no-connection") < 50
    pair.right.endpoint.report_stranger("authentication-failed", "what matters")
    pair.right.endpoint.end_step()
    answers(pair)
    assert "authentication-failed" in pair.right.events


def part(number: int, total: int, octets: bytes) -> Opened:
    return Opened(0, octets, number, total)


def test_a_message_in_fragments_has_at_most_the_octets_of_a_whole_one() -> None:
    """RFC 7383 section 2.6; 64 fragments of 64 KiB would be 4 MiB to parse at once."""
    reassembly = Reassembly()
    for number in range(1, MAX_FRAGMENTS + 1):
        assert reassembly.add(b"key", 1, part(number, MAX_FRAGMENTS, bytes(60_000)), b"") is None
    assert reassembly._size <= MAX_MESSAGE_OCTETS


@pytest.mark.slow
def test_empty_fragments_cost_something_as_well() -> None:
    """What is incomplete is bounded by memory, not by the octets that it claims to hold."""
    reassembly = Reassembly()
    for number in range(200_000):
        reassembly.add(number.to_bytes(8, "big"), 1, part(2, 3, b""), b"")
    assert len(reassembly) <= MAX_TOTAL_OCTETS // 256
    for number in range(200_000):
        reassembly.forget(number.to_bytes(8, "big"))
    assert (len(reassembly), reassembly._size) == (0, 0)


def test_fragments_of_an_ike_sa_go_with_it() -> None:
    pair = Pair()
    pair.establish()
    endpoint, sa = pair.right.endpoint, pair.right.sa
    for direction in (b"q", b"r"):
        endpoint.reassembly.add(sa.local_spi + direction, 9, part(1, 2, b"half"), b"")
    endpoint.remove_sa(sa)
    assert (len(endpoint.reassembly), endpoint.reassembly._size) == (0, 0)


def test_a_fault_in_one_timer_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fails is put off; all others fire, this time or the next."""
    pair = Pair(left_connection(), right_connection())
    endpoint = pair.right.endpoint
    fired: list[str] = []

    def fire(_: object, key: str, now: float) -> None:
        fired.append(key)
        if key == "bad":
            raise ZeroDivisionError

    monkeypatch.setattr(due.bring_up, "fire", fire)
    names = [f"connection {number}" for number in range(20)]
    for name in (*names[:10], "bad", *names[10:]):
        endpoint.timers.arm(name, pair.now)
    with pytest.raises(ZeroDivisionError):
        endpoint.handle_timer(pair.now + 1)
    endpoint.handle_timer(pair.now + 2)
    assert sorted(fired) == sorted([*names, "bad"])
    with pytest.raises(ZeroDivisionError):
        endpoint.handle_timer(pair.now + 60)


def hopeless(number: int) -> bytes:
    """A sound request whose algorithms nobody has."""
    header = parse_header(REQUEST)
    payloads = [(one.type, one.body) for one in split_payloads(header.next_payload, REQUEST[HEADER_LENGTH:])]
    transform = b"\0\0\0\x08\1\0" + (0x8000 + number).to_bytes(2, "big")
    payloads[0] = (payloads[0][0], b"\0\0\0\x10\1\1\0\1" + transform)
    first, octets = join_payloads(payloads)
    length = HEADER_LENGTH + len(octets)
    return build_header(number.to_bytes(8, "big"), bytes(8), first, SA_INIT, FLAG_INITIATOR, 0, length) + octets


def test_requests_that_come_to_nothing_bring_cookies_about() -> None:
    """RFC 7296 section 2.6: they leave no half-open IKE SA, but choosing algorithms has its price as well."""
    pair = Pair()
    for number in range(1, 3000):
        pair.right.endpoint.receive(hopeless(number), RIGHT, (LEFT_IP, 500), pair.now)
    answers(pair)
    counters = pair.right.endpoint.counters
    assert counters["no-proposal"] < 500
    assert counters["cookie-demanded"] > 2500
    pair.establish()
    assert pair.left.sas, "an honest peer gets through by its cookie"
    pair = Pair()
    pair.establish()
    assert pair.right.endpoint.counters["cookie-demanded"] == 0


def test_first_requests_have_few_payloads() -> None:
    header = parse_header(REQUEST)
    payloads = [(one.type, one.body) for one in split_payloads(header.next_payload, REQUEST[HEADER_LENGTH:])]
    first, octets = join_payloads([*payloads, *[(VENDOR, b"id")] * 64])
    length = HEADER_LENGTH + len(octets)
    data = build_header(bytes(7) + b"\1", bytes(8), first, SA_INIT, FLAG_INITIATOR, 0, length) + octets
    pair = Pair()
    pair.right.endpoint.receive(data, RIGHT, (LEFT_IP, 500), pair.now)
    assert len(pair.right.endpoint.half_open) == 0
