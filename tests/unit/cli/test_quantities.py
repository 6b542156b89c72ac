"""Numbers as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.cli.quantities import counted, due, lasting, octets, scaled


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.00 k"), (1234567, "1.23 M"), (12_345_678, "12.3 M"), (999_499, "999 k"),
     (999_500, "1.00 M"), (10**18, "1.00 E")],
)  # fmt: skip
def test_scaled(number: int, text: str) -> None:
    assert scaled(number) == text


def test_octets() -> None:
    assert octets(0) == "0 B"
    assert octets(5_200_000_000) == "5.20 GB"


@given(st.integers(0, 10**20))
def test_numbers_stay_narrow(number: int) -> None:
    assert len(scaled(number)) <= 6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0001, "under 1ms"), (0.04, "40ms"), (0.9999, "1.0s"), (3.21, "3.2s"), (59.7, "1m"), (61, "1m 1s"),
     (3600, "1h"), (4332, "1h 12m"), (273000, "3d 3h"), (-5, "-5.0s")],
)  # fmt: skip
def test_lasting(seconds: float, text: str) -> None:
    assert lasting(seconds) == text


def test_due_and_counted() -> None:
    assert [due(None), due(-1), due(90)] == ["never", "now", "in 1m 30s"]
    assert [counted(1, "packet"), counted(1234, "packet")] == ["1 packet", "1,234 packets"]
