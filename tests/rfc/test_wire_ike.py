"""RFC 7296 section 3 and RFC 7383 section 2.5: one test for each MUST that the wire layer answers for."""

from __future__ import annotations

import struct

import pytest

from ipsecha.model.errors import WireError
from ipsecha.model.identity import Identity
from ipsecha.model.proposals import Proposal, Transform
from ipsecha.model.selectors import TrafficSelector
from ipsecha.wire.chain import join_payloads, split_payloads
from ipsecha.wire.header import build_header, parse_header
from ipsecha.wire.payloads.auth import build_auth, parse_auth
from ipsecha.wire.payloads.delete import build_delete, parse_delete
from ipsecha.wire.payloads.identification import build_identity, parse_identity
from ipsecha.wire.payloads.ke import build_ke, parse_ke
from ipsecha.wire.payloads.nonce import parse_nonce
from ipsecha.wire.payloads.notify import build_notify, parse_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa
from ipsecha.wire.payloads.selectors import build_selectors, parse_selectors
from ipsecha.wire.sk import build_sk_prefix, build_skf_prefix, find_encrypted

SPI_I, SPI_R = b"initiatr", b"respondr"
GCM = struct.pack(">BBHBBHHH", 3, 0, 12, 1, 0, 20, 0x800E, 256)
PRF_LAST = struct.pack(">BBHBBH", 0, 0, 8, 2, 0, 5)


def attributes(octets: bytes) -> bytes:
    """An ENCR transform that is not the last, with these attributes."""
    return struct.pack(">BBHBBH", 3, 0, 8 + len(octets), 1, 0, 20) + octets


def offer(*transforms: bytes) -> bytes:
    body = b"".join(transforms)
    return struct.pack(">BBHBBBB", 0, 0, 8 + len(body), 1, 1, 0, len(transforms)) + body


def test_version_is_2_0_and_minor_versions_are_ignored() -> None:
    """RFC 7296 section 3.1: major version 2 and minor version 0 MUST be set; the minor version of received messages
    MUST be ignored."""
    message = build_header(SPI_I, SPI_R, 0, 34, 8, 0, 28)
    assert message[17] == 0x20
    assert parse_header(message[:17] + b"\x2f" + message[18:]).version == 2


def test_greater_major_version_is_shown_to_the_caller() -> None:
    """RFC 7296 section 2.5: a higher major version MUST be dropped, and SHOULD be answered: the caller sees it."""
    message = build_header(SPI_I, SPI_R, 0, 34, 8, 0, 28)
    assert parse_header(message[:17] + b"\x30" + message[18:]).version == 3


def test_unknown_flags_are_ignored() -> None:
    """RFC 7296 section 3.1: the X bits and the V bit MUST be ignored on receipt."""
    header = parse_header(build_header(SPI_I, SPI_R, 0, 34, 0xD7, 0, 28))
    assert not header.from_initiator
    assert not header.is_response
    header = parse_header(build_header(SPI_I, SPI_R, 0, 34, 0xFF, 0, 28))
    assert header.from_initiator
    assert header.is_response


def test_reserved_fields_are_zero_when_sent_and_ignored_when_received() -> None:
    """RFC 7296 section 2.5: RESERVED fields MUST be set to zero and their content MUST be ignored."""
    assert join_payloads([(40, b"n")])[1] == b"\x00\x00\x00\x05n"
    assert split_payloads(40, b"\x00\x7f\x00\x05n") == [(40, False, b"n")]
    assert build_ke(31, b"k") == b"\x00\x1f\x00\x00k"
    assert parse_ke(b"\x00\x1f\xff\xffk") == (31, b"k")
    assert build_auth(2, b"a") == b"\x02\x00\x00\x00a"
    assert parse_auth(b"\x02\xff\xff\xffa") == (2, b"a")
    assert build_identity(Identity(2, b"a")) == b"\x02\x00\x00\x00a"
    assert parse_identity(b"\x02\xff\xff\xffa") == Identity(2, b"a")
    selectors = (TrafficSelector(bytes(4), bytes(4)),)
    body = build_selectors(selectors)
    assert body[1:4] == bytes(3)
    assert parse_selectors(body[:1] + b"\xff\xff\xff" + body[4:]) == selectors
    proposals = (Proposal(1, 1, b"", (Transform(2, 5),)),)
    body = bytearray(build_sa(proposals))
    assert (body[1], body[9], body[13]) == (0, 0, 0)
    body[1] = body[9] = body[13] = 0xFF
    assert parse_sa(bytes(body)) == proposals


def test_payloads_in_any_order() -> None:
    """RFC 7296 section 2.5: a message MUST NOT be rejected because its payloads are in another order."""
    first, octets = join_payloads([(41, b"abcd"), (40, b"n"), (33, b"s"), (41, b"efgh")])
    assert [payload.type for payload in split_payloads(first, octets)] == [41, 40, 33, 41]


def test_unknown_payloads_are_kept_with_their_critical_bit() -> None:
    """RFC 7296 section 2.5: unknown payloads MUST be skipped unless critical; the caller decides by the bit."""
    payloads = split_payloads(200, b"\xc9\x80\x00\x05x" + b"\x28\x00\x00\x04" + b"\x00\x00\x00\x05n")
    assert payloads == [(200, True, b"x"), (201, False, b""), (40, False, b"n")]


def test_critical_bit_is_never_sent() -> None:
    """RFC 7296 section 3.2: C MUST be zero for the payload types of that document."""
    _, octets = join_payloads([(kind, b"") for kind in range(33, 49)])
    assert not any(octets[1::4])


def test_nonce_lengths() -> None:
    """RFC 7296 section 3.9: the nonce MUST be 16 to 256 octets long."""
    assert parse_nonce(bytes(16)) == bytes(16)
    assert parse_nonce(bytes(256)) == bytes(256)
    for length in (0, 15, 257):
        with pytest.raises(WireError):
            parse_nonce(bytes(length))


def test_last_substructure_marks() -> None:
    """RFC 7296 sections 3.3.1 and 3.3.2: 0 for the last, 2 for a proposal and 3 for a transform that is not."""
    body = build_sa([Proposal(1, 1, b"", (Transform(2, 5), Transform(2, 6))), Proposal(2, 1, b"", (Transform(2, 7),))])
    assert (body[0], body[8], body[16]) == (2, 3, 0)
    assert (body[24], body[32]) == (0, 0)


def test_key_length_is_a_tv_attribute_in_bits() -> None:
    """RFC 7296 section 3.3.5: Key Length is type 14 and MUST be encoded in the TV format, in bits."""
    assert build_sa([Proposal(1, 1, b"", (Transform(1, 20, 256),))])[16:] == b"\x80\x0e\x01\x00"
    assert parse_sa(offer(GCM, PRF_LAST))[0].transforms[0] == Transform(1, 20, 256)


@pytest.mark.parametrize(
    "unknown",
    [
        pytest.param(b"\x80\x0f\x00\x01", id="unknown TV"),
        pytest.param(b"\x00\x0f\x00\x03abc", id="unknown TLV"),
        pytest.param(b"\x00\x0f\x00\x00", id="unknown empty TLV"),
        pytest.param(b"\x00\x0e\x00\x02\x01\x00", id="Key Length as TLV"),
        pytest.param(b"\x80\x0e\x01\x00\x80\x0f\x00\x01", id="Key Length and unknown"),
        pytest.param(b"\x80\x0e\x01\x00\x80\x0e\x00\x80", id="two Key Lengths"),
        pytest.param(b"\x80\x0e\x00\x00", id="Key Length 0"),
    ],
)
def test_transform_with_unknown_attribute_is_unacceptable(unknown: bytes) -> None:
    """RFC 7296 section 3.3.6: a transform with an attribute that is not understood MUST NOT be chosen; others of
    the same type can be.  Where there is no other, the proposal MUST be rejected, not the payload."""
    assert parse_sa(offer(attributes(unknown), GCM, PRF_LAST)) == (
        Proposal(1, 1, b"", (Transform(1, 20, 256), Transform(2, 5))),
    )
    assert parse_sa(offer(attributes(unknown), PRF_LAST)) == ()


def test_unknown_transform_types_and_ids_stay_visible() -> None:
    """RFC 7296 section 3.3.6: a proposal with an unknown transform type MUST be rejected by whoever chooses."""
    unknown = (Transform(99, 1), Transform(1, 60000, 77), Transform(4, 999))
    assert parse_sa(build_sa([Proposal(1, 1, b"", unknown)]))[0].transforms == unknown


@pytest.mark.parametrize(("protocol", "sizes"), [(1, (0, 8)), (2, (4,)), (3, (4,))])
def test_spi_sizes_of_proposals(protocol: int, sizes: tuple[int, ...]) -> None:
    """RFC 7296 section 3.3.1: 0 or 8 octets for IKE, 4 for AH and ESP."""
    for size in range(12):
        body = struct.pack(">BBHBBBB", 0, 0, 16 + size, 1, protocol, size, 1) + bytes(range(size)) + PRF_LAST
        if size in sizes:
            assert parse_sa(body)[0].spi == bytes(range(size))
        else:
            with pytest.raises(WireError):
                parse_sa(body)


def test_notify_without_spi_has_protocol_0() -> None:
    """RFC 7296 section 3.10: with no SPI the protocol MUST be sent as zero and MUST be ignored on receipt."""
    assert build_notify(16388)[:2] == b"\x00\x00"
    assert parse_notify(b"\x77\x00\x40\x04")[1:] == (b"", 16388, b"")


def test_unknown_notify_types_are_parsed() -> None:
    """RFC 7296 section 3.10.1: unknown status types MUST be ignored, so they are no error of syntax."""
    assert parse_notify(build_notify(65535, b"data")).type == 65535


def test_delete_spi_sizes() -> None:
    """RFC 7296 section 3.11: the SPI size MUST be zero for IKE and four for AH and ESP."""
    assert build_delete(1)[1] == 0
    assert build_delete(3, [b"abcd"])[1] == 4
    assert parse_delete(build_delete(2, [b"abcd"])) == (2, (b"abcd",))
    for body in (b"\x01\x04\x00\x01abcd", b"\x03\x00\x00\x00", b"\x03\x08\x00\x01abcdefgh"):
        with pytest.raises(WireError):
            parse_delete(body)


def test_unknown_traffic_selector_types_are_ignored() -> None:
    """RFC 7296 section 2.9: the responder ignores a selector of unknown type and takes the others."""
    known = TrafficSelector(bytes((10, 0, 0, 0)), bytes((10, 0, 0, 255)))
    body = build_selectors([known])
    fibre_channel = b"\x09\x00\x00\x18" + bytes(20)
    assert parse_selectors(b"\x02" + body[1:4] + fibre_channel + body[4:]) == (known,)
    assert parse_selectors(b"\x01" + body[1:4] + fibre_channel) == ()


def test_any_and_opaque_ports() -> None:
    """RFC 7296 section 3.13.1: ANY MUST be 0 to 65535 and OPAQUE MUST be 65535 to 0."""
    any_ports, opaque = TrafficSelector(bytes(4), bytes(4), 17), TrafficSelector(bytes(4), bytes(4), 17, 65535, 0)
    body = build_selectors([any_ports, opaque])
    assert (body[8:12], body[24:28]) == (b"\x00\x00\xff\xff", b"\xff\xff\x00\x00")
    assert parse_selectors(body) == (any_ports, opaque)


def test_encrypted_payload_is_the_last() -> None:
    """RFC 7296 section 3.14: the Encrypted payload MUST be the last one; its Next Payload is that of the plaintext."""
    message = build_sk_prefix(SPI_I, SPI_R, 35, 8, 1, 35, 40) + bytes(40)
    assert split_payloads(46, message[28:]) == [(46, False, bytes(40))]
    assert find_encrypted(message, 46).first_inner == 35
    with pytest.raises(WireError):
        find_encrypted(message + bytes(4), 46)
    with pytest.raises(WireError):
        split_payloads(46, message[28:] + bytes(4))


def test_payloads_before_the_encrypted_one() -> None:
    """RFC 7296 section 3.14: other payloads may precede; all up to the IV is authenticated (RFC 5282 section 5.1)."""
    _, octets = join_payloads([(41, build_notify(16390, b"x" * 10)), (46, bytes(40))])
    message = build_header(SPI_I, SPI_R, 41, 35, 8, 1, 28 + len(octets)) + octets
    found = find_encrypted(message, 41)
    assert (found.offset, found.body_offset) == (28 + 18, 28 + 18 + 4)


def test_empty_encrypted_payload_of_a_liveness_check() -> None:
    """RFC 7296 section 1.4: an INFORMATIONAL request without payloads has Next Payload 0 in the SK payload."""
    message = build_sk_prefix(SPI_I, SPI_R, 37, 8, 5, 0, 25) + bytes(25)
    assert find_encrypted(message, 46) == (28, 32, 0, 0, 0)


def test_fragment_numbers() -> None:
    """RFC 7383 section 2.5: numbers start at 1, MUST NOT exceed the total, and none of them is 0."""
    for number, total in ((1, 1), (2, 2), (1, 65535), (65535, 65535)):
        message = build_skf_prefix(SPI_I, SPI_R, 35, 8, 1, 35, 40, number, total) + bytes(40)
        assert find_encrypted(message, 53)[3:] == (number, total)
    for number, total in ((0, 1), (0, 0), (1, 0), (2, 1)):
        message = bytearray(build_skf_prefix(SPI_I, SPI_R, 35, 8, 1, 35, 40, 1, 1) + bytes(40))
        message[32:36] = struct.pack(">HH", number, total)
        with pytest.raises(WireError):
            find_encrypted(bytes(message), 53)


def test_next_payload_only_in_the_first_fragment() -> None:
    """RFC 7383 section 2.5: Next Payload is that of the first inner payload in fragment 1 and MUST be 0 in others."""
    first = build_skf_prefix(SPI_I, SPI_R, 35, 8, 1, 35, 40, 1, 2) + bytes(40)
    second = build_skf_prefix(SPI_I, SPI_R, 35, 8, 1, 35, 40, 2, 2) + bytes(40)
    assert (first[28], second[28]) == (35, 0)
    assert find_encrypted(first, 53).first_inner == 35
    assert find_encrypted(second, 53).first_inner == 0


def test_associated_data_of_a_fragment_includes_its_numbers() -> None:
    """RFC 7383 section 2.5 with RFC 5282 section 5.1: all octets before the IV."""
    message = build_skf_prefix(SPI_I, SPI_R, 35, 8, 1, 35, 40, 2, 3) + bytes(40)
    assert find_encrypted(message, 53).body_offset == 36
    assert message[32:36] == struct.pack(">HH", 2, 3)
