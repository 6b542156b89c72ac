"""Three members in one deterministic world (``cluster_world`` with a mesh of channels): two seats and a mirror.

The checkers are those of a pair, with two more; and a cluster is at rest with a mirror in sync, too:

| checker | what it finds |
|---|---|
| seat | a member without a seat that goes on with the records |
| acks | with ``acks_all``: a message that left before a mirror in sync had it |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations, permutations
from typing import Any, ClassVar

from cluster_checkers import Link, Node
from cluster_gateway import ModelGateway
from cluster_world import PATHS, World
from ipsecha.cluster import effects as fx
from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.seating import SeatedMember
from simulation.violation import Violation

NAMES = ("a", "b", "c")
REPLAYED = 30


class Member(Node):
    member: SeatedMember

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.links: dict[int, Link] = {}  # that this end takes for whole, by the member at the other one
        self.had_seat = False

    def begin(self, skew: float) -> None:
        super().begin(skew)
        self.links = {}
        self.had_seat = False

    def channels(self) -> list[Link]:
        return list(self.links.values())


class MirrorGateway(ModelGateway):
    def __init__(self, name: str, member: Any, judge: Any, ring: dict[type, Callable[[Any], None]]) -> None:
        super().__init__(name, member, judge, ring)
        self.actions |= {
            fx.TakeMirrorSnapshot: self._take_mirror_snapshot,
            fx.RaiseEpoch: lambda effect: judge.raised(self, effect.epoch),
        }

    def _take_mirror_snapshot(self, effect: fx.TakeMirrorSnapshot) -> None:
        assert isinstance(self.member, SeatedMember)
        self.member.mirror_snapshot(effect.member, self._present(), len(self.table), self.now())


class MirrorWorld(World):
    names = NAMES
    settle_s = 5.0
    at_rest: ClassVar[list[str]] = ["active", "mirror", "standby"]
    nodes: list[Member]  # type: ignore[assignment]

    def __init__(
        self,
        seed: int,
        *,
        member: type[SeatedMember] = SeatedMember,
        gateway: type[MirrorGateway] = MirrorGateway,
        **settings: Any,
    ) -> None:
        """With ``acks_all`` in every other world."""
        settings.setdefault("acks_all", bool(seed & 1))
        super().__init__(seed, member=member, gateway=gateway, **settings)
        self.nodes = [Member(index) for index in range(len(NAMES))]
        ways = permutations(range(len(NAMES)), 2)
        self.blocked = {(path, sender, to): False for sender, to in ways for path in PATHS}
        self._cables: dict[tuple[int, int], Link] = {}  # the latest connection of each two
        self._dialled: dict[tuple[int, int], float] = {}  # when both know of it

    def _logs_of(self, member: SeatedMember) -> list[CommitLog]:
        return [member.log, *(other.source.log for other in member.others.values())]

    def _ring(self, node: Node) -> dict[type, Callable[[Any], None]]:
        return super()._ring(node) | {fx.ForMember: partial(self._for_member, node)}

    def _carry_out(self, node: Node) -> None:
        super()._carry_out(node)
        assert isinstance(node, Member)
        node.had_seat = node.alive and node.member.seated

    # Network

    def ways_of(self, index: int) -> list[tuple[Any, ...]]:
        return [way for way in self.blocked if index in way]

    def is_cut(self, ends: tuple[int, int]) -> bool:
        a, b = ends
        return self.blocked["synch", a, b] or self.blocked["synch", b, a]

    def _links_of(self, index: int) -> list[Link]:
        return [link for ends, link in self._cables.items() if index in ends]

    def _dial(self) -> None:
        self.at(self.jitter(0.02), self._dial)
        for a, b in combinations(self.nodes, 2):
            if a.host_up and b.host_up and not self.is_cut((a.index, b.index)):
                self._look(a, b)

    def _look(self, a: Member, b: Member) -> None:
        if a.alive and b.alive:
            ends = (a.index, b.index)
            latest = self._cables.get(ends)
            if (latest is None or latest.broken) and self._dialled.get(ends, 0.0) <= self.time:
                link = self._cables[ends] = self._connect(a, b)
                self._dialled[ends] = max(link.last.values())
            return
        for node, gone in ((a, b), (b, a)):
            if node.alive and gone.index not in node.links:
                self._tell_soon(node, partial(self._told_down, node, gone.index, True))

    def _told_down(self, node: Member, other: int, refused: bool) -> None:
        node.member.member_channel_down(other, refused, self.time + node.skew)

    def _link_up(self, node: Node, link: Link) -> None:
        assert isinstance(node, Member)
        if link.broken:
            return
        other = sum(link.ends) - node.index
        if other in node.links:
            self._told_down(node, other, False)
        node.links[other] = link
        node.member.member_channel_up(other, self.time + node.skew)

    def _link_down(self, node: Node, link: Link) -> None:
        assert isinstance(node, Member)
        other = sum(link.ends) - node.index
        if node.links.get(other) is link:
            del node.links[other]
            self._told_down(node, other, False)

    def _for_member(self, node: Member, effect: fx.ForMember) -> None:
        link = node.links.get(effect.member)
        if isinstance(effect.effect, fx.SendFrame):
            self._send_on(link, effect.member, effect.effect.data)
        else:
            self._reset(node, link)

    def _receive(self, node: Node, link: Link, data: bytes) -> None:
        assert isinstance(node, Member)
        sender = sum(link.ends) - node.index
        if node.links.get(sender) is link:
            self._take_in(node, data, partial(node.member.member_frame, sender))

    def _send_beat(self, node: Node, data: bytes) -> None:
        for receiver in self.nodes:
            for path in PATHS:
                if receiver is not node and self.random.random() >= self.beat_loss:
                    delay = self.jitter(self.delay_s) * self.random.choice((1, 1, 1, 20))
                    self.at(delay, partial(self._beat_comes, node.index, receiver, path, data))

    def _beat_comes(self, sender: int, node: Member, path: str, data: bytes) -> None:
        if node.alive and node.links_up and not self.blocked[path, sender, node.index]:
            heard = self.time + node.skew
            self._tell(node, node.boot, lambda: node.member.member_beat(sender, path, data, heard))

    # Traffic

    def trickle(self) -> None:
        """A packet each way on every SA."""
        for node, key in self._in_use():
            number = self._peer_numbers[key] = self._peer_numbers.get(key, 0) + 1
            node.gateway.send(key)
            node.gateway.receive(key, number)

    def replay_latest(self) -> None:
        """The attacker has kept the last packets of each SA."""
        for node, key in self._in_use():
            latest = self._peer_numbers.get(key, 0)
            for number in range(max(latest - REPLAYED, 0), latest):
                node.gateway.receive(key, number + 1)

    def _in_use(self) -> Iterator[tuple[Member, int]]:
        """Each owner with each of its SAs; what follows is carried out before the next."""
        for node in self.nodes:
            for key in list(node.gateway.table) if node.boot else ():
                if self.serves(node) and key in node.gateway.table:
                    yield node, key
                    self._carry_out(node)

    # Checkers

    def activated(self, gateway: ModelGateway, epoch: int, above_lane: int) -> None:
        node = self._node_of(gateway)
        assert isinstance(node, Member)
        if self._owners.get(epoch) == (node.index, node.boot):
            # after a handover that did not come off: in its own epoch, within what had been acknowledged
            self.note(f"goes on {gateway.name} epoch {epoch:#x}")
            return
        if not gateway.discarded and not node.had_seat:
            raise Violation("seat", f"{gateway.name} goes on with records and has no seat")
        super().activated(gateway, epoch, above_lane)

    def released(self, gateway: ModelGateway, key: int, version: int, epoch: int) -> None:
        super().released(gateway, key, version, epoch)
        member = gateway.member
        assert isinstance(member, SeatedMember)
        if not member.settings.acks_all or member.log.backup is not BackupState.IN_SYNC or key not in gateway.table:
            return
        for other in member.mirrors():
            if other.source.state is not BackupState.IN_SYNC:
                continue
            mirror = self.nodes[other.index]
            follows = mirror.alive and mirror.member.complete and mirror.member.epoch == epoch
            if follows and mirror.gateway.versions().get(key, -1) < version:
                raise Violation("acks", f"message {version} of SA {key} left without {mirror.gateway.name}")

    def _is_ready(self, node: Node) -> bool:
        assert isinstance(node, Member)
        return node.member.in_sync or node.member.complete

    @property
    def protected(self) -> bool:
        """One owner, a backup and a mirror in sync that lack nothing, and nobody is about to hear of the past."""
        if any(not node.alive or node.paused_until > self.time or node.backlog for node in self.nodes):
            return False
        if sorted(node.member.role.value for node in self.nodes) != self.at_rest:
            return False
        if not all(self._is_whole(a, b) for a, b in combinations(self.nodes, 2)):
            return False
        owner = self.owner
        assert isinstance(owner, Member)
        if not all(node is owner or self._is_ready(node) for node in self.nodes):
            return False
        log, mirrors = owner.member.log, owner.member.mirrors()
        in_sync = log.backup is BackupState.IN_SYNC and all(one.source.state is BackupState.IN_SYNC for one in mirrors)
        return in_sync and bool(mirrors) and not log.outstanding

    def _is_whole(self, a: Member, b: Member) -> bool:
        link = a.links.get(b.index)
        return link is not None and link is b.links.get(a.index) and not link.broken
