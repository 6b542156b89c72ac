"""Two members, their peers and the hosts behind them in one deterministic world: one seed, one run.

The product's own gateway, cluster, IKE and data plane run; only the event loop, the sockets, the devices, the synch
channel, the addresses, the clock and the entropy are simulated.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from random import Random
from socket import inet_aton
from typing import TYPE_CHECKING, Any

from ipsecha.cluster import frames
from ipsecha.cluster.commit_log import SNAPSHOT_PART, SNAPSHOT_WINDOW, BackupState
from ipsecha.cluster.pair import PairMember
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import Report
from ipsecha.model.policy import AfterFailover, Inbound
from ipsecha.wire.ip import build_ipv4, build_udp
from simulation.clockwork import Timeline
from simulation.gateways import CLUSTER, MemberNode, Node, PeerNode, Site
from simulation.keyring import Keyring
from simulation.nat import Nat
from simulation.network import Datagram, Host, OuterNetwork
from simulation.record import IKE_SA_INIT, RESPONSE, Record
from simulation.synch import SynchNetwork

if TYPE_CHECKING:
    from simulation.secrecy import Secrecy

CLUSTER_INNER = "10.1.0.1"
RECORDED = 400

SIZES = ((1, 1), (1, 1), (SNAPSHOT_PART, SNAPSHOT_WINDOW))
"""Parts of a snapshot, and how many are under way: so that a few records are a long one; or the product's own."""


@dataclass
class Variant:
    """What a deliberately broken cluster is made of; ``faults``: those under which it shows soonest."""

    name: str = "sound"
    member: type[PairMember] = PairMember
    endpoint: type[IkeEndpoint] = IkeEndpoint
    prepare: Any = field(default=lambda node: None)
    faults: tuple[str, ...] = ()
    secrecy: bool = False  # secrets are looked for, whatever the seed


class World:
    names: tuple[str, ...] = ("a", "b")
    address = CLUSTER

    def __init__(self, seed: int, variant: Variant | None = None, peers: int = 0) -> None:
        self.seed = seed
        self.variant = variant or Variant()
        self.sizes = Random(f"sizes/{seed}").choice(SIZES)
        self.timeline = Timeline(seed)
        self.random = self.timeline.random
        self.record = Record(self.timeline)
        self.network = OuterNetwork(self.timeline, self._tap)
        count = self.random.choice((1, 1, 2, 3))
        self.sites = [Site(self, number + 1) for number in range(peers or count)]
        self.record.is_synchronisation = Keyring(self).is_synchronisation
        self.record.learning = {inet_aton(site.inner) for site in self.sites if site.inbound is Inbound.LEARN}
        if any(site.roams for site in self.sites):
            for site in self.sites:  # who may be anywhere may be anybody: all are asked to encapsulate
                site.ah = ""
        self.network.nats = {site.address: Nat(site.address, site.number) for site in self.sites if site.roams}
        self.peers = [PeerNode(self, site) for site in self.sites]
        self.members = self._make_members()
        self.synch = self._make_synch()
        self.heartbeat_s = 0.1
        self.after_failover = AfterFailover()  # the members' policy
        self.over = False  # there are no more faults
        self.failovers = 0
        self.jumped_s = 0.0  # forwards, all clocks together
        self.secrecy: Secrecy | None = None  # where secrets are looked for
        self._excused: set[str] = set()  # sites whose SAs the operator has ended, or the peer has forgotten
        self._last_delivery: dict[bytes, float] = {}
        self._number = 0
        self._began = 0.0
        self._branches: set[str] = set()  # members that went on alone while the other could do so, too
        self.recorded: deque[Datagram] = deque(maxlen=RECORDED)  # on the way to the cluster
        self.first_requests: list[Datagram] = []  # IKE_SA_INIT, of the same
        self._stale: list[tuple[Any, ...]] = []

    def _make_members(self) -> list[MemberNode]:
        return [MemberNode(self, 0), MemberNode(self, 1)]

    def _make_synch(self) -> SynchNetwork:
        return SynchNetwork(self.timeline, self.members, self._frame)  # type: ignore[arg-type]

    def saved(self) -> Iterable[bytes]:
        """What is on disks."""
        return ()

    def start(self, peers_after_s: tuple[float, ...] = (0.0, 0.5, 1.5)) -> None:
        for member in self.members:
            member.start()
        self.timeline.run(self.random.choice(peers_after_s))
        for peer in self.peers:
            peer.start()
        self._began = self.time

    def begin_anew(self) -> None:
        """All works: what was excused so far is over."""
        self._began = self.time
        self._excused.clear()

    def run(self, seconds: float) -> None:
        self.timeline.run(seconds)

    @property
    def time(self) -> float:
        return self.timeline.time

    # What happens

    def _tap(self, host: Host, datagram: Datagram, outside: Datagram) -> None:
        self.record.sent(host, datagram)
        if self.secrecy is not None:
            self.secrecy.datagrams.append(datagram.data)
        self.keep(datagram, outside)

    def keep(self, datagram: Datagram, outside: Datagram) -> None:
        """Somebody records what is on its way to the cluster."""
        if datagram.destination[0] == self.address:
            self.recorded.append(outside)
            if outside.destination[1] == 500 and outside.data[18] == IKE_SA_INIT and not outside.data[19] & RESPONSE:
                self.first_requests.append(outside)

    def replay(self) -> None:
        """Somebody plays back what he has recorded on the way to the cluster."""
        for datagram in self.recorded:
            self.network.carry(datagram)
        self.recorded.clear()

    def inner_packets(self, count: int = 1) -> None:
        """Hosts on both sides of each tunnel send numbered packets."""
        for peer in self.peers:
            self.packets_to(peer, count)
            self.packets_from(peer, count)

    def packets_to(self, peer: PeerNode, count: int) -> None:
        self._send(self.network.holders.get(CLUSTER), CLUSTER_INNER, peer.site.inner, count)

    def packets_from(self, peer: PeerNode, count: int) -> None:
        self._send(peer.host, peer.site.inner, CLUSTER_INNER, count)

    def _send(self, host: Host | None, source: str, destination: str, count: int) -> None:
        src, dst = inet_aton(source), inet_aton(destination)
        packets = []
        for _ in range(count):
            self._number += 1
            payload = self._number.to_bytes(8, "big") + bytes(self._number % 7)
            packets.append(build_ipv4(src, dst, 17, build_udp(src, dst, 7, 7, payload)))
        if host is not None and host.up and host.carrier and host.inner is not None:
            self.timeline.at(self.random.random() * 0.0002, host.inner.arrive, packets)

    def delivered(self, host: Host, packet: bytes) -> None:
        for member in self.members if self._branches else ():
            if member.host is host:  # packets that were kept come before the word is out that it serves
                self.served(member)
        self.record.delivered(host, packet)
        self._last_delivery[packet[12:20]] = self.time

    def last_delivery(self, site: Site) -> tuple[float, float]:
        """When a packet from the site and one to it last reached their ends."""
        here, there = inet_aton(CLUSTER_INNER), inet_aton(site.inner)
        return self._last_delivery.get(there + here, -1.0), self._last_delivery.get(here + there, -1.0)

    def reported(self, node: Node, report: Report) -> None:
        self.record.note(node.process.name, f"[{report.event}] {report.connection} {report.text}")
        if self.secrecy is not None:
            self.secrecy.told(node, report)
        site = next((site for site in self.sites if site.name == report.connection), None)
        if report.event == "peer-dead" and site is not None and not self.is_excused(site):
            self.record.violation("I4", f"{node.process.name} gives {site.name} up: {report.text}")

    def excuse(self, site: Site) -> None:
        """From now on it is no fault when SAs of this site end."""
        self._excused.add(site.name)

    def is_excused(self, site: Site) -> bool:
        """Whether SAs may be gone: ended by the operator, lost with all who knew them, or used by two members who
        served alone at the same time (DESIGN section 3: a pair without a witness)."""
        return site.name in self._excused or self.record.has_split or self.record.lost_at > self._began

    # Ownership

    def activated(self, node: MemberNode, epoch: int) -> None:
        again = epoch in node.epochs_owned
        self.failovers += node.member.lineage != epoch  # a cold start is none
        self.record.activated(node.process.name, epoch)
        node.epochs_owned.append(epoch)
        if node.member.lineage == epoch:
            self.record.lost_at = self.time
        self.served(node)
        for sa in () if again else node.endpoint.sas.values():
            self.record.covers(node.process.name, sa)
        if not again and node.member.lineage != epoch:
            known = {*node.endpoint.sas, *node.endpoint.initiations}
            self.record.covers_handshakes(node.process.name, self.address, known)
        if self.random.random() < 0.5:
            self.timeline.at(self.random.random() * 0.3, self.replay)

    def served(self, node: MemberNode) -> None:
        """Have both members gone on alone from the same records?

        An owner goes on alone, its backup being silent; should that one live and take over after all, both have: then
        only I1 and I2 are promised until there is a backup in sync again.
        """
        other = self.members[1 - node.index]
        if not node.serves:
            return
        if other.process.alive and other.member.in_sync and other.member.epoch == node.member.epoch:
            if node.member.log.backup is BackupState.IN_SYNC:
                self._branches.clear()
            else:
                self._branches.add(node.name)
        elif self._branches or (other.process.alive and (other.member.owns or other.member.in_sync)):
            self._branches.add(node.name)
        split = len(self._branches) == 2
        if split != self.record.splitting:
            self.record.note(node.process.name, "both have gone on alone" if split else "there is one owner again")
            self.record.split(split, self._number)

    def _frame(self, sender: int, receiver: int, data: bytes) -> None:
        node = self.members[receiver]
        self.record.happened(node.name, data)
        self.record.note(node.process.name, _short, data)

    def credentials(self) -> Iterator[tuple[str, bytes]]:
        """Shared secrets and private keys of all gateways, with what they are."""
        for site in self.sites:
            for cluster in (True, False):
                secrets = site.secrets(cluster)
                if secrets.psk is not None:
                    yield "a PSK", secrets.psk
                if secrets.private_key is not None:
                    yield "a private key", _raw(secrets.private_key)

    def applied(self, node: MemberNode) -> None:
        if node.serves:
            self.record.violation("I5", f"{node.process.name} is owner and applies what another owner wrote")


def _raw(pem: bytes) -> bytes:
    """The 32 octets at the end of a PKCS #8 Ed25519 key."""
    return base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))[-32:]


def _short(data: bytes) -> str:
    frame = frames.decode_frame(data)
    if frame is None:
        return "gets an unknown frame"
    fields = [str(getattr(frame, name)) for name in ("epoch", "number") if hasattr(frame, name)]
    return f"gets {type(frame).__name__} {' '.join(fields)}"
