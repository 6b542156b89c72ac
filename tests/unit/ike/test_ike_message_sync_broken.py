"""The checks on RFC 6311 can fail: implementations that are broken on purpose, each found out by a failover."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ike_agreement import check_same_sas
from ike_steps import new_child
from ipsecha.ike import counter_sync, message_sync, window
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.ike.flags import LEAVING
from ipsecha.ike.message_sync import GRACE_S
from ipsecha.model.records import IkeSa
from sync_steps import SyncSteps, check_ivs, raised

Patch = pytest.MonkeyPatch


def values_are_not_skipped(patch: Patch) -> None:
    patch.setattr(message_sync, "JUMP", 0)


def the_answer_is_not_adopted(patch: Patch) -> None:
    patch.setattr(message_sync, "_expect", lambda endpoint, sa, message_id: None)


def replays_are_taken(patch: Patch) -> None:
    patch.setattr(message_sync, "_is_new", lambda endpoint, sa, sync: True)


def repetitions_are_answered_anew(patch: Patch) -> None:
    """And carried out once more."""
    replays_are_taken(patch)
    answer = message_sync._answer

    def forgetful(endpoint: IkeEndpoint, sa: IkeSa, message: message_sync._Message, now: float) -> None:
        answer(endpoint, sa, message, now)
        sa.answered_sync = None

    patch.setattr(message_sync, "_answer", forgetful)


def requests_in_flight_are_forgotten(patch: Patch) -> None:
    patch.setattr(message_sync, "set_aside", lambda endpoint, sa, now: window.clear_exchange(endpoint, sa))


def requests_in_flight_are_kept(patch: Patch) -> None:
    patch.setattr(message_sync, "is_superseded", lambda sa, exchange, now, overdue: False)


def ivs_follow_message_ids(patch: Patch) -> None:
    seal_message = window.seal_message

    def seal(protection, envelope, payloads, **more):  # type: ignore[no-untyped-def]
        more["first_iv"] = envelope.message_id << 1 | bool(envelope.flags & 0x20)
        return seal_message(protection, envelope, payloads, **more)

    patch.setattr(window, "seal_message", seal)


def one_child_sa_is_raised(patch: Patch) -> None:
    answer = counter_sync.answer

    def less(endpoint: IkeEndpoint, sa: IkeSa, data: bytes) -> None:
        children, sa.children = sa.children, sa.children[:1]
        answer(endpoint, sa, data)
        sa.children = children

    patch.setattr(counter_sync, "answer", less)


BROKEN: list[Callable[[Patch], None]] = [
    values_are_not_skipped,
    the_answer_is_not_adopted,
    replays_are_taken,
    repetitions_are_answered_anew,
    requests_in_flight_are_forgotten,
    requests_in_flight_are_kept,
    ivs_follow_message_ids,
    one_child_sa_is_raised,
]


def fail_over_and_agree(side: str) -> None:
    """Updates are lost, a request is in flight that nobody answers any more; the synchronisation comes twice, and once
    more when it is old; then there is another failover."""
    steps = SyncSteps(side)
    steps.pair.queue = new_child(steps.a, steps)
    steps.pair.run()
    steps.check(steps.a)
    steps.check(steps.b)
    (request,) = new_child(steps.a, steps)
    steps.backup().cut = True
    steps.pair.queue = [request]
    steps.pair.run()
    for _ in range(2):
        steps.check(steps.a)
        steps.check(steps.b)
    steps.fail_over()
    steps.pair.network = lambda packet: [] if packet.data == request.data else [packet]
    steps.ask(delta=1000)
    (sync, *_) = (packet for packet in steps.pass_time(GRACE_S + 0.2) if packet.data != request.data)
    (answer,) = [packet for packet in steps.deliver(sync) if packet.is_response]
    assert steps.deliver(sync) == [answer]
    assert raised(steps.b) == {child.spi_in: 1000 for child in steps.b.sa.children[:3]}
    steps.deliver(answer)
    steps.pair.advance(60.0)
    before = steps.ids()
    assert steps.deliver(sync) == []
    assert steps.ids() == before
    steps.pair.advance(60.0)
    check_same_sas(steps.pair)
    assert all(len([sa for sa in one.sas if not sa.flags & LEAVING]) == 1 for one in steps.pair.sides)
    assert len(steps.a.sa.children) == 3
    steps.agree()
    steps.fail_over()
    steps.pair.queue = steps.ask()
    steps.pair.run()
    steps.agree()
    check_ivs(steps.pair)


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_product_passes(side: str) -> None:
    fail_over_and_agree(side)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_broken_one_is_found_out(monkeypatch: Patch, broken: Callable[[Patch], None], side: str) -> None:
    broken(monkeypatch)
    with pytest.raises((AssertionError, ValueError)):
        fail_over_and_agree(side)
