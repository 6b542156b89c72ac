"""A member that comes back with records from its disk, after all members were gone at once (``cluster.journal``).

Others may have owned the SAs after the file was written, and then its numbers are old (invariants I2 and I3).  So the
records are used only where that is ruled out: by the witness's ledger where there is one; else by the partner, whose
own file or marker says which epoch it has seen last.  An owner that is there is followed, as always.  Numbers go on
beyond the bounds in the file, and further than anybody can have come whose marker was not written any more.
"""

from __future__ import annotations

from ipsecha.cluster import lanes
from ipsecha.cluster.frames import Hello
from ipsecha.cluster.journal import Opening
from ipsecha.cluster.ownership import WARNING
from ipsecha.cluster.policies import Policies
from ipsecha.model.leases import Leasing


class Restoring(Policies):
    """One of two members, as it begins with what it has saved."""

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
        if not (opening.owner and (trusted or self.settings.witness)):
            self._partner_wait_s = max(self.settings.start_wait_s, wait_s)

    def _is_confirmed_by(self, hello: Hello) -> bool:
        """Whether the partner knows of no owner after us; one that knows of none at all may have forgotten it."""
        return 0 < hello.epoch <= self.epoch

    def _claim_restored(self, hello: Hello, now: float) -> None:
        """Both members are back, and nobody owns."""
        if self._is_confirmed_by(hello):
            self._resume_restored(now)
            return
        known = f"knows of epoch {hello.epoch:#x}" if hello.epoch else "has saved nothing"
        self._report("saved-state", f"not used: {self._partner_name} {known}, ours is {self.epoch:#x}", WARNING)
        self._cold_start(now)

    def _resume_restored(self, now: float) -> None:
        self._alone(False, now)
        self.rivalry.none()
        self._become_active(lanes.RESTORED, Leasing.FREE)
        self._report("restored", f"owner again with saved state, epoch {self.epoch:#x}", WARNING)
        self._hello_again(now)
