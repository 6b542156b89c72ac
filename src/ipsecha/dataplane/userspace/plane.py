"""The data plane in user space: the packet path of ``ipsecha.ipsec`` between an inner device and outer sockets.

A wake-up reads a batch (up to 64 reads), processes it as lists and writes lists.  Nothing here blocks, nothing is
logged per packet, and whatever the kernel refuses is counted like a loss on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from ipsecha.dataplane.plane import Forward, GapState, Kind, OnIke, PlaneEvents, Traffic
from ipsecha.dataplane.userspace.mtu import PathMtu
from ipsecha.dataplane.userspace.outer import BATCH
from ipsecha.dataplane.userspace.routes import MARK, PRIORITY, TABLE, PolicyRoutes
from ipsecha.dataplane.userspace.sockets import OuterSockets
from ipsecha.dataplane.userspace.tun import InnerDevice, Tun
from ipsecha.ipsec.counters import PlaneCounters
from ipsecha.ipsec.inbound import Inbound
from ipsecha.ipsec.leases import CHANNEL_BUDGET, INBOUND_HORIZON_S
from ipsecha.ipsec.live import LiveSa
from ipsecha.ipsec.outbound import Outbound, Run
from ipsecha.ipsec.sad import Sad
from ipsecha.ipsec.skip import skip_outbound
from ipsecha.model.errors import DataPlaneError
from ipsecha.model.leases import Leasing
from ipsecha.model.numbers import PORT_IKE, PORT_NAT_T, Protocol
from ipsecha.model.policy import Policy
from ipsecha.model.records import Address, ChildSa, IkeSa, LeaseEntry

_NOWHERE: Address = ("", 0)
_KINDS: dict[int, Kind] = {Protocol.ESP: "esp", Protocol.AH: "ah"}


def _gap_state(live: LiveSa) -> GapState | None:
    gap = live.gap
    return GapState(gap.floor, gap.refused, gap.remaining, gap.closed_at, gap.learnt) if gap is not None else None


def _call(reader: Callable[..., None], *arguments: Any) -> None:
    reader(*arguments)


class PlaneConfig(msgspec.Struct, frozen=True):
    """Names, numbers and limits; the daemon sets what the member's file can say.

    Without privileges: ``mark`` 0, ``raw`` and ``routes`` False, an inner device of one's own, ports above 1023.
    """

    interface: str = "ipsecha0"
    mtu: int = 1500  # of the TUN; what fits an SA is found out per SA
    outer_mtu: int = 0  # caps the path MTU towards the peers; 0: as the routes say
    ike_port: int = PORT_IKE
    nat_port: int = PORT_NAT_T
    raw: bool = True
    routes: bool = True
    table: int = TABLE
    priority: int = PRIORITY
    mark: int = MARK
    horizon_s: float = INBOUND_HORIZON_S
    channel_budget: int = CHANNEL_BUDGET


class UserspacePlane:
    """Implements ``ipsecha.dataplane.plane.DataPlane``.

    Begins inert, as LEASED: a gateway without a cluster calls ``set_leasing(Leasing.FREE)`` and ``activate``.
    Raises DataPlaneError where the inner device or the routes cannot be made.
    """

    def __init__(
        self,
        policy: Policy,
        events: PlaneEvents,
        on_ike: OnIke,
        *,
        config: PlaneConfig | None = None,
        inner: InnerDevice | None = None,
        clock: Callable[[], float] = time.monotonic,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.config = config = config or PlaneConfig()
        self.counters = PlaneCounters()
        self._clock = clock
        self._on_ike = on_ike
        self._policy = policy
        self._paths = PathMtu(config.mark, config.outer_mtu)
        self._sad = Sad(policy, events, self._path_mtu, config.horizon_s, config.channel_budget)
        self._inner: InnerDevice = inner if inner is not None else Tun(config.interface, config.mtu)
        self._outbound = Outbound(self._sad, self.counters, entropy, forwards=self._inner.forwards)
        self._inbound = Inbound(self._sad, self.counters)
        self._forward: Forward | None = None
        self._routes: PolicyRoutes | None = None
        if config.routes and isinstance(self._inner, Tun):
            self._routes = PolicyRoutes(self._inner.name, self._inner.index, config.table, config.priority, config.mark)
            self._routes.configure(policy)
        self._sockets = OuterSockets(config.ike_port, config.nat_port, config.mark, self._on_too_long)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._read: Callable[..., None] = _call

    # --- devices

    def attach(self, loop: asyncio.AbstractEventLoop, read: Callable[..., None] | None = None) -> None:
        """Work on this loop from now on: the inner device at once, sockets as they are opened.

        ``read(reader, *arguments)`` is to call the reader, if given, and may do something of its own behind it.
        """
        self._loop = loop
        self._read = read or _call
        loop.add_reader(self._inner.fileno(), self._read, self._on_inner)

    def listen(self, addresses: Iterable[str] | None = None) -> None:
        """Let packets come in: sockets at these local addresses, by default at all that the connections name (they
        need not be on this host yet), and the policy routes.  What is open already stays.

        Raises DataPlaneError with the first thing that is in the way, after everything else has been done; it may be
        called again.
        """
        if addresses is None:
            addresses = (address for connection in self._policy.connections for address in connection.local)
        trouble: DataPlaneError | None = None
        for address in dict.fromkeys(addresses):
            try:
                self._open_sockets(address)
            except DataPlaneError as error:
                trouble = trouble or error
        if self._routes is not None:
            self._routes.activate()
        if trouble is not None:
            raise trouble

    def _open_sockets(self, address: str) -> None:
        for sock, receive in self._sockets.open((address,), self.config.raw):
            if self._loop is not None:
                self._loop.add_reader(sock.fileno(), self._read, receive, self._on_esp, self._on_ike)

    def stop_listening(self) -> None:
        """Undo ``listen``.  Raises DataPlaneError where the policy routes cannot be taken away."""
        for sock in self._sockets.all():
            if self._loop is not None:
                self._loop.remove_reader(sock.fileno())
        self._sockets.close()
        if self._routes is not None:
            self._routes.deactivate()

    def close(self) -> None:
        """Give everything back to the system."""
        with contextlib.suppress(DataPlaneError):  # the routes are tried again below
            self.stop_listening()
        if self._loop is not None:
            self._loop.remove_reader(self._inner.fileno())
        if self._routes is not None:
            self._routes.close()
        self._inner.close()

    # --- child SAs

    def install(self, sa: IkeSa, child: ChildSa) -> None:
        """Make a child SA ready; on the owner it is used from its first packet on."""
        self._sad.install(sa, child)

    def update(self, sa: IkeSa, child: ChildSa) -> None:
        """The records of an installed child SA are new objects, or changed."""
        self._sad.install(sa, child)

    def remove(self, spi_in: int) -> None:
        self._sad.remove(spi_in)

    def skip_outbound(self, spi_in: int, delta: int) -> None:
        skip_outbound(self._sad, spi_in, delta, self._clock())

    def take_all(self) -> list[dict[Any, Any]]:
        """Forget all child SAs at once; gives the tables as they were, to be let go of little by little."""
        return self._sad.take_all()

    def freeze(self, spi_in: int) -> None:
        """The record of a child SA that is not in use is kept as octets from now on."""
        self._sad.freeze(spi_in)

    def in_use(self, spi_in: int) -> bool:
        """Whether this member has carried packets of a child SA."""
        return spi_in in self._sad.lives

    def thaw(self, sa: IkeSa, child: ChildSa) -> None:
        """The record of a frozen child SA is an object again."""
        self._sad.thaw(sa, child)

    def share(self, spi_in: int) -> None:
        """The record of a child SA is about to be encoded for a backup that joins: make it complete."""
        self._sad.share(spi_in)

    def fetch_from(self, fetch: Callable[[int], object]) -> None:
        """``fetch(spi_in)`` has a frozen child SA thawed, on which a packet waits."""
        self._sad.fetch_from(fetch)

    def count(self) -> int:
        """The child SAs that are installed."""
        return len(self._sad)

    def spis_in_use(self) -> list[int]:
        """The child SAs of which this member has carried packets."""
        return list(self._sad.lives)

    def traffic(self, spi_in: int) -> Traffic | None:
        """The state of a child SA in use; None where it is not installed."""
        if self._sad.is_frozen(spi_in):
            return Traffic()
        found = self._sad.installed(spi_in)
        if found is None:
            return None
        child = found[1]
        live = self._sad.lives.get(spi_in)
        if live is None:
            return Traffic(in_ceiling=child.in_ceiling, out_ceiling=child.out_ceiling)
        return Traffic(
            live.packets_in,
            live.bytes_in,
            live.packets_out,
            live.bytes_out,
            live.replays,
            live.integrity_failures,
            live.last_in,
            live.last_out,
            max(0, child.in_ceiling - live.window.top, live.in_lease.requested - live.window.top),
            live.window.top,
            live.next_out - 1,
            child.in_ceiling,
            child.out_ceiling,
            len(live.held_in) + len(live.held_out),
            live.in_lease.rate(live.window.top, self._clock()),
            _gap_state(live),
        )

    def device_counters(self) -> dict[str, int]:
        """What was lost at the sockets and at the inner device, by name."""
        return {
            "outer-send-failed": self._sockets.send_failed,
            "outer-malformed": self._sockets.malformed,
            "inner-refused": self._inner.refused,
        }

    def send_dummy(self, spi_in: int, size: int) -> None:
        """A dummy packet on a child SA (RFC 4303 section 2.6), for whoever shapes traffic."""
        live = self._sad.adopt(spi_in)
        if live is not None:
            self._transmit(self._outbound.dummy(live, size, self._clock()))

    # --- ownership and leases

    def activate(self, incarnation: int, above_lanes: int) -> None:
        """Become the owner: O(1) in the number of SAs.  Packets come in after ``listen``."""
        self._forward = None
        self._sad.activate(incarnation, above_lanes)

    def deactivate(self, forward: Forward | None = None) -> None:
        """Use no SA any more.  What waited for a lease and what still arrives goes to ``forward``."""
        was_active = self._sad.active
        self._sad.deactivate()
        self._forward = forward
        if not was_active:
            return
        for live, inner, outer in self._sad.take_held():
            for packet in inner:
                self._hand_over("inner", packet, _NOWHERE, _NOWHERE)
            for datagram, remote in outer:
                self._hand_over(_KINDS[live.protocol], datagram, live.local, remote)

    def set_leasing(self, mode: Leasing, skip_lanes: int = 0, gradually: bool = False) -> None:
        self._release(self._sad.set_leasing(mode, skip_lanes, gradually))

    def lease_in_parts(self, spis: Iterator[int]) -> Iterator[list[LeaseEntry]]:
        return self._sad.lease_in_parts(spis)

    def lease_requests(self, now: float) -> list[LeaseEntry]:
        return self._sad.lease_requests(now)

    def grant(self, entries: Iterable[LeaseEntry]) -> None:
        self._release(self._sad.grant(entries))

    def review_leases(self, now: float) -> None:
        self._sad.review(now)

    def apply_leases(self, entries: Iterable[LeaseEntry]) -> None:
        self._sad.apply_leases(entries)

    def exact_counters(self) -> list[LeaseEntry]:
        return self._sad.exact_counters()

    def adopt_exact(self, entries: Iterable[LeaseEntry]) -> None:
        self._sad.adopt_exact(entries)

    # --- saved state

    def await_marker(self) -> None:
        self._release(self._sad.await_marker())

    def marked(self) -> None:
        self._sad.marked()

    def begin_saving(self, near: Callable[[], None]) -> None:
        self._release(self._sad.begin_saving(near))

    def bounds_to_write(self, saved_now: Iterable[ChildSa], now: float) -> list[tuple[int, int, int]]:
        return self._sad.bounds_to_write(saved_now, now)

    @property
    def bounds_left(self) -> bool:
        return self._sad.bounds_left

    def bounds_of(self, children: Iterable[ChildSa]) -> list[tuple[int, int, int]]:
        return self._sad.bounds_of(children)

    def bounds_written(self) -> None:
        self._release(self._sad.bounds_written())

    def rekey_near(self) -> None:
        self._sad.rekey_near(self._clock())

    def end_saving(self) -> None:
        self._release(self._sad.end_saving())

    def configure(self, policy: Policy) -> None:
        """Take a new policy; sockets for its new addresses are the caller's to open."""
        self._policy = policy
        self._sad.configure(policy)
        if self._routes is not None:
            self._routes.configure(policy)

    # --- packets

    def send_ike(self, datagram: bytes, local: Address, remote: Address) -> None:
        """One IKE message from ``local``, with the non-ESP marker on the NAT traversal port."""
        self._sockets.send_ike(datagram, local, remote)

    def send_keepalive(self, local: Address, remote: Address) -> None:
        """A NAT keepalive (RFC 3948 section 2.3)."""
        self._sockets.send_keepalive(local, remote)

    def inject(self, kind: Kind, data: bytes, local: Address, remote: Address) -> None:
        """A packet that the owner before has forwarded."""
        if not self._sad.active:
            return
        if kind == "inner":
            self._send_inner([data])
        else:
            protocol = Protocol.AH if kind == "ah" else Protocol.ESP
            self._inner.write_batch(self._inbound.process([data], remote, 0, self._clock(), protocol))

    def _on_inner(self) -> None:
        packets = self._inner.read_batch(BATCH)
        if not packets:
            return
        if self._sad.active:
            self._send_inner(packets)
        else:
            for packet in packets:
                self._hand_over("inner", packet, _NOWHERE, _NOWHERE)

    def _send_inner(self, packets: list[bytes]) -> None:
        outbound = self._outbound
        self._transmit(outbound.process(packets, self._clock()))
        if outbound.back:
            back, outbound.back = outbound.back, []
            self._inner.write_batch(back)
        if outbound.bypass:
            bypass, outbound.bypass = outbound.bypass, []
            self._sockets.send_bypass(bypass)

    def _on_esp(self, datagrams: list[bytes], local: Address, remote: Address, outer: int, protocol: int) -> None:
        """ESP or gathered AH packets of one peer, as a socket has read them."""
        if self._sad.active:
            delivered = self._inbound.process(datagrams, remote, outer, self._clock(), protocol)
            if delivered:
                self._inner.write_batch(delivered)
            return
        for datagram in datagrams:
            self._hand_over(_KINDS[protocol], datagram, local, remote)

    def _hand_over(self, kind: Kind, data: bytes, local: Address, remote: Address) -> None:
        if self._forward is not None:
            self.counters.forwarded += 1
            self._forward(kind, data, local, remote)

    def _transmit(self, runs: list[Run]) -> None:
        for run in runs:
            live = run.live
            sock = self._sockets.towards(live)
            if sock is None:
                self.counters.send_failed += len(run.datagrams)
                continue
            sock.prepare(run.outer)
            sock.send_run(run.datagrams, live.remote)

    def _release(self, lives: Iterable[LiveSa]) -> None:
        """Packets that have waited for a lease go on as far as it goes now."""
        if not self._sad.active:
            return
        now = self._clock()
        for live in lives:
            self._transmit(self._outbound.release(live, now))
            self._inner.write_batch(self._inbound.release(live, now))

    def _path_mtu(self, local: str, remote: str) -> int:
        return self._paths.get(local, remote, self._clock())

    def _on_too_long(self, remote: str) -> None:
        self._paths.forget(remote)
        self._sad.path_changed(remote)
