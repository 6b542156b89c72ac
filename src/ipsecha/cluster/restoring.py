"""A member that comes back with records from its disk, after all members were gone at once (``cluster.journal``).

Others may have owned the SAs after the file was written, and then its numbers are old (invariants I2 and I3).  So the
records are used only where that is ruled out: by the witness's ledger where there is one; else by the partner, whose
own file or marker says which epoch it has seen last.  An owner that is there is followed, as always, and a backup that
is in sync has newer records.  Numbers go on beyond the bounds in the file, and further than anybody can have come whose
marker was not written any more.

A file is used once: before the first number is, the disk says that it was (``UseUp``).  Should the power fail a second
time before the records are saved again, they are lost.
"""

from __future__ import annotations

from ipsecha.cluster import effects as fx
from ipsecha.cluster import lanes
from ipsecha.cluster.epoch import MEMBER_BITS
from ipsecha.cluster.frames import Hello
from ipsecha.cluster.journal import Opening
from ipsecha.cluster.ownership import ERROR, WARNING, Role
from ipsecha.cluster.policies import Policies
from ipsecha.model.leases import Leasing

ROOM = 64
"""Terms: more changes of ownership than a member can go through unheard, or before one of them is on its disk."""


class Restoring(Policies):
    """One of two members, as it begins with what it has saved."""

    _using_up = False

    @property
    def highest_epoch(self) -> int:
        """Of all that this member has heard of."""
        return max(self._highest_epoch, self.epoch)

    def restore(self, opening: Opening, trusted: bool, wait_s: float) -> None:
        """Before ``start``: what the member's file says.  ``trusted``: the operator vouches for it; ``wait_s``: so long
        it waits for its partner, who may have the records or confirm them, before it begins with nothing."""
        self.epoch, self.lineage = opening.epoch, opening.lineage
        self._highest_epoch = max(self._highest_epoch, opening.epoch, opening.highest_epoch)
        self._owned = self.restored = opening.owner
        self.rivalry.doubt = opening.owner and not trusted
        if opening.owner:
            self._leave_room()
        if not (opening.owner and (trusted or self.settings.witness)):
            self._partner_wait_s = max(self.settings.start_wait_s, wait_s)

    def used_up(self, done: bool, now: float) -> None:
        """The answer to ``UseUp``: whether nobody will believe the file any more."""
        self._using_up = False
        if not self.restored or self.role not in (Role.STARTING, Role.ISOLATED):
            return  # meanwhile there is an owner
        if not done:
            self._report("saved-state", "not used: the disk cannot be written", ERROR)
            self._cold_start(now)
            return
        self._alone(False, now)
        self.rivalry.none()
        self._become_active(lanes.RESTORED, Leasing.FREE)
        self._report("restored", f"owner again with saved state, epoch {self.epoch:#x}", WARNING)
        self._hello_again(now)

    def _resume(self, now: float) -> None:
        """Records from the disk are marked as used before they are."""
        if self.restored:
            self._resume_restored(now)
        else:
            super()._resume(now)

    def _leave_room(self) -> None:
        """Leave epochs behind that were taken, and that we have not heard of (invariant I1)."""
        self._highest_epoch = max(self._highest_epoch, self.epoch) + (ROOM << MEMBER_BITS)

    def _claim_restored(self, hello: Hello, now: float) -> None:
        """Both members are back, and nobody owns.  A partner that knows of no owner at all may have forgotten it."""
        confirmed = 0 < hello.epoch <= self.epoch
        if confirmed or (self._is_trusted and not hello.epoch):
            self._resume_restored(now)
        elif not hello.epoch and self.settings.witness:
            self._ask_about_restored(now)
        else:
            known = f"knows of epoch {hello.epoch:#x}" if hello.epoch else "has saved nothing"
            self._report("saved-state", f"not used: {self._partner_name} {known}, ours is {self.epoch:#x}", WARNING)
            self._cold_start(now)

    @property
    def _is_trusted(self) -> bool:
        return not self.rivalry.doubt

    def _ask_about_restored(self, now: float) -> None:
        """The witness is to say whether there was another owner (``voting``)."""
        raise NotImplementedError

    def _resume_restored(self, now: float) -> None:
        if not self._using_up:
            self._using_up = True
            self._effects.append(fx.UseUp())
