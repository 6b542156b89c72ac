"""A flood of first requests from strangers: the synch channel stays quiet, established SAs notice nothing (I7)."""

from __future__ import annotations

from sharing_budget import UNIT
from simulation.gateways import LIMITS
from simulation.hostile import flood
from simulation.world import World

SECONDS = 4.0
ROUND_S = 0.2
SLACK = 1.1


class _Meter:
    """Counts what goes over the synch channel."""

    def __init__(self, world: World) -> None:
        self.frames = self.octets = 0
        self._tap, world.synch.tap = world.synch.tap, self._count

    def _count(self, sender: int, receiver: int, frame: bytes) -> None:
        self.frames += 1
        self.octets += len(frame)
        self._tap(sender, receiver, frame)


def _established(seed: int) -> World:
    world = World(seed)
    for site in world.sites:
        site.child_rekey_s = site.ike_rekey_s = site.dpd_s = 3600.0
    world.start()
    world.run(3.0)
    return world


def _serve(world: World, meter: _Meter, floods: bool) -> tuple[int, int]:
    """A while with packets on all SAs, none of which may be lost: frames and octets on the synch channel."""
    meter.frames = meter.octets = sent = 0
    delivered = world.record.deliveries
    for number in range(int(SECONDS / ROUND_S) * 4):
        if floods and number % 4 == 0:
            flood(world, world.members[0])
        world.inner_packets()
        sent += 2 * len(world.peers)
        world.run(ROUND_S / 4)
    assert world.record.deliveries - delivered == sent
    return meter.frames, meter.octets


def test_the_synch_channel_stays_quiet_and_sas_work_on() -> None:
    floods = 0
    for seed in range(6):
        world = _established(seed)
        meter = _Meter(world)
        frames, octets = _serve(world, meter, floods=False)
        flooded = _serve(world, meter, floods=True)
        units = LIMITS.shared_half_open_per_s * (1 + SECONDS)  # what flows in that time, and a burst
        assert flooded[0] - frames * SLACK <= units
        assert flooded[1] - octets * SLACK <= units * UNIT
        floods += sum(node.endpoint.counters["cookie-demanded"] for node in world.members) > 0
    assert floods  # some cluster was asked at all: in the others it has initiated, and nobody has a request to forge
