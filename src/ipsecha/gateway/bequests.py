"""IKE SAs that change hands when two owners meet (``cluster.estate``): both ends of it.

The one that gives up sends its records in small parts with a pause between them, so that the other one, which carries
the traffic, takes in no more than a few milliseconds' worth at a time.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ipsecha.cluster import effects as fx
from ipsecha.cluster.pair import PairMember
from ipsecha.gateway.core import Gateway
from ipsecha.ike.flags import LEAVING
from ipsecha.model.records import decode_record, encode_record

PART, PAUSE_S = 32, 0.005
"""Records in one frame, and between two."""


class Bequests:
    """What the present or a former owner does about them."""

    def __init__(self, gateway: Gateway, member: PairMember) -> None:
        self._gateway = gateway
        self._member = member
        self._keys: list[bytes] = []
        self._since = 0.0
        self._serial = 0  # of the last Bequeath

    def bequeath(self, effect: fx.Bequeath) -> None:
        """Offer what the effect names; one that is under way already begins anew."""
        self._keys = list(self._gateway.endpoint.sas if effect.keys is None else effect.keys)
        self._since = effect.since
        self._serial += 1
        self._next_part(self._serial)

    def _next_part(self, serial: int) -> None:
        if serial != self._serial:
            return
        part: list[tuple[bytes, bytes]] = []
        while self._keys and len(part) < PART:
            part += self._record(self._keys.pop())
        self._member.bequeath(part)
        if self._keys:
            self._gateway.loop.call_later(PAUSE_S, self._next_part, serial)
        else:
            self._member.bequeathed()
        self._gateway.wake()

    def _record(self, local_spi: bytes) -> Sequence[tuple[bytes, bytes]]:
        """Nothing for an SA that is gone or about to go, that the other member has had, too, or that cannot be read."""
        sas = self._gateway.endpoint.sas
        try:
            sa = sas.peek(local_spi) if local_spi in sas else None
        except msgspec.DecodeError as fault:
            self._gateway.faults.note("a bequest", fault)
            return ()
        if sa is None or sa.flags & LEAVING or sa.created_at < self._since:
            return ()
        return ((local_spi, encode_record(sa)),)

    def inherit(self, effect: fx.Inherit, now: float) -> None:
        """A record that makes no sense is left out: its peer sets up anew."""
        sas = []
        for record in effect.records:
            try:
                sas.append(decode_record(record))
            except msgspec.DecodeError as fault:
                self._gateway.faults.note("a bequest", fault)
        self._gateway.endpoint.inherit(sas, effect.above_lanes, now)
