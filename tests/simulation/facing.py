"""Two clusters that face each other: the peer of each is whichever member of the other owns at the moment.

Each is a world of its own, with whole gateways, a synch channel and failovers of its own.  Time, the network and the
record are one for both; one connection is between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from socket import inet_aton
from typing import Any

from ipsecha.crypto.credentials import ConnectionSecrets
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import RaiseOutbound, Report
from ipsecha.model.policy import Connection, Inbound
from simulation.clockwork import Process
from simulation.gateways import MemberNode, Node, Site
from simulation.keyring import Keyring
from simulation.lazy import LazyRecord, LazyVariant, LazyWorld
from simulation.network import Datagram, Host
from simulation.synch import SynchNetwork
from simulation.world import CLUSTER_INNER

FAR_NAMES = ("c", "d")


class FacingRecord(LazyRecord):
    """Epochs are numbers of one cluster: those of the other may be the same."""

    def __init__(self, world: LazyWorld) -> None:
        super().__init__(world)
        self._owners: dict[bool, dict[int, str]] = {False: {}, True: {}}

    def activated(self, who: str, epoch: int) -> None:
        self.owners = self._owners[who.startswith(FAR_NAMES)]
        super().activated(who, epoch)


class Side(LazyWorld):
    """One of both clusters."""

    def __init__(self, seed: int, variant: LazyVariant | None = None) -> None:
        super().__init__(seed, variant, peers=1)
        self.events: Counter[str] = Counter()  # reports of its members
        self.raised = 0  # outbound numbers that were skipped because the other cluster had asked

    def _prepare(self, node: MemberNode) -> None:
        actions = node.gateway._actions
        carry_out = actions[RaiseOutbound]

        def raised(effect: RaiseOutbound) -> None:
            self.raised += effect.delta
            carry_out(effect)

        actions[RaiseOutbound] = raised
        super()._prepare(node)

    def reported(self, node: Node, report: Report) -> None:
        self.events[report.event] += 1
        super().reported(node, report)


class FacingWorld(Side):
    """The near cluster; its peer is the ``far`` one."""

    def __init__(self, seed: int, variant: LazyVariant | None = None) -> None:
        super().__init__(seed, variant)
        (site,) = self.sites
        site.roams = False  # a cluster that shares an address has one
        self.network.nats.clear()
        self.record = FacingRecord(self)
        self.record.is_synchronisation = Keyring(self).is_synchronisation
        if site.inbound is Inbound.LEARN:
            self.record.learning = {inet_aton(site.inner), inet_aton(CLUSTER_INNER)}
        self.plain = set()  # both are ours, and support RFC 6311
        self.far = FarSide(self)
        self.sides: tuple[Side, Side] = self, self.far
        self.both_asked = 0  # failovers after which both sides have asked the other for new message IDs
        self.peers = [Opposite(self.far, site)]  # type: ignore[list-item]

    def keep(self, datagram: Datagram, outside: Datagram) -> None:
        super().keep(datagram, outside)
        self.far.keep(datagram, outside)

    @property
    def began(self) -> float:
        """When what is judged at present did."""
        return self._began

    def begin_anew(self) -> None:
        super().begin_anew()
        self.far._began = self._began


class FarSide(Side):
    names = FAR_NAMES

    def __init__(self, near: FacingWorld) -> None:
        super().__init__(near.seed, near.lazy_variant)
        (site,) = near.sites
        self.address = site.address
        self.sites = [Mirrored(site)]
        self.peers = [Opposite(near, site)]  # type: ignore[list-item]
        self.plain = near.plain
        self.timeline, self.random = near.timeline, near.random
        self.record, self.network = near.record, near.network
        self.synch = SynchNetwork(self.timeline, self.members, self._frame)  # type: ignore[arg-type]
        self._last_delivery = near._last_delivery


class Mirrored(Site):
    """A site as it sees itself: it is the cluster."""

    def __init__(self, site: Site) -> None:
        self.__dict__.update(site.__dict__)
        self._site = site

    def connection(self, cluster: bool) -> Connection:
        return self._site.connection(not cluster)

    def secrets(self, cluster: bool) -> ConnectionSecrets:
        return self._site.secrets(not cluster)


class Opposite:
    """The other cluster, where a world has a ``PeerNode``."""

    def __init__(self, side: Side, site: Site) -> None:
        self.side = side
        self.site = site
        self.name = site.name

    def start(self) -> None:
        for node in self.side.members:
            node.start()

    @property
    def boot(self) -> int:
        return min(node.boot for node in self.side.members)

    @property
    def node(self) -> MemberNode:
        """The owner; while there is none, somebody who can be asked and does not answer."""
        return self.side.owner or self.side.members[0]

    @property
    def host(self) -> Host:
        return self.side.network.holders.get(self.side.address, self.node.host)

    @property
    def process(self) -> Process:
        return self.node.process

    @property
    def endpoint(self) -> IkeEndpoint:
        return self.node.endpoint

    def ask(self, question: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        self.node.ask(question, *arguments, **more)

    def now(self) -> float:
        return self.node.now()
