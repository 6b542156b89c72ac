"""Three whole members, and seats that change hands: owners, backups and mirrors die in the middle of exchanges, come
back as mirrors, get the seat, and own, again and again; every SA stays the one that it was."""

from __future__ import annotations

import pytest

from ipsecha.cluster.seating import SeatedMember
from simulation import seats
from simulation.broken import BROKEN
from simulation.table import noticed_by
from simulation.third_box import witnessed

SEEDS, BATCH = 64, 16


@pytest.mark.parametrize("acks_all", [False, True], ids=["acks-one", "acks-all"])
def test_every_sa_outlives_tens_of_owners(acks_all: bool) -> None:
    seed = int(acks_all)  # of a world, and with what its members acknowledge
    walk = seats.Walk(seats.draw(seed, ("crash",), ("child rekeys by both",)))
    walk.play()
    assert walk.world.acks_all is acks_all
    assert walk.worlds == 1  # nothing was lost
    assert walk.world.failovers > 20
    assert {owner[0] for owner in walk.world.record.owners.values()} == {"a", "b", "c"}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_faults_of_all_kinds(first: int) -> None:
    for seed in range(first, first + BATCH):
        seats.judged(seed)


@pytest.mark.slow
@pytest.mark.parametrize("story", seats.STORIES)
def test_a_backup_and_then_its_owner_die_in_every_story(story: str) -> None:
    for seed in range(2):
        seats.replayed(seats.draw(seed, ("backup, then owner",), (story,)))


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*seats.SILENCES, "host lost"])
def test_a_witness_has_seats_filled_after_silence(fault: str) -> None:
    """Nobody is excused although nobody is proven dead: whoever was outvoted has used nothing since."""
    for seed, story in enumerate(seats.STORIES):
        seats.replayed(seats.draw(seed, (fault,), (story,)), witnessed(member=SeatedMember, cables_fail=False))


def test_one_seed_is_one_walk() -> None:
    assert len({seats.judged(5).record.trace for _ in range(2)}) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, broken in BROKEN.items() if broken.level == seats.LEVEL])
def test_a_broken_cluster_is_found_out(name: str) -> None:
    assert noticed_by(name) in BROKEN[name].checkers
