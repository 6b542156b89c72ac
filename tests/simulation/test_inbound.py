"""Inbound numbers across failovers, with the product's own gateways: policies, giving back, and what breaks them."""

from __future__ import annotations

import pytest

from ipsecha.model.policy import Inbound
from simulation.faults import crash, restart
from simulation.network import Datagram
from simulation.variants_inbound import GIVES_BACK_TOO_LATE, LEARNS_FROM_NOTHING
from simulation.violation import Violation
from simulation.world import Variant, World

SEEDS = range(6)


class Tunnels:
    """A world at peace whose connections have this policy; somebody records what the peers send."""

    def __init__(self, seed: int, inbound: Inbound, variant: Variant | None = None) -> None:
        self.world = world = World(seed, variant)
        for site in world.sites:
            site.inbound, site.child_rekey_s, site.ike_rekey_s = inbound, 3600.0, 14400.0
        world.record.learning.clear()
        if inbound is Inbound.LEARN:
            world.record.learning.update(bytes(map(int, site.inner.split("."))) for site in world.sites)
        world.start()
        world.run(6.0)
        self.recorded: list[Datagram] = []

    def send(self, count: int, times: int = 1, pause_s: float = 0.02) -> None:
        for _ in range(times):
            self.world.inner_packets(count)
            self.world.run(pause_s)

    def receive(self, count: int) -> None:
        """Packets to the cluster alone: nothing makes the owner ask for outbound numbers."""
        for peer in self.world.peers:
            self.world.packets_from(peer, count)
        self.world.run(0.005)

    def fail_over(self) -> None:
        """The owner dies, the other one goes on, the dead one comes back, and all that was recorded is played back."""
        world = self.world
        owner = next(node for node in world.members if node.process.alive and node.member.owns)
        self.recorded += world.recorded
        crash(world, owner)
        world.run(0.5)
        for datagram in self.recorded:
            world.network.carry(datagram)
        world.run(0.5)
        restart(world, owner)
        world.run(4.0)

    def delivered_again(self) -> int:
        return len(self.world.record._again)


def burst_then_quiet(tunnels: Tunnels) -> None:
    tunnels.send(40, times=5, pause_s=0.01)
    tunnels.send(1, times=4, pause_s=2.0)
    tunnels.receive(60)
    tunnels.fail_over()


@pytest.mark.slow
@pytest.mark.parametrize("inbound", list(Inbound))
def test_bursts_and_failovers(inbound: Inbound) -> None:
    for seed in SEEDS:
        tunnels = Tunnels(seed, inbound)
        burst_then_quiet(tunnels)
        burst_then_quiet(tunnels)
        assert inbound is Inbound.LEARN or not tunnels.delivered_again()


def found(variant: Variant, inbound: Inbound) -> set[str]:
    checkers = set()
    for seed in SEEDS:
        try:
            tunnels = Tunnels(seed, inbound, variant)
            burst_then_quiet(tunnels)
            burst_then_quiet(tunnels)
        except Violation as violation:
            checkers.add(violation.checker)
    return checkers


def test_an_owner_that_goes_on_above_what_it_gave_back_is_found_out() -> None:
    assert found(GIVES_BACK_TOO_LATE, Inbound.STRICT) == {"I3"}


def test_an_owner_that_learns_from_anything_is_found_out() -> None:
    assert found(LEARNS_FROM_NOTHING, Inbound.LEARN) == {"I3"}
