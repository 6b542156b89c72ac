"""What the cluster core asks the gateway to do, in this order."""

from __future__ import annotations

import msgspec

from ipsecha.cluster.frames import Change
from ipsecha.model.leases import Leasing
from ipsecha.model.records import LeaseEntry


class SendFrame(msgspec.Struct, frozen=True):
    data: bytes

    def __repr__(self) -> str:  # frames hold keys
        return f"SendFrame({len(self.data)} octets)"


class SendBeat(msgspec.Struct, frozen=True):
    """On every path."""

    data: bytes


class ResetChannel(msgspec.Struct, frozen=True):
    """Hang up and build the channel anew; both sides then say hello again."""

    reason: str


class ForMember(msgspec.Struct, frozen=True):
    """Of a cluster of more than two: what concerns the channel to the member with this index."""

    member: int
    effect: SendFrame | ResetChannel


class Released(msgspec.Struct, frozen=True):
    """All commits up to ``number`` are as safe as they can be: carry out what waited for them."""

    number: int


class Granted(msgspec.Struct, frozen=True):
    """The backup has acknowledged these ceilings."""

    entries: tuple[LeaseEntry, ...]


class SetLeasing(msgspec.Struct, frozen=True):
    """``skip_lanes``: first raise the outbound numbers of all SAs that far above their ceilings (``cluster.lanes``).
    ``gradually``: a backup begins to join, so an SA may stay within what it was allowed before until it needs more."""

    mode: Leasing
    skip_lanes: int = 0
    gradually: bool = False


class BecomeActive(msgspec.Struct, frozen=True):
    """Use the SAs under this epoch; ``above_lane``: start outbound numbers so many lanes above the ceilings."""

    epoch: int
    above_lane: int


class RaiseEpoch(msgspec.Struct, frozen=True):
    """The owner goes on in a later epoch; nothing changes for its SAs, whose IVs keep the incarnation that they had."""

    epoch: int


class UseUp(msgspec.Struct, frozen=True):
    """The saved state is about to be used: the file must not be believed a second time.  Answered by
    ``PairMember.used_up``."""


class AskWitness(msgspec.Struct, frozen=True):
    data: bytes


class ResetWitness(msgspec.Struct, frozen=True):
    """Nothing is answered: connect to the witness anew."""


class BecomeStandby(msgspec.Struct, frozen=True):
    """Stop using the SAs at once.  ``forward``: what still arrives goes to the new owner (planned switchover)."""

    forward: bool


class Freeze(msgspec.Struct, frozen=True):
    """Stop using the SAs for a planned switchover; answer with ``PairMember.handover_ready``."""


class Apply(msgspec.Struct, frozen=True):
    """Store the owner's records."""

    changes: tuple[Change, ...]
    initiations: tuple[Change, ...] = ()
    deltas: tuple[tuple[bytes, bytes], ...] = ()  # of records that are there already

    def __repr__(self) -> str:  # records hold keys
        return f"Apply({len(self.changes)} changes)"


class HoldHalfOpen(msgspec.Struct, frozen=True):
    """A half-open IKE SA that the owner shares: worth keeping, within bounds."""

    state: bytes

    def __repr__(self) -> str:  # the state holds keys
        return f"HoldHalfOpen({len(self.state)} octets)"


class ApplyLeases(msgspec.Struct, frozen=True):
    """Raise the stored ceilings; only an entry that ``lowers`` may lower the inbound one."""

    entries: tuple[LeaseEntry, ...]


class ApplyExact(msgspec.Struct, frozen=True):
    """The exact counters at a planned switchover: nothing was used beyond them."""

    entries: tuple[LeaseEntry, ...]


class DiscardRecords(msgspec.Struct, frozen=True):
    """Forget all SAs: they are stale, or another member's."""


class Suspect(msgspec.Struct, frozen=True):
    """The other member was an owner, too, and changed these records: what is in ours may be old."""

    keys: tuple[bytes, ...]


class Bequeath(msgspec.Struct, frozen=True):
    """The owner that stays cannot know the IKE SAs that we made since ``since``: call ``PairMember.bequeath`` with the
    records of those among ``keys`` (None: of all that we have), a part at a time, and at the end
    ``PairMember.bequeathed``."""

    keys: tuple[bytes, ...] | None
    since: float


class Inherit(msgspec.Struct, frozen=True):
    """The other member was an owner, too, made these IKE SAs, and uses them no more: they are ours.  Outbound numbers
    go on ``above_lanes`` lanes above the ceilings."""

    records: tuple[bytes, ...]
    above_lanes: int

    def __repr__(self) -> str:  # records hold keys
        return f"Inherit({len(self.records)} records)"


class TakeSnapshot(msgspec.Struct, frozen=True):
    """A backup joins: call ``PairMember.snapshot`` with an iterator over all records."""


class TakeMirrorSnapshot(msgspec.Struct, frozen=True):
    """A mirror joins: call ``SeatedMember.mirror_snapshot`` with an iterator over all records."""

    member: int


class CloseJoin(msgspec.Struct, frozen=True):
    """All records are on their way: call ``PairMember.close_join`` with an iterator that has the data plane switch to
    leases, part by part, and gives the ceilings of SAs whose numbers went beyond their recorded ceilings."""


class ClockOffset(msgspec.Struct, frozen=True):
    """The owner's clock is this many seconds ahead of ours."""

    seconds: float


class Forwarded(msgspec.Struct, frozen=True):
    """A packet that arrived at the other member."""

    data: bytes


class ClusterReport(msgspec.Struct, frozen=True):
    """One line for the operator; ``level`` as in logging."""

    event: str
    text: str
    level: int = 20


ClusterEffect = (
    SendFrame
    | SendBeat
    | ResetChannel
    | ForMember
    | Released
    | Granted
    | SetLeasing
    | BecomeActive
    | RaiseEpoch
    | UseUp
    | AskWitness
    | ResetWitness
    | BecomeStandby
    | Freeze
    | Apply
    | HoldHalfOpen
    | ApplyLeases
    | ApplyExact
    | DiscardRecords
    | Suspect
    | Bequeath
    | Inherit
    | TakeSnapshot
    | TakeMirrorSnapshot
    | CloseJoin
    | ClockOffset
    | Forwarded
    | ClusterReport
)
