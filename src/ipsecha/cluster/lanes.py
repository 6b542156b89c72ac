"""Who else may be using the outbound numbers of our SAs, and where we go on so that we never meet (invariant I2).

An owner and its backup in sync know the same ceiling ``c`` of each SA.  When they lose sight of each other, each may go
on; neither learns what the other does.  Numbers cost nothing, so every way to go on has a place of its own, counted
in lanes above ``c``:

    0       the owner, its backup being silent
    1       the backup, the owner being silent
    2       the owner, in doubt whether its handover arrived
    4, ...  whoever is left once the other is dead or has given up its records; unbounded
    16, ... whoever comes back with records from its disk: above those that nobody had time to save

Places 0 to 2 are one lane wide (``Leasing.LANE``).  Between 2 and 4 a lane stays empty: the backup may know a ceiling
whose acknowledgement never came back.  Place 4 is also taken after proof of death: what the dead member did in its last
moments, whether it had been cut off or asleep, would otherwise rest on whose timer fired first (docs/decisions/0006).
"""

from __future__ import annotations

from ipsecha.model.leases import Leasing

AFTER_SILENCE = 1
IN_DOUBT = 2
CERTAIN = 4
RESTORED = 16


class Rivalry:
    """What an owner knows about others that may use its SAs.

    ``heir``: boot id of the process that holds our records in sync and may take over; ``doubt``: somebody may have
    done so.
    """

    def __init__(self) -> None:
        self.heir = b""
        self.doubt = False

    @property
    def exists(self) -> bool:
        return self.doubt or bool(self.heir)

    @property
    def leasing(self) -> Leasing:
        """How to use numbers without a backup."""
        return Leasing.LANE if self.exists else Leasing.FREE

    def none(self) -> None:
        """Nobody else has our records."""
        self.heir, self.doubt = b"", False

    def meet(self, boot_id: bytes, innocent: bool) -> None:
        """The other member says who it is; ``innocent``: it has not owned anything since our epoch."""
        if boot_id == self.heir:
            self.doubt = not innocent

    def end(self, proven_innocent: bool = False) -> int:
        """The other is dead, or has given up its records: how many lanes to skip before numbers are free."""
        lanes = CERTAIN if self.exists and not proven_innocent else 0
        self.none()
        return lanes
