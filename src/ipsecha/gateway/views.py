"""What the daemon tells its operator: the typed shapes of the control socket's answers.

Durations and ages are seconds.  Every field has a default, so that a client and a daemon of different versions
understand each other: an unknown field is ignored, a missing one is empty.  No view holds key material.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

V = TypeVar("V", bound=msgspec.Struct)


class SharingView(msgspec.Struct):
    """Half-open IKE SAs between the members, and the budget for them (invariant I7)."""

    shared: int = 0  # by this member since it started
    withheld: int = 0  # that the budget did not allow
    octets: int = 0  # of those shared
    continued: int = 0  # taken over from the other member, and brought to their end here
    held: int = 0  # by the standby at this moment
    per_s: int = 0  # the budget, in units of 1 KiB; 0: none is shared
    used: float = 0.0  # how much of the budget's burst is used up, 0 to 1


class MirrorView(msgspec.Struct):
    """A member without a seat, as the owner sees it."""

    name: str = ""
    state: str = ""  # "in sync", "joining", "absent", "unreachable", "dead"
    progress: float | None = None  # 0 to 1 while a snapshot is on its way
    lag: int = 0  # commits that it has not acknowledged yet


class ClusterView(msgspec.Struct):
    name: str = ""
    mode: str = ""  # "hot-standby"
    role: str = ""  # "active", "standby", "starting", "isolated", "handing over", "mirror"
    epoch: int = 0
    protection: str = ""  # "protected", "reconnecting", "joining", "mirror", "none", "unprotected (WHY)"
    partner: str = ""  # the other member's name
    partner_state: str = ""  # "connected", "silent", "refused", "unreachable", "unknown"
    last_beat_s: float | None = None  # age of the partner's last beat
    sync_progress: float | None = None  # 0 to 1 while a snapshot is on its way
    sync_lag: int = 0  # commits that the partner has not acknowledged yet
    sync_lag_s: float = 0.0  # age of the oldest of them
    commit: str = "strict"  # when steps of IKE SAs leave: "strict", "lazy"
    acks: str = ""  # of more than two members: "one", "all"
    mirrors: tuple[MirrorView, ...] = ()  # of an owner
    open_sas: int = 0  # lazy: IKE SAs whose last steps the partner may not know
    suspects: int = 0  # IKE SAs of a predecessor that wait for their repair
    fencing: str = ""  # what holds when the other falls silent: "pair, no witness", "pair with witness"
    addresses: tuple[str, ...] = ()  # shared addresses
    holds_addresses: bool = False
    half_open: SharingView | None = None
    policies: str = ""  # of the two members: "", "the same", "different"
    saved: str = ""  # state on this member's disk: "", "complete", "being written", "marker", or what went wrong


class LossBound(msgspec.Struct):
    """The largest inbound lease of any child SA: what a failover at this moment could cost it.

    ``seconds``: the longest time that one lasts at the SA's present rate, of leases of more than one packet.
    """

    packets: int = 0
    seconds: float = 0.0


class AfterTakeoverView(msgspec.Struct):
    """What this member has done about inbound gaps since it took over; the first six count child SAs."""

    waiting: int = 0  # for a counter synchronisation or a rekey
    under_way: int = 0
    synchronised: int = 0  # RFC 6311: the peer was asked to jump over the gap
    rekeyed: int = 0
    failed: int = 0  # the peer refused the rekey
    closed: int = 0  # their gap was over before their turn came
    refused: int = 0  # packets, of SAs in use now
    open_gaps: int = 0  # SAs in use now from which nothing has been accepted yet
    closed_gaps: int = 0
    learnt: int = 0  # windows that were learnt from traffic: replays were possible


class StatusView(msgspec.Struct):
    member: str = ""
    version: str = ""
    uptime_s: float = 0.0
    cluster: ClusterView | None = None  # None: a single gateway
    ike_sas: int = 0
    half_open: int = 0
    child_sas: int = 0
    loss_bound: LossBound | None = None
    after_takeover: AfterTakeoverView | None = None
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    counters: dict[str, int] = {}  # drops by reason and the like


class GapView(msgspec.Struct):
    """What a takeover has cost an inbound SA: numbers up to ``floor`` are refused."""

    floor: int = 0
    refused: int = 0  # authentic packets so far
    remaining: int = 0  # numbers up to the floor that the peer may still use
    closed_s: float | None = None  # since the first packet was accepted; None: still open
    learnt: bool = False  # inbound = "learn": the window began at the first packet, below the floor


class LeaseView(msgspec.Struct):
    """Sequence numbers: the next one, and the ceiling that the partner has acknowledged."""

    in_next: int = 0
    in_ceiling: int = 0
    out_next: int = 0
    out_ceiling: int = 0
    exposure: int = 0  # inbound numbers that a failover now would give up
    exposure_s: float | None = None  # how long the peer needs for them at its present rate; None: it sends nothing
    gap: GapView | None = None  # what the last failover cost


class ChildView(msgspec.Struct):
    name: str = ""
    state: str = ""
    spi_in: str = ""  # eight hexadecimal digits
    spi_out: str = ""
    protocol: str = ""  # "ESP", "AH"
    suite: str = ""
    local_ts: tuple[str, ...] = ()
    remote_ts: tuple[str, ...] = ()
    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    age_s: float = 0.0
    rekey_in_s: float | None = None  # None: never by time
    idle_s: float | None = None  # since the last packet in either direction
    lease: LeaseView | None = None


class SaView(msgspec.Struct):
    connection: str = ""
    state: str = ""
    initiator: bool = False  # we began it
    spi_i: str = ""  # sixteen hexadecimal digits
    spi_r: str = ""
    local_id: str = ""
    remote_id: str = ""
    local: str = ""  # address and port
    remote: str = ""
    nat: str = ""  # "", "local", "remote", "both"
    suite: str = ""
    age_s: float = 0.0
    rekey_in_s: float | None = None
    next_request_id: int = 0
    expected_request_id: int = 0
    children: tuple[ChildView, ...] = ()


class SasView(msgspec.Struct):
    """One page of IKE SAs, in the order of their local SPIs; ``total`` counts all that match."""

    sas: tuple[SaView, ...] = ()
    total: int = 0


class OutcomeView(msgspec.Struct):
    """The answer to a command that changes something: ``initiate``, ``terminate``, ``rekey``, ``switchover``,
    ``reload``, ``stop``."""

    text: str = ""
    affected: int = 0
    warnings: tuple[str, ...] = ()


def as_answer(view: msgspec.Struct) -> dict[str, Any]:
    """A view as the plain data that a control handler returns."""
    data = msgspec.to_builtins(view)
    assert isinstance(data, dict)
    return data


def from_answer(data: dict[str, Any], kind: type[V]) -> V:
    """The view in an answer.  Raises msgspec.ValidationError where the daemon speaks another language."""
    return msgspec.convert(data, kind)
