"""Seats that change hands among three whole members: a walk along boundaries, and long relays of owners.

As in ``boundaries``, a fault strikes at some act of a story, whoever is left takes over, and owners follow each other;
but here a mirror takes the seat that has become free, is the next owner, and whoever was dead comes back as a mirror:
at once, or only after the next one has died, too.  Backups and mirrors die in between.  The proof at the end of each
relay says in addition that all three have the same records, and that every SA is the one that it was, wherever nothing
was told that ends SAs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from ipsecha.model.policy import Inbound
from simulation import boundaries
from simulation.boundaries import LONGEST, held_by, is_caught_up, is_heir
from simulation.gateways import MemberNode
from simulation.plan import PROOF, Drawing, Event, Plan
from simulation.play import comparable
from simulation.seat_world import SeatNode, SeatWorld
from simulation.stories import FAULTS as OF_PAIRS
from simulation.stories import HEIRS as HEIRS_OF_PAIRS
from simulation.stories import STORIES as STORIES_OF_PAIRS
from simulation.stories import Fault, Story
from simulation.watches import Watches
from simulation.world import Variant, World

LEVEL = "seats"
PEERS = 2
"""So that snapshots have several parts."""
STRIDE = 29
RELAY = 15
"""Owners, and others, that follow each other after a stop."""
BURST = 140
"""Packets each way: more than half of a lease."""
SOON = 12
"""Acts of whoever is struck in a relay, at most."""
OWNER, BACKUP, MIRROR = range(3)
POLL_S = 0.0004
SECOND_S = 0.2
"""After the first of two deaths the second one comes within so long."""
AWAY = 0.4
"""The chance that one who is dead stays away until the next one has died."""
CALM = ("nothing", "nothing", "nothing", "traffic")
QUIET = ("traffic", "liveness checks by both")
HEAVY = ("burst", "nothing", "traffic")
LEAVING_ALL = {*CALM, *QUIET, *HEAVY, "switchover"}
"""Stories that leave all SAs as they are."""
BUSY = ("traffic", "liveness checks by both", "child rekey by the peer", "child rekey by the cluster")


# Faults


def _crash_owner_with_its_heir_seated(world: World, node: MemberNode) -> None:
    """The backup dies; as soon as the mirror on its seat is in sync, or some acts later, the owner."""
    assert isinstance(world, SeatWorld)
    owner = next((one for one in world.members if one.process.alive and one.member.owns), None)
    if owner is None:
        return
    backup = world.members[owner.member.partner_index]
    backup.process.kill()
    last = world.time + SECOND_S
    acts = world.random.randint(0, 10)

    def look() -> None:
        seated = any(one.process.alive and one.member.in_sync for one in world.members)
        if seated and world.time < last:
            owner.process.boundary, owner.process.acts_left = owner.process.kill, acts
            world.timeline.at(last - world.time, owner.process.kill)
        elif world.time < last:
            world.timeline.at(POLL_S, look)

    look()


def _break_a_channel(world: World, node: MemberNode) -> None:
    """To one of the others."""
    assert isinstance(world, SeatWorld)
    other = world.random.choice([member.index for member in world.members if member is not node])
    world.synch.break_channel(node.index, other)


def _isolate(world: World, node: MemberNode) -> None:
    """From the other two; it reaches the peers and the witness."""
    assert isinstance(world, SeatWorld)
    for cable in world.synch.cables_of(node.index):
        for path, receiver in cable.blocked:
            cable.block(path, receiver)


def _spare(world: World, node: MemberNode) -> None:
    """Nobody is struck: what mirrors hear while they are mirrors matters later, when one has the seat."""


def _return_of_the_mirror(world: World, owner: MemberNode, backup: MemberNode) -> None:
    """It comes back with nothing, while a child SA is rekeyed."""
    mirror = next(node for node in world.members if node not in (owner, backup))
    mirror.process.kill()
    mirror.start()
    world.timeline.at(
        world.random.random() * 0.015, STORIES_OF_PAIRS["child rekey by the cluster"].tell, world, owner, backup
    )


def _another_backup(world: World, owner: MemberNode, backup: MemberNode) -> None:
    """The backup dies in the middle of exchanges from both sides."""
    world.timeline.at(world.random.random() * 0.01, backup.process.kill)
    STORIES_OF_PAIRS["child rekeys by both"].tell(world, owner, backup)


def _nothing(world: World, owner: MemberNode, backup: MemberNode) -> None:
    """No packet touches an SA of the new owner's before the next one has it."""


def _burst(world: World, owner: MemberNode, backup: MemberNode) -> None:
    """Leases are extended, under way at any moment."""
    world.inner_packets(BURST)


STORIES: dict[str, Story] = {
    **STORIES_OF_PAIRS,
    "nothing": Story(_nothing, 0.01),
    "burst": Story(_burst, 0.02),
    "return of the mirror": Story(_return_of_the_mirror),
    "another backup": Story(_another_backup),
}
FAULTS: dict[str, Fault] = {
    "crash": OF_PAIRS["crash"],
    "host lost": OF_PAIRS["host lost"],
    "backup, then owner": Fault(_crash_owner_with_its_heir_seated, silent=False),
    "a channel broken": Fault(_break_a_channel, silent=False),
}
SILENCES: dict[str, Fault] = {"hang": OF_PAIRS["hang"], "isolated": Fault(_isolate)}
"""Two would serve at a time after these, but for a witness."""
HEIRS: dict[str, Fault] = {
    **HEIRS_OF_PAIRS,
    "heir loses its backup": HEIRS_OF_PAIRS["heir crashes"],
    "heir loses its mirror": HEIRS_OF_PAIRS["heir crashes"],
    "heir goes on": Fault(_spare, silent=False, passes=False, anyway=True),
}
STRUCK = {"heir loses its backup": BACKUP, "heir loses its mirror": MIRROR}
"""The others strike the owner."""
DRAWN = (
    *["heir crashes"] * 6,
    *["heir hands over"] * 2,
    *["heir loses its backup"] * 2,
    "heir loses its mirror",
    *["heir goes on"] * 2,
)


class Walk(boundaries.Walk):
    world: SeatWorld
    stories: ClassVar[Mapping[str, Story]] = STORIES
    faults: ClassVar[Mapping[str, Fault]] = {**FAULTS, **SILENCES, **HEIRS}

    def __init__(self, plan: Plan, variant: Variant | None = None) -> None:
        super().__init__(plan, variant)
        self._held: dict[bytes, set[tuple[int, int]]] = {}  # at the last proof
        self._told: set[str] = set()  # stories since then
        self._watches: Watches | None = None

    def _make_world(self, seed: int) -> World:
        world = SeatWorld(seed, self.variant, peers=PEERS)
        self._close_watches()
        self._watches = Watches(world)
        return world

    def _close_watches(self) -> None:
        if self._watches is not None:
            self._watches.close()

    def play(self) -> None:
        try:
            super().play()
            assert self._watches is not None
            self._watches.end()
        finally:
            self._close_watches()

    def stop(self, event: Event) -> bool:
        self._told.add(event.what.partition(": ")[2])
        if event.member == MIRROR or not is_heir(event):
            self._mend()
            self._rest()
        return super().stop(event)

    def _backup(self, owner: MemberNode) -> SeatNode:
        assert isinstance(owner, SeatNode)
        return self.world.members[owner.member.partner_index]

    def _victim(self, event: Event, owner: MemberNode) -> MemberNode:
        backup = self._backup(owner)
        if event.member == MIRROR:
            return next(node for node in self.world.members if node not in (owner, backup))
        return backup if event.member == BACKUP else owner

    def _survive(self, fault: Fault) -> None:
        """Who is dead comes back, but that one may stay away where the other two are a pair by then."""
        world = self.world
        self.failovers += 1
        if fault.passes:
            world.run(SECOND_S + world.random.choice(boundaries.PASSES_S))
        away = not (fault.silent or fault.passes) and world.random.random() < AWAY
        self._until(self._is_decided, boundaries.TAKEOVER_S, "nobody takes over")
        if self._owner_or_none() is None:  # nobody begins anew on silence
            self._mend()
            self._until(lambda: self._owner_or_none() is not None, boundaries.TAKEOVER_S, "nobody begins anew")
        if not away or sum(node.process.alive for node in world.members) < PEERS:
            self._mend()

    def _is_decided(self) -> bool:
        """There is an owner, or nobody is left who has a right to the SAs."""
        return self._owner_or_none() is not None or self.world.may_be_lost

    def _protected(self) -> bool:
        """All who live are in sync: a backup, and a mirror where there are three."""
        owner = self._owner_or_none()
        if owner is None or owner.member.partner_index < 0:
            return False
        assert isinstance(owner, SeatNode)
        backup = self._backup(owner)
        mirrors = [node for node in self.world.members if node.process.alive and node not in (owner, backup)]
        return super()._protected() and all(
            mirror.follows(owner) and is_caught_up(owner.member.others[mirror.index].source.log) for mirror in mirrors
        )

    def prove(self) -> None:
        if self._unproven:
            self._mend()
            self._rest()
        super().prove()

    def _proven(self) -> None:
        super()._proven()
        self._until(self._protected, boundaries.PROTECTED_S, "not all are in sync")
        owner = self._owner()
        assert isinstance(owner, SeatNode)
        self._judge_copies(owner)
        if self._held and not self._lost():
            self._judge_sas(held_by(owner))
        self._held, self._told = held_by(owner), set()

    def _judge_copies(self, owner: SeatNode) -> None:
        ours, *copies = (
            {spi: comparable(sa) for spi in node.endpoint.sas if (sa := node.peek(spi)) is not None}
            for node in (owner, *(one for one in self.world.members if one is not owner))
        )
        if any(copy != ours for copy in copies):
            self._fail("commit", "not all of them have the same records")

    def _judge_sas(self, held: dict[bytes, set[tuple[int, int]]]) -> None:
        """Each is the one that it was at the last proof, unless stories were told that say otherwise."""
        if not any("IKE" in story or "handshake" in story for story in self._told) and held.keys() != self._held.keys():
            self._fail("I4", "not every IKE SA is the one that it was")
        rekeyed = any(site.inbound is Inbound.REKEY for site in self.world.sites)  # after each takeover
        if self._told <= LEAVING_ALL and held != self._held and not rekeyed:
            self._fail("I4", "not every child SA is the one that it was")

    def begin(self) -> None:
        self._held, self._told = {}, set()
        super().begin()


def draw(
    seed: int, faults: Sequence[str] = (), stories: Sequence[str] = (), stride: int = STRIDE, relay: int = RELAY
) -> Plan:
    """One story and one fault, at every ``stride``th act of each member, each with its relay and proof; consecutive
    seeds go through all combinations, each with either ``acks``."""
    drawing = Drawing(LEVEL, seed)
    chance = drawing.chance
    known, told = faults or tuple(FAULTS), stories or tuple(STORIES)
    number = seed // 2
    what = f"{known[number % len(known)]}: {told[number // len(known) % len(told)]}"
    for act in range(chance.randrange(stride), LONGEST, stride):
        for member in (OWNER, BACKUP, MIRROR):
            drawing.event(what, member, act)
            relayed = chance.choice((CALM, QUIET, BUSY, HEAVY))
            for _ in range(relay):
                heir = chance.choice(DRAWN)
                drawing.event(f"{heir}: {chance.choice(relayed)}", STRUCK.get(heir, OWNER), chance.randrange(SOON))
            drawing.event(PROOF)
    return Plan(LEVEL, seed, tuple(drawing.events), peers=PEERS, kinds=(what,))


def judged(seed: int, variant: Variant | None = None) -> World:
    """The world of a seed after a whole walk.  Raises Violation with the end of its trace."""
    return replayed(draw(seed, variant.faults if variant else ()), variant)


def replayed(plan: Plan, variant: Variant | None = None) -> World:
    return boundaries.replayed(plan, variant, walk=Walk)
