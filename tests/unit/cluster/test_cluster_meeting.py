"""Two hellos, two verdicts: whatever the members say, at most one goes on, and nobody waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.cluster.frames import VERSION, Hello
from ipsecha.cluster.meeting import Verdict, judge

GOES_ON = {Verdict.STAY, Verdict.RECLAIM, Verdict.CLAIM}


def _hello(index: int, active: bool = False, epoch: int = 0, rank: int = 0, lineage: int = 0) -> Hello:
    return Hello(VERSION, "c", index, bytes((index,)), active, epoch, rank, b"k", 0.0, lineage)


def _any_hello(index: int) -> st.SearchStrategy[Hello]:
    def build(active: bool, term: int, rank: int, lineage: int) -> Hello:
        epoch = term << 4 | index if active else term << 4
        return _hello(index, active, epoch, 2 if active else rank, lineage if active or rank else 0)

    return st.builds(build, st.booleans(), st.integers(1, 4), st.integers(0, 2), st.integers(1, 3))


@given(_any_hello(0), _any_hello(1))
def test_exactly_one_goes_on_and_epochs_only_grow(one: Hello, other: Hello) -> None:
    verdicts = judge(one, other), judge(other, one)
    assert sum(verdict in GOES_ON for verdict in verdicts) == 1
    for mine, theirs, verdict, answer in ((one, other, *verdicts), (other, one, *reversed(verdicts))):
        if verdict is Verdict.FOLLOW:
            assert theirs.active
            assert theirs.epoch >= mine.epoch
            assert answer is Verdict.STAY
        if verdict is Verdict.WAIT:
            assert answer in (Verdict.RECLAIM, Verdict.CLAIM)  # it will say hello again, in a higher epoch


@pytest.mark.parametrize(
    ("mine", "theirs", "verdict"),
    [
        (_hello(0), _hello(1), Verdict.CLAIM),
        (_hello(1), _hello(0), Verdict.WAIT),
        (_hello(0), _hello(1, rank=1, epoch=0x10), Verdict.WAIT),
        (_hello(1, rank=2, epoch=0x10), _hello(0, rank=1, epoch=0x10), Verdict.CLAIM),
        (_hello(1, rank=1, epoch=0x21), _hello(0, rank=2, epoch=0x10), Verdict.CLAIM),
        (_hello(0), _hello(1, True, 0x11, 2, 0x11), Verdict.FOLLOW),
        (_hello(1, True, 0x11, 2, 0x11), _hello(0), Verdict.STAY),
        (_hello(1, True, 0x11, 2, 0x11), _hello(0, epoch=0x20), Verdict.RECLAIM),
        (_hello(0, True, 0x30, 2, 0x11), _hello(1, True, 0x21, 2, 0x11), Verdict.STAY),
        (_hello(0, True, 0x10, 2, 0x10), _hello(1, True, 0x91, 2, 0x91), Verdict.RECLAIM),
        (_hello(1, True, 0x91, 2, 0x91), _hello(0, True, 0x10, 2, 0x10), Verdict.WAIT),
    ],
)
def test_verdicts(mine: Hello, theirs: Hello, verdict: Verdict) -> None:
    assert judge(mine, theirs) is verdict
