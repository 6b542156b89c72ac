"""What the operator wants, resolved and checked: the PAD, the SPD and the connections (RFC 4301 section 4.4).

Values of these classes come from ``ipsecha.gateway.config``; the core reads them and never changes them.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from ipsecha.model.identity import Identity
from ipsecha.model.proposals import Proposal
from ipsecha.model.selectors import TrafficSelector


class Start(Enum):
    """When the gateway brings a child SA up by itself."""

    NONE = "none"  # waits for the peer
    TRAP = "trap"  # on the first packet that needs it
    START = "start"  # at once, and again when it is lost


class DontFragment(Enum):
    """The outer header's DF bit (RFC 4301 section 8.1)."""

    COPY = "copy"
    SET = "set"
    CLEAR = "clear"


class TooBig(Enum):
    """What happens to an inner packet that does not fit."""

    ICMP = "icmp"  # answered with "fragmentation needed" / "packet too big"
    FRAGMENT = "fragment"  # cut into fragments (IPv4 without DF is cut in either case)


class Inbound(Enum):
    """What a new owner does with inbound numbers that its predecessor may have delivered (RFC 6027 section 3.5)."""

    STRICT = "strict"  # refuses them all: nothing is accepted twice
    REKEY = "rekey"  # as strict; child SAs that show traffic are rekeyed at once
    LEARN = "learn"  # takes the first authentic one for the window's new top: replays within one lease are possible


class Authentication(Enum):
    PSK = "psk"
    CERTIFICATE = "certificate"


class ChildPolicy(msgspec.Struct, frozen=True, gc=False):
    """One child SA of a connection: an SPD entry with action PROTECT."""

    name: str
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]
    proposals: tuple[Proposal, ...]  # spi is empty here
    start: Start = Start.NONE
    rekey_s: float = 3600.0  # 0: never by time
    life_s: float = 3960.0
    rekey_bytes: int = 0  # 0: no limit; soft limit, hard limit is 10 % above
    rekey_packets: int = 0
    replay_window: int = 1024
    dont_fragment: DontFragment = DontFragment.COPY
    too_big: TooBig = TooBig.ICMP


class Connection(msgspec.Struct, frozen=True, gc=False):
    """A peer (or a kind of peers), how it is authenticated and what it may reach: a PAD entry."""

    name: str
    local: tuple[str, ...]  # our addresses, literal; the first is used when we initiate
    remote: tuple[str, ...]  # addresses or prefixes of the peer; empty: any
    local_id: Identity
    remote_id: Identity | None  # None: any identity that authenticates
    local_auth: Authentication
    remote_auth: Authentication
    proposals: tuple[Proposal, ...]
    children: tuple[ChildPolicy, ...]
    rekey_s: float = 14400.0
    life_s: float = 15840.0
    dpd_s: float = 30.0  # 0: none
    encapsulate: bool = False  # force UDP encapsulation even without a NAT
    fragmentation: bool = True
    fragment_size: int = 1280  # of the IP datagram, octets
    retransmit_timeout_s: float = 1.0
    retransmit_factor: float = 1.7
    retransmit_tries: int = 8
    unique: bool = True  # a new IKE SA with INITIAL_CONTACT replaces those of the same peer identity
    keepalive_s: float = 20.0
    inbound: Inbound = Inbound.STRICT

    def child(self, name: str) -> ChildPolicy | None:
        for child in self.children:
            if child.name == name:
                return child
        return None


class Action(Enum):
    BYPASS = "bypass"
    DISCARD = "discard"


class Rule(msgspec.Struct, frozen=True, gc=False):
    """An SPD entry that does not protect; rules come before connections, in the order of the file."""

    action: Action
    local_ts: tuple[TrafficSelector, ...]
    remote_ts: tuple[TrafficSelector, ...]


class IkeLimits(msgspec.Struct, frozen=True, gc=False):
    """Defences against unauthenticated senders (RFC 7296 section 2.6)."""

    cookie_threshold: int = 100  # half-open IKE SAs from which on a COOKIE is demanded
    half_open_limit: int = 10000
    half_open_s: float = 30.0
    shared_half_open_per_s: int = 100  # with the backup, of 1 KiB each; 0: none


class AfterFailover(msgspec.Struct, frozen=True, gc=False):
    """What a new owner does on its own account, in the background, once it has taken over from one that died."""

    rekey_all: bool = False  # rekey every child SA, those with traffic first
    exchanges_per_s: float = 20.0  # at most so many are begun, of rekeys and counter synchronisations together


class Policy(msgspec.Struct, frozen=True, gc=False):
    connections: tuple[Connection, ...]
    rules: tuple[Rule, ...] = ()
    limits: IkeLimits = IkeLimits()
    after_failover: AfterFailover = AfterFailover()

    def connection(self, name: str) -> Connection | None:
        for connection in self.connections:
            if connection.name == name:
                return connection
        return None
