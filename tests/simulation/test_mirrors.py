"""Three members: two seats and a mirror, with and without a witness, under faults of all kinds.  Each broken variant is
found out; the table of them stands in docs/simulation.md."""

from __future__ import annotations

import pytest

from cluster_faults import block, busy
from ipsecha.cluster.seating import SeatedMember
from ipsecha.cluster.witness import Line
from mirror_faults import CUTS, judged, judged_with_witness
from mirror_witness import WitnessedMirrorWorld
from mirror_world import MirrorWorld
from simulation.broken import BROKEN
from simulation.table import noticed_by
from simulation.variants_mirrors import MIRROR_VARIANTS

pytestmark = pytest.mark.slow

SEEDS, BATCH = 120, 40
NAMES = [name for name, broken in BROKEN.items() if broken.level.startswith("mirrors")]


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_faults_of_all_kinds(first: int) -> None:
    for seed in range(first, first + BATCH):
        judged(seed)


@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_faults_of_all_kinds_with_a_witness(first: int) -> None:
    for seed in range(first, first + BATCH):
        judged_with_witness(seed)


def test_cuts_of_all_kinds_with_a_witness() -> None:
    for seed in range(BATCH):
        judged_with_witness(seed, CUTS)


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_variant_is_found_out(name: str) -> None:
    assert noticed_by(name) in BROKEN[name].checkers


@pytest.mark.parametrize("faults", sorted({one.faults for one in MIRROR_VARIANTS}), ids="+".join)
def test_a_sound_cluster_passes_where_broken_ones_fail(faults: tuple[str, ...]) -> None:
    for seed in range(8):
        judged(seed, faults)


def settled_world(world: MirrorWorld | None = None) -> MirrorWorld:
    world = world or MirrorWorld(1)
    for node in world.nodes:
        world.start(node.index)
    world.run(3.0)
    busy(world, 20)
    world.run(0.5)
    world.expect_settled()
    return world


def seated(world: MirrorWorld, index: int) -> SeatedMember:
    return world.nodes[index].member


def test_after_proof_a_mirror_has_the_seat_without_a_snapshot() -> None:
    world = settled_world()
    assert [node.member.role.value for node in world.nodes] == ["active", "standby", "mirror"]
    records = dict(world.nodes[2].gateway.table)
    world.crash(1)
    world.run(0.1)
    assert seated(world, 2).in_sync
    assert seated(world, 0).log.snapshot_total == 0
    assert records.keys() <= world.nodes[2].gateway.table.keys()
    assert not world.nodes[2].gateway.discarded


def test_silence_alone_gives_no_seat_away() -> None:
    world = settled_world()
    world.crash(1, host=True)
    world.run(2.0)
    assert seated(world, 0).role.value == "active"
    assert seated(world, 2).role.value == "mirror"
    world.start(1)
    world.run(3.0)
    world.expect_settled()


def test_who_comes_back_finds_its_seat_taken() -> None:
    world = settled_world()
    world.crash(1)
    world.run(0.5)
    world.start(1)
    world.run(2.0)
    assert [node.member.role.value for node in world.nodes] == ["active", "mirror", "standby"]
    world.expect_settled()


def test_a_mirror_that_is_cut_off_begins_nothing() -> None:
    world = settled_world()
    block(world, world.ways_of(2))
    world.run(10.0)
    assert not seated(world, 2).owns


def test_owners_that_began_below_the_word_of_a_dead_one_outgrow_it() -> None:
    """Else whoever is next is refused, and begins without the records."""
    world = WitnessedMirrorWorld(1)
    settled_world(world)
    owner = world.owner
    world.ledger.line = Line(owner.member.epoch + (9 << 8), b"d" * 16, "b", owner.gateway.lineage)
    world.run(3.0)
    world.expect_settled()
    assert world.owner is owner
    assert owner.member.epoch == world.ledger.line.epoch
    world.crash(owner.index)
    world.run(1.0)
    assert world.owner.gateway.lineage == owner.gateway.lineage
