"""Octets that nobody should send, by parser: each must raise WireError and nothing else, without much work."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from ipsecha.wire import chain, esp, header, ip, sk
from ipsecha.wire.payloads import (
    auth,
    cert,
    configuration,
    delete,
    eap,
    identification,
    ke,
    nonce,
    notify,
    sa,
    selectors,
    vendor,
)

KIB64 = 65535
SPI_I = bytes(range(1, 9))
SPI_R = bytes(range(9, 17))


class Malformed(NamedTuple):
    """``parse(octets)`` raises WireError because of ``reason``."""

    reason: str
    parse: Callable[[bytes], object]
    octets: bytes


def ike_header(length: int = 28, following: int = 0) -> bytes:
    return SPI_I + SPI_R + struct.pack(">BBBBII", following, 0x20, 34, 8, 0, length)


def generic(following: int, length: int, body: bytes = b"") -> bytes:
    return struct.pack(">BBH", following, 0, length) + body


def message(first: int, payloads: bytes) -> bytes:
    return ike_header(28 + len(payloads), first) + payloads


def proposal(
    transforms: bytes,
    count: int,
    *,
    more: int = 0,
    length: int | None = None,
    protocol: int = 1,
    spi: bytes = b"",
    spi_size: int | None = None,
) -> bytes:
    size = 8 + len(spi) + len(transforms) if length is None else length
    stated = len(spi) if spi_size is None else spi_size
    return struct.pack(">BBHBBBB", more, 0, size, 1, protocol, stated, count) + spi + transforms


def transform(*, more: int = 0, length: int | None = None, attributes: bytes = b"", kind: int = 1) -> bytes:
    size = 8 + len(attributes) if length is None else length
    return struct.pack(">BBHBBH", more, 0, size, kind, 0, 20) + attributes


def ts4(*, length: int = 16, ports: tuple[int, int] = (0, 65535), start: int = 0, end: int = 0xFFFFFFFF) -> bytes:
    return struct.pack(">BBHHHII", 7, 0, length, *ports, start, end)


def ipv4(*, first: int = 0x45, length: int = 28, total: int = 28, protocol: int = 17) -> bytes:
    return (struct.pack(">BBHHHBBHII", first, 0, length, 0, 0, 64, protocol, 0, 1, 2) + bytes(64))[:total]


def ipv6(next_header: int, payload: bytes, length: int | None = None) -> bytes:
    return (
        struct.pack(">IHBB", 6 << 28, len(payload) if length is None else length, next_header, 64) + bytes(32) + payload
    )


def chain_from(first: int) -> Callable[[bytes], object]:
    return lambda octets: chain.split_payloads(first, octets)


def encrypted_from(first: int) -> Callable[[bytes], object]:
    return lambda octets: sk.find_encrypted(message(first, octets), first)


def fragments(mtu: int) -> Callable[[bytes], object]:
    return lambda octets: ip.fragment_ipv4(octets, mtu)


GATEWAY = bytes((192, 0, 2, 1))

IKE_HEADER = [
    Malformed("no octets", header.parse_header, b""),
    Malformed("one octet", header.parse_header, b"\x00"),
    Malformed("header cut off", header.parse_header, ike_header()[:27]),
    Malformed("length 0", header.parse_header, ike_header(0)),
    Malformed("length below the header's", header.parse_header, ike_header(27)),
    Malformed("length of more than arrived", header.parse_header, ike_header(29)),
    Malformed("length of less than arrived", header.parse_header, ike_header(28) + b"\x00"),
    Malformed("length 2^32 - 1", header.parse_header, ike_header(0xFFFFFFFF)),
    Malformed("64 KB of zeros", header.parse_header, bytes(KIB64)),
    Malformed("64 KB of ones", header.parse_header, b"\xff" * KIB64),
    Malformed("non-ESP marker left in front", header.parse_header, bytes(4) + ike_header()),
]

CHAIN = [
    Malformed("octets after no payload", chain_from(0), b"\x00"),
    Malformed("payload announced, none there", chain_from(33), b""),
    Malformed("generic header cut off", chain_from(33), generic(0, 4)[:3]),
    Malformed("length 0: would loop for ever", chain_from(41), generic(41, 0) * 3),
    Malformed("length 1", chain_from(41), generic(0, 1)),
    Malformed("length 3: overlaps its own header", chain_from(41), generic(0, 3)),
    Malformed("length beyond the end", chain_from(41), generic(0, 9, bytes(4))),
    Malformed("length 65535 in a short message", chain_from(41), generic(0, KIB64, bytes(20))),
    Malformed("trailing octet", chain_from(41), generic(0, 8, bytes(4)) + b"\x00"),
    Malformed("chain runs past the end", chain_from(41), generic(41, 8, bytes(4))),
    Malformed("second payload overlaps the end", chain_from(41), generic(41, 8, bytes(4)) + generic(0, 8, bytes(3))),
    Malformed("64 KB of empty payloads", chain_from(43), generic(43, 4) * 16000 + generic(0, 4)),
    Malformed("one payload too many", chain_from(43), generic(43, 4) * chain.MAX_PAYLOADS + generic(0, 4)),
    Malformed("payload after SK", chain_from(46), generic(33, 8, bytes(4)) + generic(0, 4)),
    Malformed("payload after SKF", chain_from(53), generic(33, 12, bytes(8)) + generic(0, 4)),
    Malformed("64 KB of ones", chain_from(255), b"\xff" * KIB64),
]

ENCRYPTED = [
    Malformed("no payload", encrypted_from(0), b""),
    Malformed("no Encrypted payload", encrypted_from(41), generic(0, 8, bytes(4))),
    Malformed("SK announced, none there", encrypted_from(46), b""),
    Malformed("SK of length 0", encrypted_from(46), generic(35, 0, bytes(40))),
    Malformed("SK beyond the end", encrypted_from(46), generic(35, 45, bytes(40))),
    Malformed("octets after SK", encrypted_from(46), generic(35, 44, bytes(41))),
    Malformed("length 0 in front of SK", encrypted_from(41), generic(41, 0) * 4 + generic(35, 44, bytes(40))),
    Malformed("SKF without numbers", encrypted_from(53), generic(35, 4)),
    Malformed("SKF with half a number", encrypted_from(53), generic(35, 7, bytes(3))),
    Malformed("fragment 0", encrypted_from(53), generic(35, 48, struct.pack(">HH", 0, 2) + bytes(40))),
    Malformed("fragment 3 of 2", encrypted_from(53), generic(35, 48, struct.pack(">HH", 3, 2) + bytes(40))),
    Malformed("fragment 1 of 0", encrypted_from(53), generic(35, 48, struct.pack(">HH", 1, 0) + bytes(40))),
    Malformed("16,000 empty payloads, then none", encrypted_from(43), generic(43, 4) * 16000),
    Malformed(
        "SK behind 16,000 empty payloads", encrypted_from(43), generic(43, 4) * 15999 + generic(46, 4) + generic(0, 4)
    ),
]

TWO = transform(more=3) + transform()
SA = [
    Malformed("no proposal", sa.parse_sa, b""),
    Malformed("proposal header cut off", sa.parse_sa, proposal(b"", 0)[:7]),
    Malformed("proposal of length 0", sa.parse_sa, proposal(b"", 0, length=0)),
    Malformed("proposal of length 0 that says more", sa.parse_sa, proposal(b"", 0, length=0, more=2) * 2),
    Malformed("proposal shorter than its header", sa.parse_sa, proposal(b"", 0, length=7)),
    Malformed("proposal beyond the end", sa.parse_sa, proposal(TWO, 2, length=25)),
    Malformed("SPI beyond the proposal", sa.parse_sa, proposal(b"", 0, spi_size=8)),
    Malformed("SPI beyond the proposal, not the body", sa.parse_sa, proposal(b"", 0, spi_size=8, length=8) + bytes(9)),
    Malformed("last proposal says more", sa.parse_sa, proposal(TWO, 2, more=2)),
    Malformed("proposal behind the last", sa.parse_sa, proposal(TWO, 2) * 2),
    Malformed("mark 1", sa.parse_sa, proposal(TWO, 2, more=1)),
    Malformed("mark 3 on a proposal", sa.parse_sa, proposal(TWO, 2, more=3) + proposal(TWO, 2)),
    Malformed("trailing octet", sa.parse_sa, proposal(TWO, 2) + b"\x00"),
    Malformed("IKE SPI of 4 octets", sa.parse_sa, proposal(TWO, 2, spi=bytes(4))),
    Malformed("ESP without SPI", sa.parse_sa, proposal(TWO, 2, protocol=3)),
    Malformed("ESP SPI of 8 octets", sa.parse_sa, proposal(TWO, 2, protocol=3, spi=bytes(8))),
    Malformed("AH SPI of 3 octets", sa.parse_sa, proposal(TWO, 2, protocol=2, spi=bytes(3))),
    Malformed("more transforms announced", sa.parse_sa, proposal(TWO, 3)),
    Malformed("255 transforms announced, none there", sa.parse_sa, proposal(b"", 255)),
    Malformed("fewer transforms announced", sa.parse_sa, proposal(TWO, 1)),
    Malformed("no transforms announced, two there", sa.parse_sa, proposal(TWO, 0)),
    Malformed("last transform says more", sa.parse_sa, proposal(transform(more=3) * 2, 2)),
    Malformed("first transform says last", sa.parse_sa, proposal(transform() * 2, 2)),
    Malformed("mark 2 on a transform", sa.parse_sa, proposal(transform(more=2) + transform(), 2)),
    Malformed("transform of length 0", sa.parse_sa, proposal(transform(length=0), 1)),
    Malformed("transform of length 7", sa.parse_sa, proposal(transform(length=7), 1)),
    Malformed("transform beyond its proposal", sa.parse_sa, proposal(transform(length=12), 1)),
    Malformed(
        "transform into the next proposal",
        sa.parse_sa,
        proposal(transform(length=16), 1, more=2) + proposal(transform(), 1),
    ),
    Malformed(
        "known transform into the next proposal",
        sa.parse_sa,
        proposal(transform(attributes=b"\x80\x0e\x01\x00"), 1, more=2, length=16) + proposal(transform(), 1),
    ),
    Malformed("attribute cut off", sa.parse_sa, proposal(transform(attributes=b"\x80\x0e\x01"), 1)),
    Malformed("TLV attribute beyond the end", sa.parse_sa, proposal(transform(attributes=b"\x00\x0e\x00\x02\x01"), 1)),
    Malformed("TLV of 65535 octets", sa.parse_sa, proposal(transform(attributes=b"\x00\x0e\xff\xff"), 1)),
    Malformed("256 proposals", sa.parse_sa, proposal(b"", 0, more=2) * 255 + proposal(b"", 0)),
    Malformed("64 KB of proposals", sa.parse_sa, proposal(b"", 0, more=2) * 8191),
    Malformed("64 KB of zeros", sa.parse_sa, bytes(KIB64)),
    Malformed("64 KB of ones", sa.parse_sa, b"\xff" * KIB64),
]

TS = [
    Malformed("no octets", selectors.parse_selectors, b""),
    Malformed("header cut off", selectors.parse_selectors, b"\x00\x00\x00"),
    Malformed("one announced, none there", selectors.parse_selectors, b"\x01\x00\x00\x00"),
    Malformed("255 announced, one there", selectors.parse_selectors, b"\xff\x00\x00\x00" + ts4()),
    Malformed("none announced, one there", selectors.parse_selectors, b"\x00\x00\x00\x00" + ts4()),
    Malformed("selector of length 0", selectors.parse_selectors, b"\x02\x00\x00\x00" + ts4(length=0)),
    Malformed("IPv4 selector of length 15", selectors.parse_selectors, b"\x01\x00\x00\x00" + ts4(length=15)[:15]),
    Malformed(
        "IPv4 selector of length 40", selectors.parse_selectors, b"\x01\x00\x00\x00" + ts4(length=40) + bytes(24)
    ),
    Malformed("IPv6 selector of length 16", selectors.parse_selectors, b"\x01\x00\x00\x00\x08" + ts4()[1:]),
    Malformed("selector beyond the end", selectors.parse_selectors, b"\x01\x00\x00\x00" + ts4()[:12]),
    Malformed("unknown type beyond the end", selectors.parse_selectors, b"\x01\x00\x00\x00\x09\x00\x00\x08\x00"),
    Malformed("unknown type of length 3", selectors.parse_selectors, b"\x01\x00\x00\x00\x09\x00\x00\x03"),
    Malformed("addresses backwards", selectors.parse_selectors, b"\x01\x00\x00\x00" + ts4(start=2, end=1)),
    Malformed("ports backwards", selectors.parse_selectors, b"\x01\x00\x00\x00" + ts4(ports=(2, 1))),
    Malformed("trailing octet", selectors.parse_selectors, b"\x01\x00\x00\x00" + ts4() + b"\x00"),
    Malformed("64 KB of ones", selectors.parse_selectors, b"\xff" * KIB64),
]

OTHER_PAYLOADS = [
    Malformed("KE: no octets", ke.parse_ke, b""),
    Malformed("KE: cut off", ke.parse_ke, b"\x00\x1f\x00"),
    Malformed("KE: no data", ke.parse_ke, b"\x00\x1f\x00\x00"),
    Malformed("nonce: none", nonce.parse_nonce, b""),
    Malformed("nonce: 15 octets", nonce.parse_nonce, bytes(15)),
    Malformed("nonce: 257 octets", nonce.parse_nonce, bytes(257)),
    Malformed("nonce: 64 KB", nonce.parse_nonce, bytes(KIB64)),
    Malformed("nonce built too short", nonce.build_nonce, bytes(15)),
    Malformed("notify: no octets", notify.parse_notify, b""),
    Malformed("notify: cut off", notify.parse_notify, b"\x00\x00\x40"),
    Malformed("notify: SPI beyond the end", notify.parse_notify, b"\x03\x04\x40\x09\x01\x02\x03"),
    Malformed("notify: SPI of 255 octets", notify.parse_notify, b"\x03\xff\x40\x09" + bytes(254)),
    Malformed("identity: no octets", identification.parse_identity, b""),
    Malformed("identity: cut off", identification.parse_identity, b"\x01\x00\x00"),
    Malformed("identity: IPv4 of 3 octets", identification.parse_identity, b"\x01\x00\x00\x00abc"),
    Malformed("identity: IPv4 of 16 octets", identification.parse_identity, b"\x01\x00\x00\x00" + bytes(16)),
    Malformed("identity: IPv6 of 4 octets", identification.parse_identity, b"\x05\x00\x00\x00abcd"),
    Malformed("certificate: no octets", cert.parse_cert, b""),
    Malformed("certificate: encoding only", cert.parse_cert, b"\x04"),
    Malformed("certificate request: no octets", cert.parse_certreq, b""),
    Malformed("certificate request: 19 octets", cert.parse_certreq, b"\x04" + bytes(19)),
    Malformed("certificate request: 21 octets", cert.parse_certreq, b"\x04" + bytes(21)),
    Malformed("AUTH: no octets", auth.parse_auth, b""),
    Malformed("AUTH: cut off", auth.parse_auth, b"\x02\x00\x00"),
    Malformed("AUTH: no data", auth.parse_auth, b"\x02\x00\x00\x00"),
    Malformed("delete: no octets", delete.parse_delete, b""),
    Malformed("delete: cut off", delete.parse_delete, b"\x01\x00\x00"),
    Malformed("delete: IKE with SPI", delete.parse_delete, b"\x01\x08\x00\x01" + bytes(8)),
    Malformed("delete: IKE with octets behind", delete.parse_delete, b"\x01\x00\x00\x00\x00"),
    Malformed("delete: ESP with SPI size 0", delete.parse_delete, b"\x03\x00\xff\xff"),
    Malformed("delete: ESP with SPI size 8", delete.parse_delete, b"\x03\x08\x00\x01" + bytes(8)),
    Malformed("delete: 65535 SPIs announced", delete.parse_delete, b"\x03\x04\xff\xff" + bytes(4)),
    Malformed("delete: fewer SPIs announced", delete.parse_delete, b"\x03\x04\x00\x01" + bytes(8)),
    Malformed("delete: half an SPI", delete.parse_delete, b"\x03\x04\x00\x01" + bytes(2)),
    Malformed("vendor ID built empty", vendor.build_vendor, b""),
    Malformed("configuration: no octets", configuration.parse_configuration, b""),
    Malformed("configuration: cut off", configuration.parse_configuration, b"\x01\x00\x00"),
    Malformed("configuration: attribute cut off", configuration.parse_configuration, b"\x01\x00\x00\x00\x00\x01\x00"),
    Malformed("configuration: value beyond the end", configuration.parse_configuration, b"\x01\0\0\0\0\x01\0\x05abcd"),
    Malformed("configuration: value of 64 KB", configuration.parse_configuration, b"\x01\0\0\0\0\x01\xff\xff"),
    Malformed("EAP: no octets", eap.parse_eap, b""),
    Malformed("EAP: cut off", eap.parse_eap, b"\x01\x01\x00"),
    Malformed("EAP: length 0", eap.parse_eap, b"\x01\x01\x00\x00\x01"),
    Malformed("EAP: length beyond the end", eap.parse_eap, b"\x01\x01\x00\x06\x01"),
    Malformed("EAP: octets behind", eap.parse_eap, b"\x01\x01\x00\x05\x01\x00"),
    Malformed("EAP: request without type", eap.parse_eap, b"\x01\x01\x00\x04"),
    Malformed("EAP: success with data", eap.parse_eap, b"\x03\x01\x00\x05\x01"),
    Malformed("EAP: code 0", eap.parse_eap, b"\x00\x01\x00\x05\x01"),
    Malformed("EAP: code 5", eap.parse_eap, b"\x05\x01\x00\x05\x01"),
]

ESP = [
    Malformed("no octets", esp.parse_esp, b""),
    Malformed("cut off", esp.parse_esp, bytes(7)),
    Malformed("SPI 0", esp.parse_esp, bytes(16)),
    Malformed("empty datagram", esp.classify, b""),
    Malformed("one octet that is no keepalive", esp.classify, b"\xfe"),
    Malformed("two octets of ones", esp.classify, b"\xff\xff"),
    Malformed("marker without message", esp.classify, bytes(4)),
    Malformed("SPI without sequence number", esp.classify, b"\x01\x02\x03\x04\x00\x00\x00"),
]

UDP_IN_V6 = bytes((0x12, 0x34, 0x56, 0x78, 0, 8, 0, 0))
IP = [
    Malformed("no octets", ip.packet_selectors, b""),
    Malformed("one octet", ip.packet_selectors, b"\x45"),
    Malformed("version 0", ip.packet_selectors, bytes(40)),
    Malformed("version 5", ip.packet_selectors, ipv4(first=0x55)),
    Malformed("version 15", ip.packet_selectors, b"\xff" * 100),
    Malformed("IPv4: header cut off", ip.packet_selectors, ipv4(total=19)),
    Malformed("IPv4: header length 0", ip.packet_selectors, ipv4(first=0x40)),
    Malformed("IPv4: header length 16", ip.packet_selectors, ipv4(first=0x44)),
    Malformed("IPv4: header longer than the packet", ip.packet_selectors, ipv4(first=0x4F)),
    Malformed("IPv4: total length 0", ip.packet_selectors, ipv4(length=0)),
    Malformed("IPv4: total length 19", ip.packet_selectors, ipv4(length=19)),
    Malformed("IPv4: total length beyond the end", ip.packet_selectors, ipv4(length=29)),
    Malformed("IPv4: total length 65535", ip.packet_selectors, ipv4(length=KIB64)),
    Malformed("IPv6: header cut off", ip.packet_selectors, ipv6(17, b"")[:39]),
    Malformed("IPv6: payload beyond the end", ip.packet_selectors, ipv6(17, UDP_IN_V6, 9)),
    Malformed("IPv6: extension header cut off", ip.packet_selectors, ipv6(0, b"\x11")),
    Malformed("IPv6: no extension header there", ip.packet_selectors, ipv6(60, b"")),
    Malformed("IPv6: extension header beyond the end", ip.packet_selectors, ipv6(0, b"\x11\xff" + bytes(6))),
    Malformed("IPv6: fragment header cut off", ip.packet_selectors, ipv6(44, b"\x11\x00\x00\x00")),
    Malformed("IPv6: jumbogram", ip.packet_selectors, ipv6(0, b"\x11\x00\xc2\x04\x00\x01\x00\x00" + bytes(90), 65535)),
    Malformed("IPv6: 17 extension headers", ip.packet_selectors, ipv6(60, (b"\x3c" + bytes(7)) * 17 + UDP_IN_V6)),
    Malformed("IPv6: 8,000 extension headers", ip.packet_selectors, ipv6(60, (b"\x3c" + bytes(7)) * 8000)),
    Malformed("IPv6: 8,000 atomic fragment headers", ip.packet_selectors, ipv6(44, (b"\x2c" + bytes(7)) * 8000)),
    Malformed("length: no octets", ip.packet_length, b""),
    Malformed("length: IPv4 beyond the end", ip.packet_length, ipv4(length=29)),
    Malformed("length: IPv4 below the header's", ip.packet_length, ipv4(length=19)),
    Malformed("length: IPv6 beyond the end", ip.packet_length, ipv6(17, UDP_IN_V6, 9)),
    Malformed("MSS: no packet", lambda octets: ip.clamp_mss(octets, 1300), b"\x45\x00"),
    Malformed("too big: no packet", lambda octets: ip.too_big(octets, 1400, GATEWAY), b""),
    Malformed("too big: version 9", lambda octets: ip.too_big(octets, 1400, GATEWAY), b"\x99" * 60),
    Malformed("too big: IPv6 as IPv4", lambda o: ip.fragmentation_needed(o, 1400, GATEWAY), ipv6(17, UDP_IN_V6)),
    Malformed("too big: IPv4 as IPv6", lambda octets: ip.packet_too_big(octets, 1400, bytes(16)), ipv4()),
    Malformed("fragments: IPv6", fragments(1280), ipv6(17, bytes(2000))),
    Malformed("fragments: no room", fragments(27), ipv4()),
    Malformed("fragments: ends behind 64 KB", fragments(28), ipv4(length=60, total=60)[:6] + b"\x1f\xff" + bytes(52)),
]

TABLES = {
    "header": IKE_HEADER,
    "chain": CHAIN,
    "encrypted": ENCRYPTED,
    "sa": SA,
    "ts": TS,
    "payloads": OTHER_PAYLOADS,
    "esp": ESP,
    "ip": IP,
}
