"""SPIs are unique towards a peer, whichever member chose them (RFC 6027 section 3.9)."""

from __future__ import annotations

from ike_failover import Backup
from ike_pair import Packet, Pair


class Rigged:
    """Entropy that first draws what somebody else has drawn before."""

    def __init__(self, first: bytes, then: object) -> None:
        self._first: bytes | None = first
        self._then = then

    def __call__(self, length: int) -> bytes:
        if self._first is not None and length == len(self._first):
            first, self._first = self._first, None
            return first
        return self._then(length)  # type: ignore[no-any-return,operator]


def _draw_of(spi_in: int) -> bytes:
    """The octets that would give this SPI (slot 0)."""
    return (spi_in << 6 & 0xFFFFFFFF).to_bytes(4, "big")


def test_the_next_owner_does_not_choose_an_spi_of_an_sa_that_it_has_taken_over() -> None:
    pair = Pair()
    backup = Backup(pair, pair.left)
    pair.establish()
    (first,) = pair.left.installed
    backup.take_over()
    pair.left.endpoint.entropy = Rigged(_draw_of(first), pair.left.endpoint.entropy)
    assert pair.left.endpoint.new_child_spi(pair.left.sa.local_spi) != first


def test_nor_one_that_its_predecessor_has_offered() -> None:
    """The request in flight stands in the record, and with it the SPI in it: the peer may have made that child SA."""
    pair = Pair()
    backup = Backup(pair, pair.left)
    pair.establish()
    (child,) = pair.left.installed
    lost: list[Packet] = []

    def lose(packet: Packet) -> list[Packet]:
        lost.append(packet)
        return []

    pair.network = lose
    pair.left.endpoint.rekey_child(child, pair.now)
    pair.run()
    exchange = pair.left.sa.exchange
    assert exchange is not None
    offered = int.from_bytes(exchange.new_spi, "big")
    backup.take_over()
    endpoint = pair.left.endpoint
    endpoint.entropy = Rigged(_draw_of(offered), endpoint.entropy)
    chosen = endpoint.new_child_spi(pair.left.sa.local_spi)
    assert chosen != offered
    endpoint.release_child_spi(chosen)
    pair.network = lambda packet: [packet]
    pair.advance(5.0)
    assert offered in pair.left.installed
    assert {sa.spi_out for sa in pair.right.installed.values()} == set(pair.left.installed)


def test_nor_an_ike_spi_that_is_taken() -> None:
    pair = Pair()
    backup = Backup(pair, pair.left)
    pair.establish()
    taken = pair.left.sa.local_spi
    backup.take_over()
    draw = bytes((taken[0] << 6 & 0xFF | taken[0] & 0x3F,)) + taken[1:]
    endpoint = pair.left.endpoint
    endpoint.entropy = Rigged(draw, endpoint.entropy)
    assert endpoint.new_ike_spi(pair.left.sa) != taken
