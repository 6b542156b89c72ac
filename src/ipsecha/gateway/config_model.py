"""What the gateway itself needs to know, beside the Policy that the core reads: the cluster and this member."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import msgspec

from ipsecha.crypto.credentials import Credentials
from ipsecha.gateway.config_problems import ConfigProblem
from ipsecha.ipsec.leases import CHANNEL_BUDGET
from ipsecha.model.numbers import PORT_IKE, PORT_NAT_T
from ipsecha.model.policy import AfterFailover, Policy
from ipsecha.model.records import Address


class ClusterMode(Enum):
    HOT_STANDBY = "hot-standby"


class Alone(Enum):
    """What a member does when its partner falls silent and nothing proves that it is dead."""

    CONTINUE = "continue"  # go on above the other's lane
    STOP = "stop"  # safety over service


class CommitMode(Enum):
    """When a step of an IKE SA may leave."""

    STRICT = "strict"  # when the backup has acknowledged it
    LAZY = "lazy"  # at once, where the backup knows that it may know too little


class Acks(Enum):
    """Whose acknowledgement a step waits for, in a cluster of more than two."""

    ONE = "one"  # the backup's
    ALL = "all"  # that of the mirrors in sync, too


class ClusterAddress(msgspec.Struct, frozen=True):
    """An address that the cluster shows to the world; ``link`` is a role that each member maps to an interface."""

    address: str
    prefix_length: int
    link: str


class ClusterConfig(msgspec.Struct, frozen=True):
    name: str
    mode: ClusterMode
    members: tuple[str, ...]  # a member's index is its position: of two, the later one dials
    addresses: tuple[ClusterAddress, ...] = ()
    horizon_s: float = 0.1  # of inbound counter leases: bounds the loss after a failover
    lease_budget: int = CHANNEL_BUDGET  # entries a second, of all SAs; above it all leases are wider than the horizon
    heartbeat_s: float = 0.1
    missed_beats: int = 3
    alone: Alone = Alone.CONTINUE
    commit: CommitMode = CommitMode.STRICT
    witness: Address | None = None  # a third box with a vote
    acks: Acks = Acks.ONE
    start_wait_s: float = 3.0  # how long a member that starts looks for its partner before it goes on alone
    after_failover: AfterFailover = AfterFailover()


class BeatPathConfig(msgspec.Struct, frozen=True):
    """A second way for heartbeats, besides the cluster link."""

    name: str
    local: Address
    partner: Address
    member: str = ""  # whose address ``partner`` is, where there is more than one other


class ClusterLinkConfig(msgspec.Struct, frozen=True):
    listen: Address
    peers: dict[str, Address]
    certificate: Path
    private_key: Path
    ca: Path
    beats: tuple[BeatPathConfig, ...] = ()


class ControlConfig(msgspec.Struct, frozen=True):
    socket: Path
    group: str = ""  # group that may use the socket besides the owner; empty: the daemon's own


class Trust(Enum):
    """When saved state is used."""

    PARTNER = "partner"  # the partner, or the witness, confirms that nobody has owned the SAs since
    ALWAYS = "always"  # the operator says so


class PersistenceConfig(msgspec.Struct, frozen=True):
    path: Path
    key: bytes
    trust: Trust = Trust.PARTNER
    wait_s: float = 60.0  # for the partner, after the start

    def __repr__(self) -> str:  # without the key
        return f"PersistenceConfig({str(self.path)!r})"


class UdpInner(msgspec.Struct, frozen=True):
    """Instead of a TUN device: clear packets travel as datagrams between two addresses, so no root is needed."""

    local: Address
    remote: Address


class DeviceConfig(msgspec.Struct, frozen=True):
    tun: str = "ipsecha0"
    port: int = PORT_IKE
    nat_port: int = PORT_NAT_T
    inner: UdpInner | None = None  # None: the TUN device


class MemberConfig(msgspec.Struct, frozen=True):
    name: str
    path: Path  # this file
    policy_path: Path
    links: dict[str, str]  # role -> interface
    cluster: ClusterLinkConfig | None
    control: ControlConfig
    device: DeviceConfig
    persistence: PersistenceConfig | None = None


class LoadedConfig(msgspec.Struct, frozen=True):
    policy: Policy
    credentials: Credentials
    cluster: ClusterConfig | None
    member: MemberConfig
    warnings: tuple[ConfigProblem, ...] = ()


class LoadedPolicy(msgspec.Struct, frozen=True):
    """A policy alone, as it is checked before it is given to the members."""

    policy: Policy
    credentials: Credentials
    cluster: ClusterConfig | None
    warnings: tuple[ConfigProblem, ...] = ()
