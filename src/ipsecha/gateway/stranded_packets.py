"""Packets that arrive at a member while it hands over its SAs, and afterwards.

While the owner is frozen, packets and IKE messages that arrive are kept (bounded).  Once the partner has taken over
they are forwarded to it, and so is what still arrives during a grace period, until the neighbours have learnt the new
way.  If the switchover fails they are processed here.
"""

from __future__ import annotations

from collections import Counter, deque

import msgspec

from ipsecha.cluster import effects as fx
from ipsecha.cluster.pair import PairMember
from ipsecha.dataplane.plane import Kind
from ipsecha.gateway.core import Gateway
from ipsecha.model.records import Address

KEPT_LIMIT = 8192

FORWARD_LIMIT = 32 << 20
"""Octets of packets that a former owner forwards at most: acknowledgements travel on the same channel, behind them."""

Packet = tuple[str, bytes, Address, Address]
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Packet)


class StrandedPackets:
    """Both ends of the way from a former owner to the new one."""

    def __init__(self, gateway: Gateway, member: PairMember, counters: Counter[str]) -> None:
        self._gateway = gateway
        self._member = member
        self._counters = counters
        self._kept: deque[Packet] = deque(maxlen=KEPT_LIMIT)
        self._room = 0  # octets that may still be forwarded

    def keep(self, kind: str, data: bytes, local: Address, remote: Address) -> None:
        self._kept.append((kind, data, local, remote))

    def keep_ike(self, data: bytes, local: Address, remote: Address) -> None:
        self._kept.append(("ike", data, local, remote))

    def drop_kept(self) -> None:
        self._kept.clear()

    def process_kept(self) -> None:
        """This member owns the SAs, after all or from now on."""
        for packet in self._take_kept():
            self._process(packet)

    def forward_kept(self) -> None:
        """The partner owns them now."""
        self._room = FORWARD_LIMIT
        for packet in self._take_kept():
            self.forward(*packet)

    def _take_kept(self) -> deque[Packet]:
        kept, self._kept = self._kept, deque(maxlen=KEPT_LIMIT)
        return kept

    def forward(self, kind: str, data: bytes, local: Address, remote: Address) -> None:
        if len(data) > self._room:
            self._counters["packets not forwarded"] += 1
            return
        self._room -= len(data)
        self._counters["packets forwarded"] += 1
        self._member.forward(_encoder.encode((kind, data, local, remote)))
        self._gateway.wake()

    def forward_ike(self, data: bytes, local: Address, remote: Address) -> None:
        self.forward("ike", data, local, remote)

    def arrived(self, effect: fx.Forwarded) -> None:
        """A packet that the other member has forwarded."""
        try:
            packet = _decoder.decode(effect.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._counters["malformed forwarded packets"] += 1
            return
        if self._member.owns:
            self._process(packet)

    def _process(self, packet: Packet) -> None:
        kind, data, local, remote = packet
        if kind == "ike":
            self._gateway.on_ike(data, local, remote)
        elif kind in ("inner", "esp", "ah"):
            known: Kind = "inner" if kind == "inner" else "ah" if kind == "ah" else "esp"
            self._gateway.plane.inject(known, data, local, remote)
