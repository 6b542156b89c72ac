"""A witness in the world of whole gateways: the product's own ledger and client, cut off now and then.

``witnessed()`` is the variant that plugs it in.  Two owners are excused no more: what a split excuses in a pair without
a witness is never looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ipsecha.cluster.pair import PairMember, PairSettings
from ipsecha.cluster.witness import Ledger, Line
from ipsecha.model.spi import Entropy
from simulation.world import Variant

if TYPE_CHECKING:
    from simulation.gateways import MemberNode
    from simulation.world import World

SEEK_S, DELAY_S = 0.05, 0.001


class ThirdBox:
    """The witness, and the cables to it."""

    def __init__(self, world: World, ledger: type[Ledger], cables_fail: bool = True) -> None:
        self.world = world
        self.ledger = ledger("test", tuple(member.name for member in world.members), Line())
        self.cut = {(index, way): False for index in range(len(world.members)) for way in ("to", "from")}
        self.timeline = world.timeline
        self.timeline.at(SEEK_S, self._seek)
        if cables_fail:
            self.timeline.at(2.0, self._disturb)

    def _disturb(self) -> None:
        """Cables fail and work again by chance, while there are faults; both members always know the witness first."""
        chance = self.world.random
        if self.world.over:
            self.cut = dict.fromkeys(self.cut, False)
            return
        self.cut[chance.choice(sorted(self.cut))] = chance.random() < 0.5
        self.timeline.at(0.1 + chance.random(), self._disturb)

    def _seek(self) -> None:
        self.timeline.at(self.timeline.jitter(SEEK_S), self._seek)
        for node in self.world.members:
            link = node.side.witness if node.boot else None
            if (
                isinstance(link, BoxLink)
                and not link.is_up
                and not (self.cut[node.index, "to"] or self.cut[node.index, "from"])
            ):
                link.connect()

    def ask(self, link: BoxLink, connection: int, data: bytes) -> None:
        if not self.cut[link.node.index, "to"]:
            reply = self.ledger.answer(link.node.name, data)
            self.timeline.at(self.timeline.jitter(DELAY_S), self._answer, link, connection, reply)

    def _answer(self, link: BoxLink, connection: int, reply: bytes) -> None:
        if not self.cut[link.node.index, "from"] and link.connection == connection:
            link.node.process.run(link.events.message, reply)


class BoxLink:
    """Takes the place of ``gateway.witness_link.WitnessLink``."""

    def __init__(self, box: ThirdBox, node: MemberNode) -> None:
        self.box = box
        self.node = node
        self.events = node.side.witness_events()
        self.connection = 0
        self._connections = 0

    @property
    def is_up(self) -> bool:
        return self.connection > 0

    def connect(self) -> None:
        self._connections += 1
        self.connection = self._connections
        self.node.process.run(self.events.up)

    def send(self, message: bytes) -> None:
        if self.connection:
            delay = self.box.timeline.jitter(DELAY_S)
            self.node.process.emit(self.box.timeline.at, delay, self.box.ask, self, self.connection, message)

    def reset(self) -> None:
        self.connection = 0


def witnessed(
    name: str = "sound",
    member: type[PairMember] = PairMember,
    ledger: type[Ledger] = Ledger,
    faults: tuple[str, ...] = (),
    cables_fail: bool = True,
) -> Variant:
    """A pair with a witness, or a cluster of three; ``member`` and ``ledger`` may be broken."""

    def make(settings: PairSettings, entropy: Entropy) -> PairMember:
        return member(msgspec.structs.replace(settings, witness=True), entropy)

    def prepare(node: MemberNode) -> None:
        world: Any = node.world
        if not hasattr(world, "third_box"):
            world.third_box = ThirdBox(node.world, ledger, cables_fail)
        world.served = lambda node: None  # nothing is excused
        node.side.witness = BoxLink(world.third_box, node)  # type: ignore[assignment]

    return Variant(name, member=make, prepare=prepare, faults=faults)  # type: ignore[arg-type]
