"""Random rekeys, deletes and new child SAs of both sides over a network that loses, doubles and reorders, with owners
that die in between: in the end both sides hold the same SAs, and nothing waits for anything."""

from __future__ import annotations

import os
import random

import pytest

from ike_agreement import check_agreement, live
from ike_failover import Backup
from ike_pair import Packet, Pair, Side, child_policy, esp, left_connection, right_connection

RUNS = int(os.environ.get("IKE_COLLISION_RUNS", "60"))
FIRST = int(os.environ.get("IKE_COLLISION_FIRST", "0"))
STEPS = 60
QUIET_S = 900.0  # for refusals to be tried again, and for what the peer should have deleted to end


def _pair() -> Pair:
    plain, pfs = esp("aes128gcm16"), esp("aes128gcm16-x25519")
    left = tuple(
        child_policy(name, f"10.{number}.1.0/24", f"10.{number}.2.0/24", proposals=(proposal,))
        for number, (name, proposal) in enumerate((("net", plain), ("pfs", pfs)))
    )
    right = tuple(
        child_policy(name, f"10.{number}.2.0/24", f"10.{number}.1.0/24", proposals=(proposal,))
        for number, (name, proposal) in enumerate((("net", plain), ("pfs", pfs)))
    )
    pair = Pair(left_connection(children=left), right_connection(children=right))
    pair.establish()
    return pair


class Chaos:
    """One seeded run."""

    def __init__(self, seed: int, *, takeovers: bool, closes: bool) -> None:
        self.random = random.Random(seed)
        self.pair = _pair()
        self.takeovers, self.closes = takeovers, closes
        self.loss = self.random.choice((0.0, 0.1, 0.4))
        self.backups = {side.name: Backup(self.pair, side) for side in self.pair.sides}
        for side in self.pair.sides:  # what was replicated before the backups joined
            for sa in side.sas:
                side.endpoint.touch(sa)
            side.endpoint.end_step()
        self.pair.gather()
        self.pair.network = self._network

    def _network(self, packet: Packet) -> list[Packet]:
        if self.random.random() < self.loss:
            return []
        return [packet, packet] if self.random.random() < 0.1 else [packet]

    def _act(self, side: Side) -> None:
        actions = (self._rekey_child, self._rekey_ike, self._delete_child, self._new_child, self._traffic)
        weights = [35, 25, 15, 15, 4, 3 if self.closes else 0, 3 if self.takeovers else 0]
        (action,) = self.random.choices((*actions, self._close, self._take_over), weights)
        action(side)

    def _child(self, side: Side) -> int:
        spis = [child.spi_in for sa in live(side).values() for child in sa.children]
        return self.random.choice(spis) if spis else 0

    def _rekey_child(self, side: Side) -> None:
        side.endpoint.rekey_child(self._child(side), self.pair.now)

    def _rekey_ike(self, side: Side) -> None:
        for sa in live(side).values():
            side.endpoint.rekey_ike(sa.local_spi, self.pair.now)

    def _delete_child(self, side: Side) -> None:
        if spi := self._child(side):
            side.endpoint.terminate(self.pair.now, spi_in=spi)

    def _new_child(self, side: Side) -> None:
        if live(side):
            side.endpoint.initiate("site", self.random.choice(("net", "pfs")), self.pair.now)

    def _close(self, side: Side) -> None:
        for sa in live(side).values():
            side.endpoint.terminate(self.pair.now, local_spi=sa.local_spi)

    def _take_over(self, side: Side) -> None:
        self.backups[side.name].take_over()

    def _traffic(self, side: Side) -> None:
        """A packet on each child SA on which the peer sends by now."""
        peer = self.pair.right if side is self.pair.left else self.pair.left
        sending = [child.spi_out for sa in peer.sas for child in sa.children if child.use_outbound]
        for spi in sending:
            side.endpoint.traffic_seen(spi, self.pair.now)

    def _step(self) -> None:
        pair = self.pair
        pair.gather()
        choice = self.random.random()
        if choice < 0.35:
            self._act(self.random.choice(pair.sides))
        elif choice < 0.9 and pair.queue:
            pair.deliver(pair.queue.pop(self.random.randrange(len(pair.queue))))
        else:
            pair.now += self.random.random()
            for side in pair.sides:
                side.endpoint.handle_timer(pair.now)

    def run(self) -> None:
        for _ in range(STEPS):
            self._step()
        self.pair.network = lambda packet: [packet]
        self.pair.advance(QUIET_S)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_both_sides_agree(seed: int) -> None:
    """RFC 7296 sections 2.8.1, 2.8.2 and 2.25: collisions with loss, doubling and reordering come to a common end."""
    chaos = Chaos(seed, takeovers=False, closes=seed % 3 == 0)
    chaos.run()
    check_agreement(chaos.pair)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + RUNS))
def test_both_sides_agree_although_owners_die(seed: int) -> None:
    """The same, with owners that die between any two steps: the record is enough to go on, nothing is renegotiated."""
    chaos = Chaos(seed, takeovers=True, closes=seed % 3 == 0)
    chaos.run()
    check_agreement(chaos.pair)
