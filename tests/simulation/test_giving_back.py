"""Inbound numbers given back, in the model of a pair: owners that lower their ceilings all the time, through faults.

| variant | what is broken | found by |
|---|---|---|
| GoesOn | the owner delivers up to the old ceiling until the lower one is acknowledged | I3 |
| OldGrantsCount | acknowledgements of requests from before bring the old ceiling back | I3 |
"""

from __future__ import annotations

import msgspec
import pytest

from cluster_faults import draw, play
from cluster_gateway import SIZE, ModelGateway, Use
from cluster_world import World
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry
from simulation.violation import Violation

SEEDS = 60
BROKEN_SEEDS = 400
FAULTS = ("crash", "slow")


class GivingBack(ModelGateway):
    """As ``ipsecha.ipsec.ceilings``: the lower ceiling holds from the request on, and answers to earlier ones do not
    count inbound."""

    given_back = 0

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._serial = 0
        self._valid_from: dict[int, int] = {}
        self._returning: dict[int, int] = {}

    def receive(self, key: int, number: int) -> None:
        super().receive(key, number)
        use = self.uses[key]
        quiet = use.in_requested == use.in_limit and use.in_limit - use.in_top > SIZE // 4
        if self.leasing is Leasing.LEASED and quiet and number % 3 == 0:
            self._returning[key] = max(use.in_top + 1, use.floor)
            self._wanting.add(key)
            self.flush()

    def _requests(self) -> list[LeaseEntry]:
        self._serial += 1
        lowered = set()
        for key, ceiling in self._returning.items():
            use = self.uses.get(key)
            if use is not None and use.in_requested == use.in_limit and use.in_top <= ceiling < use.in_limit:
                self.lower(key, use, ceiling)
                lowered.add(key)
                GivingBack.given_back += 1
        self._returning.clear()
        return [
            msgspec.structs.replace(entry, lowers=entry.spi_in in lowered, serial=self._serial)
            for entry in super()._requests()
        ]

    def lower(self, key: int, use: Use, ceiling: int) -> None:
        use.in_limit = use.in_requested = self.table[key].in_ceiling = ceiling
        self._valid_from[key] = self._serial

    def counts(self, entry: LeaseEntry) -> bool:
        return entry.serial >= self._valid_from.get(entry.spi_in, 0)

    def _grant(self, entries: tuple[LeaseEntry, ...]) -> None:
        super()._grant(
            tuple(entry if self.counts(entry) else msgspec.structs.replace(entry, in_ceiling=0) for entry in entries)
        )

    def _raise(self, entries: tuple[LeaseEntry, ...]) -> None:
        for entry in entries:
            if entry.lowers and not self.active and entry.spi_in in self.table:
                self.table[entry.spi_in].in_ceiling = entry.in_ceiling
        super()._raise(entries)


class GoesOn(GivingBack):
    def lower(self, key: int, use: Use, ceiling: int) -> None:
        former = use.in_limit
        super().lower(key, use, ceiling)
        use.in_limit = former


class OldGrantsCount(GivingBack):
    def counts(self, entry: LeaseEntry) -> bool:
        return True

    def _grant(self, entries: tuple[LeaseEntry, ...]) -> None:
        super()._grant(entries)
        for use in self.uses.values():
            use.in_requested = max(use.in_requested, use.in_limit)


def judge(seed: int, gateway: type[GivingBack], faults: tuple[str, ...]) -> None:
    """Raises Violation."""
    play(World(seed, gateway=gateway), draw(seed, faults))


def first_finding(gateway: type[GivingBack]) -> str:
    for seed in range(BROKEN_SEEDS):
        try:
            judge(seed, gateway, FAULTS)
        except Violation as violation:
            return violation.checker
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("faults", [(), FAULTS, ("switchover", "crash"), ("partition",)], ids="+".join)
def test_no_number_is_accepted_twice(faults: tuple[str, ...]) -> None:
    before = GivingBack.given_back
    for seed in range(SEEDS):
        judge(seed, GivingBack, faults)
    assert GivingBack.given_back > before + SEEDS


@pytest.mark.parametrize("broken", [GoesOn, OldGrantsCount])
def test_a_broken_owner_is_found_out(broken: type[GivingBack]) -> None:
    assert first_finding(broken) == "I3"
