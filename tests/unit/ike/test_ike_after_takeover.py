"""After a takeover: child SAs with a gap are synchronised or rekeyed, the hottest first, at a pace, never a storm."""

from __future__ import annotations

import heapq

import msgspec
import pytest

from ike_pair import Pair, child_policy, left_connection, right_connection
from ipsecha.ike.after_takeover import MAX_UNDER_WAY, SETTLE_S, Progress
from ipsecha.model.policy import AfterFailover, Inbound
from ipsecha.model.records import ExchangeKind, IkeFlag

CHILDREN = 6


def pair_with(
    inbound: Inbound = Inbound.STRICT,
    *,
    rekey_all: bool = False,
    rate: float = 20.0,
    count: int = 1,
    sync: bool = False,
) -> Pair:
    """The right side is the one that takes over; it has ``count`` child SAs of one IKE SA."""
    names = [f"net{number}" for number in range(count)]
    left = tuple(child_policy(name, f"10.1.{i}.0/24", f"10.2.{i}.0/24") for i, name in enumerate(names))
    right = tuple(child_policy(name, f"10.2.{i}.0/24", f"10.1.{i}.0/24") for i, name in enumerate(names))
    pair = Pair(left_connection(children=left), right_connection(children=right, inbound=inbound))
    pair.establish()
    assert len(pair.right.sa.children) == count
    if not sync:
        for side in pair.sides:
            side.sa.flags &= ~IkeFlag.REPLAY_COUNTER_SYNC
    endpoint = pair.right.endpoint
    endpoint.policy = msgspec.structs.replace(endpoint.policy, after_failover=AfterFailover(rekey_all, rate))
    return pair


def spis(pair: Pair) -> list[int]:
    return [child.spi_in for child in pair.right.sa.children]


def fail_over(pair: Pair) -> None:
    pair.right.endpoint.activate(9, pair.now, True)


def gap(pair: Pair, spi_in: int, refused: int, remaining: int = 50) -> None:
    pair.right.endpoint.gap_traffic(spi_in, refused, remaining, pair.now)


def progress(pair: Pair) -> Progress:
    return pair.right.endpoint.after_takeover.progress


def test_with_rekey_a_child_sa_in_its_gap_is_rekeyed_at_once() -> None:
    pair = pair_with(Inbound.REKEY)
    (old,) = spis(pair)
    fail_over(pair)
    gap(pair, old, 1)
    assert progress(pair).waiting == 1
    pair.advance(1.0)
    assert old not in spis(pair)
    assert progress(pair) == Progress(rekeyed=1)


@pytest.mark.parametrize("inbound", [Inbound.STRICT, Inbound.LEARN])
def test_without_it_nothing_is_sent(inbound: Inbound) -> None:
    pair = pair_with(inbound)
    before = spis(pair)
    fail_over(pair)
    gap(pair, before[0], 1000)
    pair.advance(5.0)
    assert spis(pair) == before
    assert progress(pair) == Progress()


def test_a_gap_that_closes_by_itself_needs_no_exchange() -> None:
    pair = pair_with(Inbound.REKEY)
    before = spis(pair)
    fail_over(pair)
    gap(pair, before[0], 1)
    pair.right.endpoint.gap_closed(before[0], pair.now)
    pair.advance(5.0)
    assert spis(pair) == before
    assert progress(pair) == Progress(closed=1)


def test_a_peer_that_supports_it_is_asked_to_jump_over_the_gap() -> None:
    """RFC 6311 section 5.2: instead of a rekey, once for all child SAs of the IKE SA."""
    pair = pair_with(Inbound.REKEY, count=2, sync=True)
    first, second = spis(pair)
    fail_over(pair)
    gap(pair, first, 4, 300)
    gap(pair, second, 8, 200)
    pair.right.endpoint.after_takeover.run(pair.right.endpoint, pair.now)
    pair.right.endpoint.end_step()
    exchange = pair.right.sa.exchange
    assert exchange is not None
    assert exchange.kind == ExchangeKind.COUNTER_SYNC
    assert exchange.task is not None
    assert exchange.task.delta == 300
    pair.right.endpoint.gap_closed(first, pair.now)
    pair.gather()
    pair.run()
    pair.advance(0.2)
    assert progress(pair).synchronised == 1


def test_packets_that_are_lost_do_not_wait_behind_rekeys() -> None:
    """The request for new numbers is the next one, whatever else waits for its turn."""
    pair = pair_with(Inbound.REKEY, count=3, sync=True)
    first, second, third = spis(pair)
    fail_over(pair)
    for spi_in in (first, second):
        pair.right.endpoint.rekey_child(spi_in, pair.now)
    gap(pair, third, 4, 300)
    pair.right.endpoint.after_takeover.run(pair.right.endpoint, pair.now)
    pair.right.endpoint.end_step()
    kinds = [task.kind for task in pair.right.sa.queue]
    assert kinds == [ExchangeKind.COUNTER_SYNC, ExchangeKind.REKEY_CHILD]


def test_the_hottest_come_first_at_a_pace() -> None:
    pair = pair_with(Inbound.REKEY, rate=2.0, count=CHILDREN)
    order = spis(pair)
    fail_over(pair)
    for heat, spi in enumerate(order, 1):
        gap(pair, spi, heat)
    gap(pair, order[0], 100)
    started = []
    for _ in range(60):
        pair.advance(0.1)
        gone = [spi for spi in order if spi not in spis(pair) and spi not in started]
        assert len(gone) <= 1
        started += gone
    assert started == [order[0], *reversed(order[1:])]


def test_never_more_than_so_many_wait_for_an_answer() -> None:
    pair = pair_with(Inbound.REKEY, rate=1000.0, count=MAX_UNDER_WAY + 4)
    fail_over(pair)
    for spi in spis(pair):
        gap(pair, spi, 1)
    endpoint = pair.right.endpoint
    for step in range(40):
        endpoint.after_takeover.run(endpoint, pair.now + step * 0.01)
    assert progress(pair).under_way == MAX_UNDER_WAY
    assert progress(pair).waiting == 4
    endpoint.end_step()
    pair.gather()
    pair.run()
    pair.advance(10.0)
    assert progress(pair) == Progress(rekeyed=MAX_UNDER_WAY + 4)


def test_all_are_rekeyed_after_a_failover_those_with_traffic_first() -> None:
    pair = pair_with(rekey_all=True, rate=1.0, count=3)
    old = spis(pair)
    fail_over(pair)
    pair.right.endpoint.traffic_seen(old[1], pair.now)
    pair.advance(SETTLE_S + 0.5)
    assert [spi for spi in old if spi not in spis(pair)] == [old[1]]
    pair.advance(5.0)
    assert not set(old) & set(spis(pair))
    assert progress(pair) == Progress(rekeyed=3)


def test_a_child_sa_that_was_rekeyed_for_its_gap_is_not_rekeyed_once_more() -> None:
    """Nor what else has been made since the takeover."""
    pair = pair_with(rekey_all=True, count=2)
    old = spis(pair)
    fail_over(pair)
    pair.advance(0.1)
    gap(pair, old[0], 3)
    pair.advance(1.0)
    (new,) = set(spis(pair)) - set(old)
    pair.right.endpoint.traffic_seen(new, pair.now)
    pair.advance(10.0)
    assert new in spis(pair)
    assert not set(old) & set(spis(pair))
    assert progress(pair) == Progress(rekeyed=2)


def test_not_after_a_planned_switchover() -> None:
    pair = pair_with(rekey_all=True)
    old = spis(pair)
    pair.right.endpoint.activate(9, pair.now)
    pair.advance(10.0)
    assert spis(pair) == old


def test_a_switchover_that_comes_to_nothing_forgets_nothing() -> None:
    """The owner goes on in its epoch, with what it has yet to make good."""
    pair = pair_with(rekey_all=True)
    old = spis(pair)
    fail_over(pair)
    pair.right.endpoint.activate(9, pair.now)
    pair.advance(10.0)
    assert not set(old) & set(spis(pair))


def test_who_is_no_longer_the_owner_begins_nothing() -> None:
    pair = pair_with(Inbound.REKEY, rekey_all=True)
    fail_over(pair)
    gap(pair, spis(pair)[0], 1)
    pair.right.endpoint.deactivate()
    assert progress(pair) == Progress()
    gap(pair, spis(pair)[0], 2)
    assert progress(pair) == Progress()
    assert pair.right.endpoint.after_takeover.next_timer() is None


def test_child_sas_that_are_gone_are_passed_over() -> None:
    pair = pair_with(Inbound.REKEY, count=2)
    old = spis(pair)
    fail_over(pair)
    gap(pair, old[0], 5)
    gap(pair, old[1], 1)
    gap(pair, 0xDEAD, 100)
    pair.right.endpoint.terminate(pair.now, spi_in=old[0])
    pair.gather()
    pair.run()
    pair.advance(2.0)
    assert progress(pair) == Progress(rekeyed=1)


def test_those_that_wait_for_traffic_to_be_known_are_not_looked_at_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, a gap beside them costs no more."""
    pair = pair_with(Inbound.REKEY, rekey_all=True)
    (old,) = spis(pair)
    fail_over(pair)
    after = pair.right.endpoint.after_takeover
    for number in range(2000):
        after.traffic_seen(0x2000000 + number % 1000, pair.now)
    popped: list[object] = []
    pop = heapq.heappop

    def counted(heap: list[tuple[int, int]]) -> tuple[int, int]:
        popped.append(heap)
        return pop(heap)

    monkeypatch.setattr(heapq, "heappop", counted)
    gap(pair, old, 1)
    pair.right.endpoint.handle_timer(pair.now)
    assert progress(pair).under_way == 1
    assert len(popped) == 1
    assert progress(pair).waiting == 1000
