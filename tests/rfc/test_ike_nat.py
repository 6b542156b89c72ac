"""NAT traversal (RFC 7296 section 2.23, RFC 3948)."""

from __future__ import annotations

import hashlib

from ike_pair import LEFT_IP, RIGHT_IP, Packet, Pair, left_connection, right_connection
from ipsecha.ike.nat import detect, detection_hash
from ipsecha.model.effects import Keepalive, UpdateChild
from ipsecha.model.records import IkeFlag

OUTSIDE = "203.0.113.50"


class Nat:
    """A NAT in front of the left side: it maps ports, and forgets when told to."""

    def __init__(self, pair: Pair) -> None:
        self.shift = 20000
        pair.right.policy = pair.right.policy
        pair.network = self.translate
        self._pair = pair

    def translate(self, packet: Packet) -> list[Packet]:
        if packet.source[0] == LEFT_IP:
            return [packet._replace(source=(OUTSIDE, packet.source[1] + self.shift))]
        address, port = packet.destination
        if address != OUTSIDE or port - self.shift not in (500, 4500):
            return []
        return [packet._replace(destination=(LEFT_IP, port - self.shift))]


def pair_behind_nat(**more: object) -> tuple[Pair, Nat]:
    pair = Pair(left_connection(**more), right_connection(remote=("203.0.113.0/24",), **more))
    nat = Nat(pair)
    pair.establish()
    return pair, nat


def test_the_hash_covers_spis_address_and_port() -> None:
    """Section 2.23: SHA-1 of the SPIs in header order, the IP address and the port."""
    spi_i, spi_r = b"initiatr", b"respondr"
    octets = spi_i + spi_r + bytes((192, 0, 2, 1)) + b"\x01\xf4"
    assert detection_hash(spi_i, spi_r, ("192.0.2.1", 500)) == hashlib.sha1(octets).digest()
    octets = spi_i + spi_r + bytes.fromhex("20010db8000000000000000000000001") + b"\x11\x94"
    assert detection_hash(spi_i, spi_r, ("2001:db8::1", 4500)) == hashlib.sha1(octets).digest()


def test_one_of_several_source_hashes_is_enough() -> None:
    """Section 2.23: there may be several NAT_DETECTION_SOURCE_IP; only if none matches there is a NAT."""
    spis = b"initiatr", bytes(8)
    local, remote = ("192.0.2.1", 500), ("192.0.2.2", 500)
    right, wrong = detection_hash(*spis, remote), detection_hash(*spis, ("192.0.2.3", 500))
    here = detection_hash(*spis, local)
    assert detect(*spis, local, remote, [wrong, right], [here]) == 0
    assert detect(*spis, local, remote, [wrong], [here]) == IkeFlag.REMOTE_NAT | IkeFlag.ENCAPSULATE
    assert detect(*spis, local, remote, [right], [wrong]) == IkeFlag.LOCAL_NAT | IkeFlag.ENCAPSULATE
    assert detect(*spis, local, remote, [], []) == 0


def test_behind_a_nat_everything_moves_to_port_4500() -> None:
    """Section 2.23: the initiator MUST use port 4500 from IKE_AUTH on; the responder answers where it came from."""
    pair, nat = pair_behind_nat()
    left, right = pair.left.sa, pair.right.sa
    assert (left.local, left.remote) == ((LEFT_IP, 4500), (RIGHT_IP, 4500))
    assert (right.local, right.remote) == ((RIGHT_IP, 4500), (OUTSIDE, 4500 + nat.shift))
    assert left.flags & IkeFlag.LOCAL_NAT
    assert right.flags & IkeFlag.REMOTE_NAT
    assert left.flags & right.flags & IkeFlag.ENCAPSULATE
    assert {packet.destination[1] for packet in pair.sent if packet.exchange == 35 and not packet.is_response} == {4500}


def test_the_side_behind_the_nat_keeps_the_mapping_alive() -> None:
    """Section 2.23 and RFC 3948 section 4: a keepalive each interval, from the side behind the NAT only."""
    pair, _ = pair_behind_nat(keepalive_s=20.0, dpd_s=0.0)
    pair.advance(101.0)
    keepalives = [effect for effect in pair.left.effects if isinstance(effect, Keepalive)]
    assert len(keepalives) == 5
    assert {(one.local, one.remote) for one in keepalives} == {((LEFT_IP, 4500), (RIGHT_IP, 4500))}
    assert not [effect for effect in pair.right.effects if isinstance(effect, Keepalive)]


def test_without_nat_there_are_no_keepalives() -> None:
    """RFC 3948 section 4: keepalives only where a NAT was detected."""
    pair = Pair()
    pair.establish()
    pair.advance(200.0)
    assert not [effect for side in pair.sides for effect in side.effects if isinstance(effect, Keepalive)]


def test_a_new_mapping_is_followed_when_an_authentic_new_message_shows_it() -> None:
    """Section 2.23: a host that is not behind a NAT SHOULD send to where the last valid packet came from."""
    pair, nat = pair_behind_nat()
    nat.shift = 30000
    pair.right.effects.clear()
    pair.left.endpoint.check_liveness(pair.left.sa.local_spi, pair.now)
    pair.run()
    assert pair.right.sa.remote == (OUTSIDE, 34500)
    assert [effect for effect in pair.right.effects if isinstance(effect, UpdateChild)]
    pair.right.endpoint.check_liveness(pair.right.sa.local_spi, pair.now)
    pair.run()
    assert pair.right.sa.exchange is None


def test_esp_from_a_new_mapping_is_followed_too() -> None:
    """Section 2.23: it need not be an IKE message."""
    pair, nat = pair_behind_nat()
    nat.shift = 30000
    pair.right.endpoint.peer_moved(pair.right.sa.children[0].spi_in, (OUTSIDE, 34500), pair.now)
    assert pair.right.sa.remote == (OUTSIDE, 34500)


def test_an_old_or_forged_message_does_not_move_the_peer() -> None:
    """Section 2.23: only a message that is new and passes the integrity check counts."""
    pair, _ = pair_behind_nat()
    pair.left.endpoint.check_liveness(pair.left.sa.local_spi, pair.now)
    pair.gather()
    request = pair.queue[0]
    pair.run()
    before = pair.right.sa.remote
    elsewhere = ("203.0.113.99", 4500)
    pair.deliver(request._replace(source=elsewhere))
    pair.left.endpoint.check_liveness(pair.left.sa.local_spi, pair.now)
    pair.gather()
    following = pair.queue.pop(0)
    forged = following.data[:-1] + bytes((following.data[-1] ^ 1,))
    pair.deliver(following._replace(data=forged, source=elsewhere))
    assert pair.right.sa.remote == before


def test_a_peer_that_is_not_behind_a_nat_does_not_move() -> None:
    """Section 2.23 allows it only where a NAT was detected (without MOBIKE, addresses are fixed)."""
    pair = Pair()
    pair.establish()
    pair.left.endpoint.check_liveness(pair.left.sa.local_spi, pair.now)
    pair.gather()
    request = pair.queue.pop(0)
    pair.deliver(request._replace(source=("203.0.113.99", 500)))
    assert pair.right.sa.remote == (LEFT_IP, 500)
    pair.gather()
    assert pair.queue[0].destination == ("203.0.113.99", 500)


def test_a_host_behind_a_nat_does_not_follow() -> None:
    """Section 2.23: a host behind a NAT SHOULD NOT do this: it would open it to a denial of service."""
    pair, _ = pair_behind_nat()
    pair.left.endpoint.peer_moved(pair.left.sa.children[0].spi_in, ("203.0.113.99", 4500), pair.now)
    assert pair.left.sa.remote == (RIGHT_IP, 4500)


def test_a_responder_that_forces_encapsulation_is_taken_to_be_behind_a_nat() -> None:
    """A source hash that matches nothing makes the initiator move to port 4500 and encapsulate."""
    pair = Pair(right=right_connection(encapsulate=True))
    pair.establish()
    assert pair.left.sa.flags & IkeFlag.REMOTE_NAT
    assert pair.left.sa.remote == (RIGHT_IP, 4500)
    assert pair.right.sa.flags & IkeFlag.ENCAPSULATE
