"""Requests in flight, repetition with a growing pause, answers kept, duplicates."""

from __future__ import annotations

from ike_pair import Packet, Pair, Side, left_connection, right_connection
from ipsecha.ike import window
from ipsecha.model.effects import Replicate, Transmit
from ipsecha.model.records import ExchangeKind, Task


def established(**more: object) -> Pair:
    pair = Pair(left_connection(**more), right_connection(**more))
    pair.establish()
    pair.sent.clear()
    for side in pair.sides:
        side.effects.clear()
        side.reports.clear()
    return pair


def check_liveness(pair: Pair, side: Side) -> None:
    side.endpoint.check_liveness(side.sa.local_spi, pair.now)


def test_a_request_is_answered_once_and_repeated_octet_for_octet() -> None:
    pair = established()
    check_liveness(pair, pair.left)
    pair.gather()
    (request,) = pair.queue
    pair.run()
    (answer,) = [packet for packet in pair.sent if packet.is_response]
    before = pair.right.sa.expected_request_id
    pair.sent.clear()
    pair.right.effects.clear()
    pair.deliver(request)
    pair.gather()
    assert [packet.data for packet in pair.sent] == [answer.data]
    assert pair.right.sa.expected_request_id == before
    assert not [effect for effect in pair.right.effects if isinstance(effect, Replicate)]


def test_only_one_request_is_in_flight_and_the_rest_waits() -> None:
    pair = established()
    spi = pair.left.sa.children[0].spi_in
    pair.left.endpoint.rekey_child(spi, pair.now)
    check_liveness(pair, pair.left)
    check_liveness(pair, pair.left)
    pair.gather()
    assert len(pair.queue) == 1
    assert [task.kind for task in pair.left.sa.queue] == [ExchangeKind.LIVENESS]
    pair.run()
    assert pair.left.sa.queue == ()
    assert pair.left.sa.exchange is None


def test_an_unanswered_request_is_repeated_with_growing_pauses_and_given_up() -> None:
    pair = established(retransmit_timeout_s=1.0, retransmit_factor=2.0, retransmit_tries=4, dpd_s=0.0)
    start = pair.now
    pair.network = lambda packet: []
    check_liveness(pair, pair.left)
    times: list[float] = []
    seen = 0
    while pair.left.endpoint.sas and pair.now < start + 60:
        pair.advance(0.5)
        times += [pair.now - start] * (len(pair.sent) - seen)
        seen = len(pair.sent)
    assert len({packet.data for packet in pair.sent}) == 1
    assert len(pair.sent) == 4
    assert [round(time) for time in times] == [0, 1, 3, 7] or [int(time) for time in times] == [0, 1, 3, 7]
    assert "peer-dead" in pair.left.events
    assert not pair.left.endpoint.sas
    assert not pair.left.endpoint.child_index
    assert not pair.left.installed
    assert not pair.left.records()


def test_requests_of_both_sides_may_cross() -> None:
    pair = established()
    for side in pair.sides:
        check_liveness(pair, side)
    pair.run()
    assert pair.left.sa.exchange is None
    assert pair.right.sa.exchange is None
    assert (pair.left.sa.next_request_id, pair.left.sa.expected_request_id) == (3, 1)


def test_a_message_that_is_not_authentic_changes_nothing() -> None:
    pair = established()
    check_liveness(pair, pair.left)
    pair.gather()
    request = pair.queue.pop()
    forged = Packet(request.data[:-1] + bytes((request.data[-1] ^ 1,)), ("203.0.113.9", 500), request.destination)
    pair.deliver(forged)
    assert pair.right.endpoint.take_effects() == []
    assert pair.right.endpoint.counters["not-authentic"] == 1
    assert pair.right.sa.expected_request_id == 2
    pair.deliver(request)
    pair.run()
    assert pair.left.sa.exchange is None


def test_requests_out_of_the_window_are_dropped() -> None:
    pair = established()
    for _ in range(3):
        check_liveness(pair, pair.left)
        pair.run()
    requests = [packet for packet in pair.sent if not packet.is_response]
    pair.sent.clear()
    pair.deliver(requests[0])
    pair.gather()
    assert not pair.sent
    assert pair.right.endpoint.counters["message-id-out-of-window"] == 1


def test_a_response_that_nobody_waits_for_is_dropped() -> None:
    pair = established()
    check_liveness(pair, pair.left)
    pair.run()
    (answer,) = [packet for packet in pair.sent if packet.is_response]
    pair.deliver(answer)
    assert pair.left.endpoint.take_effects() == []
    assert pair.left.endpoint.counters["unexpected-response"] == 1


def test_a_reflected_message_is_dropped() -> None:
    pair = established()
    check_liveness(pair, pair.left)
    pair.gather()
    request = pair.queue.pop()
    pair.deliver(Packet(request.data, request.destination, request.source))
    assert all(isinstance(effect, Transmit) and effect.stateless for effect in pair.left.endpoint.take_effects())
    assert pair.left.sa.expected_request_id == 0


def test_a_task_waits_for_its_time() -> None:
    pair = established()
    window.enqueue(pair.left.endpoint, pair.left.sa, Task(ExchangeKind.LIVENESS, not_before=pair.now + 5), pair.now)
    pair.left.endpoint.end_step()
    pair.run()
    assert not pair.sent
    pair.advance(6.0)
    assert len(pair.sent) == 2


def test_silence_is_asked_after_and_traffic_is_a_sign_of_life() -> None:
    pair = established(dpd_s=10.0)
    spi = {side: side.sa.children[0].spi_in for side in pair.sides}
    for _ in range(5):
        pair.advance(8.0)
        for side in pair.sides:
            side.endpoint.traffic_seen(spi[side], pair.now)
    assert not pair.sent
    pair.advance(10.5)
    assert {packet.exchange for packet in pair.sent} == {37}


def test_an_answer_follows_its_replication() -> None:
    pair = established()
    check_liveness(pair, pair.left)
    pair.run()
    for side in pair.sides:
        kinds = [type(effect) for effect in side.effects if isinstance(effect, Replicate | Transmit)]
        assert kinds[:2] == [Replicate, Transmit]
    assert not [
        effect for side in pair.sides for effect in side.effects if isinstance(effect, Transmit) and effect.stateless
    ]


def test_ivs_bear_the_incarnation_and_never_repeat() -> None:
    pair = established()
    for _ in range(3):
        for side in pair.sides:
            check_liveness(pair, side)
            pair.run()
    pair.left.endpoint.deactivate()
    pair.left.endpoint.activate(77, pair.now)
    check_liveness(pair, pair.left)
    pair.run()
    for side in pair.sides:
        ivs = [packet.data[32:40] for packet in pair.sent if pair.side_at(packet.source) is side]
        assert len(set(ivs)) == len(ivs)
    left = [
        int.from_bytes(packet.data[32:40], "big") >> 40
        for packet in pair.sent
        if pair.side_at(packet.source) is pair.left
    ]
    assert set(left) == {1, 77}
