"""The synch channel carries events, not packets (DESIGN section 3), and stays within its budget."""

from __future__ import annotations

import pytest

pytest.importorskip("bench", reason="bench/ lies beside the package: run pytest from the repository")

from bench.busy import OVERSHOOT, load

from ipsecha.ipsec.leases import CHANNEL_BUDGET


@pytest.mark.parametrize("outbound", [True, False])
def test_a_hundred_times_the_packets_cost_the_channel_no_more(outbound: bool) -> None:
    slow, fast = (load(1, rate, 1.0, outbound=outbound) for rate in (1000, 50_000))
    assert slow.frames
    assert fast.frames <= 2 * slow.frames
    assert fast.octets <= 2 * slow.octets
    assert not fast.held


def test_many_busy_sas_stay_within_the_budget() -> None:
    """Without it they would ask 40,000 times a second."""
    busy = load(4000, 10, 1.0, outbound=False)
    assert 0 < busy.entries <= OVERSHOOT * CHANNEL_BUDGET
