"""The requests of an initiation: sent, repeated bitwise with a growing pause, and given up (RFC 7296 section 2.1).

IKE_SA_INIT is not replicated: a new owner begins afresh what is to be up.  What follows leaves only once the backup has
the record of the initiation: a new owner repeats it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import connections, initiation_records
from ipsecha.ike.half_open import Initiation, Stage

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


def send(endpoint: IkeEndpoint, initiation: Initiation, request: tuple[bytes, ...], now: float) -> None:
    """Send a request of an initiation; it is repeated by ``fire``."""
    initiation.request = request
    initiation.tries = 1
    initiation.started_at = now
    initiation.failure = ""
    initiation_records.replicate(endpoint, initiation)
    _transmit(endpoint, initiation)
    endpoint.timers.cancel(initiation.spi_i)
    arm(endpoint, initiation)


def _transmit(endpoint: IkeEndpoint, initiation: Initiation) -> None:
    stateless = initiation.stage is Stage.INIT
    endpoint.transmit(initiation.request, initiation.local, initiation.remote, stateless=stateless)


def resume(endpoint: IkeEndpoint, initiation: Initiation, now: float) -> None:
    """Go on with the initiation of a predecessor.  Its request may be long overdue: the next pause counts from now."""
    initiation.started_at = max(initiation.started_at, now - endpoint.backoff(initiation.connection, initiation.tries))
    arm(endpoint, initiation)


def arm(endpoint: IkeEndpoint, initiation: Initiation) -> None:
    """Arm the timer for the next repetition, or for giving up."""
    when = initiation.started_at + endpoint.backoff(initiation.connection, initiation.tries)
    endpoint.timers.arm(initiation.spi_i, min(when, initiation.fails_at) if initiation.failure else when)


def fire(endpoint: IkeEndpoint, initiation: Initiation, now: float) -> None:
    """The timer of an initiation: repeat the request bitwise, or give up."""
    connection = endpoint.connection_named(initiation.connection)
    if connection is None:
        abandon(endpoint, initiation)
    elif initiation.failure and initiation.fails_at <= now:
        fail(endpoint, initiation, initiation.failure, now)
    elif initiation.started_at + endpoint.backoff(initiation.connection, initiation.tries) > now:
        arm(endpoint, initiation)
    elif initiation.tries >= connection.retransmit_tries:
        text = f"no answer from {initiation.remote[0]} to {initiation.stage.value} after {initiation.tries} tries"
        fail(endpoint, initiation, text, now)
    else:
        initiation.tries += 1
        _transmit(endpoint, initiation)
        arm(endpoint, initiation)


def abandon(endpoint: IkeEndpoint, initiation: Initiation) -> None:
    """Forget an initiation and what it has reserved."""
    initiation_records.forget(endpoint, initiation.spi_i)
    initiation_records.withdraw(endpoint, initiation)
    endpoint.timers.cancel(initiation.spi_i)
    endpoint.reassembly.forget(initiation.spi_i + b"r")


def fail(endpoint: IkeEndpoint, initiation: Initiation, reason: str, now: float) -> None:
    """Give up, say why, and plan the next attempt where the connection is to be up."""
    abandon(endpoint, initiation)
    if initiation.stage is Stage.REFUSED:
        return
    endpoint.report("initiation-failed", reason, initiation.connection, level=40)
    connection = endpoint.connection_named(initiation.connection)
    if connection is not None:
        connections.failed(endpoint, connection, now)
