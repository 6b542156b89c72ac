"""RFC 6311, replay counters: after a failover the cluster asks its peer to skip outbound sequence numbers (section
5.2).

Alone, the request is an ordinary INFORMATIONAL exchange; together with the message IDs it travels in theirs
(``ike.message_sync``).  One delta holds for all child SAs of the IKE SA, so either all or none of them have extended
sequence numbers (section 6.4).  As the peer we leave it to the data plane, which knows the numbers in use, whether
there is room for the jump; where there is none, the child SA is rekeyed instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike.flags import LEAVING, MESSAGE_ID_SYNC, REPLAY_COUNTER_SYNC
from ipsecha.ike.window import Payloads, start_request
from ipsecha.model.effects import RaiseOutbound
from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.records import Exchange, IkeSa, Task
from ipsecha.wire.chain import RawPayload
from ipsecha.wire.payloads.counter_sync import build_replay_counter_sync, parse_replay_counter_sync
from ipsecha.wire.payloads.notify import build_notify

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint

_SUPPORT = (
    (MESSAGE_ID_SYNC, (int(Payload.NOTIFY), build_notify(Notify.IKEV2_MESSAGE_ID_SYNC_SUPPORTED))),
    (REPLAY_COUNTER_SYNC, (int(Payload.NOTIFY), build_notify(Notify.IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED))),
)

LARGEST_DELTA = 1 << 30
"""What the RFC calls a very large number: beyond it, a rekey is the better way to close a gap."""


def possible(sa: IkeSa) -> bool:
    """Whether the peer can be asked: both asserted it, and the child SAs agree on extended sequence numbers."""
    if not sa.flags & REPLAY_COUNTER_SYNC or sa.flags & LEAVING:
        return False
    return len({child.suite.esn for child in sa.children}) == 1


def request(sa: IkeSa, delta: int) -> tuple[int, bytes]:
    """The payload that asks for ``delta``; only where it is ``possible``."""
    data = build_replay_counter_sync(min(delta, LARGEST_DELTA), esn=sa.children[0].suite.esn)
    return Payload.NOTIFY, build_notify(Notify.IPSEC_REPLAY_COUNTER_SYNC, data)


def start(endpoint: IkeEndpoint, sa: IkeSa, task: Task, now: float) -> None:
    """Ask for the replay counters alone."""
    if possible(sa):
        exchange = Exchange(task.kind, 0, (), now, task=task)
        start_request(endpoint, sa, ExchangeType.INFORMATIONAL, [request(sa, task.delta)], exchange, now)


def handle_response(
    endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, payloads: list[RawPayload], now: float
) -> None:
    """The peer has raised its numbers."""
    del sa, exchange, payloads, now
    endpoint.count("counters-synchronised")


def answer(endpoint: IkeEndpoint, sa: IkeSa, data: bytes) -> None:
    """The peer's request, ``data`` of the notification.  Raises WireError for a malformed one."""
    delta = parse_replay_counter_sync(data)
    if not sa.flags & REPLAY_COUNTER_SYNC:
        endpoint.count("ignored-notify")
        return
    endpoint.count("counters-raised")
    if delta:
        for child in sa.children:
            endpoint.emit(RaiseOutbound(child.spi_in, delta))


def support(flags: int) -> Payloads:
    """The notifications of IKE_AUTH that assert support (sections 6.1 and 6.2): what the initiator offers, what the
    responder has been offered."""
    return [payload for flag, payload in _SUPPORT if flags & flag]
