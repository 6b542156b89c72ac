"""The last that a member does before its process ends as somebody wishes: the SAs go to the partner."""

from __future__ import annotations

import asyncio
import logging

from ipsecha.cluster.pair import PairMember
from ipsecha.gateway.core import Gateway
from ipsecha.model.errors import ClusterError

log = logging.getLogger("ipsecha")

PATIENCE_S = 1.0
"""How long a stopping owner waits for its backup to take over."""
PAUSE_S = 0.01
FORWARDING_S = 0.2
"""How long a former owner forwards late packets."""


async def hand_over(member: PairMember, gateway: Gateway) -> None:
    """Hand the SAs to the partner, if there are any here and it can take them within ``PATIENCE_S``.

    A partner that is connected may be a moment from that: it joins, or has handed us the SAs just now.
    """
    if not member.owns:
        return
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    refusal = _refusal(member, gateway)
    while member.owns and loop.time() < deadline:
        await asyncio.sleep(PAUSE_S)
        if refusal and not member.channel_is_up:
            break
        if refusal:
            refusal = _refusal(member, gateway)
            deadline += 0.0 if refusal else PATIENCE_S
    if refusal:
        log.info("leaving: %s", refusal)
    if not member.owns:
        await asyncio.sleep(FORWARDING_S)


def _refusal(member: PairMember, gateway: Gateway) -> str:
    """Why the SAs cannot be handed over at this moment; "": they are on their way."""
    try:
        member.switchover(gateway.clock.now())
    except ClusterError as error:
        return str(error)
    gateway.wake()
    return ""
