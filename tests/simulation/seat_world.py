"""Three whole members and their peers in one deterministic world: two seats and a mirror.

Everything of a member is the product's own, ``gateway.mirrors`` included; only what is outside of it is simulated.  In
every other world ``acks = "all"``.  No two of them ever serve at a time here, so nothing is excused, with two checkers
more than a pair has:

| checker | what it finds |
|---|---|
| acks | with ``acks = "all"``: a message that left before a mirror in sync had it |
| lost | a cluster that begins anew although somebody had a right to its SAs when the last one died |
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any

from ipsecha.cluster import effects as fx
from ipsecha.cluster.commit_log import BackupState, CommitLog
from ipsecha.cluster.ownership import PairSettings
from ipsecha.cluster.seating import SeatedMember
from ipsecha.gateway.mirrors import MirrorSide, mirror_side
from ipsecha.model.records import IkeSa
from simulation.clockwork import Process
from simulation.gateways import CLUSTER, MemberNode
from simulation.mesh import NAMES, MeshNetwork, link_of
from simulation.network import RAW_PORTS, Datagram, Host, SimulatedAddresses
from simulation.record import IKE_SA_INIT, RESPONSE
from simulation.world import Variant, World

REPLAYED, REPLAYED_S = 40, 0.004


class SeatNode(MemberNode):
    """One of three."""

    world: SeatWorld
    side: MirrorSide
    member: SeatedMember

    def _plug_in(self) -> None:
        self.world.synch.process_started(self.index)

    def _unplug(self) -> None:
        self.world.synch.process_gone(self.index, not self.host.up)

    def _settings(self) -> PairSettings:
        world = self.world
        return PairSettings("test", world.names, self.index, heartbeat_s=world.heartbeat_s, acks_all=world.acks_all)

    def _logs(self) -> Iterable[CommitLog]:
        return [self.member.log, *(other.source.log for other in self.member.others.values())]

    def _make_side(self, addresses: SimulatedAddresses) -> None:
        synch = self.world.synch
        side = MirrorSide(self.gateway, self.member, addresses)
        self.side = mirror_side(
            side, link_of(self.index), partial(synch.channel, self.index), partial(synch.beats, self.index)
        )

    def _watch(self) -> None:
        super()._watch()
        raise_epoch = self.side._actions[fx.RaiseEpoch]

        def raised(effect: fx.RaiseEpoch) -> None:
            self.world.record.activated(self.process.name, effect.epoch)
            raise_epoch(effect)

        self.side._actions[fx.RaiseEpoch] = raised

    def _links(self) -> bool:
        cables = self.world.synch.cables_of(self.index)
        return self.host.carrier or not all(cable.blocked["synch", 0] and cable.blocked["synch", 1] for cable in cables)

    def _killed(self, process: Process) -> None:
        super()._killed(process)
        self.world.died(self)

    @property
    def has_right(self) -> bool:
        """To go on with the SAs, should everybody else be dead."""
        return self.process.alive and (self.member.owns or self.member.in_sync)

    def follows(self, owner: SeatNode) -> bool:
        """As a mirror that has all that its owner has sent, and has nothing of that left to carry out."""
        member = self.member
        complete = member.complete and not member._effects
        return self.process.alive and complete and member.following == owner.index and not member.seated

    def peek(self, local_spi: bytes) -> IkeSa | None:
        sas = self.endpoint.sas
        return sas.peek(local_spi) if local_spi in sas else None


class SeatWorld(World):
    names = NAMES
    members: list[SeatNode]  # type: ignore[assignment]
    synch: MeshNetwork  # type: ignore[assignment]

    def __init__(self, seed: int, variant: Variant | None = None, peers: int = 0) -> None:
        self.acks_all = bool(seed & 1)
        self.may_be_lost = True  # nobody has a right to the SAs any more
        self._latest: deque[Datagram] = deque(maxlen=REPLAYED)
        super().__init__(seed, variant or Variant(member=SeatedMember), peers)  # type: ignore[type-abstract]

    def _make_members(self) -> list[Any]:
        return [SeatNode(self, index) for index in range(len(NAMES))]

    def _make_synch(self) -> Any:
        return MeshNetwork(self.timeline, list(self.members), self._frame)

    def served(self, node: MemberNode) -> None:
        """Nothing is excused."""

    def died(self, node: SeatNode) -> None:
        self.may_be_lost |= not any(member.has_right for member in self.members if member.boot)

    def activated(self, node: MemberNode, epoch: int) -> None:
        anew = node.member.lineage == epoch and epoch not in node.epochs_owned  # else a switchover has come to nothing
        if anew and not self.may_be_lost:
            self.record.violation("lost", f"{node.process.name} begins anew, and not all who had the SAs had died")
        self.may_be_lost = False
        super().activated(node, epoch)
        for datagram in self._latest:  # an attacker has kept them, and knows where everybody begins
            self.timeline.at(self.random.random() * REPLAYED_S, self.network.carry, datagram)

    def _tap(self, host: Host, datagram: Datagram, outside: Datagram) -> None:
        super()._tap(host, datagram, outside)
        if datagram.destination[0] == CLUSTER:
            self._latest.append(outside)
        if self.acks_all and datagram.source[1] not in RAW_PORTS:
            self._judge_acks(host, datagram)

    def _judge_acks(self, host: Host, datagram: Datagram) -> None:
        message = datagram.data
        if datagram.source[1] == 4500:
            if message[:4] != bytes(4):
                return
            message = message[4:]
        owner = next((node for node in self.members if node.host is host), None)
        if owner is None or message[18] == IKE_SA_INIT or owner.member.log.backup is not BackupState.IN_SYNC:
            return
        for other in owner.member.mirrors():
            mirror = self.members[other.index]
            if other.source.state is BackupState.IN_SYNC and mirror.follows(owner):
                self._judge_copy(owner, mirror, message)

    def _judge_copy(self, owner: SeatNode, mirror: SeatNode, message: bytes) -> None:
        """What a mirror knows of the SA of a message that leaves."""
        number = int.from_bytes(message[20:24], "big")
        for local_spi in (message[:8], message[8:16]):
            sa, copy = owner.peek(local_spi), mirror.peek(local_spi)
            if sa is None or sa.spi_i + sa.spi_r != message[:16]:
                continue
            known = copy and (copy.expected_request_id if message[19] & RESPONSE else copy.next_request_id)
            if known is None or known <= number:
                what = "response" if message[19] & RESPONSE else "request"
                self.record.violation("acks", f"{what} {number} of {sa} left without {mirror.process.name}")
