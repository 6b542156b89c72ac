"""The independent record of a run: what went over the wires and what was delivered, judged by the invariants of
DESIGN section 2.  It asks no member for its opinion."""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from simulation.network import AH_PORT, ESP_PORT, Datagram, Host
from simulation.violation import Violation

if TYPE_CHECKING:
    from ipsecha.model.records import IkeSa
    from simulation.clockwork import Timeline

NAT_PORT = 4500
IKE_SA_INIT, IKE_AUTH, INFORMATIONAL = 34, 35, 37
SK, SKF = 46, 53
INITIATOR, RESPONSE = 0x08, 0x20
AEAD_IV = 8
JUST_NOW_S = 0.4
"""Whoever has sent a request so recently still wants its answer."""
AH_SPI_AT = 24  # behind an IPv4 header and the first word of AH
_ESP = struct.Struct(">II")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=12).digest()


def _named(data: bytes) -> str:
    """An IKE message in a trace: SPIs, exchange type, request or response, message ID."""
    number = int.from_bytes(data[20:24], "big")
    return f"{data[:3].hex()}:{data[8:11].hex()} {data[18]}{'r' if data[19] & RESPONSE else 'q'}{number}"


def _told(data: bytes, destination: str) -> str:
    return f"IKE to {destination} {_named(data)} {_digest(data).hex()[:6]} {len(data)}"


class Record:
    """``splitting``: both members have gone on alone from the same records.  What exists then is excused from I3 and I4
    (DESIGN section 3, a pair without witness), never from I1 and I2."""

    def __init__(self, timeline: Timeline) -> None:
        self.timeline = timeline
        self._notes: list[tuple[float, str, str | Callable[..., str], tuple[object, ...]]] = []
        self._happened: list[tuple[float, str, bytes]] = []
        self.splitting = self.has_split = False
        self.is_synchronisation: Callable[[bytes], bool] = lambda message: False
        self._split_until = -1.0
        self._split_number = 0  # the last inner packet that was on its way then
        self.lost_at = -1.0
        self.owners: dict[int, str] = {}
        self.initiations: dict[str, list[float]] = defaultdict(list)  # by peer's address
        self.datagrams = self.deliveries = 0
        self._first_seen: dict[object, float] = {}
        self._ivs: dict[tuple[object, bytes], bytes] = {}
        self._messages: dict[tuple[bytes, int, int, int], bytes] = {}
        self._numbers: dict[tuple[str, int, bytes], set[int]] = defaultdict(set)
        self._delivered: dict[tuple[bytes, int], str] = {}
        self._again: set[tuple[bytes, int]] = set()  # delivered twice where the policy is to learn
        self.learning: set[bytes] = set()  # sources whose packets may be delivered a second time (``Inbound.LEARN``)
        self._inits: set[bytes] = set()
        self._requests: dict[tuple[bytes, int, int], tuple[float, float, str]] = {}  # unanswered: first and last sent
        self._last_sent: dict[tuple[bytes, bool, bool], tuple[int, dict[int, bytes]]] = {}

    def note(self, who: str, text: str | Callable[..., str], *arguments: object) -> None:
        """A line of the trace; ``text`` may be a function of ``arguments``, for most traces are never read."""
        self._notes.append((self.timeline.time, who, text, arguments))

    @property
    def told(self) -> list[str]:
        """What members, peers and faults have said in their own words."""
        return [text for _, _, text, _ in self._notes if isinstance(text, str)]

    @property
    def lines(self) -> list[str]:
        """Who did what when, as far as it is seen from outside."""
        return [
            f"{time:9.4f} {who:5} {text if isinstance(text, str) else text(*arguments)}"
            for time, who, text, arguments in self._notes
        ]

    def happened(self, where: str, data: bytes) -> None:
        """Something that the trace is made of: a datagram, a frame, a packet that has arrived."""
        self._happened.append((self.timeline.time, where, data))

    @property
    def trace(self) -> str:
        """The digest of all that has happened: two runs with the same one were the same run."""
        digest = hashlib.sha256()
        for time, where, data in self._happened:
            digest.update(b"%.6f %b %b" % (time, where.encode(), data))
        return digest.hexdigest()

    def violation(self, checker: str, text: str) -> None:
        self.note("!!!", f"{checker}: {text}")
        self.timeline.failures.append(Violation(checker, text))

    def split(self, begins: bool, number: int) -> None:
        """Both have gone on alone, or there is one owner again; ``number``: of the last inner packet."""
        self.splitting = begins
        self.has_split = True
        self._split_until = self.timeline.time
        self._split_number = number

    def excused(self, key: object) -> bool:
        """Whether an SA was there while both members went on alone."""
        return self.splitting or self._first_seen.get(key, self.timeline.time) <= self._split_until

    # The outer network

    def sent(self, host: Host, datagram: Datagram) -> None:
        self.datagrams += 1
        data, port = datagram.data, datagram.source[1]
        self.happened(host.name, data)
        if port == AH_PORT:
            self._protected(host, datagram, data[AH_SPI_AT:])
        elif port == ESP_PORT or (port == NAT_PORT and data[:4] != bytes(4)):
            if len(data) > 8:
                self._protected(host, datagram, data)
        else:
            self._ike(host, datagram, data[4:] if port == NAT_PORT else data)

    def _protected(self, host: Host, datagram: Datagram, data: bytes) -> None:
        """An ESP or AH packet from its SPI on; the IV, where there is one, comes behind the sequence number."""
        spi, number = _ESP.unpack_from(data)
        sa = (datagram.destination[0], spi, host.key_of(data[:4]))
        self._first_seen.setdefault(sa, self.timeline.time)
        numbers = self._numbers[sa]
        if number in numbers:
            self.violation("I2", f"{host.name} sends number {number} again on SPI {spi:#010x}")
        numbers.add(number)
        self._iv(host, "a packet", sa, data[8 : 8 + AEAD_IV], _digest(data))

    def _iv(self, host: Host, what: str, key: object, iv: bytes, digest: bytes) -> None:
        if self._ivs.setdefault((key, iv), digest) != digest:
            self.violation("I1", f"{host.name} uses IV {iv.hex()} again: {what}")

    def _ike(self, host: Host, datagram: Datagram, data: bytes) -> None:
        spis, first, exchange, flags = data[:16], data[16], data[18], data[19]
        number = int.from_bytes(data[20:24], "big")
        self.note(host.name, _told, data, datagram.destination[0])
        if exchange == IKE_SA_INIT:
            if not flags & RESPONSE and spis[:8] not in self._inits:
                self._inits.add(spis[:8])
                for address in (datagram.source[0], datagram.destination[0]):
                    self.initiations[address].append(self.timeline.time)
            return
        if first not in (SK, SKF):
            return
        self._first_seen.setdefault(spis, self.timeline.time)
        iv_at, fragment = (32, 0) if first == SK else (36, int.from_bytes(data[32:34], "big"))
        digest = _digest(data)
        self._iv(host, "IKE", (spis, flags & INITIATOR), data[iv_at : iv_at + AEAD_IV], digest)
        if exchange == INFORMATIONAL and not number and self.is_synchronisation(data):
            return  # it bears the message ID 0, whatever had it before, and has no place in a window (RFC 6311)
        self._remember(datagram, spis, flags, number, fragment, data)
        known = self._messages.setdefault((spis, flags & (INITIATOR | RESPONSE), number, fragment), digest)
        if known != digest and not self.excused(spis):
            self.violation("I4", f"{host.name} sends another message with the ID of {_named(data)}")

    def _remember(self, datagram: Datagram, spis: bytes, flags: int, number: int, fragment: int, data: bytes) -> None:
        response = bool(flags & RESPONSE)
        if response:
            self._requests.pop((spis, (flags & INITIATOR) ^ INITIATOR, number), None)
        else:
            request, between = (spis, flags & INITIATOR, number), f"{datagram.source[0]} {datagram.destination[0]}"
            if (*request, fragment) not in self._messages:
                self._requests[request] = self.timeline.time, self.timeline.time, between
            elif request in self._requests:
                self._requests[request] = self._requests[request][0], self.timeline.time, between
        key = spis, bool(flags & INITIATOR), response
        last = self._last_sent.get(key)
        if last is None or last[0] < number:
            last = self._last_sent[key] = number, {}
        if last[0] == number:
            last[1][fragment] = data

    def unanswered(self, address: str, before: float, after: float, apart: Container[bytes] = ()) -> list[str]:
        """Requests from or to ``address`` that were first sent ``before`` and last repeated ``after``, and that nobody
        has answered; ``apart`` from those on these IKE SAs."""
        return [
            f"{key[0].hex()[:6]}:{key[0].hex()[16:22]} q{key[2]}"
            for key, (first, last, between) in self._requests.items()
            if first < before and last > after and address in between.split()
            if key[0] not in apart and not self.excused(key[0])
        ]

    def covers(self, who: str, sa: IkeSa) -> None:
        """A new owner's record must know of every message that has ever left the cluster (output commit)."""
        spis = sa.spi_i + sa.spi_r
        if self.excused(spis):
            return
        request, _ = self._last_sent.get((spis, sa.initiator, False), (-1, {}))
        response, datagrams = self._last_sent.get((spis, sa.initiator, True), (-1, {}))
        if request >= sa.next_request_id or response >= sa.expected_request_id:
            self.violation(
                "commit", f"{who} does not know that request {request}, response {response} of {sa} were sent"
            )
        elif response == sa.expected_request_id - 1 and not set(datagrams.values()) <= set(sa.responses):
            self.violation("commit", f"{who} does not have response {response} of {sa}")

    def covers_handshakes(self, who: str, own: str, initiator_spis: Container[bytes]) -> None:
        """A new owner must know of each IKE_AUTH request that the cluster, at address ``own``, has sent a moment ago
        and nobody has answered: its peer may have an IKE SA by now."""
        for (spis, initiator, number), (_, last, between) in self._requests.items():
            fresh = self.timeline.time - last < JUST_NOW_S and not self.excused(spis)
            ours = initiator and number == 1 and between.split()[0] == own
            if fresh and ours and spis[:8] not in initiator_spis:
                self.violation("commit", f"{who} does not know that IKE_AUTH was sent for {spis.hex()[:6]}")

    # Deliveries

    def delivered(self, host: Host, packet: bytes) -> None:
        """An inner packet has reached its destination: it bears a number of its own."""
        self.deliveries += 1
        self.happened(host.name, packet[12:])
        flow, number = packet[12:20], int.from_bytes(packet[28:36], "big")
        before = self._delivered.get((flow, number))
        if before is not None and flow[:4] in self.learning and (flow, number) not in self._again:
            self._again.add((flow, number))
        elif before is not None and not self.splitting and number > self._split_number:
            source = ".".join(map(str, flow[:4]))
            self.violation("I3", f"{host.name} delivers packet {number} of {source}, which {before} had delivered")
        self._delivered[flow, number] = host.name

    # Ownership

    def activated(self, who: str, epoch: int) -> None:
        owner = self.owners.setdefault(epoch, who)
        if owner != who:
            self.violation("I5", f"{who} becomes owner in epoch {epoch:#x}, which was {owner}'s")
        for other in self.owners:
            if other != epoch and other & 0xFFFFFF == epoch & 0xFFFFFF:
                self.violation("I1", f"{who} has the incarnation of epoch {other:#x}")
