"""What an owner that has to give way leaves to the one that stays (``cluster.estate``)."""

from __future__ import annotations

import pytest

from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.estate import MARGIN_S, TOUCHED_LIMIT, Estate

ONE, TWO, HEIR = b"1" * 8, b"2" * 8, b"heir"


@pytest.fixture
def estate() -> Estate:
    estate = Estate()
    estate.owned()
    return estate


def test_who_has_never_owned_leaves_nothing() -> None:
    assert Estate().bequest(HEIR, strangers=True) is None


def test_what_was_changed_since_the_first_change_is_offered(estate: Estate) -> None:
    estate.note([ONE], 10.0)
    estate.note([TWO], 20.0)
    bequest = estate.bequest(HEIR, strangers=False)
    assert bequest is not None
    assert bequest.keys == (ONE, TWO)
    assert bequest.since == 10.0 - MARGIN_S


def test_a_backup_in_sync_knows_everything(estate: Estate) -> None:
    estate.note([ONE], 10.0)
    estate.known()
    assert estate.bequest(HEIR, strangers=False) is None
    assert estate.confession() == []


def test_between_strangers_everything_is_left(estate: Estate) -> None:
    bequest = estate.bequest(HEIR, strangers=True)
    assert bequest is not None
    assert bequest.keys is None


def test_the_same_is_offered_again_though_the_lineage_has_been_adopted(estate: Estate) -> None:
    first = estate.bequest(HEIR, strangers=True)
    assert estate.bequest(HEIR, strangers=False) is first
    estate.lost()
    assert estate.bequest(HEIR, strangers=True) is None


def test_what_is_offered_needs_no_repair(estate: Estate) -> None:
    estate.note([ONE, TWO], 10.0)
    estate.offered(ONE)
    assert estate.confession() == [TWO]


def test_what_is_remembered_is_bounded(estate: Estate) -> None:
    estate.note((number.to_bytes(8, "big") for number in range(TOUCHED_LIMIT)), 1.0)
    estate.note([ONE], 2.0)
    assert len(estate.confession()) == TOUCHED_LIMIT


def test_changes_that_a_silent_backup_has_not_acknowledged_are_known() -> None:
    """It may have received them, or not: they are named when the two meet."""
    log = CommitLog()
    log.reset(BackupState.IN_SYNC)
    log.commit(16, [(ONE, b"record")], 1.0)
    log.acknowledge(log.number)
    log.commit(16, [(TWO, b"record")], 2.0)
    assert log.unacknowledged == [TWO]
    assert log.oldest_age(5.0) == 3.0
    log.reset(BackupState.ABSENT)
    assert log.unacknowledged == []


def test_another_process_of_the_heir_is_offered_nothing(estate: Estate) -> None:
    """The one before may have used what it was offered."""
    assert estate.bequest(HEIR, strangers=True) is not None
    assert estate.bequest(b"another", strangers=True) is None
    assert estate.bequest(HEIR, strangers=True) is None


def test_a_process_that_has_forgotten_what_it_has_used_remembers_that(estate: Estate) -> None:
    """Whoever has the same records must not leave them to it."""
    assert not estate.has_forgotten
    estate.forgotten()
    assert estate.has_forgotten
    estate.forgotten()  # it has not owned since
    assert estate.has_forgotten


def test_who_has_handed_over_has_nothing_to_forget(estate: Estate) -> None:
    """What it has used is in the records of whoever has them now."""
    estate.lost()
    estate.forgotten()
    assert not estate.has_forgotten


def test_after_a_join_nobody_has_anything_else(estate: Estate) -> None:
    estate.forgotten()
    estate.known()
    assert not estate.has_forgotten
