"""Clusters that are broken on purpose in what they number: sequence numbers, IVs, message IDs."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from ipsecha.cluster import frames
from ipsecha.cluster.pair import PairMember
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.message import Envelope, open_message, seal_message
from ipsecha.ike.window import outbound_protection
from ipsecha.ipsec.live import LiveSa
from ipsecha.model.leases import FIRST_OUT_CEILING, Leasing
from ipsecha.model.records import Address, ChildSa, IkeSa, LeaseEntry
from ipsecha.wire.header import FLAG_RESPONSE, parse_header
from simulation.gateways import MemberNode
from simulation.world import Variant

JUMP = 32
"""RFC 6027's 10,000 packets, on the scale of worlds whose SAs send some hundreds."""


class _IvFromTheMessageId(IkeEndpoint):
    """The IV of an IKE message follows from the message ID, not from a counter of its own."""

    def touch(self, sa: IkeSa) -> None:
        super().touch(sa)
        sa.iv_counter = max(sa.next_request_id, sa.expected_request_id)


class _ReEncrypted(IkeEndpoint):
    """A repeated request is answered with the same payloads, encrypted anew."""

    def transmit(
        self, datagrams: tuple[bytes, ...], local: Address, remote: Address, *, stateless: bool = False
    ) -> None:
        header = parse_header(datagrams[0])
        sa = self.sas.get(header.spi_i) or self.sas.get(header.spi_r)
        if sa is not None and header.flags & FLAG_RESPONSE and sa.responses is datagrams and len(datagrams) == 1:
            if sa.request_digest == self._answered.get(sa.local_spi):
                datagrams = self._sealed_again(sa, datagrams[0])
            self._answered[sa.local_spi] = sa.request_digest
        super().transmit(datagrams, local, remote, stateless=stateless)

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._answered: dict[bytes, bytes] = {}

    def _sealed_again(self, sa: IkeSa, data: bytes) -> tuple[bytes, ...]:
        header, protection = parse_header(data), outbound_protection(sa)
        opened = open_message(protection, header, data)
        envelope = Envelope(sa.spi_i, sa.spi_r, header.exchange, header.flags, header.message_id)
        inner = opened.octets[4:]
        sa.iv_counter += 1
        return seal_message(
            protection,
            envelope,
            [(opened.first_payload, inner)],
            first_iv=self.first_iv(sa.iv_counter),
            entropy=self.entropy,
        )


class _JumpWithoutLease(PairMember):
    """Outbound numbers are told to the backup now and then, and a takeover jumps by 10,000 (here: 32) beyond the last
    one that it was told; no lease bounds the owner."""

    def _become_active(self, above_lanes: int, leasing: Leasing, same_epoch: bool = False) -> None:
        super()._become_active(0, leasing, same_epoch)


def _unbounded(node: MemberNode) -> None:
    """Of ``_JumpWithoutLease``, the data plane's part."""
    sad = node.plane._sad
    install, bound, start_of, entry_of = sad.install, sad._bound_by_mode, sad._start_of, sad._entry

    def install_untold(sa: IkeSa, child: ChildSa) -> None:
        if child.out_ceiling <= FIRST_OUT_CEILING:
            child.out_ceiling = 0
        install(sa, child)

    def unbound(live: LiveSa) -> None:
        bound(live)
        live.out_lease._granted = live.out_lease.limit = live.end  # whatever is granted later

    def jump(child: ChildSa) -> tuple[int, int]:
        inbound, outbound = start_of(child)
        return inbound, outbound + JUMP if child.spi_in not in sad._own else outbound

    def used(spi_in: int, lowers: bool) -> LeaseEntry:
        entry, live = entry_of(spi_in, lowers), sad.lives.get(spi_in)
        return entry if live is None else msgspec.structs.replace(entry, out_ceiling=live.next_out - 1)

    sad.install, sad._bound_by_mode = install_untold, unbound  # type: ignore[method-assign]
    sad._start_of, sad._entry = jump, used  # type: ignore[method-assign]


class _OldOwnerExtends(PairMember):
    """Whoever asks for a lease gets it, be it the owner of a former epoch, which goes on asking while it hands over;
    commits are refused as they should."""

    _asked = False

    def _fenced(self, epoch: int) -> bool:
        if self._asked and epoch != self.epoch:
            self._applied = None
            return False
        return super()._fenced(epoch)

    def _try_handover(self) -> None:
        super()._try_handover()
        if self._handover is not None and self._handover.sent:
            self.extend([LeaseEntry(0, 0, 0)], 0.0)

    def _on_lease(self, frame: frames.Leases, now: float) -> None:
        self._asked = True
        self._on_write(frame, now)
        self._asked = False

    _on_frame: ClassVar[dict[type, Any]] = {**PairMember._on_frame, frames.Leases: _on_lease}


NUMBER_VARIANTS: dict[str, tuple[Variant, set[str]]] = {
    variant.name: (variant, checkers)
    for variant, checkers in (
        (Variant("iv-from-the-message-id", endpoint=_IvFromTheMessageId), {"I1"}),
        (
            Variant("retransmission-answered-from-a-re-encryption", endpoint=_ReEncrypted, faults=("lose_datagrams",)),
            {"I4"},
        ),
        (
            Variant(
                "jump-of-10000-without-a-lease",
                member=_JumpWithoutLease,
                prepare=_unbounded,
                faults=("crash", "slow_channel"),
            ),
            {"I2"},
        ),
        (
            Variant(
                "lease-extended-by-an-old-owner",
                member=_OldOwnerExtends,
                faults=("switchover",),
            ),
            {"I5"},
        ),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
