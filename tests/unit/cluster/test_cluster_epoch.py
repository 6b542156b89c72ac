"""Epochs grow, and differ between members whatever these know."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipsecha.cluster.epoch import MAX_MEMBERS, first_term, incarnation, make_epoch, next_epoch

INDEX = st.integers(0, MAX_MEMBERS - 1)


@given(st.integers(0, 2**60), INDEX)
def test_the_next_epoch_leaves_all_that_were_seen_behind(highest: int, index: int) -> None:
    epoch = next_epoch(highest, index)
    assert epoch > highest
    assert epoch % MAX_MEMBERS == index


@given(st.integers(0, 2**60), INDEX, INDEX)
def test_members_that_act_on_the_same_knowledge_differ(highest: int, one: int, other: int) -> None:
    same = next_epoch(highest, one) == next_epoch(highest, other)
    assert same == (one == other)


@given(st.integers(0, 2**60), st.integers(0, 2**60), INDEX, INDEX)
def test_epochs_of_two_members_never_meet(one_seen: int, other_seen: int, one: int, other: int) -> None:
    if one != other:
        assert next_epoch(one_seen, one) != next_epoch(other_seen, other)
        assert incarnation(next_epoch(one_seen, one)) != incarnation(next_epoch(other_seen, other))


@given(st.integers(0, 2**60), INDEX)
def test_an_incarnation_fits_into_24_bits_and_changes_with_the_owner(highest: int, index: int) -> None:
    epoch = next_epoch(highest, index)
    assert 0 <= incarnation(epoch) < 1 << 24
    assert incarnation(epoch) != incarnation(next_epoch(epoch, index))


def test_a_process_that_is_back_after_a_tenth_of_a_second_starts_beyond_its_former_epochs() -> None:
    wall_s = 1_700_000_000.0
    epoch = make_epoch(first_term(wall_s), 0)
    for _ in range(5):
        epoch = next_epoch(epoch, 0)
    assert make_epoch(first_term(wall_s + 0.1), 0) > epoch
