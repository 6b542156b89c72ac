"""What happens in worlds in which the power fails: trouble, the end of it all at any moment, and a return.

Members come back both, one after the other, or one alone; before that a disk may be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulation.faults import (
    Fault,
    break_channel,
    burst,
    check_liveness,
    crash,
    delete_children,
    hang,
    peace,
    rekey_children,
    rekey_ike,
    replay,
    restart,
    slow_channel,
    switchover,
)
from simulation.gateways import MemberNode
from simulation.plan import ALL, PACKETS, Drawing, Event, Plan
from simulation.play import last_lines, settle, watched
from simulation.power import WAIT_S, PowerVariant, PowerWorld, small_reserves, traffic
from simulation.world import World

LEVEL = "power"
ROUNDS = 3
BACK_S = 3.0
"""So long after both are back, with intact disks, an owner has the SAs that it had saved."""
LINES = 150
WORKING_DISK_S = 0.005
DISKS_MS = {"any_disks": (2, 5, 30, 300, 2000), "uneven_disks": (5, 300, 2000), "slow_disks": (2000,)}
"""How long a job takes; what a plan may be asked for, like a kind of faults."""
ITS_STORY = f"{ALL}the variant's own story"

TAKES = "disk takes {count} ms"
FAILS = "disk fails {count} times of 100"
LOSES = "loses its disk"
SOUND_DISKS = f"{ALL}disks work as they should"
TRAFFIC = f"{ALL}traffic for {{count}} ms"
CUT_AT = "the power fails at its act {count} from here"
CUT = f"{ALL}the power has failed by now"
TOGETHER, LATE, ALONE = "comes back, and the other one", "comes back, the other one late", "comes back alone"
PEACE = f"{ALL}everything is mended"


def bounce(world: World, node: MemberNode) -> None:
    """A process dies and is there again before anybody has noticed."""
    node.process.kill()
    world.timeline.at(world.random.choice((0.0, 0.002, 0.02)), restart, world, node)


FAULTS = (crash, bounce, hang, break_channel, slow_channel, switchover)
WORK = (burst, burst, rekey_children, rekey_ike, check_liveness, delete_children, replay)


Act = Callable[[PowerWorld, MemberNode, Event], None]


# Drawn


def draw(seed: int, faults: Sequence[str] = ()) -> Plan:
    """What happens in the world of a seed; ``faults``: with disks of this kind, or with a variant's own story."""
    drawing = Drawing(LEVEL, seed)
    if ITS_STORY in faults:
        drawing.event(ITS_STORY)
        return Plan(LEVEL, seed, tuple(drawing.events))
    kind = faults[0] if faults else "any_disks"
    for _ in range(ROUNDS):
        _draw_trouble(drawing, DISKS_MS[kind])
        _draw_cut(drawing)
        _draw_return(drawing, DISKS_MS[kind][:4])
    return Plan(LEVEL, seed, tuple(drawing.events), kinds=(kind,))


def _draw_disks(drawing: Drawing, takes_ms: Sequence[int], fails: Sequence[int]) -> None:
    for member in (0, 1):
        drawing.event(TAKES, member, drawing.chance.choice(takes_ms))
        drawing.event(FAILS, member, drawing.chance.choice(fails))


def _draw_trouble(drawing: Drawing, takes_ms: Sequence[int]) -> None:
    """What happens before: work, bursts, changes of ownership, disks that are slow or fail."""
    chance = drawing.chance
    _draw_disks(drawing, takes_ms, (0, 0, 0, 20))
    acts = (*WORK, *FAULTS) if chance.random() < 0.5 else WORK
    for _ in range(chance.randint(0, 6)):
        member = chance.randrange(2)
        drawing.event(chance.choice(acts).__name__, member)
        drawing.event(PACKETS, count=chance.choice((1, 8, 30)))
        drawing.pause(chance.random() * chance.choice((0.01, 0.2, 0.8)))
        if chance.random() < 0.5:
            drawing.event("restart", member)
    if chance.random() < 0.5:
        drawing.event(TRAFFIC, count=chance.randrange(1000))


def _draw_cut(drawing: Drawing) -> None:
    """At once, or between any two acts of one of them."""
    chance = drawing.chance
    if chance.random() < 0.7:
        acts = chance.choice((chance.randint(0, 8), chance.randint(0, 120)))
        drawing.event(CUT_AT, chance.randrange(2), acts)
        for _ in range(6):
            drawing.event(PACKETS, count=chance.choice((1, 10, 30)))
            drawing.event(chance.choice(WORK).__name__)
            drawing.pause(chance.random() * 0.2)
    drawing.event(CUT)


def _draw_return(drawing: Drawing, takes_ms: Sequence[int]) -> None:
    """Both, one late, one alone, or with one disk lost; and what is granted them before the next trouble."""
    chance = drawing.chance
    if chance.random() < 0.15:
        drawing.event(LOSES, chance.randrange(2))
    _draw_disks(drawing, takes_ms, (0,) * 6 + (30,))
    drawing.event(chance.choice((TOGETHER, TOGETHER, LATE, ALONE)), chance.randrange(2))
    if chance.random() < 0.7:
        drawing.event(SOUND_DISKS)
    drawing.event(TRAFFIC, count=chance.choice((0, 600, 3000)))
    if chance.random() < 0.6:
        drawing.event(PEACE)


# Played


def judged_power(seed: int, variant: PowerVariant | None = None) -> PowerWorld:
    """The world of a seed after a whole run.  Raises Violation with the end of its trace."""
    return replayed(draw(seed, kinds_of(variant)), variant)


def kinds_of(variant: PowerVariant | None) -> tuple[str, ...]:
    """What is to be drawn for it."""
    if variant is None:
        return ()
    return variant.faults if variant.story is None else (ITS_STORY,)


def replayed(
    plan: Plan, variant: PowerVariant | None = None, watch: Callable[[World], Callable[[], str]] = last_lines
) -> PowerWorld:
    """The world of a plan after a whole run.  Raises Violation with what ``watch`` has seen of it as its note."""
    with small_reserves():
        return watched(PowerWorld(plan.seed, variant, plan.peers), plan, _play, watch)


def _play(world: PowerWorld, plan: Plan) -> None:
    world.start()
    traffic(world, 2.5)
    for event in plan.events:
        if (event.what in IN_THE_DARK) if world.dark else (event.what not in AFTER_A_CUT):
            _befall(world, event)
    world.random.seed(f"end/{plan.seed}")
    if world.dark:
        _return(world, world.members[0], TOGETHER)
    _sound_disks(world)
    settle(world)


def _befall(world: PowerWorld, event: Event) -> None:
    world.run(event.pause_s)
    if world.dark and event.what not in IN_THE_DARK:
        return  # it has failed meanwhile
    world.random.seed(event.chance)
    if event.what == PACKETS:
        world.inner_packets(event.count)
        return
    world.record.note("", f"--- {event}")
    ACTS[event.what](world, world.members[event.member], event)


def _its_story(world: PowerWorld, node: MemberNode, event: Event) -> None:
    if world.power_variant.story is not None:
        world.power_variant.story(world)
    world.dark = False


def _takes(world: PowerWorld, node: MemberNode, event: Event) -> None:
    world.disks[node.index].latency_s = event.count / 1000


def _fails(world: PowerWorld, node: MemberNode, event: Event) -> None:
    world.disks[node.index].failure_chance = event.count / 100


def _loses(world: PowerWorld, node: MemberNode, event: Event) -> None:
    world.disks[node.index].lose()
    world.disk_lost = True


def _sound_disks(world: PowerWorld) -> None:
    for disk in world.disks:
        disk.failure_chance, disk.latency_s = 0.0, WORKING_DISK_S


def _cut_at(world: PowerWorld, node: MemberNode, event: Event) -> None:
    node.process.acts_left, node.process.boundary = event.count, world.cut_power


def _peace(world: PowerWorld) -> None:
    peace(world, world.members[0])
    for node in world.members:
        restart(world, node)
    traffic(world, 3.0)


def _return(world: PowerWorld, first: MemberNode, how: str) -> None:
    chance = world.random
    world.dark = False
    fails = any(disk.failure_chance for disk in world.disks)
    expected = None if world.disk_lost or fails else _expected(world)
    _excuse_what_was_not_saved(world, expected)
    world.run(chance.random() * chance.choice((0.1, 1.0)))
    restart(world, first)  # unless it is back by itself, after a fault from before
    if how == LATE:
        traffic(world, chance.random() * (WAIT_S - 1.0))
    if how != ALONE:
        restart(world, world.members[1 - first.index])
    began = world.time
    while world.owner is None and world.time < began + WAIT_S + 3.0:
        world.run(0.02)
    if world.owner is None and how == ALONE and world.has_witness:
        return  # without records nobody begins alone beside a witness that knows of an owner
    if world.owner is None:
        world.record.violation("stuck", f"nobody is owner {world.time - began:.1f} s after the power is back")
    back_s = BACK_S + max(disk.latency_s for disk in world.disks)  # a file is used up before it is used
    if how != ALONE and expected is not None and (world.record.lost_at >= began or world.time > began + back_s):
        world.record.violation("lost", f"{'ab'[expected]} had saved its SAs, and they are not used")
    world.run(0.0)


def _done(act: Fault) -> Act:
    return lambda world, node, event: act(world, node)


def _expected(world: PowerWorld) -> int | None:
    """Who is to be owner again: of two members with files, the one with the latest, an owner's, if the witness has
    heard of none that is later still."""
    saved = [world.saved_by(index) for index in (0, 1)]
    told = world.third_box.ledger.line.epoch if world.has_witness else 0
    for index in (0, 1):
        mine, theirs = saved[index], saved[1 - index]
        if (
            mine is not None
            and theirs is not None
            and mine.opening.owner
            and max(theirs.opening.epoch, told) <= mine.opening.epoch
        ):
            return index
    return None


def _excuse_what_was_not_saved(world: PowerWorld, expected: int | None) -> None:
    """What happened in the last moments is on no disk: an IKE SA made then is lost, for all that its peer knows."""
    saved = world.saved_by(expected) if expected is not None else None
    known = set(saved.records) if saved is not None else set()
    for peer in world.peers:
        held = {sa.spi_r if sa.initiator else sa.spi_i for sa in peer.endpoint.sas.values()}
        if not held <= known:
            world.excuse(peer.site)


ACTS: dict[str, Act] = {
    **{act.__name__: _done(act) for act in (*WORK, *FAULTS, restart)},
    **{how: lambda world, node, event: _return(world, node, event.what) for how in (TOGETHER, LATE, ALONE)},
    ITS_STORY: _its_story,
    TAKES: _takes,
    FAILS: _fails,
    LOSES: _loses,
    SOUND_DISKS: lambda world, node, event: _sound_disks(world),
    TRAFFIC: lambda world, node, event: traffic(world, event.count / 1000),
    CUT_AT: _cut_at,
    CUT: lambda world, node, event: world.cut_power(),
    PEACE: lambda world, node, event: _peace(world),
}
AFTER_A_CUT = {LOSES, TOGETHER, LATE, ALONE}
IN_THE_DARK = {TAKES, FAILS, *AFTER_A_CUT}
