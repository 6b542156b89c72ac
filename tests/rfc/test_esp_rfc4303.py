"""RFC 4303 (ESP), one test per requirement of the packet path; vectors of the Linux kernel through the whole of it."""

from __future__ import annotations

import pytest
from crypto_vectors import load

from esp_pair import ALL_SUITES, CBC, GCM_ESN, NULL_ESN, Side, child_sa, pair, selectors, sequence_number, udp
from ipsecha.model.leases import Leasing
from ipsecha.model.numbers import Encr, Protocol
from ipsecha.model.proposals import ChildSuite

BACK = ("10.2.0.5", "10.1.0.5")


def test_the_first_number_is_1_and_each_next_one_more() -> None:
    """Section 2.2: the sender's counter starts at 0, the first packet has 1; MUST NOT cycle (section 3.3.3)."""
    left, _ = pair()
    assert [sequence_number(one) for one in left.send(udp(), udp(), udp())] == [1, 2, 3]


def test_the_counter_does_not_cycle() -> None:
    """Section 3.3.3: the sender MUST NOT send a packet that would cause the sequence number to cycle."""
    left, _ = pair()
    live = left.sad.adopt(0x1001)
    assert live is not None
    live.next_out = 0xFFFFFFFF
    assert [sequence_number(one) for one in left.send(udp(), udp())] == [0xFFFFFFFF]
    assert left.send(udp()) == []


@pytest.mark.parametrize("suite", [GCM_ESN, NULL_ESN], ids=str)
def test_extended_numbers_cross_the_wrap_and_only_the_low_half_is_sent(suite: ChildSuite) -> None:
    """Section 2.2.1: only the low-order 32 bits are transmitted, the high-order bits are in the ICV computation."""
    left, right = pair(suite)
    one, other = left.sad.adopt(0x1001), right.sad.adopt(0x2002)
    assert one is not None
    assert other is not None
    one.next_out = (1 << 32) - 2
    other.window.top = (1 << 32) - 10
    datagrams = left.send(*[udp()] * 5)
    assert [sequence_number(one) for one in datagrams] == [0xFFFFFFFE, 0xFFFFFFFF, 0, 1, 2]
    assert len(right.receive(*datagrams)) == 5
    assert other.window.top == (1 << 32) + 2


@pytest.mark.parametrize("suite", ALL_SUITES, ids=str)
def test_payload_ends_on_a_boundary_and_padding_counts_up(suite: ChildSuite) -> None:
    """Section 2.4: padding to the block size and 4-octet alignment even for stream ciphers; 1, 2, 3, ..."""
    left, right = pair(suite)
    live, peer = left.sad.adopt(0x1001), right.sad.adopt(0x2002)
    assert live is not None
    assert peer is not None
    for size in range(60, 80):
        (datagram,) = left.send(udp(size=size))
        number = live.next_out - 1
        padded = peer.inbound.open(datagram[:8], number >> 32 if suite.esn else None, datagram[8:])
        assert len(padded) % max(4, live.block) == 0
        length = padded[-2]
        assert padded[size : size + length] == bytes(range(1, length + 1))
        assert padded[-1] == 4


def test_next_header_tells_the_inner_version() -> None:
    """Section 2.6: 4 for IPv4 in tunnel mode, 41 for IPv6; a packet that says otherwise is not delivered."""
    left, right = pair()
    live, peer = left.sad.adopt(0x1001), right.sad.adopt(0x2002)
    assert live is not None
    assert peer is not None
    (datagram,) = left.send(udp("2001:db8:1::5", "2001:db8:2::5"))
    assert peer.inbound.open(datagram[:8], None, datagram[8:])[-1] == 41
    assert right.receive(left.outbound._encrypt(live, live.outbound, 9, udp(size=102) + bytes((0, 41)))) == []


def test_dummy_packets_can_be_sent_and_are_discarded_silently() -> None:
    """Section 2.6: a transmitter MUST be capable of generating dummy packets (next header 59); a receiver MUST be
    prepared to discard them without indicating an error."""
    left, right = pair()
    live = left.sad.adopt(0x1001)
    assert live is not None
    (run,) = left.outbound.dummy(live, 333, 0.0)
    assert right.receive(*run.datagrams) == []
    assert right.counters.dummies == 1
    assert right.counters.malformed == 0


def test_traffic_flow_padding_is_trimmed_by_the_inner_length() -> None:
    """Section 2.7: octets behind the inner packet, in front of the padding, are discarded."""
    left, right = pair()
    live = left.sad.adopt(0x1001)
    assert live is not None
    inner = udp(size=100)
    assert right.receive(left.outbound._encrypt(live, live.outbound, 1, inner + bytes(50) + bytes((0, 4)))) == [inner]


def test_no_sa_means_discard() -> None:
    """Section 3.4.2: if no valid SA exists for the packet the receiver MUST discard it; auditable."""
    left, _ = pair()
    assert left.receive((0x99999).to_bytes(4, "big") + bytes(60)) == []
    assert left.counters.unknown_spi == 1


def test_duplicates_are_rejected_before_decryption() -> None:
    """Section 3.4.3: the receiver MUST verify that the number does not duplicate one already received."""
    left, right = pair()
    datagrams = right.send(*[udp(*BACK)] * 3)
    assert len(left.receive(*datagrams)) == 3
    assert left.receive(*datagrams) == []
    assert left.sad.lives[0x1001].replays == 3
    assert left.sad.lives[0x1001].integrity_failures == 0


def test_packets_left_of_the_window_are_rejected() -> None:
    """Section 3.4.3: packets to the left of the window are discarded; a minimum window of 32 MUST be supported."""
    left, right = pair(replay_window=1)
    datagrams = right.send(*[udp(*BACK)] * 33)
    assert left.receive(datagrams[32]) != []
    assert left.receive(datagrams[1]) != []
    assert left.receive(datagrams[0]) == []


@pytest.mark.parametrize("suite", ALL_SUITES, ids=str)
def test_a_bad_icv_is_discarded_and_does_not_move_the_window(suite: ChildSuite) -> None:
    """Section 3.4.3: the window MUST NOT be advanced until the integrity check has succeeded; section 3.4.4: a packet
    that fails MUST be discarded."""
    left, right = pair(suite)
    (datagram,) = right.send(udp(*BACK))
    forged = datagram[:-1] + bytes((datagram[-1] ^ 1,))
    assert left.receive(forged) == []
    jumped = datagram[:4] + (5000).to_bytes(4, "big") + datagram[8:]
    assert left.receive(jumped) == []
    assert left.sad.lives[0x1001].window.top == 0
    assert left.receive(datagram) != []
    assert left.sad.lives[0x1001].integrity_failures == 2


def test_a_wrong_high_half_fails_the_integrity_check() -> None:
    """Section 2.2.1 and appendix A2: a replay from an earlier subspace is read as a later number and does not
    verify."""
    left, right = pair(GCM_ESN)
    early = right.send(*[udp(*BACK)] * 3)
    left.receive(*early)
    left.sad.lives[0x1001].window.top = 3 << 32
    assert left.receive(*early) == []
    assert left.sad.lives[0x1001].integrity_failures == 3


def test_reception_counter_starts_at_zero_for_a_new_sa() -> None:
    """Section 3.4.3: the receive counter MUST be initialised to zero when the SA is established."""
    side = Side(mode=Leasing.LEASED)
    side.install(child_sa(0x1001, 0x2002, in_ceiling=0, out_ceiling=0))
    live = side.sad.adopt(0x1001)
    assert live is not None
    assert live.window.top == 0


def test_the_iv_never_repeats_and_names_the_incarnation() -> None:
    """RFC 4106 section 3.1: never the same IV with one key; ours is the incarnation above a counter."""
    left, _ = pair()
    ivs = [one[8:16] for one in left.send(*[udp()] * 500)]
    assert len(set(ivs)) == 500
    assert {iv[:3] for iv in ivs} == {bytes((0, 0, 1))}


def test_cbc_ivs_are_drawn_for_each_packet() -> None:
    """RFC 3602 section 3: the IV MUST be chosen at random and be unpredictable."""
    left, _ = pair(CBC)
    drawn: list[int] = []

    def entropy(length: int) -> bytes:
        drawn.append(length)
        return bytes((len(drawn),)) * length

    left.outbound._entropy = entropy
    datagrams = left.send(udp(), udp())
    assert drawn == [16, 16]
    assert [one[8] for one in datagrams] == [1, 2]


def test_linux_kernel_vectors_through_the_whole_inbound_path() -> None:
    """RFC 4106 sections 4 and 5: the kernel's AES-GCM ESP vectors as packets on the wire, with and without ESN.  The
    SA takes them as authentic; none names a next header of tunnel mode, so nothing is delivered."""
    for vector in load("esp_aead_linux_testmgr.json")["vectors"]["AES-GCM-ESP rfc4106"]:
        key, salt, aad = (bytes.fromhex(vector[name]) for name in ("key", "salt", "aad"))
        sealed = bytes.fromhex(vector["ciphertext_and_tag"])
        suite = ChildSuite(Protocol.ESP, Encr.AES_GCM_16, len(key) * 8, 0, 0, len(aad) == 12)
        number = int.from_bytes(aad[4:], "big")
        everything = selectors("0.0.0.0/0", "::/0")
        child = child_sa(int.from_bytes(aad[:4], "big"), 0x2002, suite, local_ts=everything, remote_ts=everything)
        child.keys = (key + salt) * 2
        side = Side()
        side.install(child)
        live = side.sad.adopt(child.spi_in)
        assert live is not None
        live.window.top = max(number - 1, 0)
        assert side.receive(aad[:4] + aad[-4:] + bytes.fromhex(vector["iv"]) + sealed) == []
        assert live.integrity_failures == 0
        assert live.packets_in == (1 if number else 0)  # number 0 is never valid
