"""Messages of other implementations: parsed and rebuilt to the same octets."""

from __future__ import annotations

import json

import pytest
from captures import ip_packets, vectors

from ipsecha.wire.chain import RawPayload, join_payloads, split_payloads
from ipsecha.wire.esp import IKE, classify, parse_esp
from ipsecha.wire.header import HEADER_LENGTH, build_header, parse_header
from ipsecha.wire.ip import checksum, internet_sum, locate_transport, packet_length, packet_selectors, pseudo_header_sum
from ipsecha.wire.payloads.auth import build_auth, parse_auth
from ipsecha.wire.payloads.delete import build_delete, parse_delete
from ipsecha.wire.payloads.identification import build_identity, parse_identity
from ipsecha.wire.payloads.ke import build_ke, parse_ke
from ipsecha.wire.payloads.nonce import build_nonce, parse_nonce
from ipsecha.wire.payloads.notify import build_notify, parse_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa
from ipsecha.wire.payloads.selectors import build_selectors, parse_selectors
from ipsecha.wire.payloads.vendor import build_vendor, parse_vendor
from ipsecha.wire.sk import build_sk_prefix, find_encrypted

CAPTURES = (
    "ikev2-decrypt-3des-sha1_160.pcap",
    "ikev2-decrypt-aes128ccm12-2.pcap",
    "ikev2-decrypt-aes128ccm12.pcap",
    "ikev2-decrypt-aes192ctr.pcap",
    "ikev2-decrypt-aes256cbc.pcapng",
    "ikev2-decrypt-aes256ccm16.pcapng",
    "ikev2-decrypt-aes256gcm16.pcap",
    "ikev2-decrypt-aes256gcm8.pcap",
)


def ike_messages(name: str) -> list[bytes]:
    messages = []
    for packet in ip_packets(vectors(f"wireshark/{name}")):
        _, offset, end, _ = locate_transport(packet)
        data = packet[offset + 8 : end]
        ports = packet_selectors(packet)
        if 4500 in (ports.src_port, ports.dst_port):
            assert classify(data) is IKE
            data = data[4:]
        messages.append(data)
    return messages


def expected(name: str) -> list[dict]:
    cases = json.loads(vectors("wireshark/expected.json").read_text())
    return next(case["messages"] for case in cases if case["file"] == name)


def rebuild(payload: RawPayload) -> bytes:
    """The body, parsed to values and built again."""
    body = payload.body
    notify = parse_notify(body) if payload.type == 41 else None
    builders = {
        33: lambda: build_sa(parse_sa(body)),
        34: lambda: build_ke(*parse_ke(body)),
        35: lambda: build_identity(parse_identity(body)),
        36: lambda: build_identity(parse_identity(body)),
        39: lambda: build_auth(*parse_auth(body)),
        40: lambda: build_nonce(parse_nonce(body)),
        41: lambda: build_notify(notify.type, notify.data, notify.protocol, notify.spi),
        42: lambda: build_delete(*parse_delete(body)),
        43: lambda: build_vendor(parse_vendor(body)),
        44: lambda: build_selectors(parse_selectors(body)),
        45: lambda: build_selectors(parse_selectors(body)),
    }
    return builders[payload.type]()


@pytest.mark.parametrize("name", CAPTURES)
def test_messages_are_parsed_and_rebuilt_to_the_same_octets(name: str) -> None:
    messages = ike_messages(name)
    assert len(messages) == len(expected(name))
    for message, facts in zip(messages, expected(name), strict=True):
        header = parse_header(message)
        assert header.spi_i.hex() == facts["ispi"]
        assert header.spi_r.hex() == facts["rspi"]
        assert (header.exchange, header.flags, header.message_id) == (facts["exchange"], facts["flags"], facts["msgid"])
        assert (header.length, header.version) == (facts["len"], 2)
        payloads = split_payloads(header.next_payload, message[HEADER_LENGTH:])
        assert build_header(*header[:7]) == message[:HEADER_LENGTH]
        if facts["exchange"] == 34:
            built = [(payload.type, rebuild(payload)) for payload in payloads]
            assert join_payloads(built) == (header.next_payload, message[HEADER_LENGTH:])


@pytest.mark.parametrize("name", CAPTURES)
def test_encrypted_payloads_are_found_and_framed_alike(name: str) -> None:
    for message, facts in zip(ike_messages(name), expected(name), strict=True):
        if facts["exchange"] == 34:
            continue
        header = parse_header(message)
        sk = find_encrypted(message, header.next_payload)
        assert sk.first_inner == facts["decrypted_first_payload"]
        assert (sk.offset, sk.body_offset, sk.fragment, sk.total) == (28, 32, 0, 0)
        prefix = build_sk_prefix(
            header.spi_i,
            header.spi_r,
            header.exchange,
            header.flags,
            header.message_id,
            sk.first_inner,
            len(message) - sk.body_offset,
        )
        assert prefix == message[: sk.body_offset]


@pytest.mark.parametrize("name", CAPTURES)
def test_decrypted_payloads_are_parsed_and_rebuilt_to_the_same_octets(name: str) -> None:
    for facts in expected(name):
        if "plaintext_with_pad" not in facts:
            continue
        padded = bytes.fromhex(facts["plaintext_with_pad"])
        plaintext = padded[: len(padded) - padded[-1] - 1]
        payloads = split_payloads(facts["decrypted_first_payload"], plaintext)
        assert [payload.type for payload in payloads] == facts["payload_types"]
        built = [(payload.type, rebuild(payload)) for payload in payloads]
        assert join_payloads(built) == (facts["decrypted_first_payload"], plaintext)
        for payload in payloads:
            if payload.type == 39:
                assert parse_auth(payload.body) == (facts["AUTH_method"], bytes.fromhex(facts["AUTH_data"]))


@pytest.mark.parametrize("name", CAPTURES)
def test_checksums_of_captured_packets(name: str) -> None:
    """RFC 1071: the sum over octets with a correct checksum is all ones."""
    for packet in ip_packets(vectors(f"wireshark/{name}")):
        assert checksum(packet[:20]) == 0
        end = packet_length(packet)
        if packet[26:28] != b"\x00\x00":  # a sender may leave UDP's checksum out
            pseudo = pseudo_header_sum(packet[12:16], packet[16:20], 17, end - 20)
            assert internet_sum(packet[20:end], pseudo) == 0xFFFF


def test_esp_packets() -> None:
    packets = ip_packets(vectors("wireshark/esp-bug-12671.pcapng"))
    headers = [
        parse_esp(packet[20 : packet_length(packet)]) for packet in packets if packet_selectors(packet).protocol == 50
    ]
    assert {header.spi for header in headers} == {0x070883C2, 0xC254FE64}
    assert len(headers) == 6
    assert all(header.seq >= 1 for header in headers)
