"""Worlds with ``commit = "lazy"``: a slow channel, exchanges from both sides, and an owner that dies with commits under
way.  Two seconds after each takeover every tunnel works in both directions: what was lost is repaired or replaced."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

from ike_lost import SUPPORT
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.flags import LEAVING, OPEN
from ipsecha.model.records import IkeSa
from simulation.faults import Fault, check_liveness, peace, rekey_children, rekey_ike, restart
from simulation.gateways import MemberNode
from simulation.keyring import Keyring
from simulation.plan import ALL, EITHER, HEIR, PACKETS, Drawing, Event, Plan
from simulation.play import LARGEST_GAP, last_lines, watched
from simulation.record import Record
from simulation.world import Variant, World

LEVEL = "lazy"
REPAIRED_S = 2.0
ROUNDS = 3
PATIENCE_S, REPEATED_S = 3.0, 8.0
DELAY = f"{ALL}the channel takes {{count}} ms"
DOOM = f"{HEIR}dies at its act {{count}} from here"
DEATH = f"{HEIR}is dead by now; two seconds later all works"
DELAYS_MS = (30, 100, 250)
WORK = {f"{EITHER}{work.__name__}": work for work in (check_liveness, rekey_children, rekey_ike)}
OFTEN = tuple(name for name, weight in zip(WORK, (6, 3, 1), strict=True) for _ in range(weight))


@dataclass
class LazyVariant(Variant):
    """``plain``: peers do not support RFC 6311, whatever the seed says.  ``strict``: nothing is lazy after all."""

    plain: bool = False
    strict: bool = False


class LazyRecord(Record):
    """A new owner's record may lack what has left the cluster, but then it has to say so: OPEN.  Messages of such an SA
    may bear an ID once more: a probe is the repetition of a request that nobody remembers."""

    def __init__(self, world: World) -> None:
        super().__init__(world.timeline)
        self.doubted: set[bytes] = set()
        self.lost = 0

    def excused(self, key: object) -> bool:
        return key in self.doubted or super().excused(key)

    def waiting(self, address: str, held: Container[bytes]) -> list[str]:
        """Requests from or to ``address`` that are still repeated, and that nobody answers, on IKE SAs that the cluster
        holds: the peer may have one more for a while, which was replaced."""
        now = self.timeline.time
        return [
            f"{spis.hex()[:6]}:{spis.hex()[16:22]} q{number}"
            for (spis, _, number), (first, last, between) in self._requests.items()
            if spis in held
            and address in between.split()
            and number
            and first < now - PATIENCE_S
            and last > now - REPEATED_S
        ]

    def covers(self, who: str, sa: IkeSa) -> None:
        spis = sa.spi_i + sa.spi_r
        if not sa.flags & OPEN:
            before = spis in self.doubted
            if before and sa.flags & LEAVING:  # it has ended before its repair did
                return
            self.doubted.discard(spis)
            super().covers(who, sa)
            if before:
                self.doubted.add(spis)
            return
        self.doubted.add(spis)
        request, _ = self._last_sent.get((spis, sa.initiator, False), (-1, {}))
        answer = spis, sa.initiator, True
        response, _ = self._last_sent.get(answer, (-1, {}))
        self.lost += request >= sa.next_request_id or response >= sa.expected_request_id
        if response >= sa.expected_request_id:
            self._last_sent[answer] = response, {}  # lost for good: nor will later owners have it


class LazyWorld(World):
    def __init__(self, seed: int, variant: LazyVariant | None = None, peers: int = 0) -> None:
        self.lazy_variant = variant or LazyVariant()
        inner = Variant(self.lazy_variant.name, self.lazy_variant.member, self.lazy_variant.endpoint, self._prepare, ())
        super().__init__(seed, inner, peers)
        learning = self.record.learning
        self.record: LazyRecord = LazyRecord(self)
        self.record.learning = learning
        self.record.is_synchronisation = Keyring(self).is_synchronisation
        self.plain = {site.name for site in self.sites if self.lazy_variant.plain or self.random.random() < 0.6}
        for site in self.sites:
            site.ike_rekey_s = 14400.0  # by the work alone, so that there is time to see what came of it
            site.child_rekey_s = 3600.0
        self.taken_at = 0.0
        self.doomed: MemberNode | None = None  # who is to die soon, or has died and is not back

    def start(self, peers_after_s: tuple[float, ...] = (0.5,)) -> None:
        super().start(peers_after_s)
        for peer in self.peers:
            self._without_sync(peer.endpoint)

    def _prepare(self, node: MemberNode) -> None:
        if not self.lazy_variant.strict:
            node.gateway.commit_lazily()
        self._without_sync(node.endpoint)
        self.lazy_variant.prepare(node)

    def _without_sync(self, endpoint: IkeEndpoint) -> None:
        """Some peers do not support RFC 6311."""
        add_sa = endpoint.add_sa

        def plain(sa: IkeSa) -> None:
            if sa.connection in self.plain:
                sa.flags &= ~SUPPORT
            add_sa(sa)

        endpoint.add_sa = plain  # type: ignore[method-assign]

    def activated(self, node: MemberNode, epoch: int) -> None:
        self.taken_at = self.time
        super().activated(node, epoch)

    @property
    def owner(self) -> MemberNode | None:
        return next((node for node in self.members if node.process.alive and node.member.owns), None)


Act = Callable[[LazyWorld, Event], None]


def draw(seed: int, faults: Sequence[str] = ()) -> Plan:
    """What happens in the world of a seed.  This level knows one fault, whatever is asked for."""
    drawing = Drawing(LEVEL, seed)
    chance = drawing.chance
    for _ in range(ROUNDS):
        drawing.event(DELAY, count=chance.choice(DELAYS_MS))
        for _ in range(chance.randint(1, 12)):
            drawing.event(chance.choice(OFTEN))
            drawing.event(PACKETS, count=1)
            drawing.pause(chance.random() * chance.choice((0.01, 0.03, 0.1)))
        drawing.event(DOOM, count=chance.choice((0, chance.randint(0, 10), chance.randint(0, 60))))
        for _ in range(chance.randint(1, 3)):
            drawing.event(chance.choice(OFTEN))
        drawing.pause(chance.random() * 0.3)
        drawing.event(DEATH)
    return Plan(LEVEL, seed, tuple(drawing.events))


def judged_lazily(seed: int, variant: LazyVariant | None = None) -> LazyWorld:
    """The world of a seed after a whole run.  Raises Violation with the end of its trace."""
    return replayed(draw(seed), variant)


def replayed(
    plan: Plan, variant: LazyVariant | None = None, watch: Callable[[World], Callable[[], str]] = last_lines
) -> LazyWorld:
    """The world of a plan after a whole run.  Raises Violation with what ``watch`` has seen of it as its note."""
    return watched(LazyWorld(plan.seed, variant, plan.peers), plan, _play, watch)


def _play(world: LazyWorld, plan: Plan) -> None:
    world.start()
    _traffic(world, 3.0)
    for event in plan.events:
        world.run(event.pause_s)
        world.random.seed(event.chance)
        if event.what == PACKETS:
            world.inner_packets(event.count)
            continue
        world.record.note("", f"--- {event}")
        ACTS[event.what](world, event)
    world.random.seed(f"end/{plan.seed}")
    if world.doomed is not None:
        _mend(world)
    _traffic(world, 20.0)
    _expect_repaired(world)
    world.run(0.001)


def _expect_repaired(world: LazyWorld) -> None:
    _expect_working(world, "at the end")
    held = {sa.spi_i + sa.spi_r for sa in world.owner.endpoint.sas.values()} if world.owner is not None else set()
    for peer in world.peers:
        if waiting := world.record.waiting(peer.site.address, held):
            world.record.violation("I4", f"{peer.name}: nobody answers {' '.join(waiting)}")
    owner = world.owner
    if owner is None or owner.endpoint.suspects:
        world.record.violation("repair", f"suspects are left: {owner and len(owner.endpoint.suspects)}")


# What happens


def _slow(world: LazyWorld, event: Event) -> None:
    world.synch.delay_s = event.count / 1000


def _doom(world: LazyWorld, event: Event) -> None:
    """The owner will die at one of its next acts; not where another one has died, and has not been mourned."""
    if world.doomed is None and world.owner is not None:
        world.doomed = world.owner
        world.doomed.process.acts_left = event.count


def _die(world: LazyWorld, event: Event) -> None:
    """If it lives still; and two seconds later all works."""
    dead = world.doomed or world.owner
    if dead is None:
        return
    dead.process.kill()
    _survive(world)
    _expect_working(world, f"{REPAIRED_S} s after the takeover")
    _mend(world)
    _traffic(world, 3.0)


def _mend(world: LazyWorld) -> None:
    world.doomed = None
    peace(world, world.members[0])
    for node in world.members:
        restart(world, node)


def _worked(work: Fault) -> Act:
    return lambda world, event: work(world, world.members[event.member])


def _survive(world: LazyWorld) -> None:
    """Until two seconds after the takeover, with traffic."""
    began = world.time
    while world.owner is None:
        world.run(0.01)
        if world.time > began + 5.0:
            world.record.violation("stuck", "nobody has taken over")
            world.run(0.001)
    world.run(0.2)
    world.inner_packets(LARGEST_GAP)
    _traffic(world, world.taken_at + REPAIRED_S - world.time)


def _traffic(world: LazyWorld, seconds: float) -> None:
    end = world.time + seconds
    while world.time < end:
        world.inner_packets()
        world.run(0.05)


def _expect_working(world: LazyWorld, when: str) -> None:
    for peer in world.peers:
        inbound, outbound = (world.time - last for last in world.last_delivery(peer.site))
        if max(inbound, outbound) > 0.5:
            text = f"{when} the tunnel of {peer.name} does not work: last packet {inbound:.2f}, {outbound:.2f} s ago"
            world.record.violation("repair", text)
    world.run(0.001)


ACTS: dict[str, Act] = {DELAY: _slow, DOOM: _doom, DEATH: _die, **{name: _worked(work) for name, work in WORK.items()}}
