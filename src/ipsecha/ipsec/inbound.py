"""Inbound ESP processing in tunnel mode (RFC 4303 section 3.4, RFC 4301 section 5.2).

The order is the RFC's: SAD lookup, replay check, integrity check and decryption, replay window, padding and next
header, selectors.  In between stands the counter lease (invariant I3): a packet above it has passed its integrity
check, so that no forger moves a lease, but is neither delivered nor marked as seen until the backup has acknowledged
more.  After a takeover stands the gap (``ipsec.gap``): what it refuses is authenticated first, while it is open.
"""

from __future__ import annotations

from struct import Struct

from ipsecha.ipsec.counters import PlaneCounters
from ipsecha.ipsec.gap import Gap
from ipsecha.ipsec.live import LiveSa
from ipsecha.ipsec.sad import Sad
from ipsecha.ipsec.tunnel import NEXT_HEADER_DUMMY, NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, PADDING
from ipsecha.model.errors import CryptoError, WireError
from ipsecha.model.numbers import Protocol
from ipsecha.model.records import Address
from ipsecha.wire.ip import decapsulate_ecn, packet_length, packet_selectors

_ACCEPTED_LIMIT = 4096  # pairs of addresses that an SA remembers as matching its selectors
_REPORT_S = 1.0  # how often one SA's inbound traffic is reported
_UNKNOWN_S = 0.1  # how often an unknown SPI is reported
_HEADER = Struct(">II")
_IPV6 = 0x60


class Inbound:
    """The inbound half of the packet path."""

    def __init__(self, sad: Sad, counters: PlaneCounters) -> None:
        self.sad = sad
        self.counters = counters
        self._seen: list[int] = []
        self._unknown_at = 0.0

    def process(
        self, datagrams: list[bytes], remote: Address, outer: int, now: float, protocol: int = Protocol.ESP
    ) -> list[bytes]:
        """ESP packets, or gathered AH packets (``wire.ah``), from one address: the inner packets for delivery.

        ``outer``: the traffic class of the outer headers.  Hostile packets are counted and never raise.
        """
        delivered: list[bytes] = []
        lives = self.sad.lives
        last, before = None, 0
        for datagram in datagrams:
            if len(datagram) < 8:
                self.counters.malformed += 1
                continue
            spi, low = _HEADER.unpack_from(datagram)
            live = lives.get(spi) or self.sad.adopt(spi)
            if live is None:
                self._unknown(spi, remote, now)
                continue
            if live.protocol != protocol:
                self.counters.malformed += 1
                continue
            if live is not last:
                self._finish(last, before, now)
                last, before = live, live.packets_in
            self._receive(live, low, datagram, remote, outer, now, delivered)
        self._finish(last, before, now)
        if self._seen:
            self.sad.events.traffic_in(self._seen)
            self._seen = []
        return delivered

    def release(self, live: LiveSa, now: float) -> list[bytes]:
        """The held packets of an SA whose lease has been extended, as far as it goes."""
        delivered: list[bytes] = []
        waiting, live.held_in = live.held_in, []
        self.sad.held -= len(waiting)
        before = live.packets_in
        for held in waiting:
            number, padded, remote, outer, datagram = held
            if live.window.fresh(number):
                self._admit(live, number, padded, datagram, remote, outer, now, delivered)
        self._finish(live, before, now)
        return delivered

    def _receive(
        self, live: LiveSa, low: int, datagram: bytes, remote: Address, outer: int, now: float, delivered: list[bytes]
    ) -> None:
        window = live.window
        number = window.infer(low) if live.esn else low
        gap = live.gap
        if not window.fresh(number):
            if gap is not None and not gap.closed_at and not gap.learnt and 0 < number <= gap.floor:
                self._in_gap(live, gap, number, datagram, remote, outer, now, delivered)
            else:
                live.replays += 1
                self.counters.replayed += 1
            return
        try:
            padded = live.inbound.open(datagram[:8], number >> 32 if live.esn else None, datagram[8:])
        except CryptoError:
            number = gap.number_of(low) if gap is not None and live.esn else 0
            if gap is not None and not gap.closed_at and not gap.learnt and number > 0:
                self._in_gap(live, gap, number, datagram, remote, outer, now, delivered)
            else:
                live.integrity_failures += 1
                self.counters.integrity += 1
            return
        self._admit(live, number, padded, datagram, remote, outer, now, delivered)

    def _in_gap(
        self,
        live: LiveSa,
        gap: Gap,
        number: int,
        datagram: bytes,
        remote: Address,
        outer: int,
        now: float,
        delivered: list[bytes],
    ) -> None:
        """A number that the owner before may have delivered, after a takeover: refused, or learnt from."""
        try:
            padded = live.inbound.open(datagram[:8], number >> 32 if live.esn else None, datagram[8:])
        except CryptoError:
            live.integrity_failures += 1
            self.counters.integrity += 1
            return
        if gap.may_learn(number):
            live.learn(number)
            self._admit(live, number, padded, datagram, remote, outer, now, delivered)
            return
        self.counters.in_gap += 1
        if gap.refuse(number):
            self.sad.events.gap_traffic(live.spi_in, gap.refused, gap.remaining)

    def _admit(
        self,
        live: LiveSa,
        number: int,
        padded: bytes,
        datagram: bytes,
        remote: Address,
        outer: int,
        now: float,
        delivered: list[bytes],
    ) -> None:
        """An authentic packet: deliver it, or hold it while its number is above the lease."""
        if live.hard_done:
            self.counters.exhausted += 1
            return
        if number > live.in_lease.mark and not self.sad.may_deliver(live, number, now):
            if self.sad.room_to_hold(len(live.held_in)):
                live.held_in.append((number, padded, remote, outer, datagram))
            else:
                self.counters.hold_overflow += 1
            return
        if remote != live.remote and live.follows and remote[1] and number > live.window.top:
            self._moved(live, remote)
        live.window.accept(number)
        live.packets_in += 1
        live.bytes_in += len(padded)
        packet = self._decapsulated(live, padded, outer)
        if packet is not None:
            delivered.append(packet)

    def _unknown(self, spi: int, remote: Address, now: float) -> None:
        """Anybody can send these: the gateway hears of some, and the counter of all (invariant I7)."""
        self.counters.unknown_spi += 1
        if now >= self._unknown_at + _UNKNOWN_S:
            self._unknown_at = now
            self.sad.events.unknown_spi(spi, remote)

    def _finish(self, live: LiveSa | None, before: int, now: float) -> None:
        """After a stretch of packets of one SA, of which it had accepted ``before`` then: times, events, limits."""
        if live is None or live.packets_in == before:
            return
        live.last_in = now
        if live.gap is not None and not live.gap.closed_at:
            live.gap.closed_at = now
            self.sad.events.gap_closed(live.spi_in)
        if live.awaits_first:
            live.awaits_first = False
            self.sad.events.child_used(live.spi_in)
        if now - live.reported_in >= _REPORT_S:
            live.reported_in = now
            self._seen.append(live.spi_in)
        self.sad.check_volume(live)

    def _moved(self, live: LiveSa, remote: Address) -> None:
        """The newest authentic packet came from elsewhere: a NAT has a new mapping (RFC 7296 section 2.23)."""
        if remote != live.moved_to:
            live.moved_to = remote
            self.sad.events.peer_moved(live.spi_in, remote)

    def _decapsulated(self, live: LiveSa, padded: bytes, outer: int) -> bytes | None:
        """The inner packet behind the trailer, cut to its own length (TFC padding, RFC 4303 section 2.7)."""
        pad_length, next_header = padded[-2], padded[-1]
        end = len(padded) - 2 - pad_length
        if end < 0 or padded[end:-2] != PADDING[:pad_length]:
            self.counters.bad_padding += 1
            return None
        if next_header == NEXT_HEADER_DUMMY:
            self.counters.dummies += 1
            return None
        try:
            packet = padded[: packet_length(padded[:end])]
        except WireError:
            self.counters.malformed += 1
            return None
        if next_header != (NEXT_HEADER_IPV4 if packet[0] < _IPV6 else NEXT_HEADER_IPV6):
            self.counters.malformed += 1
            return None
        key = packet[12:20] if packet[0] < _IPV6 else packet[8:40]
        if key not in live.accepted and not self._matches(live, key, packet):
            self.counters.selector_mismatch += 1
            return None
        if outer & 3:
            marked = decapsulate_ecn(packet, outer)
            if marked is None:
                self.counters.ecn_dropped += 1
            return marked
        return packet

    @staticmethod
    def _matches(live: LiveSa, key: bytes, packet: bytes) -> bool:
        """Whether the packet came by the SA that its selectors ask for (RFC 4301 section 5.2 step 4)."""
        try:
            src, dst, protocol, src_port, dst_port = packet_selectors(packet)
        except WireError:
            return False
        if not live.selection.matches(dst, src, protocol, dst_port, src_port):
            return False
        if live.selection.addresses_only:
            if len(live.accepted) >= _ACCEPTED_LIMIT:
                live.accepted.clear()
            live.accepted.add(key)
        return True
