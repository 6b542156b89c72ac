"""The cluster's side of the gateway: carries out what ``cluster.pair`` wants, in order."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ipsecha.cluster import effects as fx
from ipsecha.cluster.epoch import incarnation
from ipsecha.cluster.frames import Change
from ipsecha.cluster.pair import PairMember
from ipsecha.gateway.beats import Beats
from ipsecha.gateway.bequests import Bequests
from ipsecha.gateway.channel import LossReason, SynchChannel
from ipsecha.gateway.compaction import Compaction
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.disposal import Disposal
from ipsecha.gateway.output_commit import INITIATION, Changes
from ipsecha.gateway.shared_addresses import ANNOUNCE_AT_S, LIFETIME_S, RENEW_S, AddressKeeper
from ipsecha.gateway.state_file import StateFile
from ipsecha.gateway.stranded_packets import StrandedPackets
from ipsecha.gateway.witness_link import WitnessEvents, WitnessLink
from ipsecha.model import record_delta
from ipsecha.model.errors import DataPlaneError
from ipsecha.model.records import LeaseEntry, decode_record, encode_record

log = logging.getLogger("ipsecha")

TAKE_PLACE_AGAIN_S = 0.25
"""After so long an owner tries again to open sockets and to claim addresses that were not to be had."""

GRACE_S = 2.0
"""For so long a former owner forwards what still arrives; longer than a neighbour takes to heed an announcement."""

ADDRESS_GRACE_S = 0.05
"""A former owner keeps the addresses for so long, so that its kernel still takes in what was under way to it."""


class PairSide:
    """Implements ``core.ClusterSide`` for a pair.

    ``shares_ceilings``: who gets a snapshot is who will be told at its end of ceilings that were raised without a
    backup, so those that stand in the snapshot need not be told again.
    """

    shares_ceilings = True

    def __init__(self, gateway: Gateway, member: PairMember, addresses: AddressKeeper) -> None:
        self.gateway = gateway
        self.member = member
        self.addresses = addresses
        self.channel: SynchChannel
        self.beats: Beats
        self.witness: WitnessLink | None = None
        self.state_file: StateFile | None = None
        self.compaction = Compaction(gateway)
        self._disposal = Disposal(gateway.loop)
        self._bequests = Bequests(gateway, member)
        self.counters: Counter[str] = Counter()
        self.holds_addresses = False
        self._announced_on: frozenset[str] = frozenset()  # links that had carrier when the addresses were announced
        self._announcing_until = 0.0
        self._troubles: set[str] = set()  # with sockets and addresses, as told to the operator
        self._packets = StrandedPackets(gateway, member, self.counters)
        self._now = 0.0
        self._changes = 0  # of ownership, carried out here; an epoch may change without one
        self._renewed_at = 0.0
        self._actions: dict[type, Callable[[Any], None]] = {
            fx.SendFrame: lambda effect: self.channel.send(effect.data),
            fx.SendBeat: lambda effect: self.beats.send(effect.data),
            fx.ResetChannel: self._reset_channel,
            fx.Released: lambda effect: gateway.output.release(effect.number),
            fx.Granted: lambda effect: gateway.plane.grant(effect.entries),
            fx.SetLeasing: lambda effect: gateway.plane.set_leasing(effect.mode, effect.skip_lanes, effect.gradually),
            fx.BecomeActive: self._become_active,
            fx.BecomeStandby: self._become_standby,
            fx.Freeze: self._freeze,
            fx.Apply: self._apply,
            fx.HoldHalfOpen: lambda effect: gateway.endpoint.hold_half_open(effect.state),
            fx.ApplyLeases: lambda effect: gateway.plane.apply_leases(effect.entries),
            fx.ApplyExact: lambda effect: gateway.plane.adopt_exact(effect.entries),
            fx.DiscardRecords: self._discard_records,
            fx.TakeSnapshot: self._take_snapshot,
            fx.Suspect: lambda effect: gateway.endpoint.suspect(effect.keys, self._now),
            fx.Bequeath: self._bequests.bequeath,
            fx.Inherit: lambda effect: self._bequests.inherit(effect, self._now),
            fx.CloseJoin: self._close_join,
            fx.ClockOffset: self._shift_clock,
            fx.Forwarded: self._packets.arrived,
            fx.ClusterReport: _report,
            fx.RaiseEpoch: lambda effect: self._take_place(effect.epoch),
            fx.UseUp: self._use_up,
            fx.AskWitness: lambda effect: self.witness.send(effect.data) if self.witness is not None else None,
            fx.ResetWitness: lambda effect: self.witness.reset() if self.witness is not None else None,
        }

    def start(self, now: float, wall_s: float) -> None:
        """Begin as a member that owns nothing: addresses that a former life left behind are taken off."""
        self._release_addresses()
        self.member.start(now, wall_s)
        self._renewed_at = self.gateway.loop.time()
        self._renew()
        self.compaction.start()
        if self.state_file is not None:
            self.state_file.start()

    def end(self) -> None:
        """This process is about to end: it uses no SA any more, has no address any more, and then says so."""
        self.member.take_effects()
        self.gateway.endpoint.deactivate()
        self.gateway.plane.deactivate(None)
        self._release_addresses()
        self.member.say_goodbye()
        self.carry_out(self.gateway.clock.now())

    # What the gateway asks

    def commit(self, changes: Changes) -> int:
        if self.state_file is not None:
            self.state_file.note([key for key, _ in changes])
        return self.member.commit(changes, self.gateway.clock.now())

    def extend(self, entries: Sequence[LeaseEntry], now: float) -> None:
        self.member.extend(entries, now)

    def share(self, state: bytes) -> None:
        self.member.share(state)

    def next_timer(self) -> float:
        return self.member.next_timer()

    def handle_timer(self, now: float) -> None:
        self._mind_links()
        self.member.handle_timer(now)
        self.gateway.plane.review_leases(now)

    def _mind_links(self) -> None:
        """Whoever is behind a link that was down when we claimed the addresses has not heard of it."""
        carriers = self.addresses.carriers()
        if self.gateway.loop.time() <= self._announcing_until:  # one that fails meanwhile may have missed all of it
            self._announced_on &= carriers
        if carriers - self._announced_on:
            self._announced_on |= carriers
            self._announce_repeatedly(ANNOUNCE_AT_S)
        self.member.links(self.addresses.links_up(), len(carriers))

    def carry_out(self, now: float) -> bool:
        effects = self.member.take_effects()
        self._now = now
        for number, effect in enumerate(effects):
            try:
                self._actions[type(effect)](effect)
            except Exception as fault:
                # The two members might no longer agree: what would be sent now (an Ack of what was not applied) must
                # not be, and a new channel begins with a new look at who has what.
                self.gateway.faults.note(type(effect).__name__, fault)
                self.channel.reset()
                self._carry_out_rest(effects[number + 1 :])
                break
        self.gateway.endpoint.sharing.listening = self.member.replicates
        if self.state_file is not None and effects and not self.member.restored:
            self.state_file.look()
            self.member.marked = self.state_file.settled
        return bool(effects)

    def _carry_out_rest(self, effects: Sequence[fx.ClusterEffect]) -> None:
        """What stays true after a fault: everything but what would go over the channel."""
        for effect in effects:
            if type(effect) in (fx.SendFrame, fx.ForMember):
                continue
            try:
                self._actions[type(effect)](effect)
            except Exception as fault:
                self.gateway.faults.note(type(effect).__name__, fault)

    # Input from the other member

    def channel_up(self) -> None:
        # a partner that hung or was cut off may have announced the addresses as its own when it woke up
        self._announce_repeatedly(ANNOUNCE_AT_S)
        self.member.channel_up(self.gateway.clock.now())
        self.gateway.wake()

    def channel_down(self, reason: LossReason) -> None:
        self.member.channel_down(reason is LossReason.REFUSED, self.gateway.clock.now())
        self.gateway.wake()

    def frame_received(self, frame: bytes) -> None:
        self.member.receive_frame(frame, self.gateway.clock.now())
        self.gateway.wake()

    def beat_received(self, path: str, beat: bytes) -> None:
        self.member.beat_received(path, beat, self.gateway.clock.now())
        self.gateway.wake()

    def witness_events(self) -> WitnessEvents:
        """What a connection to the witness calls."""

        def tell(method: Callable[..., None], *arguments: Any) -> None:
            method(*arguments, self.gateway.clock.now())
            self.gateway.wake()

        return WitnessEvents(
            up=lambda: tell(self.member.witness_up),
            down=lambda: tell(self.member.witness_down),
            message=lambda data: tell(self.member.witness_answer, data),
            refused=lambda why: log.error("the witness: %s", why),
        )

    # Ownership

    def _become_active(self, effect: fx.BecomeActive) -> None:
        """O(1) in the number of SAs: an activation number, sockets, addresses, a few routes.

        First what cannot fail: an owner that lacks a socket or an address serves with what it has.
        """
        gateway, number = self.gateway, incarnation(effect.epoch)
        self._changes += 1
        gateway.plane.activate(number, effect.above_lane)
        gateway.divert = None
        gateway.endpoint.activate(number, self._now, effect.above_lane > 0)
        self._troubles.clear()
        self._announced_on = self.addresses.carriers()
        self.holds_addresses = False  # though not yet given back after a handover: the partner has announced them since
        self._take_place(effect.epoch)
        self._packets.process_kept()

    def _take_place(self, epoch: int) -> None:
        """Listen, claim the addresses, say so; again after a moment where something is in the way."""
        if not self._owns_in(epoch):
            return
        listens = self._try(self.gateway.plane.listen)
        held, self.holds_addresses = self.holds_addresses, self._try(self.addresses.claim)
        self.addresses.announce()
        if self.holds_addresses and not held:
            self._announce_repeatedly(ANNOUNCE_AT_S[1:])
        if not (listens and self.holds_addresses):
            self.gateway.loop.call_later(TAKE_PLACE_AGAIN_S, self._take_place, epoch)

    def _try(self, action: Callable[[], None]) -> bool:
        """Whether ``action`` succeeds.  What is in the way is told once, not at each try."""
        try:
            action()
        except DataPlaneError as error:
            if str(error) not in self._troubles:
                self._troubles.add(str(error))
                log.error("%s", error)
            return False
        return True

    def _announce_repeatedly(self, delays_s: tuple[float, ...]) -> None:
        self._announcing_until = self.gateway.loop.time() + delays_s[-1]
        for delay_s in delays_s:
            self.gateway.loop.call_later(delay_s, self._announce)

    def _announce(self) -> None:
        if self.member.owns:
            self.addresses.announce()

    def _owns_in(self, epoch: int) -> bool:
        return self.member.owns and self.member.epoch == epoch

    def _freeze(self, effect: fx.Freeze) -> None:
        """Stop using the SAs; what arrives is kept until it is known who goes on."""
        gateway = self.gateway
        gateway.divert = self._packets.keep_ike
        gateway.plane.deactivate(self._packets.keep)
        self.member.handover_ready(gateway.plane.exact_counters(), self._now)

    def _become_standby(self, effect: fx.BecomeStandby) -> None:
        gateway = self.gateway
        self._changes += 1
        gateway.endpoint.deactivate()
        gateway.plane.deactivate(self._packets.forward if effect.forward else None)
        dropped = gateway.output.give_up(gateway.endpoint.take_effects())
        if dropped:
            self.counters["commits given up"] += dropped
        self.compaction.was_owner = True
        if effect.forward:
            gateway.divert = self._packets.forward_ike
            self._packets.forward_kept()
            gateway.loop.call_later(ADDRESS_GRACE_S, self._release_after_handover, self._changes)
            gateway.loop.call_later(GRACE_S, self._end_of_grace, self._changes)
        else:
            gateway.divert = None
            self._packets.drop_kept()
            self._release_addresses()
            self._try(gateway.plane.stop_listening)

    def _release_after_handover(self, change: int) -> None:
        if self._changes == change:
            self._release_addresses()

    def _end_of_grace(self, change: int) -> None:
        if self._changes == change:
            self.gateway.divert = None
            self.gateway.plane.deactivate(None)
            self._try(self.gateway.plane.stop_listening)

    def _release_addresses(self) -> None:
        self.holds_addresses = False
        self._try(self.addresses.release)

    def _renew(self) -> None:
        """Keep the addresses.  Who has slept for so long that the kernel took them away first hears whether somebody
        else owns them by now."""
        loop = self.gateway.loop
        last, self._renewed_at = self._renewed_at, loop.time()
        if self._renewed_at - last < LIFETIME_S:
            self.addresses.renew()
            loop.call_later(RENEW_S, self._renew)
        else:
            loop.call_later(TAKE_PLACE_AGAIN_S, self._renew)

    # Records

    def _apply(self, effect: fx.Apply) -> None:
        endpoint = self.gateway.endpoint
        for spi_i, record in effect.initiations:
            endpoint.adopt_initiation(spi_i, record)
        for key, record in effect.changes:
            if record is None:
                endpoint.forget(key)
            else:
                endpoint.adopt(decode_record(record))  # one that makes no sense is a fault: carry_out contains it
        for key, delta in effect.deltas:
            endpoint.adopt(decode_record(record_delta.splice(encode_record(endpoint.sas[key]), delta)))
        # installed before the next effect is looked at: it may raise the ceilings of these very SAs
        self.gateway.flush()
        for key, _ in (*effect.changes, *effect.deltas):
            self.compaction.freeze(key)

    def _discard_records(self, effect: fx.DiscardRecords) -> None:
        """At once for everybody who asks; what it leaves behind is cleared away later."""
        gateway = self.gateway
        gone = gateway.endpoint.discard()
        gateway.flush()
        self._disposal.dispose([*gone, *gateway.plane.take_all()])

    def _take_snapshot(self, effect: fx.TakeSnapshot) -> None:
        # whoever joins may have been owner until now, and have announced the addresses after our last word on it
        self._announce_repeatedly(ANNOUNCE_AT_S)
        endpoint = self.gateway.endpoint
        self.member.snapshot(self._present_records(), len(endpoint.sas) + len(endpoint.initiations), self._now)

    def _present_records(self) -> Iterator[Change]:
        """Each record as it is when its turn comes; those that are gone by then are left out."""
        sas, share = self.gateway.endpoint.sas, self.gateway.plane.share
        for spi in sas.walk():
            was_octets = sas.thawed(spi) is None
            sa = sas.get(spi)
            if sa is not None:
                for child in sa.children if self.shares_ceilings else ():
                    share(child.spi_in)
                record = encode_record(sa)
                if was_octets:
                    self.compaction.freeze(spi)
                yield spi, record
        for spi, record in self.gateway.endpoint.handshake_records():
            yield INITIATION + spi, record

    def _close_join(self, effect: fx.CloseJoin) -> None:
        """Nobody is to take over from an owner that the disk does not know of."""
        if self.state_file is None:
            self._end_join()
        else:
            self.state_file.look()
            self.state_file.when_marked(self._end_join)

    def _end_join(self) -> None:
        if not self.member.log.closing:
            return
        self._now = self.gateway.clock.now()
        try:
            ceilings = self.gateway.plane.lease_in_parts(self.gateway.endpoint.child_index.walk())
            self.member.close_join(ceilings, self._now)
        except Exception as fault:  # the disk may have called: nobody else contains it
            self.gateway.faults.note("the end of a join", fault)
            self.channel.reset()
        self.gateway.wake()

    # Saved state

    def _use_up(self, effect: fx.UseUp) -> None:
        if self.state_file is not None:
            self.state_file.use_up(self._used_up)

    def _used_up(self, done: bool) -> None:
        self.member.used_up(done, self.gateway.clock.now())
        self.gateway.wake()

    # Small things

    def _reset_channel(self, effect: fx.ResetChannel) -> None:
        log.warning("synch channel: %s", effect.reason)
        self.channel.reset()

    def _shift_clock(self, effect: fx.ClockOffset) -> None:
        self.gateway.clock.shift(effect.seconds)
        self.gateway.rearm_timer()
        self._now = self.gateway.clock.now()


def _report(report: fx.ClusterReport) -> None:
    log.log(report.level, "cluster: %s", report.text, extra={"event": report.event})
