"""AH (RFC 4302) with HMAC-SHA2 (RFC 4868) and AES-GMAC (RFC 4543): known answers and the rules about each field.

``ah_scapy.json`` holds packets that an independent implementation made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.crypto.key_derivation import key_material_length
from ipsecha.ipsec.ah import AhSa, outer_header
from ipsecha.model.errors import CryptoError, WireError
from ipsecha.model.numbers import Integ, Protocol
from ipsecha.model.proposals import ChildSuite
from ipsecha.wire.ah import AH_FIXED_LENGTH, gather_ipv4, gather_ipv6
from ipsecha.wire.ip import build_ipv4

KNOWN = json.loads((Path(__file__).parent / "ah_scapy.json").read_text())
SPI = KNOWN["spi"].to_bytes(4, "big")
INTEG = {
    "SHA2-256-128": Integ.HMAC_SHA2_256_128,
    "SHA2-384-192": Integ.HMAC_SHA2_384_192,
    "SHA2-512-256": Integ.HMAC_SHA2_512_256,
}
GMAC = (Integ.AES_128_GMAC, Integ.AES_192_GMAC, Integ.AES_256_GMAC)
V4, V6 = ("192.0.2.1", "198.51.100.1"), ("2001:db8::1", "2001:db8::2")
SRC6, DST6 = bytes.fromhex("20010db8" + "0" * 23 + "1"), bytes.fromhex("20010db8" + "0" * 23 + "2")
INNER = build_ipv4(bytes(4), bytes(4), 17, b"0123456789")


def _suite(integ: int, esn: bool = False) -> ChildSuite:
    return ChildSuite(Protocol.AH, 0, 0, integ, 0, esn)


def _sa(integ: int, esn: bool = False) -> AhSa:
    suite = _suite(integ, esn)
    return AhSa(suite, bytes(range(key_material_length(suite))))


def _gathered(sent: bytes, ipv6: bool) -> bytes:
    return gather_ipv6(SRC6, DST6, sent) if ipv6 else gather_ipv4(sent)


def _opened(sa: AhSa, gathered: bytes, seq_high: int | None = None) -> tuple[int, bytes]:
    padded = sa.open(gathered[:8], seq_high, gathered[8:])
    assert padded[-2] == 0
    return padded[-1], padded[:-2]


def _protected(sa: AhSa, *, ipv6: bool = False, number: int = 7, esn: bool = False, iv: bytes = bytes(8)) -> bytes:
    outer = outer_header(*(V6 if ipv6 else V4), 0, True)
    return sa.protect(SPI, number, (4, INNER), iv if sa.counter_iv else b"", outer, esn)


@pytest.mark.parametrize("case", KNOWN["cases"], ids=lambda case: case["name"])
def test_known_answers(case: dict[str, Any]) -> None:
    """RFC 4302 section 3.3.3: what is authenticated; 3.3.2, 2.5.1: extended numbers, whose high half is not sent."""
    packet, inner, ipv6 = bytes.fromhex(case["packet"]), bytes.fromhex(case["inner"]), "v6" in case["name"]
    suite = _suite(INTEG[case["integ"]], case["esn"])
    sa = AhSa(suite, bytes.fromhex(case["key"]))
    high = case["seq"] >> 32 if case["esn"] else None
    assert _opened(sa, _gathered(packet[40:] if ipv6 else packet, ipv6), high) == (4, inner)
    outer = outer_header(*(V6 if ipv6 else V4), case["tos"], case["df"])
    sent = sa.protect(SPI, case["seq"], (4, inner), b"", outer, case["esn"])
    if ipv6:
        assert sent == packet[40:]
    else:  # the checksum is the kernel's
        assert sent[:10] + sent[12:] == packet[:10] + packet[12:]


@pytest.mark.parametrize("integ", GMAC)
@pytest.mark.parametrize("ipv6", [False, True])
def test_gmac_is_gcm_without_plaintext(integ: int, ipv6: bool) -> None:
    """RFC 4543 section 4: the ICV field is IV and tag; the nonce is salt and IV; the AAD is what AH authenticates, the
    whole field zero.  RFC 4302 section 2.6: behind IPv6, AH is padded to a multiple of 8 octets."""
    key = bytes(range({Integ.AES_128_GMAC: 20, Integ.AES_192_GMAC: 28, Integ.AES_256_GMAC: 36}[Integ(integ)]))
    iv = bytes.fromhex("0000010000000007")
    sent = _protected(_sa(integ), ipv6=ipv6, iv=iv)
    start = 0 if ipv6 else 20
    field = sent[start + AH_FIXED_LENGTH : start + AH_FIXED_LENGTH + 24]
    assert field[:8] == iv
    padding = bytes(4) if ipv6 else b""
    ah = bytes((4, (36 + len(padding)) // 4 - 2, 0, 0)) + SPI + (7).to_bytes(4, "big")
    if ipv6:
        header = bytes.fromhex("60000000") + len(sent).to_bytes(2, "big") + b"\x33\x00" + SRC6 + DST6
    else:
        header = bytes.fromhex("4500") + len(sent).to_bytes(2, "big") + (7).to_bytes(2, "big") + bytes(2)
        header += b"\x00\x33\x00\x00" + bytes((192, 0, 2, 1, 198, 51, 100, 1))
    tag = AESGCM(key[:-4]).encrypt(key[-4:] + iv, b"", header + ah + bytes(24) + padding + INNER)
    assert field[8:] == tag
    assert sent[start:] == ah + field + padding + INNER


@pytest.mark.parametrize("integ", [*INTEG.values(), *GMAC])
@pytest.mark.parametrize("ipv6", [False, True])
def test_every_immutable_octet_counts(integ: int, ipv6: bool) -> None:
    """RFC 4302 section 3.3.3.1 and appendix A: mutable fields may change on the way, nothing else may."""
    sa = _sa(integ)
    sent = _protected(sa, ipv6=ipv6)
    mutable = {} if ipv6 else {1, 6, 8, 10, 11}  # DSCP and ECN, DF (the offset must be 0), TTL, checksum
    assert _opened(sa, _gathered(sent, ipv6)) == (4, INNER)
    for position in range(len(sent)):
        bit = 0x40 if position == 6 and not ipv6 else 1
        changed = sent[:position] + bytes((sent[position] ^ bit,)) + sent[position + 1 :]
        if position in mutable:
            assert _opened(sa, _gathered(changed, ipv6)) == (4, INNER)
            continue
        with pytest.raises((CryptoError, WireError)):
            _opened(sa, _gathered(changed, ipv6))


def test_the_high_half_of_the_number_is_authentic() -> None:
    """RFC 4302 section 3.3.3.2.2: it is part of what is authenticated, though it is not sent."""
    sa = _sa(Integ.HMAC_SHA2_256_128, esn=True)
    sent = _protected(sa, number=3 << 32 | 9, esn=True)
    assert _opened(sa, gather_ipv4(sent), 3) == (4, INNER)
    for high in (2, 4, None):
        with pytest.raises(CryptoError):
            _opened(sa, gather_ipv4(sent), high)


def test_more_padding_than_ours_is_accepted() -> None:
    """RFC 4302 section 2.6: padding is the sender's choice; some align to 8 octets behind IPv4, too."""
    sa = _sa(Integ.HMAC_SHA2_256_128)
    outer = outer_header(*V4, 0, True)
    header = outer.authenticated(AH_FIXED_LENGTH + 20 + len(INNER), 7)
    ah = bytes((4, 32 // 4 - 2, 0, 0)) + SPI + (7).to_bytes(4, "big")
    icv = sa._transform.sign(header + ah, bytes(4) + INNER, None, b"")
    assert _opened(sa, gather_ipv4(header + ah + icv + bytes(4) + INNER)) == (4, INNER)


@given(st.binary(max_size=120), st.booleans())
def test_arbitrary_octets_are_refused(octets: bytes, ipv6: bool) -> None:
    sa = _sa(Integ.AES_128_GMAC)
    with pytest.raises((CryptoError, WireError)):
        _opened(sa, _gathered(octets, ipv6))


@given(st.binary(max_size=120))
def test_arbitrary_gathered_octets_are_refused(octets: bytes) -> None:
    with pytest.raises(CryptoError):
        _sa(Integ.HMAC_SHA2_256_128).open(octets[:8], None, octets[8:])


def test_ip_options_are_refused() -> None:
    packet = bytearray(_protected(_sa(Integ.HMAC_SHA2_256_128)))
    packet[0] = 0x46
    with pytest.raises(WireError, match="options"):
        gather_ipv4(bytes(packet))


@pytest.mark.parametrize("offset", [0x2000, 0x0001, 0x1FFF, 0x6000])
def test_fragments_are_refused(offset: int) -> None:
    """Section 3.4.1: "If a packet offered to AH for processing appears to be an IP fragment [...] the receiver MUST
    discard the packet"."""
    packet = bytearray(_protected(_sa(Integ.HMAC_SHA2_256_128)))
    packet[6:8] = offset.to_bytes(2, "big")
    with pytest.raises(WireError, match="fragment"):
        gather_ipv4(bytes(packet))


@pytest.mark.parametrize("stated", [0, 20, 31, 0xFFFF])
def test_an_impossible_length_is_refused(stated: int) -> None:
    """What the IPv4 header states leaves no room for AH, or is more than there is."""
    packet = bytearray(_protected(_sa(Integ.HMAC_SHA2_256_128)))
    packet[2:4] = stated.to_bytes(2, "big")
    with pytest.raises(WireError, match="states"):
        gather_ipv4(bytes(packet))


@pytest.mark.parametrize("integ", [Integ.NONE, 1, 99])
def test_ah_is_never_without_integrity(integ: int) -> None:
    with pytest.raises(CryptoError, match="not supported"):
        key_material_length(_suite(integ))


def test_gmac_keys_of_rfc_4543_are_for_ah_only() -> None:
    """RFC 4543 section 5.3: the integrity transform MUST NOT be used with ESP."""
    with pytest.raises(CryptoError):
        key_material_length(ChildSuite(Protocol.ESP, 11, 0, Integ.AES_128_GMAC, 0, False))
    with pytest.raises(CryptoError):
        AhSa(ChildSuite(Protocol.ESP, 11, 0, Integ.HMAC_SHA2_256_128, 0, False), bytes(32))
