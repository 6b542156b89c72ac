"""Three members and their witness (``mirror_world`` with the third box of ``witness_world``): nothing is excused."""

from __future__ import annotations

from typing import Any

from ipsecha.cluster.seating import SeatedMember
from mirror_world import MirrorGateway, MirrorWorld
from witness_world import WitnessedGateway, WitnessedWorld


class WitnessedMirrorGateway(WitnessedGateway, MirrorGateway):
    """Both of what they are called for."""


class WitnessedMirrorWorld(WitnessedWorld, MirrorWorld):
    def __init__(self, seed: int, *, member: type[SeatedMember] = SeatedMember, **types: Any) -> None:
        super().__init__(seed, member=member, gateway=WitnessedMirrorGateway, **types)
