"""Known octets of payloads, and what builders refuse."""

from __future__ import annotations

import pytest

from ipsecha.model.errors import WireError
from ipsecha.model.identity import Identity
from ipsecha.model.proposals import IkeSuite, Proposal, Transform
from ipsecha.model.selectors import TrafficSelector
from ipsecha.wire.chain import join_payloads, split_payloads
from ipsecha.wire.header import build_header
from ipsecha.wire.payloads.cert import build_certreq, parse_certreq
from ipsecha.wire.payloads.configuration import build_configuration
from ipsecha.wire.payloads.delete import build_delete
from ipsecha.wire.payloads.eap import EapPacket, build_eap
from ipsecha.wire.payloads.identification import build_identity
from ipsecha.wire.payloads.notify import build_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa
from ipsecha.wire.payloads.selectors import build_selectors
from ipsecha.wire.reader import Reader
from ipsecha.wire.sk import build_sk_prefix, build_skf_prefix


def test_sa_of_one_suite() -> None:
    body = bytes.fromhex(
        "0000002401010003"  # the only proposal: 36 octets, number 1, IKE, no SPI, three transforms
        "0300000c01000014800e0100"  # AES-GCM-16 with 256 bits
        "0300000802000005"  # PRF_HMAC_SHA2_256
        "000000080400001f"  # Curve25519, the last
    )
    offer = (Proposal(1, 1, b"", IkeSuite(20, 256, 0, 5, 31).transforms()),)
    assert parse_sa(body) == offer
    assert build_sa(offer) == body


def test_proposal_without_transforms() -> None:
    assert parse_sa(build_sa([Proposal(1, 1, b"", ())])) == (Proposal(1, 1, b"", ()),)


@pytest.mark.parametrize("bits", [1, 127, 128, 65535])
def test_unusual_key_lengths_are_kept(bits: int) -> None:
    offer = (Proposal(1, 1, b"", (Transform(1, 65535, bits), Transform(255, 0))),)
    assert parse_sa(build_sa(offer)) == offer


def test_selectors() -> None:
    body = bytes.fromhex("0200000007110010003500350a0000000a0000ff08000028ffff0000") + bytes(16) + b"\xff" * 16
    expected = [
        TrafficSelector(bytes((10, 0, 0, 0)), bytes((10, 0, 0, 255)), 17, 53, 53),
        TrafficSelector(bytes(16), b"\xff" * 16, 0, 65535, 0),
    ]
    assert build_selectors(expected) == body


def test_fixed_parts() -> None:
    assert build_identity(Identity(2, b"a.example")) == b"\x02\x00\x00\x00a.example"
    assert build_notify(16388, b"hash") == b"\x00\x00\x40\x04hash"
    assert build_notify(16393, protocol=3, spi=b"abcd") == b"\x03\x04\x40\x09abcd"
    assert build_delete(1) == b"\x01\x00\x00\x00"
    assert build_delete(3, [b"abcd", b"efgh"]) == b"\x03\x04\x00\x02abcdefgh"
    assert build_certreq(4, [b"h" * 20]) == b"\x04" + b"h" * 20
    assert build_configuration(1, [(1, b"")]) == b"\x01\x00\x00\x00\x00\x01\x00\x00"
    assert build_eap(EapPacket(1, 7, 1, b"who?")) == b"\x01\x07\x00\x09\x01who?"


def test_certificate_request_of_another_encoding_has_no_hashes() -> None:
    assert parse_certreq(b"\x01" + bytes(7)) == (1, ())


def test_no_payloads() -> None:
    assert join_payloads([]) == (0, b"")
    assert split_payloads(0, b"") == []


def test_critical_bit_is_reported_and_reserved_bits_are_not() -> None:
    payloads = split_payloads(200, b"\xc9\x80\x00\x04" + b"\x00\x7f\x00\x05x")
    assert payloads == [(200, True, b""), (201, False, b"x")]


ONE_TOO_LONG = bytes(65532)


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: join_payloads([(40, ONE_TOO_LONG)]), id="payload too long"),
        pytest.param(lambda: join_payloads([(40, b""), (256, b"")]), id="payload type no octet"),
        pytest.param(lambda: build_header(bytes(8), bytes(8), 0, 34, 8, 1 << 32, 28), id="message ID too large"),
        pytest.param(lambda: build_header(bytes(8), bytes(8), 0, 34, 8, -1, 28), id="message ID negative"),
        pytest.param(lambda: build_sk_prefix(bytes(8), bytes(8), 35, 8, 1, 0, 65532), id="SK too long"),
        pytest.param(lambda: build_skf_prefix(bytes(8), bytes(8), 35, 8, 1, 0, 65528, 1, 1), id="SKF too long"),
        pytest.param(lambda: build_skf_prefix(bytes(8), bytes(8), 35, 8, 1, 0, 40, 0, 1), id="fragment 0"),
        pytest.param(lambda: build_skf_prefix(bytes(8), bytes(8), 35, 8, 1, 0, 40, 3, 2), id="fragment 3 of 2"),
        pytest.param(lambda: build_skf_prefix(bytes(8), bytes(8), 35, 8, 1, 0, 40, 1, 65536), id="65536 fragments"),
        pytest.param(lambda: build_sa([]), id="no proposals"),
        pytest.param(lambda: build_sa([Proposal(1, 1, b"", ())] * 256), id="256 proposals"),
        pytest.param(lambda: build_sa([Proposal(1, 1, b"", (Transform(1, 1),) * 256)]), id="256 transforms"),
        pytest.param(lambda: build_sa([Proposal(1, 1, b"", (Transform(1, 1, 65536),))]), id="key length too large"),
        pytest.param(lambda: build_selectors([TrafficSelector(bytes(4), bytes(4))] * 256), id="256 selectors"),
        pytest.param(lambda: build_notify(1, spi=bytes(256)), id="notify SPI too long"),
        pytest.param(lambda: build_delete(3, [bytes(8)]), id="ESP SPI of 8 octets"),
        pytest.param(lambda: build_delete(1, [bytes(8)]), id="IKE with SPI"),
        pytest.param(lambda: build_delete(1, [b""]), id="IKE with empty SPI"),
        pytest.param(lambda: build_delete(3, [bytes(4)] * 65536), id="65536 SPIs"),
        pytest.param(lambda: build_certreq(4, [bytes(19)]), id="authority of 19 octets"),
        pytest.param(lambda: build_configuration(1, [(1, bytes(65536))]), id="configuration value too long"),
        pytest.param(lambda: build_configuration(1, [(0x8000, b"")]), id="configuration type with reserved bit"),
        pytest.param(lambda: build_eap(EapPacket(1, 1, 1, bytes(65531))), id="EAP too long"),
        pytest.param(lambda: build_eap(EapPacket(3, 1, 1)), id="EAP success with type"),
    ],
)
def test_builders_refuse_what_does_not_fit(build: object) -> None:
    with pytest.raises(WireError):
        build()


def test_reader() -> None:
    reader = Reader(bytes(range(10)))
    assert (reader.uint8(), reader.uint16(), reader.uint32()) == (0, 0x0102, 0x03040506)
    reader.skip(1)
    with pytest.raises(WireError):
        reader.octets(3)
    with pytest.raises(WireError):
        reader.octets(-1)
    with pytest.raises(WireError):
        reader.finish()
    assert reader.rest() == b"\x08\x09"
    reader.finish()
    assert reader.rest() == b""
