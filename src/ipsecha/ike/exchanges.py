"""Which file takes which exchange of an established IKE SA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.ike import counter_sync, create_child, informational, message_sync, rekey_ike, repair
from ipsecha.ike.window import Payloads, RequestHandler, ResponseHandler, Starter
from ipsecha.model.numbers import ExchangeType, Payload
from ipsecha.model.records import ExchangeKind, IkeSa
from ipsecha.wire.chain import RawPayload

if TYPE_CHECKING:
    from ipsecha.ike.endpoint import IkeEndpoint


def _create_child_sa(endpoint: IkeEndpoint, sa: IkeSa, payloads: list[RawPayload], now: float) -> Payloads:
    """A CREATE_CHILD_SA request without traffic selectors rekeys the IKE SA (RFC 7296 section 1.3.2)."""
    if any(payload.type == Payload.TSI for payload in payloads):
        return create_child.handle_request(endpoint, sa, payloads, now)
    return rekey_ike.handle_request(endpoint, sa, payloads, now)


REQUEST_HANDLERS: dict[int, RequestHandler] = {
    ExchangeType.CREATE_CHILD_SA: _create_child_sa,
    ExchangeType.INFORMATIONAL: informational.handle_request,
}

RESPONSE_HANDLERS: dict[int, ResponseHandler] = {
    ExchangeKind.NEW_CHILD: create_child.handle_response,
    ExchangeKind.REKEY_CHILD: create_child.handle_response,
    ExchangeKind.REKEY_IKE: rekey_ike.handle_response,
    ExchangeKind.DELETE_CHILD: informational.handle_response,
    ExchangeKind.DELETE_IKE: informational.handle_response,
    ExchangeKind.LIVENESS: informational.handle_response,
    ExchangeKind.NOTIFY: informational.handle_response,
    ExchangeKind.PROBE: repair.handle_response,
    ExchangeKind.COUNTER_SYNC: counter_sync.handle_response,
}

STARTERS: dict[int, Starter] = {
    ExchangeKind.NEW_CHILD: create_child.start,
    ExchangeKind.REKEY_CHILD: create_child.start,
    ExchangeKind.REKEY_IKE: rekey_ike.start,
    ExchangeKind.DELETE_CHILD: informational.start,
    ExchangeKind.DELETE_IKE: informational.start,
    ExchangeKind.LIVENESS: informational.start,
    ExchangeKind.NOTIFY: informational.start,
    ExchangeKind.MESSAGE_ID_SYNC: message_sync.start,
    ExchangeKind.COUNTER_SYNC: counter_sync.start,
}
