"""Message IDs and the window of an established IKE SA (RFC 7296 sections 2.1 to 2.3).

Theory of operation.  The window is 1 in both directions.  Inbound, ``expected_request_id`` is the only request that is
new; the one before it is answered from ``responses``, octet for octet, whatever it cost to make them; all others are
dropped.  Outbound, at most one request is in flight (``sa.exchange``); what else is wanted waits as a Task in
``sa.queue`` and becomes a request through the starter of its kind.  Requests are repeated bitwise with a growing pause
that follows from the record alone, so that the next owner of the SA carries on where this one ended.

A handler runs inside a step: it may change the SA, emit Install, Update, Remove and Report effects, and ``touch`` other
SAs; the step ends with Replicate effects first and Transmit effects last (``IkeEndpoint.end_step``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ipsecha.model.numbers import ExchangeType
from ipsecha.model.records import Exchange, IkeSa, Task
from ipsecha.wire.chain import RawPayload

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

Payloads = list[tuple[int, bytes]]
"""Payloads to send: type and body (without generic header), in order."""

RequestHandler = Callable[["IkeEndpoint", IkeSa, list[RawPayload], float], Payloads]
ResponseHandler = Callable[["IkeEndpoint", IkeSa, Exchange, list[RawPayload], float], None]
Starter = Callable[["IkeEndpoint", IkeSa, Task, float], None]


def enqueue(endpoint: IkeEndpoint, sa: IkeSa, task: Task, now: float) -> None:
    """Let ``task`` become a request as soon as the window has room and its ``not_before`` has come.

    A task that waits already (same kind, SPI and child name) is not queued twice.  May start the request at once.
    """


def run_queue(endpoint: IkeEndpoint, sa: IkeSa, now: float) -> None:
    """Start the first task that may start, if no request is in flight.  A starter that finds its task moot (the child
    SA is gone) simply returns: the next task has its turn."""


def start_request(
    endpoint: IkeEndpoint,
    sa: IkeSa,
    exchange_type: ExchangeType,
    payloads: Payloads,
    exchange: Exchange,
    now: float,
) -> None:
    """Send a request: allocates the message ID, seals, keeps ``exchange`` (its message ID, request and start are
    filled in here) as the request in flight, replicates, transmits and arms the retransmission.

    To be called by starters only, that is when no request is in flight.
    """
