"""Timers in buckets."""

from ipsecha.ike.timers import Timers


def test_a_timer_fires_once_when_it_is_due() -> None:
    timers = Timers()
    timers.arm(b"a", 10.0)
    assert timers.due(9.9, 10) == []
    assert timers.next_timer() is not None
    assert timers.due(10.2, 10) == [b"a"]
    assert timers.due(20.0, 10) == []
    assert timers.next_timer() is None


def test_arming_for_earlier_counts_and_for_later_does_not() -> None:
    timers = Timers()
    timers.arm(b"a", 10.0)
    timers.arm(b"a", 50.0)
    timers.arm(b"b", 50.0)
    timers.arm(b"b", 10.0)
    assert sorted(timers.due(11.0, 10)) == [b"a", b"b"]
    assert timers.due(60.0, 10) == []


def test_a_cancelled_timer_is_silent_and_may_be_armed_for_later() -> None:
    timers = Timers()
    timers.arm("name", 10.0)
    timers.cancel("name")
    timers.arm("name", 20.0)
    assert timers.due(15.0, 10) == []
    assert timers.due(21.0, 10) == ["name"]
    assert len(timers) == 0


def test_at_most_the_limit_is_given_at_once_and_the_rest_stays_due() -> None:
    timers = Timers()
    keys = [bytes((number,)) for number in range(10)]
    for number, key in enumerate(keys):
        timers.arm(key, 10.0 + number % 3)
    first = timers.due(100.0, 4)
    assert len(first) == 4
    assert timers.next_timer() is not None
    assert sorted(first + timers.due(100.0, 100)) == keys


def test_clearing_forgets_everything() -> None:
    timers = Timers()
    timers.arm(b"a", 1.0)
    timers.clear()
    assert timers.next_timer() is None
    assert timers.due(100.0, 10) == []
