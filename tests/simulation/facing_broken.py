"""Two clusters that face each other, broken on purpose: each of these has to be found out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ipsecha.ike import message_sync
from ipsecha.ike.flags import OPEN
from ipsecha.model.effects import RaiseOutbound
from ipsecha.model.records import ExchangeKind, IkeSa
from ipsecha.wire.header import FLAG_INITIATOR, FLAG_RESPONSE, Header
from simulation.gateways import MemberNode
from simulation.lazy import LazyVariant


def _sa_of(node: MemberNode, header: Header) -> IkeSa | None:
    return node.endpoint.sas.get(header.spi_r if header.flags & FLAG_INITIATOR else header.spi_i)


def _deaf_while_asking(node: MemberNode) -> None:
    """Who asks for new message IDs answers nobody who does: both may ask (appendix A.4)."""
    dispatch = node.endpoint._dispatch

    def deaf(header: Header, *more: Any) -> None:
        sa = _sa_of(node, header)
        asks = sa is not None and sa.exchange is not None and sa.exchange.kind == ExchangeKind.MESSAGE_ID_SYNC
        if not (asks and not header.message_id and not header.flags & FLAG_RESPONSE):
            dispatch(header, *more)

    node.endpoint._dispatch = deaf  # type: ignore[method-assign]


def _not_the_higher(node: MemberNode) -> None:
    """Message IDs become what the other side says, not the higher of both views."""
    dispatch = node.endpoint._dispatch

    def believing(header: Header, data: bytes, *more: Any) -> None:
        sa = _sa_of(node, header)
        dispatch(header, data, *more)
        if sa is None or header.message_id or sa.local_spi not in node.endpoint.sas:
            return
        message = message_sync._open(sa, header, data)
        if isinstance(message, message_sync._Message):
            sa.next_request_id, sa.expected_request_id = message.sync.receive, message.sync.send

    node.endpoint._dispatch = believing  # type: ignore[method-assign]


def _numbers_stay(node: MemberNode) -> None:
    """Who is asked to skip outbound numbers says yes, and does not."""
    node.gateway._actions[RaiseOutbound] = lambda effect: None


def _rekeys_stay_open(node: MemberNode) -> None:
    """The record of an IKE SA's rekey says that something may be missing: the request is set aside, and what the other
    side has made of it is not known."""
    output: Any = node.gateway.output
    leaves = output._leaves_at_once

    def leaving(step: Any, *more: Any) -> bool:
        known = bool(leaves(step, *more))
        for sa in step.changed.values():
            if isinstance(sa, IkeSa) and sa.exchange is not None and sa.exchange.kind == ExchangeKind.REKEY_IKE:
                sa.flags |= OPEN
        return known

    output._leaves_at_once = leaving


Prepare = Callable[[MemberNode], None]

VARIANTS: dict[str, tuple[LazyVariant, set[str]]] = {
    name: (LazyVariant(name, strict=strict, prepare=prepare), {"I4", "repair"})
    for name, strict, prepare in (
        ("deaf-while-asking", False, _deaf_while_asking),
        ("not-the-higher", False, _not_the_higher),
        ("numbers-stay", True, _numbers_stay),
        ("rekeys-stay-open", False, _rekeys_stay_open),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
