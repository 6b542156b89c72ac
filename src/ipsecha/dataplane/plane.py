"""The data plane as the gateway sees it: the same for the kernel and for user space (DESIGN section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple, Protocol

from ipsecha.ipsec.ceilings import PlaneEvents
from ipsecha.model.leases import Leasing
from ipsecha.model.policy import Policy
from ipsecha.model.records import Address, ChildSa, IkeSa, LeaseEntry

__all__ = ["DataPlane", "Forward", "GapState", "Kind", "OnIke", "PlaneEvents", "Traffic"]

Kind = Literal["inner", "esp", "ah"]
"""A clear packet from the protected side; an ESP packet, however it was encapsulated; a gathered AH packet
(``wire.ah``)."""

Forward = Callable[[Kind, bytes, Address, Address], None]
"""``forward(kind, data, local, remote)``: a packet for the new owner, who gives it to ``DataPlane.inject``."""

OnIke = Callable[[bytes, Address, Address], None]
"""``on_ike(data, local, remote)``: one IKE message, without the non-ESP marker."""


class GapState(NamedTuple):
    """An inbound SA after a takeover (``ipsec.gap``): until which number packets are refused, how many were, how many
    numbers still may be, and since when none is any more (0: still open)."""

    floor: int
    refused: int
    remaining: int
    closed_at: float
    learnt: int  # the number that the window was learnt from; 0: it was not


class Traffic(NamedTuple):
    """One child SA as it is in use.  Counts are since this member began to use it; times are of the cluster clock.

    ``in_gap``: how many inbound numbers a failover at this moment would lose at most, ``in_rate`` numbers a second at
    present; ``gap``: what the last one did lose, None where this member has not taken the SA over.
    """

    packets_in: int = 0
    bytes_in: int = 0
    packets_out: int = 0
    bytes_out: int = 0
    replays: int = 0
    integrity_failures: int = 0
    last_in: float = 0.0
    last_out: float = 0.0
    in_gap: int = 0
    in_number: int = 0  # highest inbound sequence number accepted
    out_number: int = 0  # last outbound sequence number used
    in_ceiling: int = 0
    out_ceiling: int = 0
    held: int = 0  # packets that wait for a lease
    in_rate: float = 0.0
    gap: GapState | None = None


class DataPlane(Protocol):
    """Installed child SAs are inert until ``activate``, on a standby as well as on the owner.

    Of all this only ``listen``, ``stop_listening`` and ``configure`` ask something of the system and may raise
    DataPlaneError: what concerns ownership itself cannot fail.
    """

    def listen(self) -> None:
        """Let packets come in.  What is in the way is raised after the rest has been done; may be called again."""

    def stop_listening(self) -> None: ...

    def install(self, sa: IkeSa, child: ChildSa) -> None: ...

    def update(self, sa: IkeSa, child: ChildSa) -> None: ...

    def remove(self, spi_in: int) -> None: ...

    def skip_outbound(self, spi_in: int, delta: int) -> None:
        """Go on ``delta`` outbound numbers further, the leases permitting; where there is no room, ask for a rekey."""

    def activate(self, incarnation: int, above_lanes: int) -> None:
        """Become the owner, in O(1) of the number of SAs: each begins beyond its leases at its first packet, outbound
        ``above_lanes`` lanes above (``model.leases.lane_width``)."""

    def deactivate(self, forward: Forward | None) -> None:
        """Use no SA any more; what still arrives goes to ``forward``."""

    def set_leasing(self, mode: Leasing, skip_lanes: int = 0, gradually: bool = False) -> None:
        """What bounds the numbers from now on; first, go on ``skip_lanes`` lanes above the ceilings.  ``gradually``: an
        SA in use may stay within what it was allowed before, until it needs more."""

    def share(self, spi_in: int) -> None:
        """The record of a child SA is about to be encoded for a backup that joins."""

    def lease_in_parts(self, spis: Iterator[int]) -> Iterator[Sequence[LeaseEntry]]:
        """A backup that joins has all records: numbers are bounded by leases.  Part by part, as they are asked for;
        each holds ceilings that the backup has to be told before it is in sync, and may be empty.

        ``spis``: inbound SPIs of all child SAs, and of those that may come of exchanges under way."""

    def lease_requests(self, now: float) -> list[LeaseEntry]:
        """Extensions that are wanted since the last call; ``PlaneEvents.leases_wanted`` says that there are some."""

    def grant(self, entries: Iterable[LeaseEntry]) -> None:
        """The backup has acknowledged these ceilings: held packets go on."""

    def review_leases(self, now: float) -> None:
        """Now and then: let SAs give back inbound numbers that they no longer need."""

    def apply_leases(self, entries: Iterable[LeaseEntry]) -> None:
        """A standby learns the owner's ceilings."""

    def exact_counters(self) -> list[LeaseEntry]:
        """After ``deactivate``: the numbers in use of the busy SAs, for the next owner."""

    def adopt_exact(self, entries: Iterable[LeaseEntry]) -> None: ...

    def await_marker(self) -> None:
        """SAs are saved, and the disk does not know yet who owns them now: numbers stay within a margin."""

    def marked(self) -> None:
        """The disk knows that this member is a backup; the next ownership begins with margins again."""

    def begin_saving(self, near: Callable[[], None]) -> None:
        """Records are saved from now on: no number goes beyond what has been saved (``ipsec.durable``).  ``near``: an
        SA is coming near its bound."""

    def bounds_to_write(self, saved_now: Iterable[ChildSa], now: float) -> list[tuple[int, int, int]]:
        """Bounds (inbound SPI, inbound, outbound number) that the next write must hold, ``saved_now`` being the child
        SAs whose records are in it."""

    @property
    def bounds_left(self) -> bool:
        """Whether one more write is to follow at once: not all SAs that are busy have been looked at."""

    def bounds_of(self, children: Iterable[ChildSa]) -> list[tuple[int, int, int]]:
        """The bounds that hold now, of those that have some."""

    def bounds_written(self) -> None:
        """Those of the last ``bounds_to_write`` are saved for good: numbers may go so far."""

    def rekey_near(self) -> None:
        """The disk fails, and may still hold what it had: SAs that come near their bounds ask to be rekeyed."""

    def end_saving(self) -> None:
        """Nothing is saved any more."""

    def configure(self, policy: Policy) -> None: ...

    def traffic(self, spi_in: int) -> Traffic | None:
        """None where no such child SA is installed."""

    def inject(self, kind: Kind, data: bytes, local: Address, remote: Address) -> None:
        """A packet that the owner before has forwarded."""

    def send_ike(self, datagram: bytes, local: Address, remote: Address) -> None:
        """One IKE message; the non-ESP marker is added where ``local`` has the NAT traversal port."""
