"""The gateways of a world: members of the cluster and their peers, built of the product's own parts."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

from certificates import Authority, Holder
from ike_pair import Entropy, ah, connection, esp, proposal
from ipsecha.cluster import effects as fx
from ipsecha.cluster.commit_log import CommitLog
from ipsecha.cluster.pair import PairMember, PairSettings, Role
from ipsecha.crypto.credentials import ConnectionSecrets, Credentials
from ipsecha.dataplane.userspace.plane import PlaneConfig
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.pair_side import PairSide
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import Report
from ipsecha.model.policy import (
    AfterFailover,
    Authentication,
    ChildPolicy,
    Connection,
    IkeLimits,
    Inbound,
    Policy,
    Start,
)
from ipsecha.model.selectors import selector_from_prefix
from simulation.clockwork import WALL_AT_START, Process, SimulatedClock, SimulatedLoop
from simulation.network import Host, SimulatedAddresses, SimulatedPlane
from simulation.synch import Link, SimulatedBeats, SimulatedChannel

if TYPE_CHECKING:
    from simulation.world import World

CLUSTER = "192.0.2.1"
CLUSTER_NET = "10.1.0.0/16"
LIMITS = IkeLimits(shared_half_open_per_s=16)
"""A flood of some hundred requests, and some of it would be too much."""
PSK = b"a secret that both sides share"
IKE_PROPOSALS = (
    "aes128gcm16-prfsha256-x25519",
    "chacha20poly1305-prfsha256-x25519",
    "aes128-sha256-prfsha256-x25519",
)
ESP_PROPOSALS = (
    "aes128gcm16",
    "aes128gcm16-esn",
    "chacha20poly1305",
    "aes256gcm16-x25519",
    "aes128-sha256",
    "aes256-sha512-esn",
)


RATES = (1.0, 1.0, 0.995, 1.005)
"""Of clocks: a real one is a hundred times better."""


INBOUND = (Inbound.STRICT, Inbound.STRICT, Inbound.REKEY, Inbound.LEARN)


class Site:
    """What a world decides about one peer."""

    def __init__(self, world: World, number: int) -> None:
        chance = world.random
        self.number = number
        self.name = f"p{number}"
        self.address = f"198.51.100.{number}"
        self.net = f"10.{100 + number}.0.0/16"
        self.inner = f"10.{100 + number}.0.1"
        self.initiates = chance.random() < 0.5
        self.ike = chance.choice(IKE_PROPOSALS)
        self.esp = chance.choice(ESP_PROPOSALS)
        self.encapsulate = chance.random() < 0.6
        self.ah = Random(f"{world.seed}/{number}/AH").choice(("", "", "sha256", "aes128gmac-esn"))
        self.child_rekey_s = chance.choice((4.0, 15.0, 3600.0))
        self.ike_rekey_s = chance.choice((6.0, 25.0, 14400.0))
        self.dpd_s = chance.choice((1.5, 5.0))
        self.fragment_size = chance.choice((400, 1280))
        self.both_start = chance.random() < 0.15
        self.certificates = chance.random() < 0.3
        self.roams = self.initiates and not self.both_start and chance.random() < 0.4
        self.encapsulate |= self.roams
        self.inbound = Random(f"{world.seed}/{number}/inbound").choice(INBOUND)
        self.patience_s = 0.5
        self._connections: dict[bool, Connection] = {}

    def connection(self, cluster: bool) -> Connection:
        """How the cluster, or the peer, is configured."""
        if cluster not in self._connections:
            self._connections[cluster] = self._connection(cluster)
        return self._connections[cluster]

    def _connection(self, cluster: bool) -> Connection:
        start = Start.START if self.both_start or self.initiates != cluster else Start.NONE
        nets = (CLUSTER_NET, self.net) if cluster else (self.net, CLUSTER_NET)
        child = ChildPolicy(
            "net",
            (selector_from_prefix(nets[0]),),
            (selector_from_prefix(nets[1]),),
            (ah(self.ah) if self.ah and not self.encapsulate else esp(self.esp),),
            start=start,
            rekey_s=self.child_rekey_s,
            life_s=self.child_rekey_s * 1.1 + 60,
        )
        names = ("cluster.example", f"{self.name}.example")
        more: dict[str, Any] = {"remote": ()} if cluster and self.roams else {}
        if self.certificates:
            more |= {"local_auth": Authentication.CERTIFICATE, "remote_auth": Authentication.CERTIFICATE}
        return connection(
            *((CLUSTER, self.address) if cluster else (self.address, CLUSTER)),
            *(names if cluster else names[::-1]),
            name=self.name,
            proposals=(proposal(self.ike),),
            children=(child,),
            rekey_s=self.ike_rekey_s,
            life_s=self.ike_rekey_s * 1.1 + 60,
            dpd_s=self.dpd_s if cluster else 4.0,
            encapsulate=self.encapsulate,
            fragment_size=self.fragment_size,
            retransmit_timeout_s=self.patience_s,
            inbound=self.inbound,
            **more,
        )

    def secrets(self, cluster: bool) -> ConnectionSecrets:
        """What this side proves itself with, and believes in."""
        if not self.certificates:
            return ConnectionSecrets(psk=PSK)
        authority, holder = _certified("cluster.example" if cluster else f"{self.name}.example")
        return ConnectionSecrets(chain=holder.chain, private_key=holder.private_key, ca=(authority.certificate,))


@cache
def _certified(name: str) -> tuple[Authority, Holder]:
    """Ed25519: signatures that leave nothing to chance."""
    authority = Authority("Simulated Root CA", "ed25519")
    return authority, authority.issue(name, "ed25519")


class Node:
    """A machine and the gateway process on it, which may be started anew."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.host = Host(name)
        self.boot = 0
        self.wall_skew_s = 0.0  # of the clock on the wall, which only certificates and epochs look at
        self._read: Credentials | None = None
        self.process: Process
        self.gateway: Gateway
        self.plane: SimulatedPlane

    @property
    def host_up(self) -> bool:
        return self.host.up

    def _build(self, connections: tuple[Connection, ...], skew_s: float) -> None:
        world = self.world
        self.boot += 1
        self.host.up = True
        label = f"{self.name}{self.boot}"
        self.process = Process(label, world.timeline, self._killed)
        loop = SimulatedLoop(self.process, world.timeline.time)
        clock = SimulatedClock(world.timeline, skew_s, world.random.choice(RATES))
        after = world.after_failover if self in world.members else AfterFailover()
        policy = Policy(connections, limits=LIMITS, after_failover=after)
        entropy = Entropy(f"{world.seed}/{label}")
        endpoint = (world.variant.endpoint if self in world.members else IkeEndpoint)(
            policy,
            self._credentials(connections),
            entropy,
            wall_clock=lambda: WALL_AT_START + self.wall_skew_s + world.timeline.time,
        )
        self.gateway = Gateway(loop, clock, endpoint)  # type: ignore[arg-type]
        self.gateway.faults.note = self._fault  # type: ignore[method-assign]
        self.gateway._actions[Report] = lambda report: world.reported(self, report)
        self.plane = SimulatedPlane(
            self.process,
            loop,
            self.host,
            world.network,
            world.delivered,
            policy,
            self.gateway,
            self.gateway.on_ike,
            config=PlaneConfig(routes=False, mark=0),
            clock=clock.now,
            entropy=entropy,
        )
        self.gateway.plane = self.plane
        self.plane.attach(loop, self.gateway.read)  # type: ignore[arg-type]

    def _credentials(self, connections: tuple[Connection, ...]) -> Credentials:
        """Read once: they are the same in each of its lives."""
        if self._read is None:
            cluster, sites = self in self.world.members, {site.name: site for site in self.world.sites}
            self._read = Credentials({one.name: sites[one.name].secrets(cluster) for one in connections})
        return self._read

    def _fault(self, where: str, error: BaseException) -> None:
        """The outermost ring survives faults of our own; here they are findings."""
        text = "".join(traceback.format_exception(error))
        self.world.record.violation("fault", f"{self.process.name} in {where}: {text}")

    def _killed(self, process: Process) -> None:
        self.world.record.note(self.process.name, "killed")
        self.host.sockets.clear()
        self.host.inner = None

    @property
    def endpoint(self) -> IkeEndpoint:
        return self.gateway.endpoint

    @property
    def hands_over(self) -> bool:
        return False

    def ask(self, question: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        """An operator's command, as soon as the process runs; refused during a switchover, and by who does not own."""

        def carry_out() -> None:
            if self.hands_over or not self.endpoint.active:
                return
            question(*arguments, **more)
            self.gateway.wake()

        self.process.run(carry_out)

    def now(self) -> float:
        return self.gateway.clock.now()


class PeerNode(Node):
    """A gateway without a cluster: unmodified, and as sure of itself as any peer."""

    def __init__(self, world: World, site: Site) -> None:
        super().__init__(world, site.name)
        self.site = site

    def start(self) -> None:
        self._build((self.site.connection(cluster=False),), self.world.random.uniform(-3, 3))
        self.host.valid_until[self.site.address] = float("inf")
        self.world.network.announce(self.site.address, self.host)
        self.world.record.note(self.process.name, "start")
        self.process.run(self.gateway.serve_alone, self.boot)


class MemberNode(Node):
    """One member of the cluster."""

    def __init__(self, world: World, index: int) -> None:
        super().__init__(world, world.names[index])
        self.index = index
        self.side: PairSide
        self.member: PairMember
        self.link: Link | None = None
        self.epochs_owned: list[int] = []

    def start(self) -> None:
        world = self.world
        self._plug_in()
        self.epochs_owned = []
        self.host.carrier = True
        self._build(tuple(site.connection(cluster=True) for site in world.sites), world.random.uniform(-3, 3))
        self.member = world.variant.member(self._settings(), Entropy(f"{world.seed}/{self.process.name}/member"))
        for log in self._logs():
            log.part, log.window = world.sizes
        self.plane._sad.part = self.plane._sad.settled_part = 1
        self._make_side(SimulatedAddresses(self.host, self._links, world.network, (world.address,)))
        self.gateway.cluster = self.side
        self._watch()
        world.variant.prepare(self)
        world.record.note(self.process.name, "start")
        self.process.run(self._begin)

    def _plug_in(self) -> None:
        self.world.synch.process_started()
        self.link = None

    def _unplug(self) -> None:
        self.link = None
        self.world.synch.process_gone(not self.host.up)

    def _settings(self) -> PairSettings:
        return PairSettings("test", self.world.names, self.index, heartbeat_s=self.world.heartbeat_s)

    def _logs(self) -> Iterable[CommitLog]:
        return (self.member.log,)

    def _make_side(self, addresses: SimulatedAddresses) -> None:
        """With what it says things by."""
        self.side = PairSide(self.gateway, self.member, addresses)
        self.side.channel = SimulatedChannel(self.world.synch, self)  # type: ignore[assignment]
        self.side.beats = SimulatedBeats(self.world.synch, self)  # type: ignore[assignment]

    def _begin(self) -> None:
        self.side.start(self.now(), WALL_AT_START + self.wall_skew_s + self.world.timeline.time)
        self.gateway.wake()

    def _watch(self) -> None:
        """Tell the record of what a member does to others; each act of ownership is a point where it may die."""
        actions, world = self.side._actions, self.world

        def watched(kind: type, then: Callable[[Any], None]) -> None:
            carry_out, lets_out = actions[kind], kind in (fx.SetLeasing, fx.Released)

            def act(effect: Any) -> None:
                self.process.act()
                if lets_out:  # what waits may go out on the spot
                    world.served(self)
                carry_out(effect)
                then(effect)

            actions[kind] = act

        watched(fx.BecomeActive, lambda effect: world.activated(self, effect.epoch))
        watched(fx.BecomeStandby, lambda effect: world.served(self))
        watched(fx.SetLeasing, lambda effect: None)
        watched(fx.Released, lambda effect: None)
        watched(fx.Apply, lambda effect: world.applied(self))
        watched(fx.ApplyLeases, lambda effect: world.applied(self))
        watched(fx.DiscardRecords, lambda effect: world.served(self))
        actions[fx.ClusterReport] = lambda effect: world.record.note(self.process.name, effect.text)

    def _links(self) -> bool:
        blocked = self.world.synch.blocked
        return self.host.carrier or not (blocked["synch", 0] and blocked["synch", 1])

    def _killed(self, process: Process) -> None:
        super()._killed(process)
        self._unplug()
        self.world.served(self)

    @property
    def hands_over(self) -> bool:
        return self.member.role is Role.HANDING_OVER

    @property
    def serves(self) -> bool:
        return self.process.alive and self.plane._sad.active
