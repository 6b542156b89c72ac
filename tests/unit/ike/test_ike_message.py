"""Sealing and opening, fragments, reassembly within bounds."""

from __future__ import annotations

import json
import struct

import pytest
from captures import ip_packets, vectors

from ike_pair import Entropy
from ipsecha.crypto.protection import Protection, ike_protection
from ipsecha.ike.message import Envelope, Opened, message_limit, open_message, seal_message
from ipsecha.ike.reassembly import MAX_FRAGMENTS, MAX_TOTAL_OCTETS, Reassembly
from ipsecha.model.errors import CryptoError, WireError
from ipsecha.model.proposals import IkeSuite
from ipsecha.wire.chain import join_payloads, split_payloads
from ipsecha.wire.header import build_header, parse_header
from ipsecha.wire.ip import locate_transport

GCM = ike_protection(IkeSuite(20, 128, 0, 5, 31), bytes(range(20)), b"")
CBC = ike_protection(IkeSuite(12, 256, 12, 5, 31), bytes(range(32)), bytes(range(32, 64)))
ENVELOPE = Envelope(b"initiatr", b"respondr", 37, 0x08, 7)
PAYLOADS = [(43, bytes(range(256)) * 20), (41, b"\0\0\x40\x14")]


def seal(protection: Protection, limit: int = 0, payloads: list[tuple[int, bytes]] = PAYLOADS) -> tuple[bytes, ...]:
    return seal_message(protection, ENVELOPE, payloads, first_iv=5, entropy=Entropy("iv"), limit=limit)


def reopen(protection: Protection, data: bytes) -> Opened:
    return open_message(protection, parse_header(data), data)


@pytest.mark.parametrize("protection", [GCM, CBC])
def test_a_sealed_message_opens_to_the_same_payloads(protection: Protection) -> None:
    (data,) = seal(protection)
    opened = reopen(protection, data)
    assert (opened.first_payload, opened.octets) == join_payloads(PAYLOADS)
    assert (opened.fragment, opened.fragments) == (0, 0)
    header = parse_header(data)
    assert (header.spi_i, header.spi_r, header.exchange, header.flags, header.message_id) == ENVELOPE


@pytest.mark.parametrize("protection", [GCM, CBC])
def test_an_empty_message_has_no_payloads(protection: Protection) -> None:
    (data,) = seal(protection, payloads=[])
    assert reopen(protection, data)[:2] == (0, b"")


@pytest.mark.parametrize("protection", [GCM, CBC])
@pytest.mark.parametrize("limit", [0, 600])
def test_any_changed_octet_is_noticed(protection: Protection, limit: int) -> None:
    data = seal(protection, limit)[0]
    for at in [*range(40), len(data) - 1, len(data) // 2]:
        changed = data[:at] + bytes((data[at] ^ 0x11,)) + data[at + 1 :]
        with pytest.raises((CryptoError, WireError)):
            reopen(protection, changed)


@pytest.mark.parametrize("protection", [GCM, CBC])
@pytest.mark.parametrize("limit", [544, 1228, 1248])
def test_fragments_fill_the_limit_and_join_to_the_message(protection: Protection, limit: int) -> None:
    datagrams = seal(protection, limit)
    assert all(len(data) <= limit for data in datagrams)
    assert limit - len(datagrams[0]) < 16
    opened = [reopen(protection, data) for data in datagrams]
    assert [one.fragment for one in opened] == list(range(1, len(datagrams) + 1))
    assert {one.fragments for one in opened} == {len(datagrams)}
    assert [one.first_payload for one in opened] == [43] + [0] * (len(opened) - 1)
    assert b"".join(one.octets for one in opened) == join_payloads(PAYLOADS)[1]


def test_each_fragment_has_an_iv_of_its_own() -> None:
    datagrams = seal(GCM, 600)
    assert [struct.unpack_from(">Q", data, 36)[0] for data in datagrams] == list(range(5, 5 + len(datagrams)))


def test_a_message_that_fits_is_not_cut() -> None:
    (whole,) = seal(GCM)
    assert seal(GCM, len(whole)) == (whole,)
    assert len(seal(GCM, len(whole) - 1)) == 2


def test_the_limit_leaves_room_for_the_headers_below() -> None:
    assert message_limit(1280, "192.0.2.1") == 1280 - 32
    assert message_limit(1280, "2001:db8::1") == 1280 - 52


def test_a_message_without_encrypted_payload_is_refused() -> None:
    with pytest.raises(WireError):
        reopen(GCM, build_header(b"a" * 8, b"b" * 8, 0, 37, 0, 0, 28))
    short = build_header(b"a" * 8, b"b" * 8, 46, 37, 0, 0, 36) + b"\0\0\0\x08abcd"
    with pytest.raises(CryptoError):
        reopen(GCM, short)


def parts(total: int, octets: bytes = b"x") -> list[Opened]:
    return [Opened(35 if number == 1 else 0, octets, number, total) for number in range(1, total + 1)]


def test_reassembly_takes_any_order_and_ignores_repeats() -> None:
    reassembly = Reassembly()
    first, second, third = (part._replace(octets=bytes((part.fragment,))) for part in parts(3))
    assert reassembly.add(b"k", 1, third, b"d3") is None
    assert reassembly.add(b"k", 1, third, b"d3") is None
    assert reassembly.add(b"k", 1, first, b"d1") is None
    whole = reassembly.add(b"k", 1, second, b"d2")
    assert whole is not None
    assert (whole.first_payload, whole.octets, whole.digest) == (35, b"\1\2\3", b"d1")
    assert len(reassembly) == 0


def test_more_fragments_in_all_start_afresh_and_fewer_are_dropped() -> None:
    """RFC 7383 section 2.6: the sender has found a smaller MTU."""
    reassembly = Reassembly()
    reassembly.add(b"k", 1, parts(2)[0], b"")
    for part in parts(3)[:2]:
        assert reassembly.add(b"k", 1, part, b"") is None
    assert reassembly.add(b"k", 1, parts(2)[1], b"") is None
    assert reassembly.add(b"k", 1, parts(3)[2], b"") is not None


def test_another_message_replaces_an_incomplete_one() -> None:
    reassembly = Reassembly()
    reassembly.add(b"k", 1, parts(2)[0], b"")
    assert reassembly.add(b"k", 2, parts(2)[1], b"") is None
    assert reassembly.add(b"k", 2, parts(2)[0], b"") is not None


def test_reassembly_is_bounded() -> None:
    reassembly = Reassembly()
    assert reassembly.add(b"k", 1, Opened(35, b"x", 1, MAX_FRAGMENTS + 1), b"") is None
    assert len(reassembly) == 0
    big = parts(3, bytes(60000))
    for number in range(200):
        for part in big[:2]:
            reassembly.add(number.to_bytes(8, "big"), 1, part, b"")
    assert len(reassembly) <= MAX_TOTAL_OCTETS // 120000 + 1


CAPTURES = {
    "ikev2-decrypt-aes256gcm16.pcap": IkeSuite(20, 256, 0, 5, 14),
    "ikev2-decrypt-aes256cbc.pcapng": IkeSuite(12, 256, 12, 5, 14),
}


@pytest.mark.parametrize("name", list(CAPTURES))
def test_captured_messages_of_another_implementation_open(name: str) -> None:
    (known,) = (one for one in json.loads(vectors("wireshark/expected.json").read_text()) if one["file"] == name)
    keys = {what: bytes.fromhex(known["keys"][what]) for what in ("sk_ei", "sk_er", "sk_ai", "sk_ar")}
    messages = {}
    for packet in ip_packets(vectors(f"wireshark/{name}")):
        _, offset, end, _ = locate_transport(packet)
        data = packet[offset + 8 : end]
        data = data[4:] if data[:4] == bytes(4) else data
        header = parse_header(data)
        messages[header.exchange, header.flags, header.message_id] = header, data
    checked = 0
    for message in known["messages"]:
        if "plaintext_with_pad" not in message:
            continue
        header, data = messages[message["exchange"], message["flags"], message["msgid"]]
        side = "i" if header.from_initiator else "r"
        protection = ike_protection(CAPTURES[name], keys[f"sk_e{side}"], keys[f"sk_a{side}"])
        opened = open_message(protection, header, data)
        padded = bytes.fromhex(message["plaintext_with_pad"])
        assert opened.octets == padded[: len(padded) - 1 - padded[-1]]
        payloads = split_payloads(opened.first_payload, opened.octets)
        assert [payload.type for payload in payloads] == message["payload_types"]
        checked += 1
    assert checked >= 2
