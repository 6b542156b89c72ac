"""Outbound ESP and AH processing in tunnel mode (RFC 4303 section 3.3, RFC 4302 section 3.3, RFC 4301 section 5.1):
batches of inner packets in, runs of protected packets out."""

from __future__ import annotations

from collections.abc import Callable

from ipsecha.crypto.esp_transforms import EspTransform
from ipsecha.ipsec.ah import AhSa, outer_header
from ipsecha.ipsec.counters import PlaneCounters
from ipsecha.ipsec.live import LiveSa
from ipsecha.ipsec.sad import Sad
from ipsecha.ipsec.spd import ACQUIRE, BYPASS, DISCARD, Bundle, Verdict
from ipsecha.ipsec.tunnel import (
    IPV6_MINIMUM_MTU,
    NEXT_HEADER_DUMMY,
    NEXT_HEADER_IPV4,
    NEXT_HEADER_IPV6,
    decrement_ttl,
    trailers,
)
from ipsecha.model.errors import WireError
from ipsecha.model.policy import TooBig
from ipsecha.wire.ip import (
    clamp_mss,
    dont_fragment,
    fragment_ipv4,
    packet_length,
    packet_selectors,
    too_big,
)

_TRAILERS_IPV4 = {block: trailers(block, NEXT_HEADER_IPV4) for block in (4, 16)}
_TRAILERS_IPV6 = {block: trailers(block, NEXT_HEADER_IPV6) for block in (4, 16)}
_TRAILERS_DUMMY = {block: trailers(block, NEXT_HEADER_DUMMY) for block in (4, 16)}
_IV_COUNTER = (1 << 40) - 1
_LOW = 0xFFFFFFFF
_TCP, _UDP, _SYN = 6, 17, 2
_IPV4_PLAIN, _IPV6 = 0x45, 0x60


class Run:
    """ESP or AH packets that leave one after the other in equal outer headers; those of AH over IPv4 bear theirs.

    ``outer``: traffic class << 1 | DF.
    """

    __slots__ = ("datagrams", "live", "outer")

    def __init__(self, live: LiveSa, outer: int) -> None:
        self.live = live
        self.outer = outer
        self.datagrams: list[bytes] = []


class Outbound:
    """The outbound half of the packet path.

    ``back`` collects packets for the inner side (ICMP errors), ``bypass`` those that leave as they are; whoever calls
    ``process`` takes them.  ``forwards``: nobody has decremented the TTL of what comes in here yet.
    """

    def __init__(
        self, sad: Sad, counters: PlaneCounters, entropy: Callable[[int], bytes], *, forwards: bool = False
    ) -> None:
        self.sad = sad
        self.counters = counters
        self.forwards = forwards
        self.back: list[bytes] = []
        self.bypass: list[bytes] = []
        self._entropy = entropy

    def process(self, packets: list[bytes], now: float) -> list[Run]:
        """Inner packets by the SPD: runs of ESP and AH packets.  Bad packets are counted and never raise."""
        runs: list[Run] = []
        by_addresses = self.sad.spd.by_addresses
        last: LiveSa | None = None
        group: list[bytes] = []
        for packet in packets:
            found = by_addresses.get(packet[12:20] if packet[:1] < b"\x50" else packet[8:40])
            if found.__class__ is Bundle and len(packet) >= 20:
                live = found.current or self.sad.sender(found)
            else:
                live = self._resolve(packet)
            if live is None:
                if found.__class__ is Bundle:
                    self.counters.no_policy += 1
                continue
            if live is not last:
                if last is not None:
                    self._protect(last, group, now, runs)
                last, group = live, []
            group.append(packet)
        if last is not None:
            self._protect(last, group, now, runs)
        return runs

    def release(self, live: LiveSa, now: float) -> list[Run]:
        """Packets that have waited for a lease, as far as it goes now."""
        runs: list[Run] = []
        waiting, live.held_out = live.held_out, []
        self.sad.held -= len(waiting)
        self._protect(live, waiting, now, runs)
        return runs

    def dummy(self, live: LiveSa, size: int, now: float) -> list[Run]:
        """A dummy packet of ``size`` octets of payload, for traffic flow confidentiality (RFC 4303 section 2.6); AH,
        which hides nothing, has none."""
        transform = live.outbound
        if isinstance(transform, AhSa) or live.hard_done:
            return []
        if live.next_out > live.out_lease.mark and not self.sad.may_send(live, now):
            return []
        number = live.next_out
        live.next_out = number + 1
        run = Run(live, 1)
        trailer = _TRAILERS_DUMMY[live.block][size % live.block]
        run.datagrams.append(self._encrypt(live, transform, number, self._entropy(size) + trailer))
        self._account(live, 1, size, now)
        return [run]

    # --- which SA

    def _resolve(self, packet: bytes) -> LiveSa | None:
        """The SA for a packet whose addresses are new, or whose fate depends on more than its addresses."""
        spd = self.sad.spd
        try:
            selectors = packet_selectors(packet)
        except WireError:
            self.counters.malformed += 1
            return None
        src, dst, protocol, src_port, dst_port = selectors
        key = src + dst
        found = spd.by_addresses.get(key)
        if found is None and key not in spd.by_addresses:
            found = spd.lookup_addresses(key)
        if found is None:
            found = spd.lookup(src, dst, protocol, src_port, dst_port)
        if isinstance(found, Verdict):
            self._carry_out(found, packet)
            return None
        live = found.current or self.sad.sender(found)
        if live is None:
            self.counters.no_policy += 1
        return live

    def _carry_out(self, verdict: Verdict, packet: bytes) -> None:
        if verdict.kind == BYPASS:
            self.counters.bypassed += 1
            self.bypass.append(packet)
        elif verdict.kind == ACQUIRE:
            self.counters.acquired += 1
            self.sad.events.acquire(verdict.connection, verdict.child)
        elif verdict.kind == DISCARD:
            self.counters.discarded += 1
        else:
            self.counters.no_policy += 1

    # --- into the tunnel

    def _protect(self, live: LiveSa, packets: list[bytes], now: float, runs: list[Run]) -> None:
        """Encapsulate and encrypt packets of one SA."""
        if live.hard_done:
            self.counters.exhausted += len(packets)
            return
        room, lease, may_send = live.inner_mtu, live.out_lease, self.sad.may_send
        run: Run | None = None
        sent = octets = 0
        for position, packet in enumerate(packets):
            if len(packet) > room or self.forwards or _opens_tcp(packet):
                inner = self._adjusted(live, packet, now, runs)
                if inner is None:
                    run = None
                    continue
            else:
                inner = packet
            if live.next_out > lease.mark and not may_send(live, now):
                self._hold(live, packets[position:])
                break
            number = live.next_out  # not before: lanes may have been skipped
            live.next_out = number + 1
            outer = _outer_class(live, inner)
            if run is None or run.outer != outer:
                run = Run(live, outer)
                runs.append(run)
            run.datagrams.append(self._seal(live, number, inner, outer))
            sent += 1
            octets += len(inner)
        self._account(live, sent, octets, now)

    def _seal(self, live: LiveSa, number: int, packet: bytes, outer: int) -> bytes:
        transform = live.outbound
        if isinstance(transform, AhSa):
            return self._authenticated(live, transform, number, packet, outer)
        trailer = (_TRAILERS_IPV4 if packet[0] < _IPV6 else _TRAILERS_IPV6)[live.block][len(packet) % live.block]
        return self._encrypt(live, transform, number, packet + trailer)

    def _authenticated(self, live: LiveSa, sa: AhSa, number: int, packet: bytes, outer: int) -> bytes:
        """The AH packet (RFC 4302 section 2), which holds the packet as it is."""
        next_header = NEXT_HEADER_IPV4 if packet[0] < _IPV6 else NEXT_HEADER_IPV6
        iv = (live.iv_base | number & _IV_COUNTER).to_bytes(8, "big") if live.counter_iv else b""
        header = outer_header(live.local[0], live.remote[0], outer >> 1, bool(outer & 1))
        return sa.protect(live.spi_out, number, (next_header, packet), iv, header, live.esn)

    def _encrypt(self, live: LiveSa, transform: EspTransform, number: int, padded: bytes) -> bytes:
        """The ESP packet (RFC 4303 section 2)."""
        header = live.spi_out + (number & _LOW).to_bytes(4, "big")
        if live.counter_iv:
            iv = (live.iv_base | number & _IV_COUNTER).to_bytes(8, "big")
        else:
            iv = self._entropy(transform.iv_length)
        return header + transform.seal(header, number >> 32 if live.esn else None, iv, padded)

    def _account(self, live: LiveSa, packets: int, octets: int, now: float) -> None:
        if not packets:
            return
        live.packets_out += packets
        live.bytes_out += octets
        live.last_out = now
        self.counters.outbound += packets
        self.sad.check_volume(live)

    def _hold(self, live: LiveSa, packets: list[bytes]) -> None:
        """Let packets wait for a lease; what can never be sent, or finds no room, is dropped."""
        if live.hard_done:
            self.counters.exhausted += len(packets)
            return
        for packet in packets:
            if not self.sad.room_to_hold(len(live.held_out)):
                self.counters.hold_overflow += 1
                continue
            live.held_out.append(packet)

    def _adjusted(self, live: LiveSa, packet: bytes, now: float, runs: list[Run]) -> bytes | None:
        """The packet as it goes into the tunnel; None where something else was done with it."""
        try:
            packet = packet[: packet_length(packet)]
            if self.forwards:
                forwarded = decrement_ttl(packet)
                if forwarded is None:
                    self.counters.ttl_exceeded += 1
                    return None
                packet = forwarded
            if len(packet) > live.inner_mtu:
                return self._oversized(live, packet, now, runs)
            return clamp_mss(packet, live.inner_mtu - (40 if packet[0] < _IPV6 else 60))
        except WireError:
            self.counters.malformed += 1
            return None

    def _oversized(self, live: LiveSa, packet: bytes, now: float, runs: list[Run]) -> bytes | None:
        """RFC 4301 section 8.2.1: cut IPv4 without DF before encryption, answer the others or, where the policy
        says so, cut those as well: IPv4 inside, IPv6 outside the tunnel (routers must not cut an IPv6 packet)."""
        is_ipv4 = packet[0] < _IPV6
        cut = live.policy.too_big is TooBig.FRAGMENT
        if is_ipv4 and (cut or not dont_fragment(packet)):
            fragments = fragment_ipv4(packet, live.inner_mtu)
            self.counters.fragmented += 1
            for fragment in fragments:
                self._send_one(live, fragment, _outer_class(live, fragment), now, runs)
            return None
        if not is_ipv4 and (cut or len(packet) <= IPV6_MINIMUM_MTU):
            self.counters.fragmented += 1
            self._send_one(live, packet, _outer_class(live, packet) & ~1, now, runs)
            return None
        self.counters.too_big += 1
        mtu = live.inner_mtu if is_ipv4 else max(live.inner_mtu, IPV6_MINIMUM_MTU)
        # from the address that the packet was meant for: we may have none that the sender can place, and the reverse
        # path check of its gateway passes
        answer = too_big(packet, mtu, packet[16:20] if is_ipv4 else packet[24:40])
        if answer is not None:
            self.back.append(answer)
        return None

    def _send_one(self, live: LiveSa, packet: bytes, outer: int, now: float, runs: list[Run]) -> None:
        if live.next_out > live.out_lease.mark and not self.sad.may_send(live, now):
            self._hold(live, [packet])
            return
        number = live.next_out
        live.next_out = number + 1
        run = Run(live, outer)
        run.datagrams.append(self._seal(live, number, packet, outer))
        runs.append(run)
        self._account(live, 1, len(packet), now)


def _opens_tcp(packet: bytes) -> bool:
    """Whether this may be a TCP SYN (IPv4 options and IPv6 extension headers are left to clamp_mss)."""
    first = packet[0]
    if first == _IPV4_PLAIN:
        return packet[9] == _TCP and packet[33:34] != b"" and packet[33] & _SYN != 0
    if first >= _IPV6:
        return packet[6] != _UDP and packet[53:54] != b"" and (packet[6] != _TCP or packet[53] & _SYN != 0)
    return True


def _outer_class(live: LiveSa, packet: bytes) -> int:
    """The outer traffic class, shifted by one, and the DF bit (RFC 4301 sections 5.1.2 and 8.1, RFC 6040)."""
    if packet[0] < _IPV6:
        uncut = packet[6] >> 6 & 1 if live.copies_df else live.sets_df
        return packet[1] << 1 | uncut
    uncut = 1 if live.copies_df else live.sets_df
    return ((packet[0] & 15) << 4 | packet[1] >> 4) << 1 | uncut
