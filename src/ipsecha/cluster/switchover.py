"""A planned change of ownership: the acts of both members.  What an attempt is, and what doubt, says ``handover``."""

from __future__ import annotations

from ipsecha.cluster import effects as fx
from ipsecha.cluster import frames, lanes
from ipsecha.cluster.commit_log import BackupState
from ipsecha.cluster.ownership import ERROR, Ownership, PairSettings, Role
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry
from ipsecha.model.spi import Entropy


class Switchover(Ownership):
    """One of two members, as it gives the SAs to the other, or takes them."""

    def __init__(self, settings: PairSettings, entropy: Entropy) -> None:
        super().__init__(settings, entropy)
        self._backup_follows = True  # it has acknowledged something in this epoch

    @property
    def _may_hand_over(self) -> bool:
        """A former owner that has not heard TAKEN goes on in doubt, and there is one place for that: until it follows,
        we must not come to be in doubt, too."""
        return self.log.backup is BackupState.IN_SYNC and self.marked and self._backup_follows

    def _try_handover(self) -> None:
        counters = self._handover.take(self.log.outstanding) if self._handover is not None else None
        if counters is not None:
            self._send(frames.Handover(self.epoch, frames.pack_leases(counters)))

    def _abandon_handover(self, proof: bool, now: float) -> None:
        """No TAKEN came.  The epoch stays: nobody else can have it, and the partner's is higher if it took over."""
        in_doubt = self._handover is not None and self._handover.sent
        self._report("switchover-failed", f"{self._partner_name} did not take over: active again", ERROR)
        if not in_doubt and not proof:
            self._become_active(0, Leasing.LEASED, same_epoch=True)
            return
        self._alone(proof, now)
        self._effects.append(fx.Released(self.log.number))
        if proof:
            self._become_active(self._end_rivalry(), Leasing.FREE, same_epoch=True)
            return
        self.rivalry.doubt = True
        self._become_active(lanes.IN_DOUBT, Leasing.LANE, same_epoch=True)
        self._reset_channel("switchover without answer")

    def _take_handover(self, counters: tuple[LeaseEntry, ...]) -> None:
        """We are the backup, in sync, and the owner has stopped at these numbers."""
        self._effects.append(fx.ApplyExact(counters))
        self.log.reset(BackupState.IN_SYNC)
        self._backup_follows = False
        self.rivalry.inherited_by(self.partner.boot_id if self.partner is not None else b"")
        self.alone_since = None
        self._become_active(0, Leasing.LEASED)
        self._send(frames.Taken(self.epoch))
        self._report("switchover", f"took over from {self._partner_name} as planned, epoch {self.epoch:#x}")

    def _handed_over(self, epoch: int) -> None:
        """The partner has taken; we are its backup, in sync, and say so."""
        self.epoch = epoch
        self.role = Role.STANDBY
        self.in_sync, self._owned = True, False
        self._has_owned = False
        self._estate.lost()
        self._followed = self.partner.boot_id if self.partner is not None else b""
        self._applied = None
        self._dismissal = 0
        self._handover = None
        self.rivalry.none()
        self.log.reset(BackupState.ABSENT)
        self._effects.append(fx.BecomeStandby(forward=True))
        self._send(frames.Ack(self.epoch, 0))
        self._report("switchover", f"handed over to {self._partner_name}, epoch {self.epoch:#x}")

    def _refused_handover(self, reason: str, now: float) -> None:
        """The partner certainly did not take over: go on; the backup joins anew."""
        self._note_unacknowledged(now)
        self._alone(False, now)
        self._effects.append(fx.Released(self.log.number))
        self._become_active(0, self.rivalry.leasing, same_epoch=True)
        self._report("switchover-failed", f"{reason}: active again", ERROR)
