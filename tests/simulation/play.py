"""One run: faults among traffic, then peace, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.pair import Role
from ipsecha.ike.flags import LEAVING
from ipsecha.model.policy import AfterFailover
from ipsecha.model.records import IkeSa, decode_record, encode_record
from simulation.faults import FAULTS, REPAIRS, WORK, play_all, rekey_all
from simulation.gateways import PeerNode
from simulation.plan import PACKETS, Drawing, Plan
from simulation.renewals import Renewals
from simulation.violation import Violation
from simulation.watches import Watches
from simulation.world import Variant, World

W = TypeVar("W", bound=World)
LEVEL = "full"
ROUNDS = 22
REKEYING = 0.3
"""Of so many clusters a new owner rekeys all child SAs after a failover."""
LINES = 120
"""Of the trace, where nobody asks for all of it."""
SETTLE_S = 14.0
"""So long after the last fault every SA works in both directions: the longest pause between two repetitions of a
request, and what the outage has put on top of it."""
REKEYED_S = 60.0
ANSWERED_S = 4.0
"""Requests that are younger may wait for their answer at the end."""
REPEATED_S = 5.0
"""Requests that are repeated so long after the last fault ought to have had their answer."""
LARGEST_GAP = 250
"""Inbound numbers that a takeover in the middle of a burst may cost at most: as many packets close the gap."""
REVIVAL_S = 250.0
"""So long after the last fault a tunnel is back whose SAs were lost with all who knew them or were diverged by two
owners: liveness, the lifetime that a replaced IKE SA has left, the whole
back-off of a request without an answer, and a new start."""


def draw(seed: int, faults: Sequence[str] = (), rounds: int = ROUNDS) -> Plan:
    """What happens in the world of a seed; with faults of the given kinds, or of some."""
    drawing = Drawing(LEVEL, seed)
    chance = drawing.chance
    kinds = list(faults) or drawing.kinds(FAULTS, 1, 4)
    work = drawing.kinds(WORK, 2, 5)
    choice = [*kinds, *work, *work, *kinds, *sorted(REPAIRS)[: chance.randint(1, 3)], "restart"]
    drawing.pause(chance.choice((0.05, 1.0)))
    for _ in range(rounds):
        for _ in range(chance.randint(1, 4)):
            drawing.event(PACKETS, count=chance.choice((1, 1, 8)))
            drawing.pause(chance.random() * chance.choice((0.002, 0.02, 0.2, 0.4)))
        drawing.event(chance.choice(choice), member=chance.randrange(2))
    rekeys = Random(f"{seed}/rekeys").random() < REKEYING
    return Plan(LEVEL, seed, tuple(drawing.events), kinds=(*kinds, *work), rekeys=rekeys)


def play(world: World, plan: Plan) -> None:
    """Faults among traffic, then peace.  Raises Violation where a checker finds something."""
    actions = {**FAULTS, **WORK, **REPAIRS}
    world.record.note("", f"kinds: {' '.join(plan.kinds)}; {len(world.sites)} peers; variant {world.variant.name}")
    world.start()
    for event in plan.events:
        world.run(event.pause_s)
        world.random.seed(event.chance)
        if event.what == PACKETS:
            world.inner_packets(event.count)
            continue
        _records(world)
        node = world.members[event.member]
        world.record.note(node.name, f"--- {event.what}")
        actions[event.what](world, node)
    world.random.seed(f"end/{plan.seed}")
    settle(world)


def settle(world: World) -> None:
    """The faults are over: all that was not excused must come to work again, and stay what it was."""
    world.record.note("", "--- the faults are over")
    play_all(world)
    began = world.time
    held = {peer.name: _held(world, peer) for peer in world.peers}
    world.run(3.0)
    world.inner_packets(LARGEST_GAP)
    _traffic(world, SETTLE_S - 3.0)
    world.replay()
    _roles(world)
    for peer in world.peers:
        if held[peer.name] and not world.is_excused(peer.site):
            _expect_alive(world, peer, began)
    while (late := [peer for peer in world.peers if not _works(world, peer)]) and world.time < began + REVIVAL_S:
        _traffic(world, 5.0)
        if world.record.has_split and world.time > began + REKEYED_S:
            # of two owners one was given up, with the child SAs that peers had made with it: the next rekey at the
            # latest finds out that the two sides do not know the same ones
            rekey_all(world)
    for peer in late:
        world.record.violation("I4", f"{peer.name} has no working tunnel {REVIVAL_S} s after the last fault")
    _traffic(world, 0.5)
    _records(world)
    world.run(0.001)


def _held(world: World, peer: PeerNode) -> list[IkeSa]:
    return [sa for sa in peer.endpoint.sas.values() if sa.children and not sa.flags & LEAVING]


def _traffic(world: World, seconds: float) -> None:
    end = world.time + seconds
    while world.time < end:
        world.inner_packets()
        world.run(0.2)


def _works(world: World, peer: PeerNode) -> bool:
    """Whether of the packets sent lately each direction has brought one to its end."""
    return all(world.time - when < 1.0 for when in world.last_delivery(peer.site))


def _expect_alive(world: World, peer: PeerNode, began: float) -> None:
    created = [when for when in world.record.initiations[peer.site.address] if when > began]
    if created:
        world.record.violation("I4", f"{peer.name} had an IKE SA when the faults ended, and a new one was begun")
    elif waiting := world.record.unanswered(
        peer.site.address, world.time - ANSWERED_S, began + REPEATED_S, _left_behind(peer)
    ):
        world.record.violation("I4", f"{peer.name}: nobody has answered {' '.join(waiting)}")
    elif not _works(world, peer):
        inbound, outbound = world.last_delivery(peer.site)
        world.record.violation(
            "I4", f"the SA of {peer.name} is doomed: last packet from it at {inbound:.2f}, to it at {outbound:.2f}"
        )
    world.run(0.001)


def _left_behind(peer: PeerNode) -> set[bytes]:
    """IKE SAs that were replaced, of a peer that may have got another address since: it says nothing on them any more,
    so that nobody learns where their deletion ought to go.  They end by themselves."""
    replaced = (sa for sa in peer.endpoint.sas.values() if sa.flags & LEAVING)
    return {sa.spi_i + sa.spi_r for sa in replaced} if peer.site.roams else set()


def _roles(world: World) -> None:
    roles = [member.member.role for member in world.members]
    if sorted(role.value for role in roles) != [Role.ACTIVE.value, Role.STANDBY.value]:
        world.record.violation("stuck", f"{SETTLE_S} s after the last fault the members are {roles}")
    elif not any(member.member.in_sync for member in world.members):
        world.record.violation("stuck", "no backup is in sync")
    world.run(0.001)


def _records(world: World) -> None:
    """While nothing is under way, the backup has what the owner has."""
    owner, backup = sorted(
        world.members, key=lambda node: not node.process.alive or node.member.role is not Role.ACTIVE
    )
    if not (owner.process.responsive and backup.process.responsive and backup.member.in_sync):
        return
    if owner.gateway.output.waiting or owner.member.log.outstanding or owner.endpoint._effects:
        return
    if owner.member.log.backup is not BackupState.IN_SYNC or owner.member.epoch != backup.member.epoch:
        return
    ours, theirs = ({spi: comparable(sa) for spi, sa in node.endpoint.sas.items()} for node in (owner, backup))
    if ours != theirs:
        differing = [spi.hex() for spi in ours.keys() | theirs.keys() if ours.get(spi) != theirs.get(spi)]
        world.record.violation("commit", f"owner and backup differ about {' '.join(sorted(differing))}")


def comparable(sa: IkeSa) -> bytes:
    """The record without what only the owner counts (signs of life, repetitions, tries to rekey) and without ceilings,
    which the backup knows first."""
    copy = decode_record(encode_record(sa))
    copy.last_inbound_at = copy.rekey_at = 0.0
    for child in copy.children:
        child.rekey_at, child.in_ceiling, child.out_ceiling, child.in_known = 0.0, 0, 0, 0
    if copy.exchange is not None:
        copy.exchange.tries, copy.exchange.started_at = 0, 0.0
    return encode_record(copy)


def judged(seed: int, variant: Variant | None = None) -> World:
    """The world of a seed after a whole run.  Raises Violation with the end of its trace."""
    return replayed(draw(seed, variant.faults if variant else ()), variant)


def last_lines(world: World) -> Callable[[], str]:
    return lambda: "\n".join(world.record.lines[-LINES:])


def replayed(
    plan: Plan, variant: Variant | None = None, watch: Callable[[World], Callable[[], str]] = last_lines
) -> World:
    """The world of a plan after a whole run.  Raises Violation with what ``watch`` has seen of it as its note."""
    world = World(plan.seed, variant, plan.peers)
    world.after_failover = AfterFailover(rekey_all=plan.rekeys)
    renewals = Renewals(world)

    def play_and_look(world: World, plan: Plan) -> None:
        play(world, plan)
        renewals.end()

    return watched(world, plan, play_and_look, watch)


def watched(
    world: W, plan: Plan, play_it: Callable[[W, Plan], None], watch: Callable[[World], Callable[[], str]] = last_lines
) -> W:
    """A world after a whole run.  Raises Violation with what ``watch`` has seen of it as its note."""
    seen, watches = watch(world), Watches(world)
    try:
        play_it(world, plan)
        watches.end()
    except Violation as violation:
        violation.add_note(f"seed {plan.seed}\n{seen()}")
        raise
    finally:
        watches.close()
    return world
