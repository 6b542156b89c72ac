"""Inbound numbers given back, in the model of a pair: an owner that does it all the time, and broken ones."""

from __future__ import annotations

import msgspec

from cluster_faults import draw, play
from cluster_gateway import SIZE, ModelGateway, Use
from cluster_world import World
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry

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


class GoesOnAboveWhatWasGivenBack(GivingBack):
    """The owner delivers up to the old ceiling until the lower one is acknowledged."""

    def lower(self, key: int, use: Use, ceiling: int) -> None:
        former = use.in_limit
        super().lower(key, use, ceiling)
        use.in_limit = former


class OldGrantsCount(GivingBack):
    """Acknowledgements of requests from before a ceiling was lowered bring the old one back."""

    def counts(self, entry: LeaseEntry) -> bool:
        return True

    def _grant(self, entries: tuple[LeaseEntry, ...]) -> None:
        super()._grant(entries)
        for use in self.uses.values():
            use.in_requested = max(use.in_requested, use.in_limit)


def judged_giving_back(seed: int, gateway: type[GivingBack], faults: tuple[str, ...] = FAULTS) -> None:
    """Raises Violation."""
    play(World(seed, gateway=gateway), draw(seed, faults))


GIVING_BACK_VARIANTS = (GoesOnAboveWhatWasGivenBack, OldGrantsCount)
GIVING_BACK_CHECKERS = {"I3"}
