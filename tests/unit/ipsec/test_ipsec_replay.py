"""The anti-replay window, the scenario of VPP's test suite among it (see shared/vectors/README.md)."""

from __future__ import annotations

import pytest

from ipsecha.ipsec.replay import ReplayWindow


def receive(window: ReplayWindow, number: int, *, authentic: bool = True) -> bool:
    """What the inbound path does with a number on the wire; True where the packet is accepted."""
    if not window.fresh(number) or not authentic:
        return False
    window.accept(number)
    return True


@pytest.mark.parametrize("width", [64, 128, 1024])
def test_vpp_scenario(width: int) -> None:
    window = ReplayWindow(width)
    assert all(receive(window, number) for number in range(1, 34))
    assert not any(receive(window, number) for number in range(1, 34))
    assert [receive(window, 35) for _ in range(8)] == [True] + [False] * 7
    assert receive(window, width + 100)
    assert not receive(window, width + 200, authentic=False)
    assert receive(window, width + 170)  # had the forged packet moved the window, this might not be new
    assert not receive(window, 17)
    assert receive(window, width + 258)


def test_esn_scenario() -> None:
    width = 64
    window = ReplayWindow(width, (1 << 32) - 1)
    assert window.infer(0) == 1 << 32
    assert window.infer(5) == (1 << 32) + 5
    assert receive(window, window.infer(5))
    assert window.infer(0xFFFFFFFD) == 0xFFFFFFFD  # in the window, behind the wrap
    assert window.infer(0x999) == (1 << 32) + 0x999  # not 0x2_00000999: its integrity check will fail
    assert receive(window, (1 << 32) + width + 0x555)
    assert window.infer(0x444) == (2 << 32) + 0x444


def test_nothing_precedes_the_first_number() -> None:
    window = ReplayWindow(64)
    assert not window.fresh(0)
    assert window.infer(0xFFFFFFF0) == -1
    assert not window.fresh(-1)


def test_takeover_window_accepts_nothing_up_to_its_floor() -> None:
    window = ReplayWindow(64, 1000)
    assert not any(window.fresh(number) for number in range(900, 1001))
    assert receive(window, 1002)
    assert receive(window, 1001)
    assert not receive(window, 1000)


def test_small_windows_are_widened() -> None:
    assert ReplayWindow(1).size == 32
