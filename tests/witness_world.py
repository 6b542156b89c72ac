"""The pair of ``cluster_world`` with a witness: three boxes, every cable of which may fail, each way alone.  Worlds of
more members take what is here on top of their own (``mirror_witness``).

With a witness nothing is excused.  Beside the checkers of the pair:

| checker | what it finds |
|---|---|
| alone | two members that go beyond what both of them know, with the same records |
| I3 | an inbound number accepted twice, whoever was cut off from whom |
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cluster_checkers import Node
from cluster_faults import (
    EVERY,
    FAULTS,
    Fault,
    among_traffic,
    brought_along,
    draw_relay,
    heirs_of,
    played,
    with_repairs,
)
from cluster_gateway import ModelGateway
from cluster_world import World
from ipsecha.cluster import effects as fx
from ipsecha.cluster.pair import PairMember
from ipsecha.cluster.witness import Ledger, Line
from simulation.plan import Drawing, Plan
from simulation.violation import Violation

LEVEL = "witness"
ROUNDS = 20
TO, FROM = "to", "from"


class WitnessedGateway(ModelGateway):
    def __init__(self, name: str, member: Any, judge: Any, ring: dict[type, Callable[[Any], None]]) -> None:
        super().__init__(name, member, judge, ring)
        self.to_witness = 0  # which connection; 0: none
        self.actions |= {
            fx.RaiseEpoch: lambda effect: judge.raised(self, effect.epoch),
            fx.AskWitness: lambda effect: judge.asked(self, effect.data),
            fx.ResetWitness: lambda effect: judge.hung_up(self),
        }


class WitnessedWorld(World):
    def __init__(
        self,
        seed: int,
        *,
        member: type[PairMember] = PairMember,
        gateway: type[WitnessedGateway] = WitnessedGateway,
        ledger: type[Ledger] = Ledger,
        **settings: Any,
    ) -> None:
        super().__init__(seed, member=member, gateway=gateway, witness=True, **settings)
        self.ledger_type = ledger
        self.ledger = ledger("test", self.names, Line())
        self.cut = {(node.index, way): False for node in self.nodes for way in (TO, FROM)}
        self.witness_runs = True
        self._connections = 0
        self._accepted: dict[int, set[int]] = {}
        self._stalled: list[tuple[tuple[int, str], Callable[[], None]]] = []
        self.at(0.0, self._seek_witness)

    # Checkers

    def accepted(self, gateway: ModelGateway, key: int, number: int) -> None:
        super().accepted(gateway, key, number)
        seen = self._accepted.setdefault(key, set())
        if number in seen:
            raise Violation("I3", f"{gateway.name} accepts number {number} of SA {key} again")
        seen.add(number)

    def _carry_out(self, node: Node) -> None:
        super()._carry_out(node)
        if not (node.alive and node.gateway.goes_beyond):
            return
        for other in self.nodes:
            beside = other is not node and other.alive and other.gateway.goes_beyond
            if beside and other.gateway.lineage == node.gateway.lineage:
                raise Violation("alone", f"{node.gateway.name} and {other.gateway.name} both go beyond what they know")

    # The third box

    def witness(self, runs: bool) -> None:
        """Stop or start it; a new process knows what is on disk."""
        self.note(f"witness {'starts' if runs else 'stops'}")
        self.witness_runs = runs
        self.ledger = self.ledger_type("test", self.ledger.members, self.kept(self.ledger.line))
        for node in self.nodes:
            if node.boot and node.gateway.to_witness:
                self._disconnect(node)

    def kept(self, line: Line) -> Line:
        return line

    def cut_witness(self, index: int, way: str, cut: bool = True) -> None:
        self.cut[index, way] = cut
        if not cut:
            stalled, self._stalled = self._stalled, []
            for path, arrival in stalled:
                if not self.cut[path]:
                    arrival()
                else:
                    self._stalled.append((path, arrival))

    def heal(self) -> None:
        super().heal()
        for index, way in self.cut:
            self.cut_witness(index, way, False)
        if not self.witness_runs:
            self.witness(True)

    def _seek_witness(self) -> None:
        self.at(self.jitter(0.05), self._seek_witness)
        for node in self.nodes:
            reachable = self.witness_runs and not (self.cut[node.index, TO] or self.cut[node.index, FROM])
            if node.alive and not node.gateway.to_witness and reachable:
                self._connections += 1
                node.gateway.to_witness = self._connections
                self._tell_soon(node, lambda node=node: node.member.witness_up(self.time + node.skew))

    def _disconnect(self, node: Node) -> None:
        node.gateway.to_witness = 0

        def tell() -> None:
            if not node.gateway.to_witness:  # a process hears of the end of a connection before it has the next one
                node.member.witness_down(self.time + node.skew)

        self._tell_soon(node, tell)

    def hung_up(self, gateway: WitnessedGateway) -> None:
        gateway.to_witness = 0

    def asked(self, gateway: WitnessedGateway, data: bytes) -> None:
        node, connection = self._node_of(gateway), gateway.to_witness

        def arrive() -> None:
            if not self.witness_runs:
                return
            reply = self.ledger.answer(self.ledger.members[node.index], data)
            self._under_way((node.index, FROM), lambda: self._answered(node, gateway, connection, reply))

        if connection:
            self._under_way((node.index, TO), arrive)

    def _answered(self, node: Node, gateway: WitnessedGateway, connection: int, reply: bytes) -> None:
        if gateway.to_witness == connection and node.gateway is gateway:
            self._tell(node, node.boot, lambda: node.member.witness_answer(reply, self.time + node.skew))

    def _under_way(self, path: tuple[int, str], arrival: Callable[[], None]) -> None:
        """A cut path keeps what TCP will repeat, or loses it with its connection."""

        def arrive() -> None:
            if not self.cut[path]:
                arrival()
            elif self.random.random() < 0.7:
                self._stalled.append((path, arrival))

        self.at(self.jitter(self.delay_s), arrive)


def _cut_witness(world: WitnessedWorld, node: Node) -> None:
    for way in (TO, FROM):
        world.cut_witness(node.index, way)


def _one_way(world: WitnessedWorld, node: Node) -> None:
    world.cut_witness(node.index, world.random.choice((TO, FROM)))


def _restart(world: WitnessedWorld, node: Node) -> None:
    world.witness(False)
    world.run(world.random.choice((0.01, 0.3)))
    world.witness(True)


def _down(world: WitnessedWorld, node: Node) -> None:
    world.witness(False)


def _up(world: WitnessedWorld, node: Node) -> None:
    if not world.witness_runs:
        world.witness(True)
    for way in (TO, FROM):
        world.cut_witness(node.index, way, False)


WITNESS_FAULTS: dict[str, Fault] = {
    "witness cut": _cut_witness,
    "witness one way": _one_way,
    "witness restarts": _restart,
    "witness down": _down,
    "witness up": _up,
}


def draw(seed: int, faults: Sequence[str] = (), rounds: int = ROUNDS) -> Plan:
    """What happens in the world of a seed: faults of the pair and of the witness among traffic."""
    drawing = Drawing(LEVEL, seed)
    drawn = faults or drawing.kinds(FAULTS | WITNESS_FAULTS, 2, 7)
    kinds = [*with_repairs(drawing, drawn), "witness up"]
    drawing.pause(3.0)  # a witness that nobody has ever reached knows nothing
    among_traffic(drawing, kinds, rounds)
    draw_relay(drawing, heirs_of(faults))
    return Plan(LEVEL, seed, tuple(drawing.events), kinds=brought_along(drawn))


def judged(
    seed: int,
    faults: Sequence[str] = (),
    *,
    world: type[WitnessedWorld] = WitnessedWorld,
    rounds: int = ROUNDS,
    **types: Any,
) -> WitnessedWorld:
    """The world of a seed after a whole run.  Raises Violation with its trace."""
    return replayed(draw(seed, faults, rounds), world=world, **types)


def replayed(
    plan: Plan, *, world: type[WitnessedWorld] = WitnessedWorld, lines: int = 60, **types: Any
) -> WitnessedWorld:
    """The world of a plan after a whole run.  Raises Violation with the last ``lines`` of its trace."""
    return played(world(plan.seed, **types), plan, EVERY | WITNESS_FAULTS, lines)
