"""Failovers at every boundary: one story is told again and again, and each time the fault strikes one act later.

A world of one peer stays up while the walk goes on.  At each stop a story begins (a rekey, a deletion, a switchover, a
snapshot, ...) and, so many acts of the victim later, a fault strikes: between two datagrams, two frames, two effects.
Whoever is left takes over; what was broken is mended, the dead member returns, the pair is in sync again.  Then its
heirs follow in a *relay*: owners that die, or hand over, an act or some after they have found a backup, while requests
of the story are under way still.  At the end of the relay comes the *proof*: an exchange from either side, packets in
both directions, the same SAs at both ends.  The next stop is some acts further, until the story has none left.  Timers
are out of the way: things happen where a story says so.

That costs a few milliseconds a failover, a hundredth of what a world of its own does (``play``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.pair import Role
from simulation.gateways import MemberNode, Node, PeerNode
from simulation.plan import HEIR, PROOF, SEATS, Drawing, Event, Plan
from simulation.stories import FAULTS, HEIRS, STORIES, Fault, Story, check_liveness, standing
from simulation.violation import Violation
from simulation.world import Variant, World

LEVEL = "boundaries"
SPARSE_BEATS_S = 0.5
"""Between two beats where none of them decides anything."""
PATIENCE_S = 0.05
"""Requests are repeated for the first time after so long."""
STEP_S, LONGEST_STEP_S = 0.004, 0.1
TAKEOVER_S = 3.0
"""After every fault there is one owner within so long."""
ANSWERED_S, REFUSED_S = 10.0, 25.0
"""So long after a takeover every request has its answer; where IKE SAs are rekeyed, REFUSED_S: the longest is what the
rekey of an IKE SA and that of its child SA take that refuse each other, with pauses that double, and have met four
times."""
PROTECTED_S = 8.0
"""So long after everything has been mended a backup is in sync."""
PASSES_S = (0.06, 0.3, 0.8)
"""What is not for ever passes after so long."""
WORKS_S = 4.0
"""After a fault packets arrive in both directions within so long."""
GAP = 17
"""Packets that close the gap behind an inbound lease that has not been extended yet."""
LONGEST = 120
"""Acts of one story, at most."""
STRIDE = 13
"""Of so many acts one is struck in the walk of a seed: many short walks differ more than a few long ones."""
RELAY = 10
"""Owners that follow each other after a stop."""
RELAYED = ("traffic", "traffic", "liveness checks by both", "child rekey by the peer", "child rekey by the cluster")
"""Stories in a relay: short, so that owners follow each other fast."""
SOON = 12
"""Acts of an heir, at most."""
NEVER_S = 36000.0


class Walk:
    """A world, what has been done with it, and at how many stops a fault has struck."""

    stories: ClassVar[Mapping[str, Story]] = STORIES
    faults: ClassVar[Mapping[str, Fault]] = {**FAULTS, **HEIRS}

    def __init__(self, plan: Plan, variant: Variant | None = None) -> None:
        self.plan = plan
        self.variant = variant
        self.failovers = self.worlds = 0
        self.silent = any(self._fault(event).silent for event in plan.events if event.what != PROOF)
        self.answered_s = REFUSED_S if any("IKE rekey" in event.what for event in plan.events) else ANSWERED_S
        self.over: set[tuple[str, int]] = set()  # stories without a further act
        self.world: World
        self._unproven = self._renewed = False  # since the last proof; by stories that make new IKE SAs
        self._proven_at = 0.0

    def begin(self) -> None:
        """A world in which everything works."""
        self.world = world = self._make_world(self.plan.seed + (self.worlds << 32))
        self.worlds += 1
        for site in world.sites:
            site.child_rekey_s = site.ike_rekey_s = site.dpd_s = NEVER_S
            site.patience_s = PATIENCE_S
        if not self.silent:
            world.heartbeat_s = SPARSE_BEATS_S
        world.start(peers_after_s=(0.0, 0.01))
        self._until(self._protected, PROTECTED_S, "the members do not come up")
        self._until(self._has_tunnels, self.answered_s, "no tunnel comes up")
        self._exchange()
        world.begin_anew()
        self._proven()

    def _make_world(self, seed: int) -> World:
        return World(seed, self.variant, peers=1)

    def play(self) -> None:
        """Raises Violation where a checker finds something."""
        self.begin()
        told = {(event.what, event.member) for event in self.plan.events if not (event.what == PROOF or is_heir(event))}
        for event in self.plan.events:
            if event.what == PROOF:
                self.prove()
            elif is_heir(event):
                self.stop(event)
            elif (event.what, event.member) not in self.over and not self.stop(event):
                self.over.add((event.what, event.member))
                if self.over >= told:
                    break
        self.prove()

    def stop(self, event: Event) -> bool:
        """Whether the story was long enough for the fault to strike."""
        world = self.world
        world.random.seed(event.chance)
        world.record.note("", f"--- {event.what} of {SEATS[event.member]}, act {event.count}")
        fault, story, owner = self._fault(event), self.stories[event.what.partition(": ")[2]], self._owner()
        backup = self._backup(owner)
        victim = self._victim(event, owner)
        began = world.time
        struck: list[float] = []

        def strike() -> None:
            struck.append(world.time)
            fault.strike(world, victim)

        story.tell(world, owner, backup)
        self._unproven, self._renewed = True, self._renewed or story.renews
        victim.process.acts_left, victim.process.boundary = event.count, strike
        while not struck and world.time < began + story.seconds:
            world.run(STEP_S)
        victim.process.acts_left = None
        if fault.anyway and not struck:
            strike()
        if struck:
            self._survive(fault)
        self._rest()
        return bool(struck)

    def _fault(self, event: Event) -> Fault:
        return self.faults[event.what.partition(": ")[0]]

    def _backup(self, owner: MemberNode) -> MemberNode:
        return self.world.members[1 - owner.index]

    def _victim(self, event: Event, owner: MemberNode) -> MemberNode:
        return self._backup(owner) if event.member else owner

    def _survive(self, fault: Fault) -> None:
        world = self.world
        self.failovers += 1
        if fault.passes:
            world.run(world.random.choice(PASSES_S))
            self._mend()
        self._until(lambda: self._owner_or_none() is not None, TAKEOVER_S, "nobody takes over")
        self._mend()

    def prove(self) -> None:
        """All works, and the IKE SA is the one that it was, unless a story has renewed it."""
        if not self._unproven:
            return
        world = self.world
        self._until(self._calm, self.answered_s, "requests stay without an answer")
        for peer in world.peers:
            self._traffic(peer)
        self._exchange()
        begun = (when for site in world.sites for when in world.record.initiations[site.address])
        created = [when for when in begun if when > self._proven_at]
        if self._lost():
            self.begin()
        elif created and not self._renewed:
            self._fail("I4", "the IKE SA was not kept: a new one was begun")
        self._proven()

    def _proven(self) -> None:
        self._proven_at = self.world.time
        self._unproven = self._renewed = False

    def _exchange(self) -> None:
        """One from either side."""
        for node in (*self.world.peers, self._owner()):
            check_liveness(node)
        self.world.run(STEP_S)
        self._until(self._calm, self.answered_s, "a liveness check stays without an answer")

    def _mend(self) -> None:
        world = self.world
        world.synch.heal()
        for member in world.members:
            member.process.pause_s = 0.0
            member.host.carrier = True
            if not member.process.alive:
                member.start()

    def _rest(self) -> None:
        """The pair is in sync again before the next stop."""
        self._until(self._protected, PROTECTED_S, "no backup is in sync")
        if self._lost():
            self.begin()

    def _lost(self) -> bool:
        """Nobody may be blamed for what has become of the SAs: all who knew them died, or two owners used them."""
        return self.world.is_excused(self.world.sites[0])

    def _traffic(self, peer: PeerNode) -> None:
        """Packets in both directions until both arrive."""
        world, site = self.world, peer.site
        began, step = world.time, STEP_S
        while world.time < began + WORKS_S:
            inbound, outbound = (when > began for when in world.last_delivery(site))
            if (inbound and outbound) or self._lost():
                return
            if not outbound:
                world.packets_to(peer, 1)
            if not inbound:
                world.packets_from(peer, GAP)
            world.run(step)
            step = min(step * 1.5, LONGEST_STEP_S)
        times = " and ".join(f"{world.time - when:.3f} s" for when in world.last_delivery(site))
        self._fail("I4", f"the SA of {site.name} is doomed: the last packets from and to it are {times} old")

    # What must be

    def _until(self, reached: Callable[[], bool], limit_s: float, otherwise: str) -> None:
        end, step = self.world.time + limit_s, STEP_S
        while not reached():
            if self.world.time > end:
                self._fail("stuck", f"after {limit_s} s {otherwise}")
            self.world.run(step)
            step = min(step * 1.3, LONGEST_STEP_S)

    def _fail(self, checker: str, text: str) -> None:
        self.world.record.violation(checker, text)
        self.world.timeline.judge()

    def _owner_or_none(self) -> MemberNode | None:
        owners = [node for node in self.world.members if node.process.responsive and node.member.role is Role.ACTIVE]
        return owners[0] if len(owners) == 1 else None

    def _owner(self) -> MemberNode:
        owner = self._owner_or_none()
        if owner is None:
            raise Violation("stuck", "there is no owner")
        return owner

    def _protected(self) -> bool:
        """There are an owner and a backup in sync, with nothing on the way between them."""
        owner = self._owner_or_none()
        if owner is None:
            return False
        backup = self._backup(owner)
        return backup.process.responsive and backup.member.in_sync and is_caught_up(owner.member.log)

    def _calm(self) -> bool:
        """Nothing is under way, and the peers have the SAs that the owner has."""
        owner = self._owner_or_none()
        if self._lost():
            return True
        if owner is None or owner.gateway.output.waiting or not self._has_tunnels():
            return False
        return held_by(owner) == {
            sa.spi_i + sa.spi_r: {(child.spi_out, child.spi_in) for child in sa.children}
            for peer in self.world.peers
            for _, sa in standing(peer)
        }

    def _has_tunnels(self) -> bool:
        """With each peer, and nothing is under way."""
        peers = self.world.peers
        return all(_at_rest(node, 1) for node in peers) and _at_rest(self._owner(), len(peers))


def held_by(node: Node) -> dict[bytes, set[tuple[int, int]]]:
    """By the SPIs of each IKE SA, those of its child SAs, inbound ones first."""
    return {sa.spi_i + sa.spi_r: {(child.spi_in, child.spi_out) for child in sa.children} for _, sa in standing(node)}


def is_caught_up(log: CommitLog) -> bool:
    """Whoever is sent this is in sync, and nothing is on the way."""
    return log.backup is BackupState.IN_SYNC and not log.outstanding


def _at_rest(node: Node, peers: int) -> bool:
    """Nothing is under way, and there are child SAs with so many."""
    sas = node.endpoint.sas.values()
    if node.endpoint.initiations or any(sa.exchange is not None or sa.queue for sa in sas):
        return False
    return len({sa.connection for _, sa in standing(node) if sa.children}) == peers


def is_heir(event: Event) -> bool:
    return event.what.startswith(HEIR)


def draw(
    seed: int, faults: Sequence[str] = (), stories: Sequence[str] = (), stride: int = STRIDE, relay: int = RELAY
) -> Plan:
    """One story and one fault, at every ``stride``th act of either member, each with its relay and proof; consecutive
    seeds go through all combinations."""
    drawing = Drawing(LEVEL, seed)
    chance = drawing.chance
    known, told = faults or tuple(FAULTS), stories or tuple(STORIES)
    what = f"{known[seed // len(told) % len(known)]}: {told[seed % len(told)]}"
    for act in range(chance.randrange(stride), LONGEST, stride):
        for member in (0, 1):
            drawing.event(what, member, act)
            for _ in range(relay):
                drawing.event(f"{chance.choice(tuple(HEIRS))}: {chance.choice(RELAYED)}", 0, chance.randrange(SOON))
            drawing.event(PROOF)
    return Plan(LEVEL, seed, tuple(drawing.events), peers=1, kinds=(what,))


def judged(seed: int, variant: Variant | None = None) -> World:
    """The world of a seed after a whole walk.  Raises Violation with the end of its trace."""
    return replayed(draw(seed), variant)


def replayed(plan: Plan, variant: Variant | None = None, lines: int = 120, walk: type[Walk] = Walk) -> World:
    """The world of a plan after a whole walk.  Raises Violation with the last ``lines`` of its trace."""
    walked = walk(plan, variant)
    try:
        walked.play()
    except Violation as violation:
        violation.add_note("\n".join([f"seed {plan.seed}", *walked.world.record.lines[-lines:]]))
        raise
    return walked.world
