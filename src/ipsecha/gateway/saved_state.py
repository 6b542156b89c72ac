"""Saved state and the daemon: what is on the disk becomes the tables of a member that starts, as a backup would have
them, and all suspect; from then on the member saves."""

from __future__ import annotations

import asyncio
import logging
import os

import msgspec

from ipsecha.cluster.journal import Opening, Saved
from ipsecha.gateway.config_model import PersistenceConfig, Trust
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.pair_side import PairSide
from ipsecha.gateway.state_disk import DiskThread, FileDisk, read_file
from ipsecha.gateway.state_file import StateFile
from ipsecha.ike.flags import CHANGING, OPEN
from ipsecha.model.errors import ClusterError
from ipsecha.model.leases import RESTORED_IN
from ipsecha.model.records import ChildState, Exchange, ExchangeKind, IkeSa, Task, decode_record

log = logging.getLogger("ipsecha")


class SavedStateDisk:
    """The file of one member."""

    def __init__(self, side: PairSide, config: PersistenceConfig, loop: asyncio.AbstractEventLoop) -> None:
        self._side = side
        self._config = config
        self._disk = FileDisk(config.path)
        self._thread = DiskThread(loop)
        side.state_file = StateFile(
            side.gateway, self._disk, config.key, os.urandom, lambda: opening_of(side), self._thread.submit
        )

    def restore(self) -> None:
        """Before the member starts.  A file that cannot be relied on is told and not used."""
        settings = self._side.member.settings
        try:
            saved = read_file(self._config.path, self._config.key, settings.cluster, settings.members[settings.index])
        except (ClusterError, OSError) as error:
            log.error("saved state in %s is not used: %s", self._config.path, error)
            return
        if saved is not None:
            restore_saved(self._side, saved, self._config.trust is Trust.ALWAYS, self._config.wait_s)

    def close(self) -> None:
        self._thread.close()
        self._disk.close()


def restore_saved(side: PairSide, saved: Saved, trusted: bool, wait_s: float) -> None:
    """Before the member starts: what was saved becomes what it knows."""
    side.member.restore(saved.opening, trusted, wait_s)
    unreadable = adopt_saved(side.gateway, saved)
    if saved.opening.owner:
        log.info("saved state: %d IKE SAs of epoch %#x", len(saved.records) - unreadable, saved.opening.epoch)
    if unreadable:
        log.error("saved state: %d records cannot be read", unreadable)


def opening_of(side: PairSide) -> Opening:
    """What the member is at this moment, as its file says it."""
    member = side.member
    name = member.settings.members[member.settings.index]
    return Opening(member.settings.cluster, name, member.owns, member.epoch, member.lineage, member.highest_epoch)


def adopt_saved(gateway: Gateway, saved: Saved) -> int:
    """Take in the SAs of an owner's file; gives the number of records that cannot be read, which are left out.

    Ceilings are the saved bounds: nobody has gone beyond them.  A child SA without bounds is left out; the peer finds
    out, and so does the repair.  What happened in the last moments was not saved, so every IKE SA is suspect.
    """
    unreadable = 0
    for record in saved.records.values() if saved.opening.owner else ():
        try:
            sa = decode_record(record)
        except msgspec.DecodeError:
            unreadable += 1
            continue
        _move_to_bounds(sa, saved.bounds)
        _make_no_child_again(sa)
        gateway.endpoint.adopt(sa)
    gateway.endpoint.after_takeover.expect_wide_gaps()
    gateway.flush()
    return unreadable


def _move_to_bounds(sa: IkeSa, bounds: dict[int, tuple[int, int]]) -> None:
    sa.children = tuple(child for child in sa.children if child.spi_in in bounds)
    for child in sa.children:
        inbound, outbound = bounds[child.spi_in]
        child.in_ceiling = child.in_known = max(child.in_ceiling, inbound) + RESTORED_IN
        child.out_ceiling = max(child.out_ceiling, outbound)
    sa.flags |= OPEN | CHANGING


def _make_no_child_again(sa: IkeSa) -> None:
    """A request for a child SA that was in flight may have been answered after the record was saved, and that child SA
    used: its answer would make it a second time, with the same keys, and numbers from the beginning (I2, I3).

    So the answer only tells which request the peer expects next; what the peer may have made is deleted, and the
    request made anew.
    """
    exchange = sa.exchange
    if exchange is None or exchange.kind not in (ExchangeKind.NEW_CHILD, ExchangeKind.REKEY_CHILD):
        return
    old = sa.child_by_inbound_spi(exchange.old_spi)
    if old is not None and old.state == ChildState.REKEYING:
        old.state = ChildState.ESTABLISHED
    made = Task(ExchangeKind.DELETE_CHILD, int.from_bytes(exchange.new_spi, "big"), exchange.child, orphan=True)
    again = exchange.task or Task(exchange.kind, exchange.old_spi, exchange.child)
    sa.queue = (made, again, *sa.queue)
    sa.exchange = None
    if len(exchange.request) == 1:  # in a probe each datagram is a request of its own, and fragments are none
        sa.exchange = Exchange(
            ExchangeKind.PROBE, exchange.message_id, exchange.request, exchange.started_at, new_spi=exchange.new_spi
        )
