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

from collections.abc import Callable, Sequence

from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.pair import Role
from simulation.gateways import MemberNode, Node
from simulation.plan import PROOF, Drawing, Event, Plan
from simulation.stories import FAULTS, HEIRS, STORIES, Fault, check_liveness, standing
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

    def __init__(self, plan: Plan, variant: Variant | None = None) -> None:
        self.plan = plan
        self.variant = variant
        self.failovers = self.worlds = 0
        self.silent = any(_fault(event).silent for event in plan.events if event.what != PROOF)
        self.answered_s = REFUSED_S if any("IKE rekey" in event.what for event in plan.events) else ANSWERED_S
        self.over: set[tuple[str, int]] = set()  # stories without a further act
        self.world: World
        self._unproven = self._renewed = False  # since the last proof; by stories that make new IKE SAs
        self._proven_at = 0.0

    def begin(self) -> None:
        """A world in which everything works."""
        self.world = world = World(self.plan.seed + (self.worlds << 32), self.variant, peers=1)
        self.worlds += 1
        for site in world.sites:
            site.child_rekey_s = site.ike_rekey_s = site.dpd_s = NEVER_S
            site.patience_s = PATIENCE_S
        if not self.silent:
            world.heartbeat_s = SPARSE_BEATS_S
        world.start(peers_after_s=(0.0, 0.01))
        self._until(self._protected, PROTECTED_S, "the members do not come up")
        self._until(lambda: _at_rest(self._owner()) and _at_rest(world.peers[0]), self.answered_s, "no tunnel comes up")
        self._exchange()
        world.begin_anew()
        self._proven()

    def play(self) -> None:
        """Raises Violation where a checker finds something."""
        self.begin()
        told = {
            (event.what, event.member) for event in self.plan.events if not (event.what == PROOF or _is_heir(event))
        }
        for event in self.plan.events:
            if event.what == PROOF:
                self.prove()
            elif _is_heir(event):
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
        world.record.note("", f"--- {event.what} of {'the backup' if event.member else 'the owner'}, act {event.count}")
        fault, story, owner = _fault(event), STORIES[event.what.partition(": ")[2]], self._owner()
        backup = world.members[1 - owner.index]
        victim = backup if event.member else owner
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
            self._survive(fault.passes)
        self._rest()
        return bool(struck)

    def _survive(self, passes: bool) -> None:
        world = self.world
        self.failovers += 1
        if passes:
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
        self._traffic()
        self._exchange()
        created = [when for when in world.record.initiations[world.sites[0].address] if when > self._proven_at]
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
        for node in (self.world.peers[0], self._owner()):
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

    def _traffic(self) -> None:
        """Packets in both directions until both arrive."""
        world, peer, site = self.world, self.world.peers[0], self.world.sites[0]
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
        backup, log = self.world.members[1 - owner.index], owner.member.log
        return (
            backup.process.responsive
            and backup.member.in_sync
            and log.backup is BackupState.IN_SYNC
            and not log.outstanding
        )

    def _calm(self) -> bool:
        """Nothing is under way, and the peer has the SAs that the owner has."""
        owner, peer = self._owner_or_none(), self.world.peers[0]
        if self._lost():
            return True
        if owner is None or owner.gateway.output.waiting or not (_at_rest(owner) and _at_rest(peer)):
            return False
        ours = {
            sa.spi_i + sa.spi_r: {(child.spi_in, child.spi_out) for child in sa.children} for _, sa in standing(owner)
        }
        return ours == {
            sa.spi_i + sa.spi_r: {(child.spi_out, child.spi_in) for child in sa.children} for _, sa in standing(peer)
        }


def _at_rest(node: Node) -> bool:
    sas = node.endpoint.sas.values()
    if node.endpoint.initiations or any(sa.exchange is not None or sa.queue for sa in sas):
        return False
    return any(sa.children for _, sa in standing(node))


def _fault(event: Event) -> Fault:
    return {**FAULTS, **HEIRS}[event.what.partition(": ")[0]]


def _is_heir(event: Event) -> bool:
    return event.what.partition(": ")[0] in HEIRS


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


def replayed(plan: Plan, variant: Variant | None = None, lines: int = 120) -> World:
    """The world of a plan after a whole walk.  Raises Violation with the last ``lines`` of its trace."""
    walk = Walk(plan, variant)
    try:
        walk.play()
    except Violation as violation:
        violation.add_note("\n".join([f"seed {plan.seed}", *walk.world.record.lines[-lines:]]))
        raise
    return walk.world
