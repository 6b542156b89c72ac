"""Worlds in which the power fails: both members die at once, at any moment, and come back with what is on their disks.

Disks are slow, tear what was being written, refuse writes, or are lost.  Members come back both, one after the other,
or one alone.  Afterwards the same record judges as before: it has seen each number of each SA, and knows them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from ike_pair import Entropy
from ipsecha.cluster import journal, lanes
from ipsecha.cluster.witness import Ledger
from ipsecha.gateway import saved_state
from ipsecha.gateway.state_file import StateFile
from ipsecha.ipsec import durable
from ipsecha.model.errors import ClusterError
from ipsecha.model.records import IkeSa
from simulation import play
from simulation.disks import SimulatedDisk
from simulation.faults import (
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
from simulation.keyring import Keyring
from simulation.lazy import LazyRecord
from simulation.third_box import ThirdBox, witnessed
from simulation.violation import Violation
from simulation.watches import Watches
from simulation.world import Variant, World

KEY = bytes(range(32))
WAIT_S = 4.0
"""For so long a member waits for its partner."""
BACK_S = 3.0
"""So long after both are back, with intact disks, an owner has the SAs that it had saved."""
LINES = 150
SMALL = {"INBOUND_RESERVE": 24, "OUTBOUND_RESERVE": 64, "RESERVE_S": 0.5, "MARGIN_IN": 4}
"""So that a burst goes beyond a bound before the disk knows of the next one."""


def bounce(world: World, node: MemberNode) -> None:
    """A process dies and is there again before anybody has noticed."""
    node.process.kill()
    world.timeline.at(world.random.choice((0.0, 0.002, 0.02)), restart, world, node)


FAULTS = (crash, bounce, hang, break_channel, slow_channel, switchover)
WORK = (burst, burst, rekey_children, rekey_ike, check_liveness, delete_children, replay)


@dataclass
class PowerVariant(Variant):
    """``read``: how a file is read back; ``trusted``: whatever the partner says.  Then what happens, and how often:
    ``witness`` None: as the seed says."""

    read: Callable[[bytes, bytes], journal.Saved] = journal.read_saved
    trusted: bool = False
    witness: bool | None = None
    latencies_s: tuple[float, ...] = (0.002, 0.005, 0.03, 0.3, 2.0)
    failure_chances: tuple[float, ...] = (0.0, 0.0, 0.0, 0.2)
    lost_chance: float = 0.15
    rounds: int = 3
    story: Callable[[PowerWorld], None] | None = None  # instead of what the seed would have happen


class PowerRecord(LazyRecord):
    """Knows what had been sent when the power failed: responses of that time are in nobody's record.  An IKE SA of that
    time that is in no file may be made once more, by the same exchange; then its message IDs begin anew."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._before: dict[tuple[bytes, bool, bool], int] = {}

    def power_failed(self) -> None:
        self._before = {key: number for key, (number, _) in self._last_sent.items()}
        self.doubted.update(key[0] for key in self._before)

    def covers(self, who: str, sa: IkeSa) -> None:
        key = sa.spi_i + sa.spi_r, sa.initiator, True
        last = self._last_sent.get(key)
        if last is None or last[0] != self._before.get(key):
            super().covers(who, sa)
            return
        del self._last_sent[key]
        super().covers(who, sa)
        self._last_sent[key] = last


class QuietBox(ThirdBox):
    """A witness whose cables hold: one that cannot be reached says nothing about a takeover after proof of death."""

    def _disturb(self) -> None:
        pass


class PowerWorld(World):
    def __init__(self, seed: int, variant: PowerVariant | None = None) -> None:
        self.power_variant = variant or PowerVariant()
        self.has_witness = bool(seed % 2) if self.power_variant.witness is None else self.power_variant.witness
        inner = self.power_variant
        self.witnessed = witnessed(inner.name, inner.member)
        member = self.witnessed.member if self.has_witness else inner.member
        super().__init__(seed, Variant(inner.name, member, inner.endpoint, self._prepare))
        learning = self.record.learning
        self.record: PowerRecord = PowerRecord(self)
        self.record.learning = learning
        self.record.is_synchronisation = Keyring(self).is_synchronisation
        self.disks = [SimulatedDisk(self, name) for name in "ab"]
        self.expected: set[bytes] = set()  # SPIs of IKE SAs that are on the disk of whoever was owner
        self.restored = 0
        self.cuts = 0
        if self.has_witness:
            self.third_box = QuietBox(self, Ledger)

    def _prepare(self, node: MemberNode) -> None:
        """As the daemon does it with ``[persistence]``."""
        if self.has_witness:
            self.witnessed.prepare(node)
        disk = self.disks[node.index]
        node.side.state_file = StateFile(
            node.gateway,
            disk,
            KEY,
            Entropy(f"{self.seed}/{node.process.name}/disk"),
            lambda: saved_state.opening_of(node.side),
            disk.submitter(node.process),
        )
        self.power_variant.prepare(node)
        if disk.present is None:
            return
        try:
            saved = self.power_variant.read(disk.present, KEY)
        except ClusterError as error:
            self.record.note(node.name, f"saved state: {error}")
            return
        self.record.note(node.name, f"reads {saved} torn={saved.torn}")
        saved_state.restore_saved(node.side, saved, self.power_variant.trusted, WAIT_S)

    def activated(self, node: MemberNode, epoch: int) -> None:
        self.restored += node.plane._sad._above_lanes == lanes.RESTORED
        super().activated(node, epoch)

    # Power

    def cut_power(self) -> None:
        """Everything of the cluster stops at this moment."""
        self.cuts += 1
        self.record.note("", "--- the power fails")
        for node in self.members:
            node.host.up = False
            node.process.kill()
        for disk in self.disks:
            disk.settle()
        self.record.power_failed()

    @property
    def owner(self) -> MemberNode | None:
        return next((node for node in self.members if node.process.alive and node.member.owns), None)

    def saved_by(self, index: int) -> journal.Saved | None:
        data = self.disks[index].present
        try:
            return journal.read_saved(data, KEY) if data is not None else None
        except ClusterError:
            return None


def judged_power(seed: int, variant: PowerVariant | None = None) -> PowerWorld:
    """The world of a seed after a whole run.  Raises Violation with the end of its trace."""
    with small_reserves():
        world = PowerWorld(seed, variant)
        watches = Watches(world)
        try:
            _play(world)
            watches.end()
        except Violation as violation:
            violation.add_note("\n".join([f"power seed {seed}", *world.record.lines[-LINES:]]))
            raise
        finally:
            watches.close()
    return world


@contextmanager
def small_reserves() -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in SMALL.items():
            stack.enter_context(patch.object(durable, name, value))
        stack.enter_context(patch.object(saved_state, "RESTORED_IN", 2 * int(SMALL["MARGIN_IN"])))
        yield


def _play(world: PowerWorld) -> None:
    chance = world.random
    world.start()
    traffic(world, 2.5)
    if world.power_variant.story is not None:
        world.power_variant.story(world)
    for _ in range(0 if world.power_variant.story is not None else world.power_variant.rounds):
        _trouble(world)
        _fail(world)
        _return(world)
        if chance.random() < 0.7:
            for disk in world.disks:
                disk.failure_chance, disk.latency_s = 0.0, 0.005
        traffic(world, chance.choice((0.0, 0.6, 3.0)))
        if chance.random() < 0.6:
            peace(world, world.members[0])
            for node in world.members:
                restart(world, node)
            traffic(world, 3.0)
    for disk in world.disks:
        disk.failure_chance, disk.latency_s = 0.0, 0.005
    play.settle(world)


def traffic(world: World, seconds: float) -> None:
    end = world.time + seconds
    while world.time < end:
        world.inner_packets(world.random.choice((1, 1, 2, 12)))
        world.run(0.05)


def _trouble(world: PowerWorld) -> None:
    """What happens before: work, bursts, changes of ownership, disks that are slow or fail."""
    chance, variant = world.random, world.power_variant
    for disk in world.disks:
        disk.latency_s = chance.choice(variant.latencies_s)
        disk.failure_chance = chance.choice(variant.failure_chances)
    acts = (*WORK, *FAULTS) if chance.random() < 0.5 else WORK
    for _ in range(chance.randint(0, 6)):
        act, node = chance.choice(acts), chance.choice(world.members)
        if act in FAULTS or node.process.alive:
            world.record.note(node.name, f"--- {act.__name__}")
            act(world, node)
        world.inner_packets(chance.choice((1, 8, 30)))
        world.run(chance.random() * chance.choice((0.01, 0.2, 0.8)))
        if chance.random() < 0.5:
            restart(world, node)
    if chance.random() < 0.5:
        traffic(world, chance.random())


def _fail(world: PowerWorld) -> None:
    """At once, or between any two acts of one of them."""
    chance = world.random
    cuts = world.cuts
    if chance.random() < 0.7:
        process = chance.choice(world.members).process
        process.acts_left, process.boundary = (
            chance.choice((chance.randint(0, 8), chance.randint(0, 120))),
            world.cut_power,
        )
        for _ in range(6):
            world.inner_packets(chance.choice((1, 10, 30)))
            chance.choice(WORK)(world, world.members[0])
            world.run(chance.random() * 0.2)
            if world.cuts > cuts:
                break
    if world.cuts == cuts:
        world.cut_power()


def _return(world: PowerWorld) -> None:
    """Both, one late, one alone, or with one disk lost."""
    chance = world.random
    lost = chance.random() < world.power_variant.lost_chance
    if lost:
        chance.choice(world.disks).lose()
    for disk in world.disks:
        disk.latency_s = chance.choice(world.power_variant.latencies_s[:4])
        disk.failure_chance = chance.choice((0.0,) * 6 + (0.3,))
    fails = any(disk.failure_chance for disk in world.disks)
    expected = None if lost or fails else _expected(world)
    _excuse_what_was_not_saved(world, expected)
    world.run(chance.random() * chance.choice((0.1, 1.0)))
    first = chance.choice(world.members)
    second = world.members[1 - first.index]
    restart(world, first)  # unless it is back by itself, after a fault from before
    how = chance.choice(("together", "together", "late", "alone"))
    if how == "late":
        traffic(world, chance.random() * (WAIT_S - 1.0))
    if how != "alone":
        restart(world, second)
    began = world.time
    while world.owner is None and world.time < began + WAIT_S + 3.0:
        world.run(0.02)
    if world.owner is None and how == "alone" and world.has_witness:
        return  # without records nobody begins alone beside a witness that knows of an owner
    if world.owner is None:
        world.record.violation("stuck", f"nobody is owner {world.time - began:.1f} s after the power is back")
    back_s = BACK_S + max(disk.latency_s for disk in world.disks)  # a file is used up before it is used
    if how != "alone" and expected is not None and (world.record.lost_at >= began or world.time > began + back_s):
        world.record.violation("lost", f"{'ab'[expected]} had saved its SAs, and they are not used")
    world.run(0.0)


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
