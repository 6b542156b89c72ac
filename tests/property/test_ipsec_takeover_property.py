"""Invariants I2 and I3 over arbitrary histories of two members and one child SA: no outbound number is sent twice, no
inbound number is accepted twice, and while a backup lives nothing is used above what it has acknowledged.

What travels to the backup, lease requests (that may give numbers back) and records, comes in order, as on the channel.
With the policy "learn" the promise is a weaker one: a number may be accepted a second time, never a third time, and
never where the backup had been told that it was delivered.
"""

from __future__ import annotations

from hypothesis import settings

from ipsecha.model.policy import Inbound
from ipsecha.model.records import ChildSa
from takeover_history import SPI, Requests, TakeoverHistory


class LearningHistory(TakeoverHistory):
    """``held``: what the backup had been told when a packet was accepted that waits for a lease, by activation and
    number.  The request for that lease says more: that nobody may learn from this gap again."""

    inbound = Inbound.LEARN

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[tuple[int, int], int] = {}

    def arrives(self, sent: Requests | ChildSa) -> None:
        live = self.owner.sad.lives.get(SPI)
        for number, *_ in live.held_in if live is not None else ():
            self.held.setdefault((self.incarnation, number), self.told)
        super().arrives(sent)

    def check_number(self, number: int) -> None:
        told = self.held.pop((self.incarnation, number), self.told)
        assert self.delivered[number] <= 2
        assert self.delivered[number] == 1 or number > told


TestTakeoverHistory = TakeoverHistory.TestCase
TestTakeoverHistory.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

TestLearningHistory = LearningHistory.TestCase
TestLearningHistory.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
