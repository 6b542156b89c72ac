"""The witness: a vote from a third box, so that two members who cannot see each other need not guess.

Theory of operation.  The witness keeps one line for the cluster: the highest epoch that anybody told it, and whose.
It knows nothing of SAs and never acts by itself.  Whoever wants to go on without a partner that is only silent
*claims* the next epoch and says which epoch its records are of (``base``).

* Compare and set: a claim wins where its base is not older than the line, and it then *is* the line.  Of two members
  that know the same, the first one wins and the other one's base is old from then on, for ever: it can only begin anew
  as a backup.
* A claim with base 0 has no records (a cold start) and wins only where nobody has ever owned anything.
* Repeating a claim that won wins again, and so does whoever holds the line already and has records: an answer may be
  lost.  Holding it with nothing proves nothing: the SAs may have moved on to an owner that cannot reach the witness.
* An owner *tells* its epoch, however it came by it (proof of death, a switchover, an operator's word): the line
  follows, never back.  It may lag behind: then both members' bases are above it, and the first claim wins all the same.
* Who has won but does not need it any more (the partner is back) *returns* the epoch unused.

Nothing here looks at a clock: an answer that comes late is as true as one that comes at once.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from ipsecha.cluster.epoch import EPOCH_LIMIT
from ipsecha.model.errors import ClusterError

MAX_MESSAGE = 1024
"""Octets: everything that members and witness say to each other is far smaller."""

NAME = "witness"
"""The common name of the witness's certificate; no member may have it."""

LOOK_TICKS = 10
PATIENCE_TICKS = 5
"""A member looks in so often, and takes a connection without an answer for dead after so long (heartbeats)."""

CLAIM_TICKS = 3
ASK_AGAIN_TICKS = 10
"""A claim without an answer is repeated so often, and one that was refused made again so much later."""


class Kind(IntEnum):
    LOOK = 0
    CLAIM = 1
    TELL = 2
    RETURN = 3


class Request(msgspec.Struct, array_like=True, frozen=True):
    """What a member says.  Its name is that of its certificate."""

    kind: int
    number: int  # the answer bears it
    cluster: str
    boot_id: bytes
    epoch: int = 0
    base: int = 0
    lineage: int = 0


class Line(msgspec.Struct, array_like=True, frozen=True):
    """What the witness knows: all of its state."""

    epoch: int = 0
    holder: bytes = b""  # boot id
    member: str = ""
    lineage: int = 0


class Reply(msgspec.Struct, array_like=True, frozen=True):
    """The line after the request, and whether it is the sender's as asked."""

    number: int
    granted: bool
    line: Line


_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(Request)
_reply = msgspec.msgpack.Decoder(Reply)
_MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Ledger:
    """The witness's side for one cluster.  ``line`` must be on disk before a reply leaves."""

    def __init__(self, cluster: str, members: tuple[str, ...], line: Line) -> None:
        self.cluster = cluster
        self.members = members
        self.line = line
        self._returns: dict[str, tuple[bytes, int]] = {}  # by member: boot id and number of the last RETURN
        self._claims: dict[str, tuple[bytes, int]] = {}  # and of the last claim that won

    def answer(self, member: str, data: bytes) -> bytes:
        """The reply to one message of ``member``, as its certificate names it.

        Raises ClusterError for what makes no sense and for who is no member.
        """
        if member not in self.members:
            raise ClusterError(f"{member[:80]!r} is no member of the cluster")
        try:
            request = _request.decode(data)
        except _MALFORMED:
            raise ClusterError("a message that makes no sense") from None
        if request.cluster != self.cluster:
            raise ClusterError(f"a message for the cluster {request.cluster[:80]!r}")
        if len(request.boot_id) != 16 or not 0 <= request.base <= request.epoch < EPOCH_LIMIT:
            raise ClusterError("a message with impossible values")
        return _encode(Reply(request.number, self._heed(member, request), self.line))

    def _heed(self, member: str, request: Request) -> bool:
        own = self.line.holder == request.boot_id
        mine = own and self.line.epoch == request.epoch
        if request.kind == Kind.CLAIM:
            if _is_late(request, self._returns.get(member)):
                return mine
            based = (own and request.base > 0) or self.line.epoch <= request.base
            if based and max(self.line.epoch, request.base) < request.epoch:
                self.line = Line(request.epoch, request.boot_id, member, request.lineage)
                self._claims[member] = (request.boot_id, request.number)
                return True
        elif request.kind == Kind.TELL:
            if self.line.epoch < request.epoch:
                self.line = Line(request.epoch, request.boot_id, member, request.lineage)
                return True
        elif request.kind == Kind.RETURN:
            if _is_late(request, self._claims.get(member)):
                return False
            self._returns[member] = (request.boot_id, request.number)
            if not mine:
                return False
            self.line = Line(request.base, b"", member if request.base else "", request.lineage if request.base else 0)
        return mine


def _is_late(request: Request, last: tuple[bytes, int] | None) -> bool:
    """Whether this was on its way on an older connection, and what was said behind it has been heeded: a copy of a
    claim whose vote was returned, or the return of a vote that was claimed again."""
    return last is not None and last[0] == request.boot_id and request.number < last[1]


class WitnessClient:
    """A member's side: what has been asked, and what is known of the witness."""

    def __init__(self, cluster: str, boot_id: bytes) -> None:
        self.connected = False
        self.line: Line | None = None  # as last heard
        self.claim: Request | None = None  # not answered yet
        self._cluster = cluster
        self._boot_id = boot_id
        self._number = 0
        self._unanswered = False  # something on this connection
        self._silent_ticks = 0
        self._look_ticks = 0
        self._pause_ticks = 0  # until the next claim

    @property
    def may_claim(self) -> bool:
        return self.claim is None and self._pause_ticks == 0

    def up(self) -> bytes:
        """Connected: what to say first.  A claim without an answer is repeated, octet for octet."""
        self.connected = True
        self._silent_ticks = self._look_ticks = 0
        return self._say(self.claim) if self.claim is not None else self.request(Kind.LOOK)

    def down(self) -> None:
        self.connected = False

    def tick(self) -> bytes | None:
        """One heartbeat interval is over: something to say, or nothing."""
        self._pause_ticks = max(0, self._pause_ticks - 1)
        self._silent_ticks = self._silent_ticks + 1 if self._unanswered else 0
        self._look_ticks += 1
        if not self.connected or self._look_ticks < (LOOK_TICKS if self.claim is None else CLAIM_TICKS):
            return None
        self._look_ticks = 0
        return self.request(Kind.LOOK) if self.claim is None else self._say(self.claim)

    @property
    def is_dead(self) -> bool:
        """The connection stands and nothing is answered on it."""
        return self.connected and self._silent_ticks > PATIENCE_TICKS

    def ask(self, epoch: int, base: int, lineage: int) -> bytes:
        """Claim an epoch.  Send it where there is a connection; else it is said once there is one."""
        self.claim = self._make(Kind.CLAIM, epoch, base, lineage)
        return self._say(self.claim)

    def request(self, kind: Kind, epoch: int = 0, base: int = 0, lineage: int = 0) -> bytes:
        return self._say(self._make(kind, epoch, base, lineage))

    def _make(self, kind: Kind, epoch: int, base: int, lineage: int) -> Request:
        self._number += 1
        return Request(kind, self._number, self._cluster, self._boot_id, epoch, base, lineage)

    def _say(self, request: Request) -> bytes:
        self._unanswered = True
        return _encode(request)

    def answer(self, data: bytes) -> tuple[Request, bool] | None:
        """One message of the witness: the claim that it decides, with the decision; or None.

        Raises ClusterError for what makes no sense.
        """
        try:
            reply = _reply.decode(data)
        except _MALFORMED:
            raise ClusterError("a message that makes no sense") from None
        if not 0 <= reply.line.epoch < EPOCH_LIMIT:
            raise ClusterError("an epoch that nobody can have reached")
        self._unanswered = False
        self._silent_ticks = 0
        self.line = reply.line
        claim = self.claim
        if claim is None or reply.number != claim.number:
            return None
        self.claim = None
        if not reply.granted:
            self._pause_ticks = ASK_AGAIN_TICKS
        return claim, reply.granted
