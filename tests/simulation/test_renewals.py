"""``rekey_after_failover`` in whole clusters: an owner dies, and each child SA that there was is rekeyed, once."""

from __future__ import annotations

import pytest

from ipsecha.model.policy import AfterFailover
from simulation.faults import crash, restart
from simulation.play import REKEYING, draw
from simulation.renewals import Renewals
from simulation.variants_rekeys import REKEY_VARIANTS
from simulation.violation import Violation
from simulation.world import Variant, World

SEEDS = range(4)


def _survived(seed: int, variant: Variant | None = None) -> World:
    """An owner has died in the midst of traffic, and all is rekeyed that is to be.  Raises Violation."""
    world = World(seed, variant)
    world.after_failover = AfterFailover(rekey_all=True)
    for site in world.sites:
        site.child_rekey_s, site.ike_rekey_s = 3600.0, 14400.0
    renewals = Renewals(world)
    world.start()
    world.run(6.0)
    owner = next(node for node in world.members if node.member.owns)
    began = world.time
    crash(world, owner)
    for _ in range(60):
        world.inner_packets(4)
        world.run(0.1)
    restart(world, owner)
    world.run(4.0)
    assert all(renewals._due.values())
    assert not any(when > began for peer in world.peers for when in world.record.initiations[peer.site.address])
    assert not any(world.is_excused(site) for site in world.sites)
    renewals.end()
    return world


@pytest.mark.parametrize("seed", SEEDS)
def test_every_child_sa_is_rekeyed_after_a_failover(seed: int) -> None:
    _survived(seed)


@pytest.mark.parametrize("name", REKEY_VARIANTS)
def test_who_rekeys_too_little_or_without_end_is_found_out(name: str) -> None:
    with pytest.raises(Violation, match="rekeys"):
        _survived(0, REKEY_VARIANTS[name][0])


def test_some_plans_have_it() -> None:
    """And the others are what they would be without."""
    plans = [draw(seed) for seed in range(200)]
    assert abs(sum(plan.rekeys for plan in plans) / len(plans) - REKEYING) < 0.1
