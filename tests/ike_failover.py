"""A side of a ``Pair`` as a cluster: its records are encoded as they are replicated, and another owner goes on from
nothing but them and what is shared of half-open IKE SAs."""

from __future__ import annotations

from ike_pair import Packet, Pair, Side
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import Effect, Replicate, ReplicateInitiation, Share, Withdraw
from ipsecha.model.records import decode_record, encode_record


class Backup:
    """What the backup of one side holds; follows every step of the pair."""

    def __init__(self, pair: Pair, side: Side) -> None:
        self._pair = pair
        self._side = side
        self._collect = side.collect
        self.octets: dict[bytes, bytes] = {}
        self.initiations: dict[bytes, bytes] = {}
        self.shared: list[bytes] = []
        self.takeovers = 0
        side.endpoint.sharing.listening = True
        side.collect = self._follow  # type: ignore[method-assign]

    def _follow(self) -> list[Packet]:
        seen = len(self._side.effects)
        packets = self._collect()
        for effect in self._side.effects[seen:]:
            self._note(effect)
        return packets

    def _note(self, effect: Effect) -> None:
        if isinstance(effect, Replicate):
            self.octets[effect.sa.local_spi] = encode_record(effect.sa)
        elif isinstance(effect, Withdraw):
            self.octets.pop(effect.local_spi, None)
        elif isinstance(effect, ReplicateInitiation):
            self.initiations.pop(effect.spi_i, None)
            if effect.record is not None:
                self.initiations[effect.spi_i] = effect.record
        elif isinstance(effect, Share):
            self.shared.append(effect.state)

    def take_over(self) -> None:
        """The owner is gone, another with a higher incarnation continues."""
        side, pair = self._side, self._pair
        pair.gather()
        self.takeovers += 1
        old = side.endpoint
        side.endpoint = IkeEndpoint(old.policy, old.credentials, old.entropy, wall_clock=old.wall_clock)
        side.installed.clear()
        for state in self.shared:
            side.endpoint.hold_half_open(state)
        for spi_i, octets in self.initiations.items():
            side.endpoint.adopt_initiation(spi_i, octets)
        for octets in self.octets.values():
            side.endpoint.adopt(decode_record(octets))
        side.endpoint.activate(100 + 2 * self.takeovers + (side is pair.right), pair.now)
        while (when := side.endpoint.next_timer()) is not None and when <= pair.now:
            side.endpoint.handle_timer(pair.now)
