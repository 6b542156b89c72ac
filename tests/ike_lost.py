"""A side of a ``Pair`` as a cluster whose last updates are lost: the backup knows that the IKE SA was open, and takes
over from what it has."""

from __future__ import annotations

from ike_failover import Backup
from ike_pair import Packet, Pair, Side
from ipsecha.ike.flags import CHANGING, OPEN
from ipsecha.model.records import IkeFlag, encode_record

SUPPORT = int(IkeFlag.MESSAGE_ID_SYNC | IkeFlag.REPLAY_COUNTER_SYNC)


class LazyBackup(Backup):
    """``lose`` opens the IKE SAs, as ``gateway.lazy_commit`` does, and from then on no record arrives any more."""

    def __init__(self, pair: Pair, side: Side) -> None:
        super().__init__(pair, side)
        self.losing = False
        self.side = side

    def _follow(self) -> list[Packet]:
        before = dict(self.octets)
        packets = super()._follow()
        if self.losing:
            self.octets = before
        return packets

    def lose(self, marks: int = OPEN | CHANGING) -> None:
        self._pair.gather()
        for sa in self.side.sas:
            sa.flags |= marks
            self.octets[sa.local_spi] = encode_record(sa)
        self.losing = True

    def take_over(self) -> None:
        super().take_over()
        self.losing = False


def without_sync(pair: Pair) -> None:
    """Both forget that they support RFC 6311: a peer like most."""
    for side in pair.sides:
        for sa in side.sas:
            sa.flags &= ~SUPPORT


def unknown_to(side: Side, peer: Side) -> list[int]:
    """The SPIs under which ``peer`` would send ESP that ``side`` does not know."""
    known = set(side.installed)
    return [
        child.spi_out for sa in peer.sas for child in sa.children if child.use_outbound and child.spi_out not in known
    ]
