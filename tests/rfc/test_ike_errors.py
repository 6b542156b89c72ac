"""Errors within an established IKE SA (RFC 7296 sections 2.5 and 2.21.3)."""

from __future__ import annotations

import struct

import pytest

from ike_pair import Packet, Pair
from ipsecha.crypto.protection import Protection
from ipsecha.ike.message import open_message
from ipsecha.ike.window import inbound_protection, outbound_protection
from ipsecha.model.numbers import Notify
from ipsecha.model.records import IkeSa
from ipsecha.wire.chain import split_payloads
from ipsecha.wire.header import parse_header
from ipsecha.wire.payloads.notify import build_notify, parse_notify


def established() -> Pair:
    pair = Pair()
    pair.establish()
    pair.sent.clear()
    return pair


def sealed(
    pair: Pair, inner: bytes, first: int, *, exchange: int = 37, flags: int = 0x08, message_id: int = -1
) -> Packet:
    """A message of the left side with these octets inside, whatever they are."""
    sa = pair.left.sa
    protection: Protection = outbound_protection(sa)
    number = sa.next_request_id if message_id < 0 else message_id
    length = protection.sealed_length(len(inner))
    prefix = struct.pack(
        ">8s8sBBBBIIBBH", sa.spi_i, sa.spi_r, 46, 0x20, exchange, flags, number, 32 + length, first, 0, 4 + length
    )
    iv = struct.pack(">Q", 1 << 60 | number)
    return Packet(prefix + protection.seal(prefix, iv, inner), sa.local, sa.remote)


def answer(pair: Pair, packet: Packet, sa: IkeSa) -> list[tuple[int, bytes]]:
    """The notifications of the answer to ``packet``."""
    pair.deliver(packet)
    pair.gather()
    (response,) = pair.queue
    pair.queue.clear()
    inner = open_message(inbound_protection(sa), parse_header(response.data), response.data)
    notifies = [parse_notify(one.body) for one in split_payloads(inner.first_payload, inner.octets)]
    return [(one.type, one.data) for one in notifies]


def test_a_malformed_request_ends_the_ike_sa_on_both_sides() -> None:
    """Section 2.21.3: INVALID_SYNTAX is fatal in both peers, without an explicit DELETE."""
    pair = established()
    sa = pair.left.sa
    request = sealed(pair, b"\0\0\0\x02", 41)
    assert answer(pair, request, sa) == [(Notify.INVALID_SYNTAX, b"")]
    assert not pair.right.sas
    assert not pair.right.installed
    assert "malformed-message" in pair.right.events
    pair.deliver(request)
    pair.gather()
    assert len(pair.queue) == 1, "the answer is repeated even so"


def test_the_initiator_of_a_malformed_request_ends_it_too() -> None:
    """Section 2.21.3, the other side: an INVALID_SYNTAX response to our request."""
    pair = established()
    pair.left.endpoint.check_liveness(pair.left.sa.local_spi, pair.now)
    pair.gather()
    pair.queue.clear()
    body = build_notify(Notify.INVALID_SYNTAX)
    right = pair.right.sa
    protection = outbound_protection(right)
    length = protection.sealed_length(8)
    prefix = struct.pack(
        ">8s8sBBBBIIBBH", right.spi_i, right.spi_r, 46, 0x20, 37, 0x20, 2, 32 + length, 41, 0, 4 + length
    )
    data = prefix + protection.seal(prefix, b"\xff" * 8, struct.pack(">BBH", 0, 0, 8) + body)
    pair.deliver(Packet(data, right.local, right.remote))
    assert not pair.left.sas
    assert pair.left.endpoint.child_index == {}


def test_an_unknown_critical_payload_is_refused_and_the_ike_sa_stays() -> None:
    """Section 2.5: reject the whole message, with the payload type in the notification."""
    pair = established()
    request = sealed(pair, struct.pack(">BBH", 0, 0x80, 8) + b"what", 210)
    assert answer(pair, request, pair.left.sa) == [(Notify.UNSUPPORTED_CRITICAL_PAYLOAD, b"\xd2")]
    assert pair.right.sas


def test_an_unknown_payload_that_is_not_critical_is_skipped() -> None:
    """Section 2.5."""
    pair = established()
    request = sealed(pair, struct.pack(">BBH", 0, 0, 8) + b"what", 210)
    assert answer(pair, request, pair.left.sa) == []


@pytest.mark.parametrize("kind", [9999, 16999, 50000])
def test_unknown_notifications_in_a_request_are_ignored(kind: int) -> None:
    """Section 3.10.1: unknown status types MUST be ignored, and unknown errors in a request too."""
    pair = established()
    request = sealed(pair, struct.pack(">BBH", 0, 0, 8) + build_notify(kind), 41)
    assert answer(pair, request, pair.left.sa) == []
    assert pair.right.sas


def test_an_unknown_exchange_type_is_malformed() -> None:
    """Section 2.21: INVALID_SYNTAX for a value out of range in an authentic message."""
    pair = established()
    sa = pair.left.sa
    assert answer(pair, sealed(pair, b"", 0, exchange=77), sa) == [(Notify.INVALID_SYNTAX, b"")]


def test_the_initiator_flag_is_checked() -> None:
    """Section 3.1: the flag tells whose SPI is whose; with the wrong one there is no such IKE SA."""
    pair = established()
    pair.deliver(sealed(pair, b"", 0, flags=0))
    assert pair.right.sa.expected_request_id == 2


def test_a_message_with_other_spis_is_not_of_this_ike_sa() -> None:
    """Section 2.6: the IKE SA is found by its SPIs alone."""
    pair = established()
    data = bytearray(sealed(pair, b"", 0).data)
    data[0] ^= 1
    pair.deliver(Packet(bytes(data), pair.left.sa.local, pair.left.sa.remote))
    assert pair.right.sa.expected_request_id == 2


@pytest.mark.parametrize("offset", [-1, 1, 5])
def test_a_request_outside_of_the_window_is_not_answered(offset: int) -> None:
    """Section 2.3: MUST NOT be answered; INVALID_MESSAGE_ID is never a response."""
    pair = established()
    pair.left.endpoint.check_liveness(pair.left.sa.local_spi, pair.now)
    pair.run()
    pair.sent.clear()
    number = pair.left.sa.next_request_id + offset
    pair.deliver(sealed(pair, b"", 0, message_id=number))
    pair.gather()
    if offset == -1:
        assert not [packet for packet in pair.sent if packet.message_id != number]
    else:
        assert not pair.sent
    assert pair.right.sa.expected_request_id == pair.left.sa.next_request_id


def test_an_unprotected_error_changes_no_ike_sa() -> None:
    """Section 2.21.4: MUST NOT respond and MUST NOT change the state of any existing SAs."""
    pair = established()
    sa = pair.left.sa
    pair.left.endpoint.check_liveness(sa.local_spi, pair.now)
    pair.gather()
    pair.queue.clear()
    body = struct.pack(">BBH", 0, 0, 8) + build_notify(Notify.INVALID_IKE_SPI)
    for number, flags in ((2, 0x20), (2, 0x00), (0, 0x00)):
        data = struct.pack(">8s8sBBBBII", sa.spi_i, sa.spi_r, 41, 0x20, 37, flags, number, 36) + body
        pair.deliver(Packet(data, sa.remote, sa.local))
    pair.gather()
    assert not pair.queue
    assert pair.left.sa.exchange is not None
    assert pair.left.sa.children
