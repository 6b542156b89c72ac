"""Worlds with ``commit = "lazy"``: a slow channel, exchanges from both sides, and an owner that dies with commits under
way.  Two seconds after each takeover every tunnel works in both directions: what was lost is repaired or replaced."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Any

from ike_lost import SUPPORT
from ipsecha.ike import repair, window
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.flags import LEAVING, OPEN
from ipsecha.model.records import Exchange, ExchangeKind, IkeSa, decode_record, encode_record
from ipsecha.wire.chain import RawPayload
from simulation.faults import check_liveness, peace, rekey_children, rekey_ike, restart
from simulation.gateways import MemberNode
from simulation.keyring import Keyring
from simulation.play import LARGEST_GAP
from simulation.record import Record
from simulation.violation import Violation
from simulation.world import Variant, World

REPAIRED_S = 2.0
ROUNDS = 3
LINES = 150
PATIENCE_S, REPEATED_S = 3.0, 8.0
DELAYS_S = (0.03, 0.1, 0.25)
WORK = (*[check_liveness] * 6, *[rekey_children] * 3, rekey_ike)


@dataclass
class LazyVariant(Variant):
    """``plain``: peers do not support RFC 6311, whatever the seed says.  ``strict``: nothing is lazy after all."""

    plain: bool = False
    strict: bool = False
    prepare: Any = field(default=lambda node: None)


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
        response, _ = self._last_sent.get((spis, sa.initiator, True), (-1, {}))
        self.lost += request >= sa.next_request_id or response >= sa.expected_request_id


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


def judged_lazily(seed: int, variant: LazyVariant | None = None) -> LazyWorld:
    """The world of a seed after a whole run.  Raises Violation with the end of its trace."""
    world = LazyWorld(seed, variant)
    try:
        _play(world)
    except Violation as violation:
        violation.add_note("\n".join([f"lazy seed {seed}", *world.record.lines[-LINES:]]))
        raise
    return world


def _play(world: LazyWorld) -> None:
    world.start()
    _traffic(world, 3.0)
    for _ in range(ROUNDS):
        _lose(world)
        _survive(world)
        _expect_working(world, f"{REPAIRED_S} s after the takeover")
        peace(world, world.members[0])
        for node in world.members:
            restart(world, node)
        _traffic(world, 3.0)
    _traffic(world, 20.0)
    _expect_working(world, "at the end")
    held = {sa.spi_i + sa.spi_r for sa in world.owner.endpoint.sas.values()} if world.owner is not None else set()
    for peer in world.peers:
        if waiting := world.record.waiting(peer.site.address, held):
            world.record.violation("I4", f"{peer.name}: nobody answers {' '.join(waiting)}")
    owner = world.owner
    if owner is None or owner.endpoint.suspects:
        world.record.violation("repair", f"suspects are left: {owner and len(owner.endpoint.suspects)}")
    world.run(0.001)


def _lose(world: LazyWorld) -> None:
    """Exchanges in quick succession, and a death at any moment of them."""
    chance = world.random
    world.synch.delay_s = chance.choice(DELAYS_S)
    owner = world.owner
    assert owner is not None
    for _ in range(chance.randint(1, 12)):
        chance.choice(WORK)(world, owner)
        world.inner_packets()
        world.run(chance.random() * chance.choice((0.01, 0.03, 0.1)))
    owner.process.acts_left = chance.choice((0, chance.randint(0, 10), chance.randint(0, 60)))
    for _ in range(chance.randint(1, 3)):
        chance.choice(WORK)(world, owner)
    world.run(chance.random() * 0.3)
    owner.process.kill()


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


# Broken on purpose


def _suspects_not_marked(node: MemberNode) -> None:
    """The records do not say that an SA is open."""
    commit = node.gateway.output._commit

    def closed(changes: list[tuple[bytes, bytes | None]]) -> int:
        return commit([(key, _unmarked(data) if data is not None and len(key) == 8 else data) for key, data in changes])

    node.gateway.output._commit = closed


def _unmarked(data: bytes) -> bytes:
    sa = decode_record(data)
    sa.flags &= ~OPEN
    return encode_record(sa)


def _opened_without_ack(node: MemberNode) -> None:
    """The first step of an SA leaves at once, too: the backup may not know that it is open."""
    output = node.gateway.output
    leaves = output._leaves_at_once  # type: ignore[attr-defined]

    def hasty(step: Any, prompt: bool, opening: list[Any], now: float) -> bool:
        known = leaves(step, prompt, opening, now)
        return known or all(isinstance(sa, IkeSa) for sa in step.changed.values())

    output._leaves_at_once = hasty  # type: ignore[attr-defined]


def _suspects_not_repaired(node: MemberNode) -> None:
    """The new owner does not look after its suspects."""
    adopt = node.endpoint.put_into_tables

    def trusting(sa: IkeSa) -> None:
        adopt(sa)
        node.endpoint.suspects.clear()

    node.endpoint.put_into_tables = trusting  # type: ignore[method-assign]


def _no_evidence(node: MemberNode) -> None:
    """Requests of the peer that are ahead are dropped, as on any other SA."""
    node.endpoint.repairs.may_be_ahead = lambda *arguments: False  # type: ignore[method-assign,assignment]


def _any_answer(node: MemberNode) -> None:
    """Whatever answers a probe ends the repair: the answer to a lost request, too, also if somebody plays it back."""

    def settle(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, payloads: list[RawPayload], now: float) -> None:
        exchange.request = ()
        window.clear_exchange(endpoint, sa)
        repair._settle(endpoint, sa, now)

    node.endpoint.response_handlers = {**node.endpoint.response_handlers, ExchangeKind.PROBE: settle}


Prepare = Callable[[MemberNode], None]

VARIANTS: dict[str, tuple[LazyVariant, set[str]]] = {
    name: (LazyVariant(name, prepare=prepare, plain=True), checkers)
    for name, prepare, checkers in (
        ("suspects-not-marked", _suspects_not_marked, {"commit", "I4", "repair"}),
        ("opened-without-ack", _opened_without_ack, {"commit", "I4", "repair"}),
        ("suspects-not-repaired", _suspects_not_repaired, {"I4", "repair", "commit"}),
        ("any-answer", _any_answer, {"I4", "repair"}),
        ("no-evidence", _no_evidence, {"I4", "repair"}),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
