"""What an owner leaves to the one that it has to give way to.

Without a witness two members that are cut off from each other both go on.  When they meet, one stays owner and the
other becomes its backup (``meeting``).  What that other one did meanwhile, the one that stays cannot know:

* IKE SAs that both have, and that it has changed.  It names them (``Touched``), and the owner repairs them as after
  lost updates (RFC 6027 section 3.6).
* IKE SAs that it has made.  Their records go to the owner (``Bequest``), which uses them from then on.  Nobody else
  does: their maker stopped before it sent them, and will not begin again; it keeps them until the owner has answered,
  and offers them again, to the same process, should the channel break.  The owner takes none a second time, and none
  that it has had and ended itself; one that it has is repaired.  Outbound numbers go on where no member can have come
  to.

Where the records of the two go back to different cold starts, all is left.  Neither has anything of the other's, unless
it has had, used and forgotten it: a process that has begun anew after it had owned takes nothing.

With a witness there is no second owner, and nothing to be left.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipsecha.cluster import effects as fx

TOUCHED_LIMIT = 1 << 18
"""So many changed records are remembered."""

MARGIN_S = 0.05
"""An IKE SA may be a turn older than the commit of its record."""


class Estate:
    """What only this member knows, as long as it owns, and until it has told the owner that stays."""

    def __init__(self) -> None:
        self._owned = False
        self._touched: set[bytes] = set()
        self._offered: set[bytes] = set()
        self._since = 0.0
        self.has_forgotten = False
        self._bequest: fx.Bequeath | None = None  # under way
        self._heir = b""  # boot id of the owner that it was offered to

    def owned(self) -> None:
        """This member is an owner."""
        self._owned = True

    def note(self, keys: Iterable[bytes], since: float) -> None:
        """These records were changed, the first one at ``since``: the other member may be an owner, too, and does not
        hear of it."""
        if not self._touched:
            self._since = since - MARGIN_S
        if len(self._touched) < TOUCHED_LIMIT:
            self._touched.update(keys)

    def touched(self, key: bytes) -> bool:
        """Whether this record was changed, or withdrawn, while the other member may have been an owner."""
        return key in self._touched

    def known(self) -> None:
        """The other member has acknowledged the end of a join, or sent it: both have the same, and nothing else."""
        self._touched.clear()
        self.has_forgotten = False

    def forgotten(self) -> None:
        """This member's records are gone.  The other one may have the same, with message IDs and numbers that this
        process has used since."""
        self.has_forgotten = self.has_forgotten or self._owned
        self.lost()

    def lost(self) -> None:
        """This member's records are another's to use: it has nothing to leave."""
        self._owned, self._bequest, self._heir = False, None, b""
        self._touched.clear()
        self._offered.clear()

    def bequest(self, heir: bytes, strangers: bool) -> fx.Bequeath | None:
        """What to offer to the owner that stays, the same again if the channel breaks meanwhile; None: nothing.
        ``heir``: its boot id; another process may have used what it was offered, and nobody knows how far.
        ``strangers``: its records go back to another cold start than ours."""
        if self._bequest is not None and self._heir != heir:
            self.forgotten()
        if self._bequest is None and self._owned:
            self._heir = heir
            if strangers:
                self._bequest = fx.Bequeath(None, 0.0)
            elif self._touched:
                self._bequest = fx.Bequeath(tuple(sorted(self._touched)), self._since)
        return self._bequest

    def offered(self, key: bytes) -> None:
        """This record is on its way to the owner that stays, which finds out whether it has the IKE SA itself."""
        self._offered.add(key)

    def confession(self) -> list[bytes]:
        """The keys of records that were changed and not offered, told last."""
        return sorted(self._touched - self._offered)
