"""Whoever goes on with the same SAs does so at a place of its own (invariant I2)."""

from __future__ import annotations

import itertools

from ipsecha.cluster.lanes import AFTER_SILENCE, CERTAIN, IN_DOUBT, RESUMED, Rivalry
from ipsecha.model.leases import Leasing


def test_the_places_do_not_overlap_even_when_the_backup_knows_a_ceiling_one_lane_higher() -> None:
    bounded = [(0, 1), (AFTER_SILENCE, AFTER_SILENCE + 1), (IN_DOUBT, IN_DOUBT + 1)]
    bounded += [(place, place + IN_DOUBT + 2) for place in RESUMED]  # from part of a lane, up to IN_DOUBT's, on
    for (_, end), (start, _) in itertools.pairwise(bounded):
        assert end <= start
    assert bounded[-1][1] + 1 <= CERTAIN


def test_without_rivals_numbers_are_free_and_nothing_is_skipped() -> None:
    rivalry = Rivalry()
    assert rivalry.leasing is Leasing.FREE
    assert rivalry.end() == 0


def test_an_heir_bounds_us_until_it_is_dead() -> None:
    rivalry = Rivalry()
    rivalry.heir = b"boot"
    assert rivalry.leasing is Leasing.LANE
    assert rivalry.end() == CERTAIN
    assert rivalry.leasing is Leasing.FREE
    assert rivalry.end() == 0


def test_an_heir_that_never_took_over_costs_nothing() -> None:
    rivalry = Rivalry()
    rivalry.heir = b"boot"
    rivalry.doubt = True
    rivalry.meet(b"boot", innocent=True)
    assert not rivalry.doubt
    assert rivalry.end(proven_innocent=True) == 0


def test_a_new_process_cannot_speak_for_the_heir_before_it() -> None:
    rivalry = Rivalry()
    rivalry.heir = b"boot"
    rivalry.doubt = True
    rivalry.meet(b"another", innocent=True)
    assert rivalry.doubt
    assert rivalry.end() == CERTAIN
