"""Worlds in which the power fails: both members die at once, at any moment, and come back with what is on their disks.

Disks are slow, tear what was being written, refuse writes, or are lost.  Afterwards the same record judges as before:
it has seen each number of each SA, and knows them again.  What happens in these worlds: ``power_cuts.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
from simulation.disks import SimulatedDisk
from simulation.gateways import MemberNode
from simulation.keyring import Keyring
from simulation.lazy import LazyRecord
from simulation.third_box import ThirdBox, witnessed
from simulation.world import Variant, World

KEY = bytes(range(32))
WAIT_S = 4.0
"""For so long a member waits for its partner."""
SMALL = {"INBOUND_RESERVE": 24, "OUTBOUND_RESERVE": 64, "RESERVE_S": 0.5, "MARGIN_IN": 4}
"""So that a burst goes beyond a bound before the disk knows of the next one."""


@dataclass
class PowerVariant(Variant):
    """``read``: how a file is read back; ``trusted``: whatever the partner says; ``witness`` None: as the seed says."""

    read: Callable[[bytes, bytes], journal.Saved] = journal.read_saved
    trusted: bool = False
    witness: bool | None = None
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
    def __init__(self, seed: int, variant: PowerVariant | None = None, peers: int = 0) -> None:
        self.power_variant = variant or PowerVariant()
        self.has_witness = bool(seed % 2) if self.power_variant.witness is None else self.power_variant.witness
        inner = self.power_variant
        self.witnessed = witnessed(inner.name, inner.member)
        member = self.witnessed.member if self.has_witness else inner.member
        super().__init__(seed, Variant(inner.name, member, inner.endpoint, self._prepare), peers)
        learning = self.record.learning
        self.record: PowerRecord = PowerRecord(self)
        self.record.learning = learning
        self.record.is_synchronisation = Keyring(self).is_synchronisation
        self.disks = [SimulatedDisk(self, name) for name in "ab"]
        self.expected: set[bytes] = set()  # SPIs of IKE SAs that are on the disk of whoever was owner
        self.restored = 0
        self.dark = False  # there is no power
        self.disk_lost = False  # since the power failed
        if self.has_witness:
            self.third_box = QuietBox(self, Ledger)

    def saved(self) -> Iterable[bytes]:
        return [disk.present for disk in self.disks if disk.present is not None]

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
        self.dark, self.disk_lost = True, False
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


@contextmanager
def small_reserves() -> Iterator[None]:
    with ExitStack() as stack:
        for name, value in SMALL.items():
            stack.enter_context(patch.object(durable, name, value))
        stack.enter_context(patch.object(saved_state, "RESTORED_IN", 2 * int(SMALL["MARGIN_IN"])))
        yield


def traffic(world: World, seconds: float) -> None:
    end = world.time + seconds
    while world.time < end:
        world.inner_packets(world.random.choice((1, 1, 2, 12)))
        world.run(0.05)
