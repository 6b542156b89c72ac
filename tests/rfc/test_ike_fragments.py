"""IKE fragmentation (RFC 7383) between two endpoints."""

from __future__ import annotations

from certificates import Authority
from ike_pair import Pair, left_connection, right_connection
from ipsecha.crypto.credentials import ConnectionSecrets
from ipsecha.ike.init_message import parse_init
from ipsecha.model.policy import Authentication
from ipsecha.model.records import IkeFlag
from ipsecha.wire.header import parse_header

CA = Authority()
BOTH = {"local_auth": Authentication.CERTIFICATE, "remote_auth": Authentication.CERTIFICATE}


def secrets(name: str) -> ConnectionSecrets:
    own = CA.issue(name, "rsa")
    return ConnectionSecrets(chain=own.chain, private_key=own.private_key, ca=(CA.certificate,))


def pair_with_certificates(left: dict[str, object] | None = None, right: dict[str, object] | None = None) -> Pair:
    return Pair(
        left_connection(**{**BOTH, "fragment_size": 576, **(left or {})}),
        right_connection(**{**BOTH, "fragment_size": 576, **(right or {})}),
        left_secrets=secrets("left.example"),
        right_secrets=secrets("right.example"),
    )


def fragments(pair: Pair) -> list[bytes]:
    return [packet.data for packet in pair.sent if packet.data[16] == 53]


def test_support_is_announced_by_both_in_ike_sa_init() -> None:
    """Section 2.3: the notification goes into both messages; the responder's only if the initiator's was there."""
    pair = Pair()
    pair.establish()
    init = [packet.data for packet in pair.sent if packet.exchange == 34]
    assert [parse_init(parse_header(data), data).fragmentation for data in init] == [True, True]
    assert pair.left.sa.flags & pair.right.sa.flags & IkeFlag.FRAGMENTATION
    silent = Pair(left_connection(fragmentation=False))
    silent.establish()
    init = [packet.data for packet in silent.sent if packet.exchange == 34]
    assert [parse_init(parse_header(data), data).fragmentation for data in init] == [False, False]


def test_without_the_peer_nothing_is_fragmented() -> None:
    """Section 2.3: MUST NOT be used unless both have announced it."""
    pair = pair_with_certificates(right={"fragmentation": False})
    pair.establish()
    assert pair.left.sas
    assert not fragments(pair)


def test_ike_sa_init_is_never_fragmented() -> None:
    """Section 2.5: only messages with an Encrypted payload can be."""
    pair = pair_with_certificates({"fragment_size": 256}, {"fragment_size": 256})
    pair.establish()
    assert pair.left.sas
    assert all(data[18] != 34 for data in fragments(pair))
    assert max(len(data) for data in fragments(pair)) <= 256 - 32


def test_fragments_in_any_order_and_twice_make_one_message() -> None:
    """Section 2.6: fragments may come out of order; repeated ones are dropped."""
    pair = pair_with_certificates()
    pair.left.endpoint.initiate("site", None, pair.now)
    for _ in range(2):
        pair.gather()
        pair.deliver(pair.queue.pop(0))
    pair.gather()
    parts, pair.queue = pair.queue, []
    assert len(parts) > 1
    for packet in [*reversed(parts), *parts]:
        pair.deliver(packet)
    pair.run()
    assert pair.left.sa.children
    assert len(pair.right.sas) == 1


def test_a_lost_fragment_is_repeated_with_all_the_others() -> None:
    """Section 2.6.1: all fragments are retransmitted when no response comes."""
    pair = pair_with_certificates()
    lost: list[bytes] = []

    def lose_the_second_once(packet):  # type: ignore[no-untyped-def]
        if packet.data[16] == 53 and packet.data[32:34] == b"\0\2" and len(lost) < 2:
            lost.append(packet.data)
            return []
        return [packet]

    pair.network = lose_the_second_once
    pair.establish()
    pair.advance(10.0)
    assert len(lost) == 2
    assert pair.left.sa.children


def test_only_the_first_fragment_of_an_answered_request_repeats_the_answer() -> None:
    """Section 2.6.1: the response is sent again when fragment number 1 comes again, and only then."""
    pair = pair_with_certificates()
    pair.establish()
    requests = [packet for packet in pair.sent if packet.data[16] == 53 and not packet.is_response]
    answer = [packet.data for packet in pair.sent if packet.is_response and packet.exchange == 35]
    assert len(requests) > 1
    for packet in requests[1:]:
        pair.deliver(packet)
    pair.gather()
    assert not pair.queue
    pair.deliver(requests[0])
    pair.gather()
    assert [packet.data for packet in pair.queue] == answer


def test_a_forged_fragment_does_not_disturb_the_others() -> None:
    """Section 2.6: each fragment is authenticated on its own before it is kept."""
    pair = pair_with_certificates()
    pair.left.endpoint.initiate("site", None, pair.now)
    for _ in range(2):
        pair.gather()
        pair.deliver(pair.queue.pop(0))
    pair.gather()
    parts, pair.queue = pair.queue, []
    for packet in parts:
        pair.deliver(packet._replace(data=packet.data[:-1] + bytes((packet.data[-1] ^ 1,))))
        pair.deliver(packet)
    pair.run()
    assert pair.left.sa.children


def test_a_fragment_that_was_not_negotiated_is_dropped() -> None:
    """Section 2.3: fragments are for peers that have agreed on them."""
    pair = pair_with_certificates()
    pair.left.endpoint.initiate("site", None, pair.now)
    for _ in range(2):
        pair.gather()
        pair.deliver(pair.queue.pop(0))
    (half_open,) = pair.right.endpoint.half_open.by_spi.values()
    half_open.flags &= ~IkeFlag.FRAGMENTATION
    pair.run()
    assert not pair.right.sas
    assert pair.right.endpoint.counters["unexpected-fragment"]
