"""Arbitrary octets and spoiled messages: WireError or a value, never anything else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.model.errors import WireError
from ipsecha.model.identity import Identity
from ipsecha.model.proposals import ChildSuite, IkeSuite, Proposal
from ipsecha.model.selectors import selector_from_prefix
from ipsecha.wire.chain import join_payloads, split_payloads
from ipsecha.wire.esp import classify, parse_esp
from ipsecha.wire.header import HEADER_LENGTH, build_header, parse_header
from ipsecha.wire.ip import (
    build_ipv4,
    build_ipv6,
    clamp_mss,
    decapsulate_ecn,
    fragment_ipv4,
    has_small_fragment_offset,
    locate_transport,
    packet_length,
    packet_selectors,
    too_big,
)
from ipsecha.wire.payloads.auth import build_auth, parse_auth
from ipsecha.wire.payloads.cert import build_cert, build_certreq, parse_cert, parse_certreq
from ipsecha.wire.payloads.configuration import build_configuration, parse_configuration
from ipsecha.wire.payloads.counter_sync import parse_message_id_sync, parse_replay_counter_sync
from ipsecha.wire.payloads.delete import build_delete, parse_delete
from ipsecha.wire.payloads.eap import parse_eap
from ipsecha.wire.payloads.identification import build_identity, parse_identity
from ipsecha.wire.payloads.ke import build_ke, parse_ke
from ipsecha.wire.payloads.nonce import build_nonce, parse_nonce
from ipsecha.wire.payloads.notify import build_notify, parse_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa
from ipsecha.wire.payloads.selectors import build_selectors, parse_selectors
from ipsecha.wire.payloads.vendor import parse_vendor
from ipsecha.wire.sk import build_sk_prefix, build_skf_prefix, find_encrypted

PARSERS: dict[int, Callable[[bytes], object]] = {
    33: parse_sa,
    34: parse_ke,
    35: parse_identity,
    36: parse_identity,
    37: parse_cert,
    38: parse_certreq,
    39: parse_auth,
    40: parse_nonce,
    41: parse_notify,
    42: parse_delete,
    43: parse_vendor,
    44: parse_selectors,
    45: parse_selectors,
    47: parse_configuration,
    48: parse_eap,
}


def read_packet(packet: bytes) -> None:
    """All that the data plane does with an inner packet; behind packet_length nothing may fail but by WireError."""
    try:
        packet_length(packet)
        packet_selectors(packet)
    except WireError:
        with pytest.raises(WireError):
            clamp_mss(packet, 500)
        return
    locate_transport(packet)
    has_small_fragment_offset(packet)
    decapsulate_ecn(packet, 3)
    clamp_mss(packet, 500)
    too_big(packet, 1400, bytes(4 if packet[0] >> 4 == 4 else 16))
    with suppress(WireError):
        fragment_ipv4(packet, 68)


def read_ike(message: bytes) -> None:
    header = parse_header(message)
    for payload in split_payloads(header.next_payload, message[HEADER_LENGTH:]):
        if payload.type in PARSERS:
            with suppress(WireError):
                PARSERS[payload.type](payload.body)


ENTRANCES: list[Callable[[bytes], object]] = [
    *dict.fromkeys(PARSERS.values()),
    parse_message_id_sync,
    parse_replay_counter_sync,
    parse_header,
    read_ike,
    parse_esp,
    classify,
    locate_transport,
    packet_length,
    packet_selectors,
]

ADDRESS_4, ADDRESS_6 = bytes((192, 0, 2, 1)), bytes((0x20, 0x01, 0x0D, 0xB8)) + bytes(11) + b"\x01"
OFFER = build_sa(
    [
        Proposal(1, 1, b"", IkeSuite(20, 256, 0, 5, 31).transforms()),
        Proposal(2, 1, b"", IkeSuite(12, 256, 12, 5, 19).transforms()),
    ]
)
CHILD_OFFER = build_sa([Proposal(1, 3, b"\x12\x34\x56\x78", ChildSuite(3, 20, 256, 0, 0, True).transforms())])
SELECTORS = build_selectors([selector_from_prefix("10.1.0.0/16"), selector_from_prefix("2001:db8::/32")])
CHAINS: list[list[tuple[int, bytes]]] = [
    [(33, OFFER), (34, build_ke(31, bytes(32))), (40, build_nonce(bytes(32))), (41, build_notify(16388, bytes(20)))],
    [
        (35, build_identity(Identity(2, b"gateway.example"))),
        (37, build_cert(4, bytes(40))),
        (38, build_certreq(4, [bytes(20), bytes(20)])),
        (39, build_auth(2, bytes(32))),
        (47, build_configuration(1, [(1, b""), (8, bytes(17))])),
        (33, CHILD_OFFER),
        (44, SELECTORS),
        (45, SELECTORS),
    ],
    [(41, build_notify(16393, protocol=3, spi=bytes(4))), (42, build_delete(3, [b"abcd", b"efgh"]))],
]


def as_message(payloads: list[tuple[int, bytes]]) -> bytes:
    first, octets = join_payloads(payloads)
    return build_header(b"initiatr", b"respondr", first, 35, 8, 1, HEADER_LENGTH + len(octets)) + octets


TCP_SYN = bytes.fromhex("1388005000000001000000008002ffff00000000020405b401030307")
MESSAGES = [
    *map(as_message, CHAINS),
    build_sk_prefix(b"initiatr", b"respondr", 35, 8, 1, 35, 60) + bytes(60),
    build_skf_prefix(b"initiatr", b"respondr", 35, 8, 1, 35, 60, 1, 3) + bytes(60),
]
PACKETS = [
    build_ipv4(ADDRESS_4, ADDRESS_4, 6, TCP_SYN),
    build_ipv4(ADDRESS_4, ADDRESS_4, 1, bytes((8, 0)) + bytes(200), flags_offset=0x2000),
    build_ipv6(ADDRESS_6, ADDRESS_6, 6, TCP_SYN),
    build_ipv6(
        ADDRESS_6, ADDRESS_6, 0, bytes((43, 0)) + bytes(6) + bytes((44, 0)) + bytes(6) + b"\x06\0\0\1" + TCP_SYN
    ),
]


@st.composite
def spoiled(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """A valid message with a few octets changed, cut out, put in, or its end cut off."""
    octets = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(octets) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0 | 1:
                octets[at : at + 1] = bytes(
                    (draw(st.one_of(st.sampled_from((0, 1, 3, 4, 0xFF)), st.integers(0, 255))),)
                )
            case 2:
                del octets[at : at + draw(st.integers(1, 8))]
            case 3:
                octets[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                del octets[at:]
    return bytes(octets)


@pytest.mark.parametrize("parse", ENTRANCES, ids=lambda parse: parse.__name__)
@given(octets=st.binary(max_size=400))
def test_arbitrary_octets(parse: Callable[[bytes], object], octets: bytes) -> None:
    with suppress(WireError):
        parse(octets)


@given(st.integers(0, 255), st.binary(max_size=400))
def test_arbitrary_chains(first: int, octets: bytes) -> None:
    with suppress(WireError):
        split_payloads(first, octets)
    with suppress(WireError):
        find_encrypted(octets, first)


@given(spoiled(MESSAGES), st.booleans())
def test_spoiled_messages(message: bytes, mend_length: bool) -> None:
    if mend_length and len(message) >= HEADER_LENGTH:  # otherwise the header's check would catch nearly all
        message = message[:24] + len(message).to_bytes(4, "big") + message[HEADER_LENGTH:]
    with suppress(WireError):
        read_ike(message)
    with suppress(WireError):
        find_encrypted(message, message[16] if len(message) > 16 else 0)


@given(spoiled([body for chain in CHAINS for _, body in chain]), st.sampled_from(list(dict.fromkeys(PARSERS.values()))))
def test_spoiled_bodies(body: bytes, parse: Callable[[bytes], object]) -> None:
    with suppress(WireError):
        parse(body)


@given(st.one_of(spoiled(PACKETS), st.binary(max_size=200)))
def test_spoiled_packets(packet: bytes) -> None:
    read_packet(packet)


@given(spoiled([OFFER, CHILD_OFFER]))
def test_what_is_accepted_of_a_spoiled_offer_can_be_built(body: bytes) -> None:
    with suppress(WireError):
        offer = parse_sa(body)
        if offer:
            assert parse_sa(build_sa(offer)) == offer


@given(spoiled([SELECTORS]))
def test_what_is_accepted_of_spoiled_selectors_can_be_built(body: bytes) -> None:
    with suppress(WireError):
        found = parse_selectors(body)
        assert parse_selectors(build_selectors(found)) == found
