"""Clusters with ``commit = "lazy"`` that are broken on purpose."""

from __future__ import annotations

from typing import Any

from ipsecha.ike import repair, window
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.flags import OPEN
from ipsecha.model.records import Exchange, ExchangeKind, IkeSa, decode_record, encode_record
from ipsecha.wire.chain import RawPayload
from simulation.gateways import MemberNode
from simulation.lazy import LazyVariant


def _suspects_not_marked(node: MemberNode) -> None:
    """The records do not say that an SA is open."""
    commit = node.gateway.output._commit

    def closed(changes: list[tuple[bytes, bytes | None]]) -> int:
        return commit([(key, _unmarked(data) if data is not None and len(key) == 8 else data) for key, data in changes])

    node.gateway.output._commit = closed


def _unmarked(data: bytes) -> bytes:
    sa = decode_record(data)
    sa.flags &= ~OPEN
    return encode_record(sa)


def _opened_without_ack(node: MemberNode) -> None:
    """The first step of an SA leaves at once, too: the backup may not know that it is open."""
    output = node.gateway.output
    leaves = output._leaves_at_once  # type: ignore[attr-defined]

    def hasty(step: Any, prompt: bool, opening: list[Any], now: float) -> bool:
        known = leaves(step, prompt, opening, now)
        return known or all(isinstance(sa, IkeSa) for sa in step.changed.values())

    output._leaves_at_once = hasty  # type: ignore[attr-defined]


def _suspects_not_repaired(node: MemberNode) -> None:
    """The new owner does not look after its suspects."""
    adopt = node.endpoint.put_into_tables

    def trusting(sa: IkeSa) -> None:
        adopt(sa)
        node.endpoint.suspects.clear()

    node.endpoint.put_into_tables = trusting  # type: ignore[method-assign]


def _no_evidence(node: MemberNode) -> None:
    """Requests of the peer that are ahead are dropped, as on any other SA."""
    node.endpoint.repairs.may_be_ahead = lambda *arguments: False  # type: ignore[method-assign,assignment]


def _any_answer(node: MemberNode) -> None:
    """Whatever answers a probe ends the repair: the answer to a lost request, too, also if somebody plays it back."""

    def settle(endpoint: IkeEndpoint, sa: IkeSa, exchange: Exchange, payloads: list[RawPayload], now: float) -> None:
        exchange.request = ()
        window.clear_exchange(endpoint, sa)
        repair._settle(endpoint, sa, now)

    node.endpoint.response_handlers = {**node.endpoint.response_handlers, ExchangeKind.PROBE: settle}


LAZY_VARIANTS: dict[str, tuple[LazyVariant, set[str]]] = {
    name: (LazyVariant(name, prepare=prepare, plain=True), checkers)
    for name, prepare, checkers in (
        ("suspects-not-marked", _suspects_not_marked, {"commit", "I4", "repair"}),
        ("opened-without-ack", _opened_without_ack, {"commit", "I4", "repair"}),
        ("suspects-not-repaired", _suspects_not_repaired, {"I4", "repair", "commit"}),
        ("any-answer", _any_answer, {"I4", "repair"}),
        ("no-evidence", _no_evidence, {"I4", "repair"}),
    )
}
"""By name: what is broken, and the checkers that may be the first to notice."""
