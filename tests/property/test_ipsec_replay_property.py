"""The replay window against an oracle that remembers every number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipsecha.ipsec.replay import ReplayWindow

_WRAP = 1 << 32


@given(
    st.sampled_from([32, 64, 100, 1024]),
    st.integers(0, 1 << 40),
    st.lists(st.one_of(st.integers(-1200, 1200), st.integers(-5000, 1 << 33)), max_size=60),
)
def test_each_number_once_and_everything_within_the_window(width: int, floor: int, steps: list[int]) -> None:
    window = ReplayWindow(width, floor)
    accepted: set[int] = set()
    top = floor
    for step in steps:
        number = top + step
        expected = number > floor and number > top - width and number not in accepted
        assert window.fresh(number) == expected
        if expected:
            window.accept(number)
            accepted.add(number)
            top = max(top, number)
        assert window.top == top


@given(
    st.sampled_from([32, 64, 1024]),
    st.integers(0, 1 << 40),
    st.integers(-1023, (1 << 32) - 1025),
)
def test_the_high_half_is_inferred_within_a_window_behind_and_nearly_a_wrap_ahead(
    width: int, top: int, step: int
) -> None:
    """RFC 4303 appendix A2.2: right for every number that the window can still take or that is not too far ahead."""
    number = top + step
    window = ReplayWindow(width, top)
    if number > top - width and number >= 0:
        assert window.infer(number % _WRAP) == number


@given(st.integers(0, 1 << 40), st.integers(0, _WRAP - 1))
def test_inference_keeps_the_low_half(top: int, low: int) -> None:
    inferred = ReplayWindow(64, top).infer(low)
    assert inferred == -1 or inferred % _WRAP == low
