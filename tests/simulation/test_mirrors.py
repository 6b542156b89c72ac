"""Three members: two seats and a mirror, with and without a witness, under faults of all kinds; and clusters of three
that are broken on purpose."""

from __future__ import annotations

import pytest

from ipsecha.cluster.seating import SeatedMember
from mirror_faults import a_channel_breaks_after_a_join, busy, deaths_in_a_row, judged, start_all
from mirror_witness import CUTS, judged_with_witness
from mirror_world import MirrorWorld
from simulation.variants_mirrors import MIRROR_VARIANTS, noticed_by

SEEDS, BATCH = 120, 40


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


def test_a_channel_breaks_after_a_join() -> None:
    for seed in range(20):
        a_channel_breaks_after_a_join(seed)


def test_the_backup_dies_and_then_the_owner() -> None:
    for seed in range(20):
        deaths_in_a_row(seed)


@pytest.mark.parametrize("seed", [402, 573, 650, 1252, 1328])
def test_seeds_that_have_failed(seed: int) -> None:
    judged(seed)


def test_a_seed_with_a_witness_that_has_failed() -> None:
    """An owner that was outvoted, isolated and with nothing left, has no seat any more."""
    judged_with_witness(3226)


@pytest.mark.parametrize("seed", [3953, 4028])
def test_an_owner_that_abandons_a_handover_stays_within_its_leases(seed: int) -> None:
    """Its partner has the vote, and another backup by then."""
    judged_with_witness(seed)


@pytest.mark.parametrize("name", MIRROR_VARIANTS)
def test_a_broken_variant_is_found_out(name: str) -> None:
    found = noticed_by(name, seeds=60)
    assert found is not None
    assert found[0] in MIRROR_VARIANTS[name][1]


def settled_world() -> MirrorWorld:
    world = MirrorWorld(1)
    start_all(world)
    world.run(3.0)
    busy(world, 20)
    world.run(0.5)
    world.expect_settled()
    return world


def seated(world: MirrorWorld, index: int) -> SeatedMember:
    member = world.nodes[index].member
    assert isinstance(member, SeatedMember)
    return member


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
    for path, sender, receiver in world.blocked:  # type: ignore[misc]
        if 2 in (sender, receiver):
            world.block_way(path, sender, receiver)
    world.run(10.0)
    assert not seated(world, 2).owns
