"""Three members in one deterministic world (``cluster_world`` with a mesh of channels): two seats and a mirror.

The checkers are those of a pair, with three more:

| checker | what it finds |
|---|---|
| seat | a member without a seat that goes on with the records |
| acks | with ``acks_all``: a message that left before a mirror in sync had it |
| stuck | when the faults are over: not one owner, one backup in sync, and mirrors in sync, with the same records |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar
from zlib import crc32

from cluster_checkers import Link, Node
from cluster_gateway import MOVING, ModelGateway
from cluster_world import PATHS, TCP_PATIENCE_S, WALL_AT_START, World
from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.ownership import PairSettings, Role
from ipsecha.cluster.seating import SeatedMember
from ipsecha.model.leases import Leasing
from simulation.violation import Violation

NAMES = ("a", "b", "c")


class Wire(Link):
    """One TCP connection between two of the members."""

    def __init__(self, ends: tuple[int, int]) -> None:
        super().__init__()
        self.ends = ends
        self.cut_at = [float("inf")] * len(NAMES)
        self.last = [0.0] * len(NAMES)


class Member(Node):
    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.wires: dict[int, Wire] = {}  # that this end knows, by the member at the other one
        self.had_seat = False


class MirrorGateway(ModelGateway):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.actions[fx.TakeMirrorSnapshot] = self._take_mirror_snapshot
        self.actions[fx.RaiseEpoch] = lambda effect: self.judge.raised(self, effect.epoch)  # type: ignore[attr-defined]

    def _take_mirror_snapshot(self, effect: fx.TakeMirrorSnapshot) -> None:
        assert isinstance(self.member, SeatedMember)
        self.member.mirror_snapshot(effect.member, self._present(), len(self.table), self.now())


class MirrorWorld(World):
    nodes: list[Member]  # type: ignore[assignment]
    gateway_of_member: type[MirrorGateway] = MirrorGateway
    faults_known: ClassVar[dict[str, Any]] = {}  # none: those of ``mirror_faults``

    def __init__(self, seed: int, *, member: type[SeatedMember] = SeatedMember, **settings: Any) -> None:
        super().__init__(seed, **settings)
        self.seated_type = member
        self.nodes = [Member(index) for index in range(len(NAMES))]
        indices = range(len(NAMES))
        self.blocked = {  # type: ignore[assignment]
            (path, sender, receiver): False
            for path in PATHS
            for sender in indices
            for receiver in indices
            if sender != receiver
        }
        self._wires: dict[tuple[int, int], Wire] = {}  # the latest of each two members
        self._until: dict[tuple[int, int], float] = {}

    # Members

    def start(self, index: int) -> None:
        node = self.nodes[index]
        self._break_all(node)
        node.boot += 1
        node.alive = node.host_up = True
        node.wires = {}
        node.backlog = []
        node.crash_after = None
        node.paused_until = 0.0
        node.links_up, node.health = True, 2
        node.skew = self.random.uniform(-3, 3)
        node.highest_epoch = 0
        node.had_seat = False
        settings = PairSettings("test", NAMES, index, **self.settings)
        node.member = member = self.seated_type(settings, self.random.randbytes)
        ring: dict[type, Callable[[Any], None]] = {
            fx.ForMember: lambda effect: self._for_member(node, effect),
            fx.SendBeat: lambda effect: self._send_beat(node, effect.data),
            fx.ClockOffset: lambda effect: self._shift_clock(node, effect.seconds),
            fx.Forwarded: lambda effect: None,
        }
        for log in (member.log, *(other.source.log for other in member.others.values())):
            log.part, log.window = 2, 1
            log.moving = MOVING
        node.gateway = self.gateway_of_member(f"{NAMES[index]}{node.boot}", member, self, ring)
        node.gateway.now = lambda: self.time + node.skew
        self.note(f"start {node.gateway.name}")
        member.start(self.time + node.skew, WALL_AT_START + self.time)
        self._carry_out(node)
        self._arm(node, node.boot)

    def _carry_out(self, node: Node) -> None:
        super()._carry_out(node)
        assert isinstance(node, Member)
        node.had_seat = node.alive and node.member.seated  # type: ignore[attr-defined]

    def crash(self, index: int, host: bool = False) -> None:
        node = self.nodes[index]
        self.note(f"crash {node.gateway.name} ({node.member.role.value}){' with its host' if host else ''}")
        node.alive = False
        node.host_up = not host
        node.wires = {}
        wires = [wire for ends, wire in self._wires.items() if index in ends]
        self.at(TCP_PATIENCE_S if host else 0.0, lambda: [self.break_link(wire) for wire in wires])

    def _break_all(self, node: Node) -> None:
        for ends, wire in self._wires.items():
            if node.index in ends:
                self.break_link(wire)

    # Network

    def block_way(self, path: str, sender: int, receiver: int, blocked: bool = True) -> None:
        self.faulty()
        self.blocked[path, sender, receiver] = blocked  # type: ignore[index]
        wire = self._wires.get((min(sender, receiver), max(sender, receiver)))
        if path == "synch" and not blocked and wire is not None:
            self._unstall(wire)

    def heal(self) -> None:
        self.note("heal")
        self.beat_loss, self.delay_s, self.late_ticks_s = 0.0, 0.001, 0.002
        self.faulty()
        for path, sender, receiver in self.blocked:  # type: ignore[misc]
            self.block_way(path, sender, receiver, False)
        for node in self.nodes:
            node.links_up, node.health = True, 2
            node.crash_after = None

    def is_cut(self, a: int, b: int) -> bool:
        return self.blocked["synch", a, b] or self.blocked["synch", b, a]  # type: ignore[index]

    def _dial(self) -> None:
        self.at(self.jitter(0.02), self._dial)
        for a in self.nodes:
            for b in self.nodes[a.index + 1 :]:
                self._look(a, b)

    def _look(self, a: Member, b: Member) -> None:
        ends = (a.index, b.index)
        if self.is_cut(*ends) or not (a.host_up and b.host_up):
            return
        if a.alive and b.alive:
            wire = self._wires.get(ends)
            if (wire is None or wire.broken) and self._until.get(ends, 0.0) <= self.time:
                self._join_up(a, b)
            return
        for node, gone in ((a, b), (b, a)):
            if node.alive and gone.index not in node.wires:
                self._tell_soon(node, lambda node=node, gone=gone: self._refuses(node, gone))

    def _refuses(self, node: Member, gone: Member) -> None:
        node.member.member_channel_down(gone.index, True, self.time + node.skew)  # type: ignore[attr-defined]

    def _join_up(self, a: Member, b: Member) -> None:
        ends = (a.index, b.index)
        wire = self._wires[ends] = Wire(ends)
        for node in (a, b):
            delay = self.jitter(self.delay_s)
            self._until[ends] = max(self._until.get(ends, 0.0), self.time + delay)
            wire.last[node.index] = self.time + delay
            self._tell_soon(node, lambda node=node: self._wire_up(node, wire), delay)

    def _wire_up(self, node: Member, wire: Wire) -> None:
        if wire.broken:
            return
        other = sum(wire.ends) - node.index
        if other in node.wires:
            node.member.member_channel_down(other, False, self.time + node.skew)  # type: ignore[attr-defined]
        node.wires[other] = wire
        node.member.member_channel_up(other, self.time + node.skew)  # type: ignore[attr-defined]

    def break_link(self, link: Link | None) -> None:
        if not isinstance(link, Wire) or link.broken:
            return
        link.broken = True
        for index in link.ends:
            node = self.nodes[index]
            link.cut_at[index] = self.time + self.jitter(self.delay_s) * self.random.randint(0, 1)
            patience = TCP_PATIENCE_S if self.is_cut(*link.ends) else 0.0
            if node.alive:
                delay = self.jitter(0.01) + self.random.randint(0, 1) * patience
                self._tell_soon(node, lambda node=node: self._wire_down(node, link), delay)

    def _wire_down(self, node: Member, wire: Wire) -> None:
        other = sum(wire.ends) - node.index
        if node.wires.get(other) is wire:
            del node.wires[other]
            node.member.member_channel_down(other, False, self.time + node.skew)  # type: ignore[attr-defined]

    def _for_member(self, node: Member, effect: fx.ForMember) -> None:
        wire = node.wires.get(effect.member)
        if wire is None:
            return
        if isinstance(effect.effect, fx.SendFrame):
            self._send_on(wire, effect.member, effect.effect.data)
        elif not self.is_cut(*wire.ends):
            self.break_link(wire)
        else:  # while the cable is cut only this end knows
            wire.broken = True
            wire.cut_at = [min(cut, self.time) for cut in wire.cut_at]
            self._tell_soon(node, lambda: self._wire_down(node, wire), self.jitter(0.001))

    def _send_on(self, wire: Wire, receiver: int, data: bytes) -> None:
        self.frames += 1
        self.trace = crc32(data, self.trace)
        if wire.broken:
            return
        arrival = max(wire.last[receiver], self.time + self.jitter(self.delay_s))
        wire.last[receiver] = arrival
        self.at(arrival - self.time, lambda: self._arrive(wire, receiver, data))

    def _arrive(self, link: Link, receiver: int, data: bytes) -> None:
        assert isinstance(link, Wire)
        if self.is_cut(*link.ends) or link.stalled:
            if not link.stalled:
                link.stalled_since = self.time
            link.stalled.append((receiver, data))
        elif self.time <= link.cut_at[receiver]:
            node = self.nodes[receiver]
            self._tell(node, node.boot, lambda: self._receive(node, link, data))

    def _unstall(self, link: Link) -> None:
        assert isinstance(link, Wire)
        if self.is_cut(*link.ends) or not link.stalled:
            return
        if self.time - link.stalled_since > TCP_PATIENCE_S:
            self.break_link(link)
        stalled, link.stalled = link.stalled, []
        for receiver, data in stalled:
            self._arrive(link, receiver, data)

    def _receive(self, node: Node, link: Link, data: bytes) -> None:
        assert isinstance(node, Member)
        assert isinstance(link, Wire)
        sender = sum(link.ends) - node.index
        if node.wires.get(sender) is not link:
            return
        before = len(node.member._effects)
        node.member.member_frame(sender, data, self.time + node.skew)  # type: ignore[attr-defined]
        if any(isinstance(effect, fx.Apply) for effect in node.member._effects[before:]):
            frame = frames.decode_frame(data)
            assert isinstance(frame, frames.Commit)
            self._written(node, frame.epoch)

    def _send_beat(self, node: Node, data: bytes) -> None:
        for receiver in self.nodes:
            for path in PATHS:
                if receiver is not node and self.random.random() >= self.beat_loss:
                    delay = self.jitter(self.delay_s) * self.random.choice((1, 1, 1, 20))
                    self.at(delay, lambda path=path, to=receiver: self._beat_comes(node.index, to, path, data))

    def _beat_comes(self, sender: int, node: Member, path: str, data: bytes) -> None:
        if self.blocked[path, sender, node.index] or not node.links_up or not node.alive:  # type: ignore[index]
            return
        heard = self.time + node.skew
        self._tell(node, node.boot, lambda: node.member.member_beat(sender, path, data, heard))  # type: ignore[attr-defined]

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
        for other in self.nodes:
            beside = other is not node and other.alive and other.gateway.active
            if beside and not gateway.active and self.at_peace:
                raise Violation("I5", f"{gateway.name} became owner beside {other.gateway.name} without a fault")
        super().activated(gateway, epoch, above_lane)

    def raised(self, gateway: ModelGateway, epoch: int) -> None:
        node = self._node_of(gateway)
        self.note(f"raised {gateway.name} epoch {epoch:#x}")
        if self._owners.setdefault(epoch, (node.index, node.boot)) != (node.index, node.boot):
            raise Violation("I5", f"epoch {epoch:#x} taken again by {gateway.name}")
        self._lineages[epoch] = gateway.lineage

    def accepted(self, gateway: ModelGateway, key: int, number: int) -> None:
        self.packets += 1
        node = self._node_of(gateway)
        both = any(other is not node and other.alive and other.gateway.active for other in self.nodes)
        self.has_split |= both
        cut_off = gateway.leasing is Leasing.LANE or both
        seen = self._inbound.setdefault(key, {})
        if number in seen and not (cut_off or seen[number][1]):
            raise Violation("I3", f"{gateway.name} accepts number {number} of SA {key} after {seen[number][0]}")
        seen[number] = (gateway.name, cut_off)

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
            held = mirror.gateway.table.get(key)
            follows = mirror.alive and mirror.member.complete and mirror.member.epoch == epoch  # type: ignore[attr-defined]
            if follows and (held is None or held.version < version):
                raise Violation("acks", f"message {version} of SA {key} left without {mirror.gateway.name}")

    def expect_settled(self) -> None:
        roles = sorted(node.member.role.value for node in self.nodes)
        if roles != ["active", "mirror", "standby"]:
            raise Violation("stuck", f"roles {[node.member.role.value for node in self.nodes]}")
        owner = next(node for node in self.nodes if node.member.role is Role.ACTIVE)
        if owner.member.log.backup is not BackupState.IN_SYNC or owner.gateway.leasing is not Leasing.LEASED:
            raise Violation("stuck", f"the backup is {owner.member.log.backup}, {owner.gateway.leasing}")
        if owner.gateway.waiting or owner.member.log.outstanding:
            raise Violation("stuck", f"{owner.gateway.waiting} wait, {owner.member.log.outstanding} outstanding")
        for node in self.nodes:
            ready = node is owner or node.member.in_sync or node.member.complete  # type: ignore[attr-defined]
            if not ready or abs(node.skew - owner.skew) > 0.2:
                raise Violation("stuck", f"{node.gateway.name} is not in sync, or its clock is not")
            if not _same_table(owner.gateway, node.gateway):
                raise Violation("commit", f"{node.gateway.name} has other records than {owner.gateway.name}")


def _same_table(one: ModelGateway, other: ModelGateway) -> bool:
    versions = [{key: record.version for key, record in gateway.table.items()} for gateway in (one, other)]
    return versions[0] == versions[1]
