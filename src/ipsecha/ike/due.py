"""What is due by the timers: of connections, of IKE SAs and of initiations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import attempts, bring_up, deadlines

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint
    from ipsecha.ike.timers import Key

TIMERS_PER_CALL = 256
FAULT_PAUSE_S = 30.0


def run(endpoint: IkeEndpoint, now: float) -> None:
    """Fire what is due, at most a few hundred timers a call.

    Whatever one of them raises, a fault of ours, the others keep their timers; its own is put off.
    """
    due = endpoint.timers.due(now, TIMERS_PER_CALL)
    due.reverse()
    while due:
        key = due.pop()
        try:
            _fire(endpoint, key, now)
        except Exception:
            endpoint.timers.arm(key, now + FAULT_PAUSE_S)
            for other in due:
                endpoint.timers.arm(other, now)
            raise


def _fire(endpoint: IkeEndpoint, key: Key, now: float) -> None:
    if isinstance(key, str):
        bring_up.fire(endpoint, key, now)
    elif key in endpoint.sas:
        deadlines.fire(endpoint, endpoint.sas[key], now)
    elif key in endpoint.initiations:
        attempts.fire(endpoint, endpoint.initiations[key], now)
