"""What must never happen to a pair, checked at every step that becomes visible outside.

| checker | what it finds |
|---|---|
| I1 | two messages of one SA under one epoch and number |
| I2 | an outbound number used twice, by whomever |
| I3 | an inbound number accepted twice, unless the members were alone after silence or owners at the same time |
| I5 | two owners of one epoch, two owners without a fault, a write of an older epoch accepted |
| commit | a message that left while a backup was in sync is unknown to the next owner |
| lost | an SA that was protected is gone, or the records of all of them, after a single fault |
| stuck | when the faults are over: not one owner and one backup in sync with the same records |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from cluster_gateway import ModelGateway
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.pair import PairMember, Role
from ipsecha.model.leases import Leasing
from simulation.violation import Violation


class Link:
    """One TCP connection: two ordered directions; a broken one loses what arrives after the cut."""

    def __init__(self, ends: tuple[int, int] = (0, 1)) -> None:
        self.ends = ends
        self.broken = False
        self.cut_at = dict.fromkeys(ends, float("inf"))  # by receiver
        self.last = dict.fromkeys(ends, 0.0)
        self.stalled: list[tuple[int, bytes]] = []
        self.stalled_since = 0.0


class Node:
    def __init__(self, index: int) -> None:
        self.index = index
        self.alive = False
        self.host_up = True
        self.boot = 0
        self.skew = 0.0
        self.paused_until = 0.0
        self.crash_after: int | None = None  # effects
        self.links_up = True
        self.health = 2
        self.link: Link | None = None
        self.backlog: list[Callable[[], None]] = []  # what happened while it was paused
        self.member: PairMember
        self.gateway: ModelGateway
        self.highest_epoch = 0  # that this process took part in
        self.written_lineage = 0

    def begin(self, skew: float) -> None:
        """A new process, on a host that is well."""
        self.boot += 1
        self.alive = self.host_up = True
        self.link = None
        self.backlog = []
        self.crash_after = None
        self.paused_until = 0.0
        self.links_up, self.health = True, 2
        self.skew = skew
        self.highest_epoch = 0

    def channels(self) -> list[Link]:
        """Those that this end takes for whole."""
        return [self.link] if self.link is not None else []


class Checkers:
    """Implements ``cluster_gateway.Judge`` for two nodes, or for those of a subclass."""

    at_rest: ClassVar[list[str]] = ["active", "standby"]  # the roles when all is well

    def __init__(self) -> None:
        self.time = 0.0
        self.nodes = [Node(0), Node(1)]
        self.log: list[str] = []
        self.failovers = self.packets = self.frames = 0
        self.has_split = False  # both members have used their SAs at the same time
        self.trace = 0  # a checksum of all that became visible outside
        self.inherited: int | None = None  # lineage of the records that the owners of a relay hand on
        self.may_be_struck = False  # the pair has been protected since the last fault
        self._owners: dict[int, tuple[int, int]] = {}
        self._lineages: dict[int, int] = {}  # by epoch
        self._outbound: dict[int, set[int]] = {}
        self._inbound: dict[int, dict[int, tuple[str, bool]]] = {}
        self._messages: set[tuple[int, int, int]] = set()
        self._covered: dict[int, tuple[int, int]] = {}  # key: lineage, version that a backup in sync has
        self._withdrawn: set[int] = set()

    @property
    def at_peace(self) -> bool:
        """Nothing disturbs the network or the clocks, and has not for a while."""
        raise NotImplementedError

    def note(self, text: str) -> None:
        self.log.append(f"{self.time:8.3f} {text}")

    def activated(self, gateway: ModelGateway, epoch: int, above_lane: int) -> None:
        node = self._node_of(gateway)
        rival = self._rival_of(node)
        self.failovers += not gateway.discarded  # a cold start is none
        self.note(f"active {gateway.name} epoch {epoch:#x} lanes {above_lane} {gateway.reports[-2:]}")
        owner = self._owners.setdefault(epoch, (node.index, node.boot))
        if owner != (node.index, node.boot):
            raise Violation("I5", f"epoch {epoch:#x} of {owner} taken by {gateway.name}")
        if rival is not None and not gateway.active and self.at_peace:
            raise Violation("I5", f"{gateway.name} became owner beside {rival.gateway.name} without a fault")
        if gateway.discarded:
            gateway.lineage = epoch
        self._lineages[epoch] = gateway.lineage
        for key, (lineage, version) in self._covered.items():
            if lineage == gateway.lineage and (key not in gateway.table or gateway.table[key].version < version):
                raise Violation("commit", f"{gateway.name} took over without message {version} of SA {key}")

    def raised(self, gateway: ModelGateway, epoch: int) -> None:
        node = self._node_of(gateway)
        self.note(f"raised {gateway.name} epoch {epoch:#x}")
        if self._owners.setdefault(epoch, (node.index, node.boot)) != (node.index, node.boot):
            raise Violation("I5", f"epoch {epoch:#x} taken again by {gateway.name}")
        self._lineages[epoch] = gateway.lineage

    def _node_of(self, gateway: ModelGateway) -> Node:
        return next(node for node in self.nodes if node.boot and node.gateway is gateway)

    def _rival_of(self, node: Node) -> Node | None:
        """Another one that is owner."""
        for other in self.nodes:
            if other.alive and other.gateway.active and other is not node:
                return other
        return None

    def _written(self, node: Node, epoch: int) -> None:
        if epoch < node.highest_epoch:
            raise Violation("I5", f"{node.gateway.name} accepts a write of {epoch:#x} after {node.highest_epoch:#x}")
        node.written_lineage = self._lineages[epoch]

    def applied(self, gateway: ModelGateway) -> None:
        gateway.lineage = self._node_of(gateway).written_lineage
        gateway.discarded = False

    def sent(self, gateway: ModelGateway, key: int, number: int) -> None:
        self.packets += 1
        used = self._outbound.setdefault(key, set())
        if number in used:
            raise Violation("I2", f"{gateway.name} sends number {number} of SA {key} again")
        used.add(number)

    def accepted(self, gateway: ModelGateway, key: int, number: int) -> None:
        self.packets += 1
        both = self._rival_of(self._node_of(gateway)) is not None
        self.has_split |= both
        cut_off = gateway.leasing is Leasing.LANE or both
        seen = self._inbound.setdefault(key, {})
        if number in seen and not (cut_off or seen[number][1]):
            raise Violation("I3", f"{gateway.name} accepts number {number} of SA {key} after {seen[number][0]}")
        seen[number] = (gateway.name, cut_off)

    def released(self, gateway: ModelGateway, key: int, version: int, epoch: int) -> None:
        if (key, epoch, version) in self._messages:
            raise Violation("I1", f"{gateway.name} sends message {version} of SA {key} under epoch {epoch:#x} again")
        self._messages.add((key, epoch, version))
        if gateway.member.log.backup is BackupState.IN_SYNC:
            self._cover(gateway, key, version)

    def covered(self, gateway: ModelGateway) -> None:
        """A backup is about to be in sync: it then has everything that its owner has."""
        for key, record in gateway.table.items():
            self._cover(gateway, key, record.version)

    def withdrawn(self, key: int) -> None:
        self._covered.pop(key, None)
        self._withdrawn.add(key)

    def _cover(self, gateway: ModelGateway, key: int, version: int) -> None:
        if key in gateway.table and key not in self._withdrawn:
            self._covered[key] = (gateway.lineage, version)

    def expect_settled(self) -> None:
        """No stuck state: one owner, everybody else in sync with the same records, nothing waiting."""
        roles = [node.member.role.value for node in self.nodes]
        if sorted(roles) != self.at_rest:
            raise Violation("stuck", f"roles {roles}")
        owner = next(node for node in self.nodes if node.member.role is Role.ACTIVE)
        if owner.member.log.backup is not BackupState.IN_SYNC or owner.gateway.leasing is not Leasing.LEASED:
            raise Violation("stuck", f"the backup is {owner.member.log.backup}, {owner.gateway.leasing}")
        if owner.gateway.waiting or owner.member.log.outstanding:
            raise Violation("stuck", f"{owner.gateway.waiting} wait, {owner.member.log.outstanding} outstanding")
        for node in self.nodes:
            if node is not owner and not self._is_ready(node):
                raise Violation("stuck", f"{node.gateway.name} is not in sync")
            if node.gateway.versions() != owner.gateway.versions():
                raise Violation("commit", f"tables differ: {owner.gateway.versions()} {node.gateway.versions()}")
            if abs(node.skew - owner.skew) > 0.2:
                raise Violation("stuck", "the clocks disagree")

    def _is_ready(self, node: Node) -> bool:
        return node.member.in_sync

    @property
    def owner(self) -> Node:
        """Raises StopIteration where there is none."""
        return next(node for node in self.nodes if node.alive and node.member.role is Role.ACTIVE)

    @property
    def protected(self) -> bool:
        """One owner, and a backup in sync that lacks nothing, and neither is about to hear of the past."""
        a, b = self.nodes
        if not (a.alive and b.alive) or max(a.paused_until, b.paused_until) > self.time or a.backlog or b.backlog:
            return False
        if a.link is None or a.link is not b.link or a.link.broken:
            return False
        owner, backup = (a, b) if a.member.role is Role.ACTIVE else (b, a)
        log = owner.member.log
        return (
            owner.member.role is Role.ACTIVE
            and backup.member.role is Role.STANDBY
            and backup.member.in_sync
            and log.backup is BackupState.IN_SYNC
            and not log.outstanding
        )

    def expect_inherited(self) -> None:
        """Since there was last a backup in sync, a single fault has cost no SA.  From now on the same holds."""
        owner = self.owner.gateway
        if self.inherited not in (None, owner.lineage):
            raise Violation("lost", f"{owner.name} has begun without the records of {self.inherited:#x}")
        held = {key for key, (lineage, _) in self._covered.items() if lineage == owner.lineage}
        if self.inherited is not None and held - owner.table.keys():
            raise Violation("lost", f"SAs {sorted(held - owner.table.keys())} are lost")
        self.inherited = owner.lineage if owner.table else None  # a model without records does not know their lineage
        self.may_be_struck = True

    def expect_records_kept(self) -> None:
        """No SA that was protected is lost."""
        lost = self._covered.keys() - self.owner.gateway.table.keys()
        if lost:
            raise Violation("lost", f"SAs {sorted(lost)} are lost")
