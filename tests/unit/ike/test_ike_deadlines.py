"""What a lifetime's end changes in the record, the backup hears of, whatever waits already."""

from __future__ import annotations

from ike_pair import Pair
from ipsecha.model.effects import Replicate
from ipsecha.model.records import ExchangeKind, IkeSa, Task

SOON_S = 0.1


def _pair_with_a_request_in_flight() -> Pair:
    pair = Pair()
    pair.establish()
    pair.left.endpoint.check_liveness(pair.left.sa.local_spi, pair.now)
    pair.left.collect()
    assert pair.left.sa.exchange is not None
    return pair


def test_the_backup_hears_of_the_grace_of_an_ike_sa_whose_delete_waits_already() -> None:
    pair = _pair_with_a_request_in_flight()
    sa = pair.left.sa
    sa.queue = (Task(ExchangeKind.DELETE_IKE),)
    sa.expires_at = before = pair.now + SOON_S
    assert sa in _replicated_at(pair, before)
    assert sa.expires_at > before


def test_the_backup_hears_of_the_grace_of_a_child_sa_whose_delete_waits_already() -> None:
    pair = _pair_with_a_request_in_flight()
    sa = pair.left.sa
    (child,) = sa.children
    sa.queue = (Task(ExchangeKind.DELETE_CHILD, child.spi_in, child.name),)
    child.rekey_at = 0.0
    child.expires_at = before = pair.now + SOON_S
    assert sa in _replicated_at(pair, before)
    assert child.expires_at > before


def _replicated_at(pair: Pair, now: float) -> list[IkeSa]:
    """What the backup hears of when that moment has come: long before the request in flight is repeated."""
    endpoint = pair.left.endpoint
    endpoint.rearm(pair.left.sa)
    endpoint.handle_timer(now + SOON_S)
    return [effect.sa for effect in endpoint.take_effects() if isinstance(effect, Replicate)]
