"""A child SA in use: what the packet path needs, made from its record when the first packet asks for it.

A gateway that becomes the owner of 100,000 SAs touches none of them: a ``LiveSa`` is built at first use and starts
beyond the leases in the record (invariants I2 and I3), so that taking over costs nothing per SA.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ipsecha.crypto.esp_transforms import EspTransform, esp_transform, key_material_length
from ipsecha.ipsec.ah import AhSa
from ipsecha.ipsec.gap import Gap
from ipsecha.ipsec.leases import INBOUND_HORIZON_S, Lease, inbound_lease, outbound_lease
from ipsecha.ipsec.replay import ReplayWindow
from ipsecha.ipsec.selection import Selection
from ipsecha.ipsec.tunnel import inner_mtu
from ipsecha.model.numbers import Protocol
from ipsecha.model.policy import ChildPolicy, DontFragment
from ipsecha.model.proposals import ChildSuite
from ipsecha.model.records import Address, ChildSa, IkeFlag, IkeSa

if TYPE_CHECKING:
    from ipsecha.ipsec.spd import Bundle

END = (1 << 32) - 1  # RFC 4303 section 3.3.3: the number must not cycle
END_ESN = (1 << 40) - 1
"""Not 2^64: an AEAD's IV holds the low 40 bits below the owner's incarnation, and must not repeat (invariant I1)."""

_NEVER = 1 << 64


class LiveSa:
    """One child SA while this member uses it.  Counters count since then; the record's ceilings outlive it."""

    __slots__ = (
        "accepted",
        "awaits_first",
        "block",
        "bundle",
        "bytes_in",
        "bytes_out",
        "child",
        "copies_df",
        "counter_iv",
        "encapsulated",
        "end",
        "esn",
        "floor",
        "follows",
        "gap",
        "hard_bytes",
        "hard_done",
        "hard_packets",
        "held_in",
        "held_out",
        "in_lease",
        "inbound",
        "inner_mtu",
        "integrity_failures",
        "iv_base",
        "lane_start",
        "last_in",
        "last_out",
        "learns",
        "local",
        "moved_to",
        "must_rekey_done",
        "next_out",
        "out_lease",
        "outbound",
        "packets_in",
        "packets_out",
        "policy",
        "protocol",
        "remote",
        "replays",
        "reported_in",
        "sa",
        "selection",
        "sets_df",
        "soft_bytes",
        "soft_done",
        "soft_number",
        "soft_packets",
        "spi_in",
        "spi_out",
        "under_review",
        "window",
    )

    def __init__(self, sa: IkeSa, child: ChildSa, policy: ChildPolicy, bundle: Bundle, incarnation: int) -> None:
        """Raises CryptoError where the suite is not supported or the keys do not fit it."""
        self.policy = policy
        self.bundle = bundle
        self.spi_in = child.spi_in
        self.spi_out = child.spi_out.to_bytes(4, "big")
        self.protocol = child.suite.protocol
        self.esn = child.suite.esn
        self.end = END_ESN if self.esn else END
        self._key(child, incarnation)
        self.selection = Selection(child.local_ts, child.remote_ts)
        self.accepted: set[bytes] = set()
        self.inner_mtu = 0
        self.held_in: list[tuple[int, bytes, Address, int, bytes]] = []
        self.held_out: list[bytes] = []
        self._clear_counters()
        self._set_limits(policy)
        self.follow(sa, child)

    def _key(self, child: ChildSa, incarnation: int) -> None:
        length = key_material_length(child.suite)
        make: Callable[[ChildSuite, bytes], EspTransform | AhSa]
        make = AhSa if child.suite.protocol == Protocol.AH else esp_transform
        self.inbound = make(child.suite, child.keys[:length])
        self.outbound = make(child.suite, child.keys[length : 2 * length])
        self.block = self.outbound.block
        self.counter_iv = self.outbound.counter_iv
        self.iv_base = (incarnation & 0xFFFFFF) << 40

    def _clear_counters(self) -> None:
        self.packets_in = self.packets_out = self.bytes_in = self.bytes_out = 0
        self.replays = self.integrity_failures = 0
        self.last_in = self.last_out = self.reported_in = 0.0
        self.soft_done = self.hard_done = self.must_rekey_done = False
        self.moved_to: Address | None = None

    def _set_limits(self, policy: ChildPolicy) -> None:
        """Soft limits as configured, hard limits 10 % above; the numbers' own end comes last."""
        self.soft_bytes = policy.rekey_bytes or _NEVER
        self.hard_bytes = policy.rekey_bytes * 11 // 10 or _NEVER
        self.soft_packets = policy.rekey_packets or _NEVER
        self.hard_packets = policy.rekey_packets * 11 // 10 or _NEVER
        self.soft_number = self.end - (self.end >> 4)

    def start(self, in_floor: int, out_used: int, horizon_s: float = INBOUND_HORIZON_S, gap: Gap | None = None) -> None:
        """Begin after these numbers: nothing up to ``in_floor`` is accepted, nothing up to ``out_used`` sent.

        ``gap``: where the numbers up to ``in_floor`` are not all known to have been delivered.
        """
        self.floor = in_floor
        self.gap = gap
        self.learns = False
        self.under_review = False
        self.window = ReplayWindow(self.policy.replay_window, in_floor)
        self.next_out = out_used + 1
        self.in_lease: Lease = inbound_lease(self.child.in_ceiling, _NEVER if self.esn else END, horizon_s)
        self.out_lease: Lease = outbound_lease(self.child.out_ceiling, self.end)
        self.lane_start = 0

    def learn(self, number: int) -> None:
        """Let the window begin at an authentic number below the floor: the peer is there (``ipsec.gap``)."""
        assert self.gap is not None
        self.gap.learnt = number
        self.window = ReplayWindow(self.policy.replay_window, number - 1)

    def follow(self, sa: IkeSa, child: ChildSa) -> None:
        """Take addresses, encapsulation and state from the records, which may be new objects."""
        self.sa = sa
        self.child = child
        self.local = sa.local
        self.remote = sa.remote
        self.encapsulated = bool(sa.flags & IkeFlag.ENCAPSULATE)
        self.follows = self.encapsulated and bool(sa.flags & IkeFlag.REMOTE_NAT)
        self.awaits_first = not child.use_outbound
        self.moved_to = None
        self.copies_df = self.policy.dont_fragment is DontFragment.COPY
        self.sets_df = int(self.policy.dont_fragment is DontFragment.SET)

    def set_path_mtu(self, outer_mtu: int) -> None:
        """``outer_mtu``: the longest IP datagram on the path to the peer."""
        header = (40 if ":" in self.remote[0] else 20) + (8 if self.encapsulated else 0)
        if isinstance(self.outbound, AhSa):
            self.inner_mtu = outer_mtu - header - self.outbound.overhead(header)
            return
        overhead = self.outbound.iv_length + self.outbound.icv_length
        self.inner_mtu = inner_mtu(outer_mtu, header, overhead, self.block)

    def __repr__(self) -> str:
        return f"LiveSa({self.child!r})"
