"""The IKE endpoint: all IKE SAs of one owner, their tables and timers, and the way in for everything that happens.

Theory of operation.  Every public call is one step (``ipsecha.ike.step``): it changes SAs in place and yields effects.

A standby endpoint (``active`` is False) only adopts and forgets records.  ``activate`` makes it the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ipsecha.crypto.credentials import Credentials
from ipsecha.ike import (
    attempts,
    auth,
    children,
    collisions,
    connections,
    deadlines,
    due,
    exchanges,
    init,
    initiation_records,
    message_sync,
    operations,
    repair,
    repair_children,
    rival,
    sharing,
    standby,
    unprotected,
    window,
)
from ipsecha.ike.after_takeover import AfterTakeover
from ipsecha.ike.configured import Configured
from ipsecha.ike.cookies import Cookies
from ipsecha.ike.flags import LOCAL_NAT
from ipsecha.ike.half_open import HalfOpenTable, Initiation, Stage
from ipsecha.ike.limits import TokenBucket
from ipsecha.ike.message import IV_COUNTER_BITS
from ipsecha.ike.reassembly import Reassembly
from ipsecha.ike.timers import Timers
from ipsecha.model.effects import RemoveChild
from ipsecha.model.errors import WireError
from ipsecha.model.numbers import PORT_IKE, PORT_NAT_T, ExchangeType, Notify
from ipsecha.model.policy import Policy
from ipsecha.model.records import Address, ExchangeKind, IkeSa
from ipsecha.model.selectors import TrafficSelector
from ipsecha.model.spi import Entropy, new_ike_spi, slot_of_ike_spi
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, Header, parse_header

ADDRESSES = 1024
UNPROTECTED_RATE, UNPROTECTED_BURST = 50.0, 100.0
INIT_RATE, INIT_BURST = 200.0, 400.0


class IkeEndpoint(Configured):
    """IKE SAs in both roles, for the slots that one member owns or backs up."""

    def __init__(
        self,
        policy: Policy,
        credentials: Credentials,
        entropy: Entropy,
        *,
        wall_clock: Callable[[], float],
        slots: Sequence[int] = (0,),
        ports: tuple[int, int] = (PORT_IKE, PORT_NAT_T),
    ) -> None:
        super().__init__(entropy, policy, credentials)
        self.ports = ports  # of IKE and of NAT traversal, ours and the peers'
        self.wall_clock = wall_clock
        self.slots = tuple(slots)
        self.active = False
        self.incarnation = 0
        self.active_since = 0.0
        self.timers = Timers()
        self.after_takeover = AfterTakeover()
        self.half_open = HalfOpenTable()
        self.sharing = sharing.Sharing(policy.limits)
        self.held_half_opens = sharing.HeldHalfOpens()
        self.initiations: dict[bytes, Initiation] = {}
        self.cookies = Cookies(entropy)
        self.reassembly = Reassembly()
        self.repairs = repair.Repairs()
        self.keepalives: dict[bytes, float] = {}  # next keepalive, by local SPI, where we are behind a NAT
        self.failures: dict[str, int] = {}  # attempts in a row that came to nothing, by connection
        self.resting: dict[tuple[str, str], float] = {}  # packets ask in vain so long; by connection and child (or "")
        self.inherited: set[bytes] = set()  # local SPIs of IKE SAs that another owner has ever left to this process
        self.asked_sync: set[tuple[bytes, int]] = set()  # local SPI and kind (RFC 6311), since we became the owner
        self.held: set[str] = set()  # connections that the operator has taken down
        self.gone: set[str] = set()  # that reloads have taken away, while we were the owner or not
        self.request_handlers = exchanges.REQUEST_HANDLERS
        self.response_handlers = exchanges.RESPONSE_HANDLERS
        self.starters = exchanges.STARTERS
        self.unprotected_answers = TokenBucket(UNPROTECTED_RATE, UNPROTECTED_BURST)
        self.init_answers = TokenBucket(INIT_RATE, INIT_BURST)  # errors in answer to IKE_SA_INIT
        self._background: standby.BackgroundPass | None = None
        self._orphans: operations.Orphans | None = None
        self._addresses: dict[Address, Address] = {}

    # What the exchanges' code may use

    def add_sa(self, sa: IkeSa) -> None:
        """A new IKE SA (from IKE_AUTH or a rekey) with the children that it has: tables, timers, replication.

        Children that it takes over from another IKE SA change hands in the index; the caller emits UpdateChild.
        """
        spi = sa.local_spi
        self.put_into_tables(sa)
        for child in sa.children:
            self.child_index[child.spi_in] = spi
        self.touch(sa)
        self.rearm(sa)
        if self.suspects:
            repair.replaced(self, sa)

    def remove_sa(self, sa: IkeSa) -> None:
        """The IKE SA is gone: Withdraw, RemoveChild for the children it still has, no more timers."""
        spi = sa.local_spi
        if spi not in self.sas:
            return
        self.drop_from_tables(sa)
        self.timers.cancel(spi)
        self.keepalives.pop(spi, None)
        for direction in (b"q", b"r"):
            self.reassembly.forget(spi + direction)
        for child in sa.children:
            self.child_index.pop(child.spi_in, None)
            self.emit(RemoveChild(child.spi_in))
        exchange = sa.exchange
        if exchange is not None and exchange.kind in (ExchangeKind.NEW_CHILD, ExchangeKind.REKEY_CHILD):
            self.release_child_spi(int.from_bytes(exchange.new_spi, "big"))
        self.withdraw(spi)
        connections.lost(self, sa, self.now)

    def new_ike_spi(self, sa: IkeSa) -> bytes:
        """A fresh local IKE SPI, in the slot of ``sa``, which is to be rekeyed."""
        return new_ike_spi(slot_of_ike_spi(sa.local_spi), self.entropy, self.sas)

    def shared_address(self, local: Address) -> Address:
        """``local`` as one object for all IKE SAs: we have few addresses and many IKE SAs."""
        return self._addresses.setdefault(local, local) if len(self._addresses) < ADDRESSES else local

    def pick_slot(self, number: int) -> int:
        """One of our slots, for a new IKE SA; ``number`` is anything that spreads evenly."""
        return self.slots[number % len(self.slots)]

    def first_iv(self, counter: int) -> int:
        """The IV for an IKE SA's IV counter: what another owner uses differs in its top bits (invariant I1)."""
        return self.incarnation << IV_COUNTER_BITS | counter

    def rearm(self, sa: IkeSa) -> None:
        """Arm the timer of ``sa`` for its next deadline (retransmission, rekey, expiry, liveness, waiting task).

        To be called when a deadline has come nearer; those that move away take care of themselves.
        """
        if sa.flags & LOCAL_NAT and sa.local_spi not in self.keepalives:
            connection = self.connection_of(sa)
            if connection is not None:
                self.keepalives[sa.local_spi] = self.now + connection.keepalive_s
        self.timers.arm(sa.local_spi, deadlines.next_deadline(self, sa))

    def child_lost(self, sa: IkeSa, name: str) -> None:
        """A child SA ``name`` of ``sa`` is gone; if the policy wants it always up and there is no other, it is brought
        up again."""
        connection = self.connection_of(sa)
        if connection is not None and any(child.name == name for child in connections.wanted(connection)):
            connections.lost(self, sa, self.now)

    # The way in

    def receive(self, data: bytes, local: Address, remote: Address, now: float) -> None:
        """One IKE message without non-ESP marker.  Whatever it is, it raises nothing; what is not authentic changes
        no SA."""
        self.now = now
        if not self.active:
            self.counters["not-active"] += 1
            return
        try:
            header = parse_header(data)
        except WireError:
            self.counters["malformed-header"] += 1
            return
        self._dispatch(header, data, local, remote, now)
        self.end_step()

    def _dispatch(self, header: Header, data: bytes, local: Address, remote: Address, now: float) -> None:
        if header.version != 2:
            unprotected.refuse_version(self, header, local, remote, now)
            return
        if header.exchange == ExchangeType.IKE_SA_INIT:
            init.receive(self, header, data, local, remote, now)
            return
        own = header.spi_r if header.flags & FLAG_INITIATOR else header.spi_i
        sa = self.sas.get(own)
        if sa is not None and sa.spi_i == header.spi_i and sa.spi_r == header.spi_r:
            if message_sync.concerns(sa, header) and message_sync.receive(self, sa, header, data, local, remote, now):
                return
            window.receive(self, sa, header, data, local, remote, now)
            return
        if auth.receive(self, own, header, data, local, remote, now):
            return
        responses = self.last_responses.get(window.digest_of(data))
        if responses is not None:
            self.transmit(responses, local, remote, stateless=True)
        elif header.flags & FLAG_RESPONSE:
            self.counters["unknown-spi"] += 1
        else:
            unprotected.refuse(self, header, Notify.INVALID_IKE_SPI, b"", local, remote, now)

    def next_timer(self) -> float | None:
        """When ``handle_timer`` is to be called next, or None."""
        held = self.held_half_opens.next_timer(self.policy.limits.half_open_s)
        if not self.active:
            return held
        if self._background is not None or self._orphans is not None:
            return self.now
        times = (self.timers.next_timer(), self.half_open.next_timer(), held, self.after_takeover.next_timer())
        return min((when for when in times if when is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Do what is due, at most a few hundred SAs a call: ``next_timer`` tells whether there is more."""
        self.now = now
        self.held_half_opens.expire(now, self.policy.limits.half_open_s)
        if not self.active:
            return
        if self._background is not None and not self._background.run(self, now):
            self._background = None
        self._delete_orphans(now)
        self.half_open.expire(self, now)
        due.run(self, now)
        self.after_takeover.run(self, now)
        self.end_step()

    def configure(self, policy: Policy, credentials: Credentials, now: float) -> None:
        """A reload: SAs of connections that are gone are deleted (all but the first batch by ``handle_timer``),
        connections that are new are brought up."""
        self.now = now
        self.gone |= self._connections.keys()
        self.set_policy(policy, credentials)
        self.gone -= self._connections.keys()
        self.sharing.configure(policy.limits)
        if self.active:
            operations.after_reload(self, now)
            self._orphans = operations.Orphans(self)
            self._delete_orphans(now)
        self.end_step()

    def _delete_orphans(self, now: float) -> None:
        if self._orphans is not None and not self._orphans.run(self, now):
            self._orphans = None

    # What the operator and the data plane say

    def initiate(self, connection: str, child: str | None, now: float) -> None:
        """Bring up a child SA, or with None all that the connection has.  Raises PolicyError for an unknown name."""
        self.now = now
        operations.initiate(self, connection, child, now)
        self.end_step()

    def terminate(
        self, now: float, *, connection: str = "", local_spi: bytes = b"", spi_in: int = 0, child: str = ""
    ) -> int:
        """Delete what is named: a connection (it is then not brought up again by itself), one child name of it, one
        IKE SA, or one child SA.  Gives the number of SAs concerned."""
        self.now = now
        count = operations.terminate(self, now, connection, local_spi, spi_in, child)
        self.end_step()
        return count

    def hold(self, connection: str, now: float) -> None:
        """A connection is not brought up by itself any more; its IKE SAs stay until they are deleted."""
        self.now = now
        operations.hold(self, connection)
        self.end_step()

    def rekey_ike(self, local_spi: bytes, now: float) -> None:
        self._task(self.sas.get(local_spi), ExchangeKind.REKEY_IKE, 0, now)

    def rekey_child(self, spi_in: int, now: float) -> None:
        self._task(self.sa_of_child(spi_in), ExchangeKind.REKEY_CHILD, spi_in, now)

    def check_liveness(self, local_spi: bytes, now: float) -> None:
        self._task(self.sas.get(local_spi), ExchangeKind.LIVENESS, 0, now)

    def child_soft_limit(self, spi_in: int, now: float) -> None:
        """The child SA has carried as much as its policy allows before a rekey."""
        self._task(self.sa_of_child(spi_in), ExchangeKind.REKEY_CHILD, spi_in, now)

    def child_hard_limit(self, spi_in: int, now: float) -> None:
        """The child SA may carry no more: it sends nothing from now on (RFC 7296 section 2.8) and is deleted."""
        sa = self.sa_of_child(spi_in)
        child = sa.child_by_inbound_spi(spi_in) if sa is not None else None
        if sa is not None and child is not None and self.active:
            children.use_outbound(self, sa, child, False)
        self._task(sa, ExchangeKind.DELETE_CHILD, spi_in, now)

    def _task(self, sa: IkeSa | None, kind: ExchangeKind, spi_in: int, now: float) -> None:
        self.now = now
        if sa is not None and self.active:
            operations.enqueue(self, sa, kind, spi_in, now)
        self.end_step()

    def acquire(
        self, connection: str, child: str, now: float, packet: tuple[TrafficSelector, TrafficSelector] | None = None
    ) -> None:
        """A packet needs a child SA that is not there (Start.TRAP); ``packet``: its (local, remote) selectors."""
        self.now = now
        operations.acquire(self, connection, child, packet or (), now)
        self.end_step()

    def peer_moved(self, spi_in: int, remote: Address, now: float) -> None:
        """Authentic ESP has come from a new address."""
        self.now = now
        sa = self.sa_of_child(spi_in)
        if sa is not None and self.active and sa.remote != remote:
            window.follow_peer(self, sa, sa.local, remote)
        self.end_step()

    def traffic_seen(self, spi_in: int, now: float) -> None:
        """Authentic ESP has come on this child SA: the peer lives, and receives on it (RFC 7296 section 2.8)."""
        sa = self.sa_of_child(spi_in)
        if sa is not None and self.active:
            self.now = now
            self.after_takeover.traffic_seen(spi_in, now)
            sa.last_inbound_at = now
            child = sa.child_by_inbound_spi(spi_in)
            if child is not None and not child.use_outbound:
                collisions.child_used(self, sa, child)
            self.end_step()

    def gap_traffic(self, spi_in: int, refused: int, remaining: int, now: float) -> None:
        """Authentic ESP has come that may have been delivered before our takeover; ``refused`` packets so far, and up
        to ``remaining`` still to come."""
        self.now = now
        if self.active:
            self.after_takeover.gap_traffic(self, spi_in, refused, remaining)

    def gap_closed(self, spi_in: int, now: float) -> None:
        """The first ESP packet since our takeover has been accepted on this child SA."""
        self.after_takeover.gap_closed(spi_in)

    def unknown_spi(self, spi: int, remote: Address, now: float) -> None:
        """ESP has come with an inbound SPI that is not ours; not authenticated."""
        self.now = now
        self.counters["esp-unknown-spi"] += 1
        if self.active:
            repair_children.unknown_spi(self, spi, remote, now)
        self.end_step()

    # The cluster

    def adopt(self, sa: IkeSa) -> None:
        """A record of the owner's: new, or to replace the one that we have.  No messages, no timers."""
        standby.adopt(self, sa)
        self.end_step()

    def forget(self, local_spi: bytes) -> None:
        """The owner has withdrawn this IKE SA."""
        standby.forget(self, local_spi)
        self.end_step()

    def adopt_initiation(self, spi_i: bytes, record: bytes | None) -> None:
        """The record of a handshake of the owner's; None: it is over.  Raises msgspec.DecodeError, UnicodeDecodeError,
        CryptoError for a record that makes no sense."""
        if record is None:
            initiation_records.forget(self, spi_i)
        else:
            initiation_records.adopt(self, record)

    def hold_half_open(self, state: bytes) -> None:
        """A half-open IKE SA that the owner shares."""
        sharing.hold(self, state)

    def handshake_records(self) -> Iterator[tuple[bytes, bytes]]:
        """The records of our own handshakes, by our SPI, for a snapshot: each as it is when its turn comes, since one
        that is over by then would be begun again by whoever takes over."""
        for spi in tuple(self.initiations):
            initiation = self.initiations.get(spi)
            record = initiation_records.encoded(initiation) if initiation is not None else None
            if record is not None:
                yield spi, record

    def discard(self) -> list[dict[Any, Any]]:
        """Own nothing, know nothing: the records are stale, or another member's.  The data plane is to forget all child
        SAs.  Gives the tables as they were, to be let go of little by little."""
        self.deactivate()
        for spi in tuple(self.initiations):
            initiation_records.forget(self, spi)
        self.end_step()
        return self.take_all()

    def activate(self, incarnation: int, now: float, failover: bool = False) -> None:
        """Become the owner.  ``incarnation`` (24 bits) is never used by anybody else or again (invariant I1).
        ``failover``: the owner before was lost."""
        self.now = now
        self.incarnation = incarnation
        if failover or not self.active:  # else a switchover has come to nothing: what was to be made good still is
            self.active_since = now
            self.active = True
            self.after_takeover.begin(self, now, failover)
            self.asked_sync.clear()
        self._background = standby.BackgroundPass()
        self._orphans = operations.Orphans(self) if self.gone else None  # the owner before has not come to their end

    def suspect(self, spis: Sequence[bytes], now: float) -> None:
        """Another owner has used these IKE SAs beside us: repair them, a batch at a time."""
        self.now = now
        self._look_after(rival.mark(self, spis))

    def inherit(self, sas: Sequence[IkeSa], above_lanes: int, now: float) -> None:
        """Another owner has made these IKE SAs beside us, and uses them no more: they are ours.  Their outbound numbers
        go on ``above_lanes`` lanes above the ceilings."""
        self.now = now
        self._look_after(rival.inherit(self, sas, above_lanes))
        self.end_step()

    def _look_after(self, spis: list[bytes]) -> None:
        """Timers, and repairs, a batch at a time."""
        if spis and self._background is None:
            self._background = standby.BackgroundPass(spis)
        elif self._background is not None:
            self._background.include(spis)

    def deactivate(self) -> None:
        """No longer the owner: what is not in the records is dropped."""
        self.active = False
        self.after_takeover.end()
        self._background = self._orphans = None
        self.held.clear()
        self.timers.clear()
        self.repairs.clear()
        self.suspects.update(dict.fromkeys(self.suspects))
        self.keepalives.clear()
        self.failures.clear()
        self.resting.clear()
        self.half_open.clear()
        self.held_half_opens.clear()
        for initiation in list(self.initiations.values()):
            if initiation.stage is Stage.INIT:
                attempts.abandon(self, initiation)
        self.reassembly.clear()
