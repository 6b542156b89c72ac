"""After a split brain without a witness: IKE SAs that the other owner has used while nobody told us.

The owner that stays learns which they are when the two meet.  For it they are what an SA is whose owner died with
updates that nobody else knows: *suspects* (``repair``).  The repair finds out which message IDs the peer expects, and
which child SAs it knows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ipsecha.ike.flags import CHANGING, LEAVING, OPEN
from ipsecha.model.records import ExchangeKind

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


def mark(endpoint: IkeEndpoint, spis: Iterable[bytes]) -> list[bytes]:
    """Make suspects of those that we have, and that are not about to end; gives these."""
    marked = []
    for spi in spis:
        sa = endpoint.sas.get(spi)
        if sa is None or sa.flags & LEAVING:
            continue
        sa.flags |= OPEN | CHANGING
        endpoint.asked_sync.discard((spi, int(ExchangeKind.MESSAGE_ID_SYNC)))  # that was before the other owner's
        endpoint.suspects[spi] = None
        endpoint.touch(sa)
        marked.append(spi)
    return marked
