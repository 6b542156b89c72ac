"""Who else may be using the outbound numbers of our SAs, and where we go on so that we never meet (invariant I2).

An owner and its backup in sync know the same ceiling ``c`` of each SA.  When they lose sight of each other, each may go
on; neither learns what the other does.  Numbers cost nothing, so every way to go on has a place of its own, counted
in lanes above ``c``:

    0       the owner, its backup being silent
    1       the backup, the owner being silent
    2       the owner, in doubt whether its handover arrived (one of the two: who was handed the SAs hands
            them on when the other follows)
    3, 7    the one with the lower and the one with the higher index, where it was isolated and owns again, once; above
            whichever of 0 to 2 it has been in, and part of which it has used
    12, ... whoever is left once the other is dead or has given up its records; unbounded
    48, ... whoever comes back with records from its disk: above those that nobody had time to save

Places below 12 are one lane wide (``Leasing.LANE``); who resumes begins in one of four lanes.  Between 11 and 12 a lane
stays empty: the backup may know a ceiling whose acknowledgement never came back.  Place 12 is also taken after proof of
death: what the dead member did in its last moments, whether it had been cut off or asleep, would otherwise rest on
whose timer fired first (docs/decisions/0006).
"""

from __future__ import annotations

from ipsecha.model.leases import Leasing

AFTER_SILENCE = 1
IN_DOUBT = 2
RESUMED = (3, 7)
CERTAIN = 12
RESTORED = 48


class Rivalry:
    """What an owner knows about others that may use its SAs.

    ``heir``: boot id of the process that holds our records in sync and may take over; ``doubt``: somebody may have
    done so; ``resumed``: we own again after we were isolated, and have used up the place for that.
    """

    def __init__(self) -> None:
        self.heir = b""
        self.doubt = self.resumed = False

    @property
    def exists(self) -> bool:
        return self.doubt or bool(self.heir)

    @property
    def leasing(self) -> Leasing:
        """How to use numbers without a backup."""
        return Leasing.LANE if self.exists else Leasing.FREE

    def none(self) -> None:
        """Nobody else has our records."""
        self.inherited_by(b"")

    def inherited_by(self, boot_id: bytes) -> None:
        """A backup is in sync: it shares our ceilings, and nobody else does."""
        self.heir, self.doubt, self.resumed = boot_id, False, False

    def meet(self, boot_id: bytes, innocent: bool) -> None:
        """The other member says who it is; ``innocent``: it has not owned anything since our epoch."""
        if boot_id == self.heir:
            self.doubt = not innocent

    def end(self, proven_innocent: bool = False) -> int:
        """The other is dead, or has given up its records: how many lanes to skip before numbers are free."""
        lanes = CERTAIN if self.exists and not proven_innocent else 0
        self.none()
        return lanes
