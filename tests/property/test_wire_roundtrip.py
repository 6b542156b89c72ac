"""parse(build(x)) == x for every payload and header of the wire layer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipsecha.model.identity import Identity
from ipsecha.model.proposals import Proposal, Transform
from ipsecha.model.selectors import TrafficSelector
from ipsecha.wire.chain import join_payloads, split_payloads
from ipsecha.wire.esp import build_esp, parse_esp
from ipsecha.wire.header import HEADER_LENGTH, build_header, parse_header
from ipsecha.wire.payloads.auth import build_auth, parse_auth
from ipsecha.wire.payloads.cert import build_cert, build_certreq, parse_cert, parse_certreq
from ipsecha.wire.payloads.configuration import build_configuration, parse_configuration
from ipsecha.wire.payloads.counter_sync import (
    MessageIdSync,
    build_message_id_sync,
    build_replay_counter_sync,
    parse_message_id_sync,
    parse_replay_counter_sync,
)
from ipsecha.wire.payloads.delete import build_delete, parse_delete
from ipsecha.wire.payloads.eap import EapPacket, build_eap, parse_eap
from ipsecha.wire.payloads.identification import build_identity, parse_identity
from ipsecha.wire.payloads.ke import build_ke, parse_ke
from ipsecha.wire.payloads.nonce import build_nonce, parse_nonce
from ipsecha.wire.payloads.notify import NotifyPayload, build_notify, parse_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa
from ipsecha.wire.payloads.selectors import build_selectors, parse_selectors
from ipsecha.wire.payloads.vendor import build_vendor, parse_vendor
from ipsecha.wire.sk import SkHeader, build_sk_prefix, build_skf_prefix, find_encrypted

octet = st.integers(0, 0xFF)
word = st.integers(0, 0xFFFF)
long_word = st.integers(0, 0xFFFFFFFF)
spi8 = st.binary(min_size=8, max_size=8)
spi4 = st.binary(min_size=4, max_size=4)
data = st.binary(min_size=1, max_size=300)
chain_type = octet.filter(lambda kind: kind not in (0, 46, 53))

transforms = st.builds(Transform, octet, word, st.one_of(st.just(0), st.just(128), word))
proposals = st.one_of(
    st.builds(Proposal, octet, st.just(1), st.one_of(st.just(b""), spi8), st.lists(transforms, max_size=12).map(tuple)),
    st.builds(Proposal, octet, st.sampled_from((2, 3)), spi4, st.lists(transforms, max_size=12).map(tuple)),
)


@st.composite
def traffic_selectors(draw: st.DrawFn) -> TrafficSelector:
    size = draw(st.sampled_from((4, 16)))
    ends = sorted(draw(st.tuples(*[st.binary(min_size=size, max_size=size)] * 2)))
    ports = draw(st.one_of(st.just((65535, 0)), st.tuples(word, word).map(sorted)))
    return TrafficSelector(ends[0], ends[1], draw(octet), ports[0], ports[1])


@given(spi8, spi8, octet, octet, octet, long_word, st.binary(max_size=64))
def test_header(
    spi_i: bytes, spi_r: bytes, following: int, exchange: int, flags: int, message_id: int, rest: bytes
) -> None:
    length = HEADER_LENGTH + len(rest)
    built = build_header(spi_i, spi_r, following, exchange, flags, message_id, length)
    header = parse_header(built + rest)
    assert header == (spi_i, spi_r, following, exchange, flags, message_id, length, 2)
    assert header.from_initiator == bool(flags & 8)
    assert header.is_response == bool(flags & 32)


@given(st.lists(st.tuples(chain_type, st.binary(max_size=100)), max_size=30))
def test_chain(payloads: list[tuple[int, bytes]]) -> None:
    found = split_payloads(*join_payloads(payloads))
    assert [(payload.type, payload.body) for payload in found] == payloads
    assert not any(payload.critical for payload in found)


@given(st.lists(proposals, min_size=1, max_size=10).map(tuple))
def test_sa(offer: tuple[Proposal, ...]) -> None:
    assert parse_sa(build_sa(offer)) == offer


@given(word, data)
def test_ke(group: int, public: bytes) -> None:
    assert parse_ke(build_ke(group, public)) == (group, public)


@given(octet.filter(lambda kind: kind not in (1, 5)), st.binary(max_size=100))
def test_identity(kind: int, name: bytes) -> None:
    assert parse_identity(build_identity(Identity(kind, name))) == Identity(kind, name)


@given(st.one_of(spi4.map(lambda a: Identity(1, a)), st.binary(min_size=16, max_size=16).map(lambda a: Identity(5, a))))
def test_address_identity(identity: Identity) -> None:
    assert parse_identity(build_identity(identity)) == identity


@given(octet, data)
def test_cert(encoding: int, certificate: bytes) -> None:
    assert parse_cert(build_cert(encoding, certificate)) == (encoding, certificate)


@given(st.sampled_from((4, 12, 13)), st.lists(st.binary(min_size=20, max_size=20), max_size=9).map(tuple))
def test_certreq(encoding: int, hashes: tuple[bytes, ...]) -> None:
    assert parse_certreq(build_certreq(encoding, hashes)) == (encoding, hashes)


@given(octet, data)
def test_auth(method: int, value: bytes) -> None:
    assert parse_auth(build_auth(method, value)) == (method, value)


@given(st.binary(min_size=16, max_size=256))
def test_nonce(nonce: bytes) -> None:
    assert parse_nonce(build_nonce(nonce)) == nonce


@given(word, st.binary(max_size=100), octet, st.binary(max_size=255))
def test_notify(kind: int, value: bytes, protocol: int, spi: bytes) -> None:
    assert parse_notify(build_notify(kind, value, protocol, spi)) == NotifyPayload(protocol, spi, kind, value)


@given(st.one_of(st.just((1, ())), st.tuples(st.sampled_from((2, 3)), st.lists(spi4, max_size=20).map(tuple))))
def test_delete(value: tuple[int, tuple[bytes, ...]]) -> None:
    assert parse_delete(build_delete(*value)) == value


@given(st.lists(traffic_selectors(), max_size=20).map(tuple))
def test_selectors(value: tuple[TrafficSelector, ...]) -> None:
    assert parse_selectors(build_selectors(value)) == value


@given(data)
def test_vendor(value: bytes) -> None:
    assert parse_vendor(build_vendor(value)) == value


@given(octet, st.lists(st.tuples(st.integers(0, 0x7FFF), st.binary(max_size=40)), max_size=20).map(tuple))
def test_configuration(kind: int, attributes: tuple[tuple[int, bytes], ...]) -> None:
    assert parse_configuration(build_configuration(kind, attributes)) == (kind, attributes)


@given(
    st.one_of(
        st.builds(EapPacket, st.sampled_from((1, 2)), octet, octet, st.binary(max_size=100)),
        st.builds(EapPacket, st.sampled_from((3, 4)), octet, st.just(0), st.just(b"")),
    )
)
def test_eap(packet: EapPacket) -> None:
    assert parse_eap(build_eap(packet)) == packet


@given(st.integers(1, 0xFFFFFFFF), st.integers(0, 2**64 - 1), st.binary(max_size=60))
def test_esp(spi: int, seq: int, rest: bytes) -> None:
    assert parse_esp(build_esp(spi, seq) + rest) == (spi, seq & 0xFFFFFFFF)


@given(spi8, spi8, octet, octet, long_word, octet, st.binary(max_size=100))
def test_sk(spi_i: bytes, spi_r: bytes, exchange: int, flags: int, message_id: int, inner: int, sealed: bytes) -> None:
    message = build_sk_prefix(spi_i, spi_r, exchange, flags, message_id, inner, len(sealed)) + sealed
    header = parse_header(message)
    assert header[:2] + header[3:6] == (spi_i, spi_r, exchange, flags, message_id)
    found = find_encrypted(message, header.next_payload)
    assert found == SkHeader(28, 32, inner)
    assert message[found.body_offset :] == sealed


@given(octet, st.binary(max_size=100), st.tuples(st.integers(1, 0xFFFF), st.integers(1, 0xFFFF)).map(sorted))
def test_skf(inner: int, sealed: bytes, numbers: list[int]) -> None:
    message = build_skf_prefix(bytes(8), bytes(8), 35, 8, 1, inner, len(sealed), *numbers) + sealed
    found = find_encrypted(message, parse_header(message).next_payload)
    assert found == SkHeader(28, 36, inner if numbers[0] == 1 else 0, *numbers)
    assert message[found.body_offset :] == sealed


@given(st.builds(MessageIdSync, spi4, long_word, long_word))
def test_message_id_sync(sync: MessageIdSync) -> None:
    built = build_message_id_sync(sync)
    assert len(built) == 12
    assert parse_message_id_sync(built) == sync
    assert built == sync.nonce + sync.send.to_bytes(4, "big") + sync.receive.to_bytes(4, "big")


@given(long_word, st.booleans())
def test_replay_counter_sync(delta: int, esn: bool) -> None:
    built = build_replay_counter_sync(delta, esn=esn)
    assert len(built) == (8 if esn else 4)
    assert parse_replay_counter_sync(built) == delta
