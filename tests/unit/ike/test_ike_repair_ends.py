"""Repairs that meet something else: the end of their IKE SA, strangers, a second takeover, message IDs at their end."""

from __future__ import annotations

import pytest

from ike_agreement import check_at_rest, live
from ike_lost import LazyBackup, without_sync
from ike_pair import LEFT_IP, RIGHT_IP, Packet, Side, child_policy, left_connection, right_connection
from ike_steps import Steps, rekey_ike
from ipsecha.ike.flags import ENCAPSULATE
from ipsecha.ike.repair_children import MAX_ORPHANS
from ipsecha.ike.window import REKEY_MESSAGE_ID
from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.records import IkeSa
from ipsecha.model.selectors import selector_from_prefix
from sync_steps import SyncSteps, failed_over, synchronising


def probes(steps: Steps) -> list[Packet]:
    """``b`` becomes a cluster that has lost nothing, but cannot know: what it asks after the takeover."""
    without_sync(steps.pair)
    backup = LazyBackup(steps.pair, steps.b)
    backup.lose()
    backup.take_over()
    return steps.take()


def check_one(steps: Steps) -> None:
    steps.pair.advance(400.0)
    assert live(steps.a).keys() == live(steps.b).keys()
    assert len(live(steps.b)) == 1
    check_at_rest(steps.b)


@pytest.mark.parametrize("answered_first", [True, False])
def test_a_probe_is_answered_behind_the_rekey_of_its_ike_sa(answered_first: bool) -> None:
    """RFC 7296 section 2.1: the peer answers on the old IKE SA, too.  The repair has ended with it by then."""
    steps = Steps()
    asked = probes(steps)
    answers = [answer for probe in asked for answer in steps.deliver(probe)] if answered_first else []
    (request,) = rekey_ike(steps.a, steps)
    on_its_way = [*steps.deliver(request), *([] if answered_first else asked), *answers]
    while on_its_way:
        on_its_way += steps.deliver(on_its_way.pop(0))
    check_one(steps)


def complaint(sa: IkeSa) -> Packet:
    """INVALID_IKE_SPI, which anybody can send who has seen the SPIs."""
    header = bytes((Payload.NOTIFY, 0x20, ExchangeType.INFORMATIONAL, 0x20)) + bytes(4) + (36).to_bytes(4, "big")
    notify = bytes((0, 0, 0, 8, 0, 0, 0, Notify.INVALID_IKE_SPI))
    return Packet(sa.spi_i + sa.spi_r + header + notify, (LEFT_IP, 500), (RIGHT_IP, 500))


def test_a_stranger_does_not_end_an_ike_sa_that_answers_no_probe() -> None:
    """RFC 7296 section 2.4: no failure may be concluded from messages without cryptographic protection.  The peer could
    not be reached for seconds; then it can."""
    steps = Steps()
    probes(steps)
    steps.b.endpoint.held.add("site")  # so that nothing else is begun
    steps.pass_time(5.0)
    assert "doomed" in steps.b.events
    for _ in range(3):
        steps.deliver(complaint(steps.b.sa))
    check_one(steps)


def suspect_again(steps: SyncSteps, side: Side) -> None:
    side.endpoint.suspect([side.sa.local_spi], steps.now)
    side.endpoint.handle_timer(steps.now)


def test_a_split_brain_is_a_failover_of_its_own() -> None:
    """RFC 6311 section 7: message IDs are asked for once in a failover.  The owner that had asked before the other one
    used the SA asks again: that one may have jumped further than probes reach."""
    steps = SyncSteps()
    failed_over(steps)
    steps.pair.queue = steps.ask()
    steps.pair.run()
    suspect_again(steps, steps.a)
    assert synchronising(steps.a)
    steps.pair.run()
    steps.agree()


def test_no_request_leaps_to_the_end_of_the_message_ids() -> None:
    """RFC 7296 section 2.2: an IKE SA is rekeyed before its message IDs come to their end."""
    steps = Steps()
    probes(steps)
    expected = steps.b.sa.expected_request_id
    for message_id in (REKEY_MESSAGE_ID, 0xFFFFFFFF):
        steps.a.sa.next_request_id = message_id
        steps.a.sa.exchange = None
        (request,) = steps.do(lambda: steps.a.endpoint.check_liveness(steps.a.sa.local_spi, steps.now))
        assert steps.deliver(request) == []
        assert steps.b.sa.expected_request_id == expected


def orphans(side: Side) -> int:
    return sum(task.orphan for sa in side.sas for task in sa.queue)


def test_unknown_esp_outside_of_udp_is_not_of_peers_behind_a_nat() -> None:
    """I7: thousands of peers may share the address of a NAT, and one packet must not concern all of them."""
    steps = Steps()
    probes(steps)
    steps.b.sa.flags |= ENCAPSULATE
    steps.b.sa.remote = LEFT_IP, 4500
    for port in (0, 4501):
        steps.b.endpoint.unknown_spi(0x1234567, (LEFT_IP, port), steps.now)
    assert not orphans(steps.b)
    steps.b.endpoint.unknown_spi(0x1234568, (LEFT_IP, 4500), steps.now)
    assert orphans(steps.b) == 1


def test_strangers_do_not_let_the_record_grow_while_the_peer_does_not_answer() -> None:
    steps = Steps()
    probes(steps)
    for spi in range(0x1000000, 0x1000200):
        steps.b.endpoint.unknown_spi(spi, (LEFT_IP, 0), steps.now)
        steps.pass_time(0.1)
    assert 0 < orphans(steps.b) <= MAX_ORPHANS


def test_a_probe_is_one_datagram_however_large_the_policy_is() -> None:
    """Each datagram of the request in flight counts as a probe with a message ID of its own."""
    many = tuple(selector_from_prefix(f"10.1.{number}.0/24") for number in range(200))
    steps = Steps(
        left=left_connection(children=(child_policy(local_ts=many),)),
        right=right_connection(children=(child_policy(local="10.2.0.0/16", remote_ts=many),)),
    )
    (probe,) = probes(steps)
    assert len(probe.data) < 500
    steps.pair.queue.append(probe)
    check_one(steps)
