"""Lease sizes: rate times horizon, renewed at half, widened for the channel's sake."""

from __future__ import annotations

from ipsecha.ipsec.leases import LeaseBudget, inbound_lease, outbound_lease

END = (1 << 32) - 1


def drive(rate: float, seconds: float) -> tuple[int, int, int]:
    """Numbers at ``rate`` a second with a backup that acknowledges at once: last number, renewals, ceiling."""
    lease = inbound_lease(16, END)
    renewals, number, now = 0, 0, 0.0
    while now < seconds:
        number += 1
        now += 1 / rate
        if number > lease.mark and lease.wants_more(number):
            renewals += 1
            lease.grant(lease.request(number, now, 1.0))
        assert number <= lease.limit
    return number, renewals, lease.limit


def test_a_slow_sa_risks_one_packet() -> None:
    number, _, ceiling = drive(3, 60)
    assert 1 <= ceiling - number <= 1


def test_a_fast_sa_risks_a_horizon_and_asks_seldom() -> None:
    number, renewals, ceiling = drive(100_000, 2)
    assert 5_000 <= ceiling - number <= 10_001
    assert renewals < 80


def test_a_burst_gets_no_more_than_it_has_used() -> None:
    lease = inbound_lease(16, END)
    lease.grant(lease.request(8, 0.0, 1.0))
    for number in range(9, 53):  # 44 packets in no time
        if lease.wants_more(number):
            lease.grant(lease.request(number, 0.000001 * number, 1.0))
    assert lease.limit <= 52 + 44


def test_outbound_is_generous() -> None:
    lease = outbound_lease(256, END)
    assert not lease.wants_more(128)
    assert lease.wants_more(129)
    assert lease.request(129, 0.0, 1.0) >= 129 + 256


def test_a_lease_ends_where_the_numbers_end() -> None:
    lease = outbound_lease(END - 10, END)
    assert lease.request(END - 5, 0.0, 1.0) == END
    lease.grant(END + 100)
    assert lease.limit == END
    assert not lease.wants_more(END)


def test_an_older_answer_does_not_lower_the_limit() -> None:
    lease = outbound_lease(1000, END)
    assert not lease.grant(900)
    assert lease.limit == 1000


def test_after_a_restart_it_asks_again() -> None:
    lease = outbound_lease(256, END)
    lease.request(200, 0.0, 1.0)
    lease.restart(256)
    assert lease.wants_more(200)
    lease.restart(-1)
    assert lease.mark < 0


def test_numbers_that_the_owner_skips_widen_no_lease() -> None:
    """Each loss of the backup moves the numbers by lanes: a lease as wide as the jump would double them each time."""
    lease = outbound_lease(256, END)
    lease.grant(lease.request(129, 0.0, 1.0))
    size = lease.size
    for skipped in range(1, 8):
        ceiling = lease.limit + (4 << 20)
        lease.restart(ceiling)
        lease.restart(-1)
        lease.grant(lease.request(ceiling + 1, skipped * 0.1, 1.0))
        assert lease.limit <= ceiling + 1 + size


def test_numbers_that_the_peer_skips_widen_no_lease() -> None:
    """A peer that is a cluster jumps by lanes at its failovers: the next takeover here must not cost as many."""
    lease = inbound_lease(16, END)
    lease.grant(lease.request(9, 0.0, 1.0))
    for jump in range(1, 5):
        number = jump << 22
        lease.grant(lease.request(number, jump * 0.01, 1.0))
        assert lease.limit <= number + 16


def test_many_busy_sas_widen_all_leases() -> None:
    budget = LeaseBudget(1000)
    now = 0.0
    for _ in range(20):  # renewals are inverse to the widening
        for _ in range(10):
            now += 0.02
            budget.note(int(0.02 * 50_000 / budget.widening), now)
    assert 30 < budget.widening < 80
    for _ in range(20):
        now += 0.2
        budget.note(1, now)
    assert budget.widening == 1.0
