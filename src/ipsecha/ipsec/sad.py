"""The security association database (RFC 4301 section 4.4.2): what is installed, what is in use, and how far its
sequence numbers may go.

Installed child SAs are records and nothing more, on the owner and on a backup alike.  The first packet makes a
``LiveSa`` of one (``adopt``).  Becoming the owner therefore empties one dictionary; ceasing to be the owner leaves it
for ``exact_counters``.

How the ceilings move, by ``Leasing``:

* LEASED: requests wait in ``wanting`` until the ring outside has drained and the backup acknowledged them (``grant``).
* FREE: this member is alone and grants itself what it asks for, in the record, so that a record encoded at any moment
  covers every number in use.
* LANE: the same, but outbound numbers end at the ceiling that was last acknowledged plus a lane.

How SAs pass from one mode to another, and what a backup that joins has to be told, is in ``ipsec.switching``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ipsecha.ipsec.ceilings import PlaneEvents
from ipsecha.ipsec.gap import Gap
from ipsecha.ipsec.leases import CHANNEL_BUDGET, INBOUND_HORIZON_S
from ipsecha.ipsec.live import LiveSa
from ipsecha.ipsec.spd import Bundle
from ipsecha.ipsec.switching import Switching
from ipsecha.model.errors import CryptoError
from ipsecha.model.leases import FIRST_IN_CEILING, FIRST_OUT_CEILING, Leasing
from ipsecha.model.policy import ChildPolicy, Inbound, Policy
from ipsecha.model.records import Address, ChildSa, IkeSa, LeaseEntry, keep_ceilings


class Sad(Switching):
    """Child SAs by inbound SPI.  ``path_mtu(local, remote)`` gives the longest datagram between two addresses."""

    def __init__(
        self,
        policy: Policy,
        events: PlaneEvents,
        path_mtu: Callable[[str, str], int],
        horizon_s: float = INBOUND_HORIZON_S,
        channel_budget: int = CHANNEL_BUDGET,
    ) -> None:
        super().__init__(policy, events, channel_budget)
        self._horizon_s = horizon_s
        self._path_mtu = path_mtu
        self._incarnation = 0
        self._exact: dict[int, tuple[int, int, int, int, int]] = {}

    def __len__(self) -> int:
        return len(self.spd)

    # --- installing: the same on the owner and on a backup

    def install(self, sa: IkeSa, child: ChildSa) -> None:
        """A new child SA, or the newer record of one.  Ceilings never fall: a record that was encoded before the
        last lease was acknowledged arrives after it."""
        before = self._installed.get(child.spi_in)
        if before is not None and before[1] is not child:
            keep_ceilings(child, before[1])
        born = before is None and self.active and child.spi_in not in self._early and _is_unused(child)
        self._installed[child.spi_in] = (sa, child)
        if born:
            self._born(child)
        early = self._early.pop(child.spi_in, None)
        if early is not None:
            self._raise(early)
        bundle = self.spd.put(sa.connection, child)
        live = self.lives.get(child.spi_in)
        if live is not None:
            live.bundle = bundle
            live.follow(sa, child)
            live.set_path_mtu(self._path_mtu(live.local[0], live.remote[0]))

    def remove(self, spi_in: int) -> None:
        self._installed.pop(spi_in, None)
        self.spd.drop(spi_in)
        self._wanting.discard(spi_in)
        self._exact.pop(spi_in, None)
        self._early.pop(spi_in, None)
        self._own.discard(spi_in)
        self._settled.pop(spi_in, None)
        self._behind.pop(spi_in, None)
        self._unshared.discard(spi_in)
        self._unacknowledged.discard(spi_in)
        self._returning.discard(spi_in)
        self._valid_from.pop(spi_in, None)
        self._former.pop(spi_in, None)
        self.forget_bound(spi_in)
        live = self.lives.pop(spi_in, None)
        if live is not None:
            self.held -= len(live.held_in) + len(live.held_out)

    def take_all(self) -> list[dict[Any, Any]]:
        """Forget all child SAs at once; gives the tables as they were, to be let go of little by little."""
        gone: list[dict[Any, Any]] = [self._installed, self.lives, self._early, self._exact, *self.spd.take_all()]
        gone += self._settled.take_all()
        self._above_lanes = 0
        self._drop_lives()
        self._installed = self._installed.successor()
        self._early, self._exact = {}, {}
        for kept in (self._own, self._unshared, self._unacknowledged, self._valid_from, self._former):
            kept.clear()
        return gone

    def freeze(self, spi_in: int) -> None:
        """A child SA that is not in use: its record is kept as octets, elsewhere."""
        self._installed.pop(spi_in, None)

    def thaw(self, sa: IkeSa, child: ChildSa) -> None:
        """A frozen child SA is wanted."""
        if child.spi_in in self.spd:
            self._installed[child.spi_in] = (sa, child)
            early = self._early.pop(child.spi_in, None)
            if early is not None:
                self._apply(child, early)

    def fetch_from(self, fetch: Callable[[int], object]) -> None:
        """Whom to ask for frozen child SAs: ``fetch(spi_in)`` answers by ``thaw``."""
        self._installed.fetch = fetch

    def is_frozen(self, spi_in: int) -> bool:
        return self._installed.is_frozen(spi_in)

    def installed(self, spi_in: int) -> tuple[IkeSa, ChildSa] | None:
        found: tuple[IkeSa, ChildSa] | None = self._installed.get(spi_in)
        return found

    def configure(self, policy: Policy) -> None:
        """A new policy; SAs in use keep the limits they began with."""
        self.spd.configure(policy)

    # --- ownership

    def activate(self, incarnation: int, above_lanes: int) -> None:
        """Become the owner.  What the previous ownership left is dropped; each SA is adopted by its first packet, and
        starts so many lanes above its ceiling, and those above that an earlier ownership of ours has left out, if no
        backup has come in sync since."""
        self._drop_lives()
        self._own.clear()
        self._incarnation = incarnation
        self._above_lanes += above_lanes
        self.active = True

    def deactivate(self) -> None:
        """Cease to be the owner; the SAs in use stay for ``exact_counters``.

        What was asked for and not answered counts as granted, since the next owner may have heard of it and use it;
        should this member be the owner again, it asks anew.  What was given back unheard counts as kept.
        """
        for live in self.lives.values() if self.active else ():
            if live.learns:  # should this member be the owner again, it has not forgotten what it delivered itself
                live.child.in_known = max(live.child.in_known, live.window.top)
        self._skip_unfinished()
        if self.active and self.leasing is Leasing.LEASED:
            for live in self.lives.values():
                inbound, outbound = live.in_lease.requested, live.out_lease.requested
                if self._raise(LeaseEntry(live.spi_in, inbound, outbound)):
                    self._unacknowledged.add(live.spi_in)
        for spi_in, ceiling in self._former.items():
            if self._raise(LeaseEntry(spi_in, ceiling, 0)):
                self._unacknowledged.add(spi_in)
        self._former.clear()
        self.active = False
        self._exact.clear()
        self._wanting.clear()
        self._reviews.clear()  # what is left of these leases belongs to the next owner: it is not ours to give back
        self._returning.clear()

    def take_held(self) -> Iterator[tuple[LiveSa, list[bytes], list[tuple[bytes, Address]]]]:
        """Empty the queues of packets that wait for a lease: clear ones, and ESP packets with their senders."""
        for live in self.lives.values():
            if live.held_out or live.held_in:
                outbound, live.held_out = live.held_out, []
                inbound, live.held_in = live.held_in, []
                self.held -= len(outbound) + len(inbound)
                yield live, outbound, [(datagram, remote) for _, _, remote, _, datagram in inbound]

    def _drop_lives(self) -> None:
        for live in self.lives.values():
            live.bundle.current = None
        self.lives = {}
        self._behind.clear()
        self._wanting.clear()
        self._reviews.clear()
        self._returning.clear()
        self.held = 0

    def adopt(self, spi_in: int) -> LiveSa | None:
        """The SA in use with this SPI, made from its record at its first packet; None where there is none."""
        if not self.active:
            return None
        live = self.lives.get(spi_in)
        if live is not None:
            return live
        found = self._installed.get(spi_in)
        if found is None:
            return None
        sa, child = found
        entry = self.spd.entry(sa.connection, child.name)
        policy = entry.child if entry is not None else ChildPolicy(child.name, child.local_ts, child.remote_ts, ())
        try:
            live = LiveSa(sa, child, policy, self.spd.put(sa.connection, child), self._incarnation)
        except CryptoError:
            return None
        in_floor, out_used = self._start_of(child)
        learns = entry is not None and entry.connection.inbound is Inbound.LEARN
        live.start(in_floor, out_used, self._horizon_s, self._gap_of(child, in_floor, learns))
        live.learns = learns
        live.set_path_mtu(self._path_mtu(live.local[0], live.remote[0]))
        self._bound_by_mode(live)
        self.lives[spi_in] = live
        self.bind(live)
        return live

    def _start_of(self, child: ChildSa) -> tuple[int, int]:
        """Highest numbers inbound and outbound that the owners before may have used; none where there were none."""
        if child.spi_in in self._own:
            self._own.discard(child.spi_in)
            return 0, child.out_ceiling if child.out_ceiling > FIRST_OUT_CEILING else 0
        lane = self._lanes_to_skip(child)
        exact = self._exact.pop(child.spi_in, None)
        if exact is not None and not lane and exact[2:] == (child.in_ceiling, child.out_ceiling, child.in_known):
            return exact[0], exact[1]
        if lane:
            self._unshared.add(child.spi_in)
            child.out_ceiling += lane
        return child.in_ceiling, child.out_ceiling

    def _gap_of(self, child: ChildSa, in_floor: int, learns: bool) -> Gap | None:
        """What the owners before may have delivered; None where it is known exactly.

        Before a number is learnt from, the record says that nobody may learn from this gap again, and so does the
        backup's, if there is one: until then the SA's packets wait.
        """
        if not in_floor or in_floor != child.in_ceiling:
            return None
        if not learns or child.in_known >= in_floor:
            return Gap(in_floor, in_floor)
        gap = Gap(in_floor, child.in_known)
        child.in_known = in_floor
        (self._unacknowledged if self.leasing is Leasing.LEASED else self._unshared).add(child.spi_in)
        self._valid_from[child.spi_in] = self._serial + 1
        return gap

    def sender(self, bundle: Bundle) -> LiveSa | None:
        """The SA in use that sends for a bundle."""
        live = self.adopt(bundle.spi_in) if bundle.spi_in else None
        bundle.current = live
        return live

    def exact_counters(self) -> list[LeaseEntry]:
        """The numbers in use of the busy SAs, for the next owner in a planned switchover; after ``deactivate``."""
        return [LeaseEntry(spi, live.window.top, live.next_out - 1) for spi, live in self.lives.items()]

    def adopt_exact(self, entries: Iterable[LeaseEntry]) -> None:
        """The previous owner has stopped at these numbers.  An entry counts only while the ceilings are the ones it
        was given with: if the owner before goes on after all, it must raise them first."""
        for entry in entries:
            found = self._installed.get(entry.spi_in)
            if found is not None:
                child = found[1]
                ceilings = (child.in_ceiling, child.out_ceiling, child.in_known)
                self._exact[entry.spi_in] = (entry.in_ceiling, entry.out_ceiling, *ceilings)

    # --- limits by volume

    def check_volume(self, live: LiveSa) -> bool:
        """Events for the soft and hard limits by bytes and packets, once each; False once a hard one is reached."""
        octets = max(live.bytes_in, live.bytes_out)
        packets = max(live.packets_in, live.packets_out)
        if (octets >= live.soft_bytes or packets >= live.soft_packets) and not live.soft_done:
            live.soft_done = True
            self.events.soft_limit(live.spi_in)
        if octets >= live.hard_bytes or packets >= live.hard_packets:
            self.exhausted(live)
        return not live.hard_done

    def path_changed(self, remote: str) -> None:
        """The path to a peer's address has another MTU now."""
        for live in self.lives.values():
            if live.remote[0] == remote:
                live.set_path_mtu(self._path_mtu(live.local[0], remote))


def _is_unused(child: ChildSa) -> bool:
    """Whether a record can be that of a child SA just made: nobody has raised its first leases."""
    return child.in_ceiling <= FIRST_IN_CEILING and child.out_ceiling <= FIRST_OUT_CEILING
