"""The synch channel carries events, not packets (DESIGN section 3), and stays within its budget."""

from __future__ import annotations

import pytest

pytest.importorskip("bench", reason="bench/ lies beside the package: run pytest from the repository")

from bench.busy import FLAT, OVERSHOOT, load

from ipsecha.ipsec.leases import CHANNEL_BUDGET, INBOUND_HORIZON_S, OUTBOUND_HORIZON_S
from ipsecha.model.leases import FIRST_OUT_CEILING


@pytest.mark.parametrize("outbound", [True, False])
def test_a_hundred_times_the_packets_cost_the_channel_no_more(outbound: bool) -> None:
    slow, fast = (load(1, rate, 1.0, outbound=outbound) for rate in (1000, 50_000))
    assert slow.frames
    assert fast.frames <= 2 * slow.frames
    assert fast.octets <= 2 * slow.octets
    assert not fast.held


@pytest.mark.parametrize(("outbound", "bound"), [(True, 2 / OUTBOUND_HORIZON_S), (False, 2 / INBOUND_HORIZON_S)])
def test_a_slow_sa_asks_less_often_and_none_more_often_than_twice_a_horizon(outbound: bool, bound: float) -> None:
    """Leases have a minimum: what takes longer than half a horizon to use it up cannot ask as often."""
    loads = [load(1, rate, 2.0, outbound=outbound).entries for rate in (10, 100, 50_000)]
    assert loads == sorted(loads)
    assert loads[-1] <= OVERSHOOT * bound
    assert loads[0] <= (10 / FIRST_OUT_CEILING * 2 + 0.5 if outbound else 10)


def test_an_inbound_sa_with_ten_packets_costs_at_least_half_of_one_with_many() -> None:
    slow, fast = (load(1, rate, 2.0, outbound=False) for rate in (10, 50_000))
    assert slow.octets <= fast.octets <= OVERSHOOT * FLAT * slow.octets


def test_many_busy_sas_stay_within_the_budget() -> None:
    """Without it they would ask 40,000 times a second."""
    busy = load(4000, 10, 1.0, outbound=False)
    assert 0 < busy.entries <= OVERSHOOT * CHANNEL_BUDGET
