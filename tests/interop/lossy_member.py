"""A member that can be made to miss updates, and then repairs what it takes over by RFC 6311: run as a process by
``test_message_sync.py``.  Files beside its settings tell it what to do.

``lose``: what the owner sends is acknowledged and forgotten, as if the last updates had been lost with the owner.
``check``: one liveness check of all IKE SAs.
``force``: whoever supports it is asked, whatever is known about it.
``synchronise``: after a takeover all IKE SAs are synchronised, with this many numbers for the peer to skip.
"""

from __future__ import annotations

import sys
from pathlib import Path

LOSE, CHECK, FORCE, SYNCHRONISE = "lose", "check", "force", "synchronise"


def run() -> None:
    """As ``ipsecha``, with hooks."""
    from ipsecha.cli import main
    from ipsecha.gateway.pair_side import PairSide
    from ipsecha.ike import message_sync
    from ipsecha.ike.endpoint import IkeEndpoint
    from ipsecha.model.records import IkeSa

    directory = Path(sys.argv[-1]).parent
    adopt, activate, handle_timer = IkeEndpoint.adopt, IkeEndpoint.activate, PairSide.handle_timer

    def lossy(endpoint: IkeEndpoint, sa: IkeSa) -> None:
        if not (directory / LOSE).exists():
            adopt(endpoint, sa)

    def repairing(endpoint: IkeEndpoint, incarnation: int, now: float, *how: bool, **more: bool) -> None:
        activate(endpoint, incarnation, now, *how, **more)
        order = directory / SYNCHRONISE
        if (directory / FORCE).exists():
            message_sync._can_answer = lambda sa: True
        if order.exists():
            for local_spi in list(endpoint.sas):
                message_sync.start_sync(endpoint, endpoint.sas[local_spi], now, True, int(order.read_text()))
            endpoint.end_step()

    def checking(side: PairSide, now: float) -> None:
        handle_timer(side, now)
        if (directory / CHECK).exists():
            (directory / CHECK).unlink()
            for local_spi in list(side.gateway.endpoint.sas):
                side.gateway.endpoint.check_liveness(local_spi, now)

    PairSide.handle_timer = checking  # type: ignore[assignment, method-assign]
    IkeEndpoint.adopt = lossy  # type: ignore[assignment, method-assign]
    IkeEndpoint.activate = repairing  # type: ignore[assignment, method-assign]
    main.run()
