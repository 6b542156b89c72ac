"""Three members and their witness (``mirror_world`` with the third box of ``witness_world``): nothing is excused."""

from __future__ import annotations

from typing import Any, ClassVar

from cluster_gateway import ModelGateway
from ipsecha.cluster import effects as fx
from ipsecha.cluster.seating import SeatedMember
from ipsecha.cluster.witness import Ledger, Line
from mirror_faults import FAULTS, REPAIRS, play, told
from mirror_world import NAMES, Member, MirrorGateway, MirrorWorld
from simulation.violation import Violation
from witness_world import FROM, TO, WITNESS_FAULTS, WitnessedWorld

ALL_FAULTS: dict[str, Any] = {**FAULTS, **WITNESS_FAULTS}
CUTS = ("isolate", "part", "deaf", "cut", *WITNESS_FAULTS)


class WitnessedGateway(MirrorGateway):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.to_witness = 0
        judge: Any = self.judge
        self.actions |= {
            fx.AskWitness: lambda effect: judge.asked(self, effect.data),
            fx.ResetWitness: lambda effect: judge.hung_up(self),
        }


class WitnessedMirrorWorld(MirrorWorld):
    gateway_of_member = WitnessedGateway
    faults_known: ClassVar[dict[str, Any]] = {**ALL_FAULTS, **REPAIRS}

    witness: Any = WitnessedWorld.witness
    cut_witness: Any = WitnessedWorld.cut_witness
    kept: Any = WitnessedWorld.kept
    _seek_witness: Any = WitnessedWorld._seek_witness
    _disconnect: Any = WitnessedWorld._disconnect
    hung_up: Any = WitnessedWorld.hung_up
    asked: Any = WitnessedWorld.asked
    _answered: Any = WitnessedWorld._answered
    _under_way: Any = WitnessedWorld._under_way

    def __init__(self, seed: int, *, member: type[SeatedMember] = SeatedMember, **settings: Any) -> None:
        super().__init__(seed, member=member, witness=True, **settings)
        self.ledger_type = Ledger
        self.ledger = Ledger("test", NAMES, Line())
        self.cut = {(index, way): False for index in range(len(NAMES)) for way in (TO, FROM)}
        self.witness_runs = True
        self._connections = 0
        self._accepted: dict[int, set[int]] = {}
        self._stalled: list[Any] = []
        self.at(0.0, self._seek_witness)

    def accepted(self, gateway: ModelGateway, key: int, number: int) -> None:
        super().accepted(gateway, key, number)
        seen = self._accepted.setdefault(key, set())
        if number in seen:
            raise Violation("I3", f"{gateway.name} accepts number {number} of SA {key} again")
        seen.add(number)

    def heal(self) -> None:
        super().heal()
        for index, way in self.cut:
            self.cut_witness(index, way, False)
        if not self.witness_runs:
            self.witness(True)


def judged_with_witness(
    seed: int, faults: tuple[str, ...] = (), member: type[SeatedMember] = SeatedMember
) -> WitnessedMirrorWorld:
    """The world of a seed after a whole run.  Raises Violation with its trace."""
    world = WitnessedMirrorWorld(seed, member=member, acks_all=bool(seed & 1))
    world.faults = list(faults)
    with told(world):
        play(world)
    return world


__all__ = ["CUTS", "Member", "WitnessedMirrorWorld", "judged_with_witness"]
