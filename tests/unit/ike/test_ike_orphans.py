"""IKE SAs of connections that a reload took away: deleted in batches, however many they are."""

from __future__ import annotations

import pytest

from ike_pair import Entropy, right_connection
from ipsecha.ike import operations
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.flags import CLOSING
from ipsecha.model.effects import Replicate
from ipsecha.model.policy import Policy
from ipsecha.model.records import decode_record, encode_record
from many_sas import owner_of

BATCH = 8
TOTAL = 3 * BATCH + 3


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> IkeEndpoint:
    monkeypatch.setattr(operations, "ORPHANS_PER_CALL", BATCH)
    return owner_of(TOTAL)


def _reload(endpoint: IkeEndpoint, *names: str) -> None:
    policy = Policy(tuple(right_connection(name=name) for name in names))
    endpoint.configure(policy, endpoint.credentials, endpoint.now)


def _replicated(endpoint: IkeEndpoint) -> int:
    return sum(isinstance(effect, Replicate) for effect in endpoint.take_effects())


def _closing(endpoint: IkeEndpoint) -> int:
    return sum(bool(sa.flags & CLOSING) for sa in endpoint.sas.values())


def _work_off(endpoint: IkeEndpoint) -> list[int]:
    """How many records each call of ``handle_timer`` has changed."""
    batches = []
    while endpoint.next_timer() == endpoint.now:
        endpoint.handle_timer(endpoint.now)
        batches.append(_replicated(endpoint))
    return batches


def test_all_are_deleted_a_batch_at_a_time(endpoint: IkeEndpoint) -> None:
    _reload(endpoint)
    assert _replicated(endpoint) == BATCH
    assert _work_off(endpoint) == [BATCH, BATCH, 3]
    assert _closing(endpoint) == TOTAL


def test_those_of_other_connections_are_not_looked_at(endpoint: IkeEndpoint) -> None:
    _reload(endpoint, "other", "site")
    assert _work_off(endpoint) == []
    assert not any(endpoint.sas.thawed(spi) for spi in endpoint.sas)


def test_a_connection_that_comes_back_meanwhile_keeps_the_rest(endpoint: IkeEndpoint) -> None:
    _reload(endpoint)
    _reload(endpoint, "site")
    _work_off(endpoint)
    assert _closing(endpoint) == BATCH


def test_one_that_goes_again_is_worked_off_from_the_start(endpoint: IkeEndpoint) -> None:
    for names in ((), ("site",), ()):
        _reload(endpoint, *names)
    _work_off(endpoint)
    assert _closing(endpoint) == TOTAL


def test_those_that_vanish_meanwhile_are_passed_over(endpoint: IkeEndpoint) -> None:
    _reload(endpoint)
    rest = [sa.local_spi for sa in endpoint.sas.values() if not sa.flags & CLOSING]
    for spi in rest[1:]:
        endpoint.forget(spi)
    _work_off(endpoint)
    assert _closing(endpoint) == len(endpoint.sas) == BATCH + 1


def test_the_next_owner_deletes_the_rest(endpoint: IkeEndpoint) -> None:
    """It has read the same policy, before it took over or in the middle of that."""
    _reload(endpoint)
    endpoint.deactivate()
    assert endpoint.next_timer() is None
    _reload(endpoint)
    endpoint.activate(10, endpoint.now)
    _work_off(endpoint)
    assert _closing(endpoint) == TOTAL


def test_an_owner_that_has_not_read_the_policy_yet_deletes_none(endpoint: IkeEndpoint) -> None:
    """SAs of connections that it does not know are those of a newer policy."""
    stranger = IkeEndpoint(Policy(()), endpoint.credentials, Entropy("stranger"), wall_clock=endpoint.wall_clock)
    for sa in endpoint.sas.values():
        stranger.adopt(decode_record(encode_record(sa)))
    stranger.activate(10, stranger.now)
    _work_off(stranger)
    assert len(stranger.sas) == TOTAL
    assert _closing(stranger) == 0


def test_the_operators_word_ends_with_the_ownership(endpoint: IkeEndpoint) -> None:
    endpoint.hold("site", endpoint.now)
    endpoint.deactivate()
    endpoint.activate(10, endpoint.now)
    assert not endpoint.held
