"""The story of two clusters that face each other: exchanges, deaths on one side or on both at the same moment, and what
must hold two seconds later (RFC 6311, appendix A.4)."""

from __future__ import annotations

from collections.abc import Callable

from ipsecha.ike.flags import LEAVING
from simulation.facing import FacingWorld, Side
from simulation.faults import check_liveness, peace, rekey_children, rekey_ike, restart
from simulation.gateways import MemberNode
from simulation.lazy import DELAYS_MS, REPAIRED_S, LazyVariant
from simulation.play import last_lines
from simulation.violation import Violation

AGREED = "message-ids-synchronised"
WORK = (*[check_liveness] * 4, *[rekey_children] * 3, *[rekey_ike] * 2)
BURSTS = (1, 1, 40, 100)
TRAFFIC_S = 0.1
WORKS_S = 0.5
THERE_AND_BACK = 2.4
"""Of a channel's usual delay, at its worst: child SAs and leases that are asked for just now wait for it."""
SOON_S = 3.0


def judged_facing(seed: int, variant: LazyVariant | None = None) -> FacingWorld:
    """The world of a seed after a whole run.  Raises Violation with the end of its trace."""
    world = FacingWorld(seed, variant)
    try:
        _play(world)
    except Violation as violation:
        violation.add_note(f"facing seed {seed}\n{last_lines(world)()}")
        raise
    return world


def _play(world: FacingWorld) -> None:
    world.start((0.0,))
    _traffic(world, 3.0)
    near, far = world.sides
    for dying in ((near,), (far,), (near, far), (near, far)):
        world.begin_anew()
        before = [side.events[AGREED] for side in world.sides]
        _lose(world, dying)
        _survive(world, dying)
        _expect_working(world, f"{REPAIRED_S} s after the takeover")
        _expect_exchanges(world)
        _expect_no_handshake(world)
        world.both_asked += all(side.events[AGREED] > count for side, count in zip(world.sides, before, strict=True))
        for side in world.sides:
            peace(side, side.members[0])
            for node in side.members:
                restart(side, node)
        _traffic(world, 3.0)
    _traffic(world, 12.0)
    _expect_working(world, "at the end")
    _expect_exchanges(world)
    _expect_no_handshake(world)
    for node in _owners(world):
        if node.endpoint.suspects:
            world.record.violation("repair", f"{node.name} has suspects left")
    world.run(0.001)


def _owners(world: FacingWorld) -> list[MemberNode]:
    return [side.owner for side in world.sides if side.owner is not None]


def _expect_no_handshake(world: FacingWorld) -> None:
    """The IKE SA goes on, or one that a rekey has made of it."""
    (peer,) = world.peers
    if world.record.initiations[peer.site.address][-1] > world.began:
        world.record.violation("I4", "a new IKE SA was begun")
    world.run(0.001)


def _lose(world: FacingWorld, dying: tuple[Side, ...]) -> None:
    """Exchanges in quick succession, and deaths at any moment of them; of two owners at the same one."""
    chance = world.random
    for side in world.sides:
        side.synch.delay_s = chance.choice(DELAYS_MS) / 1000
    for _ in range(chance.randint(1, 12)):
        _work(world)
        world.inner_packets(chance.choice(BURSTS))
        world.run(chance.random() * chance.choice((0.01, 0.03, 0.1)))
    owners = [owner for owner in (side.owner for side in dying) if owner is not None]
    if chance.random() < 0.5:
        for owner in owners:
            owner.process.acts_left = chance.randint(0, 40)
    for _ in range(chance.randint(1, 3)):
        _work(world)
    world.inner_packets(chance.choice((1, 100, 200)))
    world.run(chance.random() * chance.choice((0.002, 0.02, 0.3)))
    for owner in owners:
        owner.process.kill()


def _work(world: FacingWorld) -> None:
    owner = world.owner
    if owner is not None:
        world.random.choice(WORK)(world, owner)


def _survive(world: FacingWorld, dying: tuple[Side, ...]) -> None:
    """Until two seconds after the last takeover, with traffic."""
    began = world.time
    while len(_owners(world)) < len(world.sides):
        world.run(0.01)
        if world.time > began + 5.0:
            world.record.violation("stuck", "nobody has taken over")
            world.run(0.001)
    _traffic(world, max(side.taken_at for side in dying) + REPAIRED_S - world.time)


def _traffic(world: FacingWorld, seconds: float) -> None:
    end = world.time + seconds
    while world.time < end:
        world.inner_packets()
        world.run(TRAFFIC_S)


def _expect_working(world: FacingWorld, when: str) -> None:
    (peer,) = world.peers
    ages = [world.time - last for last in world.last_delivery(peer.site)]
    if max(ages) > WORKS_S + THERE_AND_BACK * max(side.synch.delay_s for side in world.sides):
        world.record.violation("repair", f"{when} the tunnel does not work: last packets {ages} s ago")
    world.run(0.001)


def _expect_exchanges(world: FacingWorld) -> None:
    """A liveness check and a rekey of all child SAs by each side work; child SAs that only one side has known are gone
    then, and both believe the same."""
    for side in world.sides:
        side.synch.heal()
    _await(world, "both sides have the same IKE SAs and message IDs", lambda: _agree(world, children=False))
    for node in _owners(world):
        for work in (_check, _rekey):
            _expect_outcome(world, node, work)
    _await(world, "both sides have the same child SAs", lambda: _agree(world, children=True))


def _expect_outcome(world: FacingWorld, node: MemberNode, work: Callable[[MemberNode], None]) -> None:
    before = _view(node)
    work(node)
    what = f"something comes of {work.__name__} by {node.name}, and both sides agree again"
    _await(world, what, lambda: before != _view(node) and _agree(world, children=False))


def _check(node: MemberNode) -> None:
    for spi in list(node.endpoint.sas):
        node.ask(node.endpoint.check_liveness, spi, node.now())


def _rekey(node: MemberNode) -> None:
    for sa in list(node.endpoint.sas.values()):
        for child in sa.children:
            node.ask(node.endpoint.rekey_child, child.spi_in, node.now())


def _await(world: FacingWorld, what: str, condition: Callable[[], bool]) -> None:
    """Soon, with traffic meanwhile."""
    end = world.time + SOON_S
    while not condition():
        if world.time > end:
            near, far = _owners(world)
            world.record.violation("I4", f"not so: {what}: {_view(near)} {_view(far, mirrored=True)}")
        _traffic(world, TRAFFIC_S)


def _agree(world: FacingWorld, *, children: bool) -> bool:
    near, far = _owners(world)
    ours, theirs = _view(near, children=children), _view(far, mirrored=True, children=children)
    return bool(ours) and ours == theirs


View = dict[bytes, tuple[int, int, frozenset[tuple[int, int]]]]


def _view(node: MemberNode, *, mirrored: bool = False, children: bool = True) -> View:
    """IKE SAs with message IDs, of the next request and of the one that is expected, and the SPIs of child SAs."""
    view: View = {}
    for sa in node.endpoint.sas.values():
        if not sa.flags & LEAVING:
            ids = sa.next_request_id, sa.expected_request_id
            spis = [(one.spi_in, one.spi_out)[:: -1 if mirrored else 1] for one in sa.children if children]
            view[sa.spi_i + sa.spi_r] = (*(ids[::-1] if mirrored else ids), frozenset(spis))
    return view
