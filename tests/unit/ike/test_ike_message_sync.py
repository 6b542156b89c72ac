"""Synchronisation of message IDs (RFC 6311) where the RFC leaves the details to us: requests in flight, retries, what
hostile or broken peers do."""

from __future__ import annotations

import pytest

from ike_agreement import check_same_sas
from ike_pair import Packet
from ike_steps import delete_child, delete_ike, new_child, rekey_child, rekey_ike
from ipsecha.ike import window
from ipsecha.ike.flags import REMOTE_NAT
from ipsecha.ike.message_sync import GRACE_S, JUMP, LAST_TRIES
from ipsecha.model.records import Exchange, ExchangeKind
from ipsecha.wire.payloads.counter_sync import MessageIdSync
from sync_steps import SyncSteps, check_ivs, synchronising

STARTERS = {
    "new child": new_child,
    "rekey child": rekey_child,
    "delete child": delete_child,
    "rekey ike": rekey_ike,
    "delete ike": delete_ike,
    "liveness": lambda side, steps: steps.do(lambda: side.endpoint.check_liveness(side.sa.local_spi, steps.now)),
}


@pytest.fixture(params=["left", "right"])
def steps(request: pytest.FixtureRequest) -> SyncSteps:
    """The cluster is the original initiator (left) or the responder."""
    return SyncSteps(request.param)


def finish(steps: SyncSteps) -> None:
    steps.pair.advance(400.0)
    check_same_sas(steps.pair)
    check_ivs(steps.pair)


@pytest.mark.parametrize("kind", STARTERS)
@pytest.mark.parametrize("seen", [True, False], ids=["the peer has seen it", "the peer has not seen it"])
def test_a_request_in_flight_is_answered_in_the_grace(steps: SyncSteps, kind: str, seen: bool) -> None:
    """It is repeated at once; then the message IDs are asked for after all, since the peer's may be ahead."""
    steps.check(steps.b)
    (request,) = STARTERS[kind](steps.a, steps)
    if seen:
        steps.deliver(request)
    steps.fail_over()
    sent = steps.ask()
    if kind == "liveness":
        assert [packet.message_id for packet in sent] == [0], "nothing is lost with it"
    else:
        assert {packet.data for packet in sent} == {request.data}
    steps.pair.queue = sent
    finish(steps)
    if kind != "delete ike":
        steps.agree()
        assert steps.a.endpoint.counters["set-aside"] == (kind == "liveness")


@pytest.mark.parametrize("kind", ["new child", "rekey child", "delete child", "delete ike"])
@pytest.mark.parametrize("seen", [True, False], ids=["the peer has seen it", "the peer has not seen it"])
def test_a_request_in_flight_that_is_not_answered_is_made_anew(steps: SyncSteps, kind: str, seen: bool) -> None:
    """Whatever the peer has made of it: in the end both have the same child SAs, and what was wanted has been done."""
    before = len(steps.a.sa.children)
    old = steps.a.sa.children[0].spi_in
    (request,) = STARTERS[kind](steps.a, steps)
    if seen:
        steps.deliver(request)
    steps.fail_over()
    steps.ask()
    steps.pair.network = lambda packet: [] if packet.data == request.data else [packet]
    sent = steps.pass_time(GRACE_S + 0.1)
    assert synchronising(steps.a)
    steps.pair.queue = sent
    finish(steps)
    if kind == "delete ike":
        assert steps.a.sas == steps.b.sas == []
        return
    assert steps.a.endpoint.counters["set-aside"] == 1
    steps.agree()
    spis = [child.spi_in for child in steps.a.sa.children]
    assert len(spis) == before + {"new child": 1, "rekey child": 0, "delete child": -1}[kind]
    assert (old in spis) == (kind == "new child")


@pytest.mark.parametrize("lost_s", [GRACE_S - 0.2, GRACE_S + 0.2, 10.0])
@pytest.mark.parametrize("seen", [True, False], ids=["the peer has seen it", "the peer has not seen it"])
def test_a_rekey_of_the_ike_sa_is_repeated_until_it_is_answered(steps: SyncSteps, seen: bool, lost_s: float) -> None:
    """A peer that has seen it has moved the child SAs to another IKE SA: it would refuse a second rekey for ever."""
    old = steps.a.sa.local_spi
    (request,) = rekey_ike(steps.a, steps)
    if seen:
        steps.deliver(request)
    steps.fail_over()
    steps.ask()
    steps.pair.network = lambda packet: []
    steps.pass_time(lost_s)
    steps.pair.run()
    steps.pair.network = lambda packet: [packet]
    finish(steps)
    assert steps.a.endpoint.counters["set-aside"] == 0
    assert steps.a.sa.local_spi != old
    assert len(steps.a.sa.children) == 1


def test_a_rekey_of_the_ike_sa_that_was_refused_before_does_not_block_it_for_ever(steps: SyncSteps) -> None:
    """The record is older than the refusal and than what the owner has asked for since."""
    (ours,) = rekey_ike(steps.a, steps)
    steps.backup().cut = True
    rekey_child(steps.b, steps)
    (refusal,) = steps.deliver(ours)  # TEMPORARY_FAILURE: the peer is rekeying a child SA
    steps.pair.queue = [refusal]
    steps.pair.run()
    steps.check(steps.a)
    steps.fail_over()
    steps.pair.queue = steps.ask()
    finish(steps)
    assert steps.a.endpoint.counters["set-aside"] == 1
    steps.agree()


@pytest.mark.parametrize("kind", STARTERS)
@pytest.mark.parametrize("seen", [True, False], ids=["the cluster has seen it", "the cluster has not seen it"])
def test_the_peers_request_in_flight(steps: SyncSteps, kind: str, seen: bool) -> None:
    """The peer learns from P1 whether the new owner knows its request: then its answer may still come; otherwise it is
    made anew with a new message ID."""
    steps.check(steps.a)
    steps.check(steps.b)
    (request,) = STARTERS[kind](steps.b, steps)
    if seen:
        steps.deliver(request)
    steps.fail_over()
    if seen and kind == "delete ike":
        return  # nothing is left that could be synchronised
    for sa in steps.a.sas:
        steps.pair.queue += steps.ask(sa=sa)
    sync = next(packet for packet in steps.pair.queue if packet.data[:16] == request.data[:16])
    assert steps.sync_in(sync).receive == request.message_id + seen
    finish(steps)
    assert steps.b.endpoint.counters["set-aside"] == (not seen or kind == "liveness")
    if kind != "delete ike":
        steps.agree()


def test_the_peer_does_not_wait_for_ever(steps: SyncSteps) -> None:
    """The cluster says that it has seen the request, and has no answer to it: a few tries, then it is made anew."""
    steps.check(steps.a)
    (request,) = rekey_child(steps.b, steps)
    old = steps.b.sa.children[0].spi_in
    sync = MessageIdSync(b"nonc", steps.b.sa.expected_request_id + 10, request.message_id + 1)
    sent = steps.deliver(steps.forged_sync(steps.a, sync))
    assert [packet.data == request.data for packet in sent] == [True, False]
    steps.a.sa.next_request_id = sync.send
    steps.a.sa.expected_request_id = sync.receive
    tries = sum(packet.data == request.data for packet in steps.pass_time(30.0))
    assert tries <= LAST_TRIES
    steps.pair.run()
    assert steps.b.endpoint.counters["set-aside"] == 1
    finish(steps)
    assert [child.spi_in for child in steps.b.sa.children] != [old]
    steps.agree()


def test_requests_that_wait_follow(steps: SyncSteps) -> None:
    """What is asked for while the synchronisation is in flight has its turn with the new message IDs."""
    steps.fail_over()
    sent = steps.ask()
    assert new_child(steps.a, steps) == []
    steps.pair.queue = sent
    finish(steps)
    assert len(steps.a.sa.children) == 2


def test_nothing_overtakes_it(steps: SyncSteps) -> None:
    """The request in flight is answered before the grace is over: what else waits is not begun before message IDs
    agree, or it would be set aside; and of a rekey of the IKE SA the peer may have made a new one."""
    (request,) = rekey_child(steps.a, steps)
    steps.fail_over()
    assert [packet.data for packet in steps.ask()] == [request.data]
    assert rekey_ike(steps.a, steps) == []
    (response,) = steps.deliver(request)
    sent = steps.deliver(response)
    assert [packet.message_id for packet in sent] == [0]
    assert synchronising(steps.a)
    steps.pair.queue = sent
    finish(steps)
    assert steps.a.endpoint.counters["set-aside"] == 0


def test_a_lost_answer(steps: SyncSteps) -> None:
    """The request is repeated octet for octet and so is the answer."""
    steps.fail_over()
    (request,) = steps.ask()
    (response,) = steps.deliver(request)
    again = steps.pass_time(2.0)
    assert {packet.data for packet in again} == {request.data}
    assert steps.deliver(again[0]) == [response]
    steps.deliver(response)
    steps.agree()


def test_a_peer_to_the_letter(steps: SyncSteps) -> None:
    """One that drops repetitions, too (section 5.1 says so): a new request with a new nonce and a higher M1 follows,
    and an answer to the old one does not count any more."""
    steps.fail_over()
    (request,) = steps.ask()
    (late,) = steps.deliver(request)
    assert steps.b.sa.answered_sync is not None
    tried = [request.data]
    while tried[-1] == request.data:
        tried += [packet.data for packet in steps.pass_time(1.0)]
    renewed = steps.packet(steps.a, tried[-1])
    assert steps.sync_in(renewed).send == steps.sync_in(request).send + JUMP
    assert steps.sync_in(renewed).nonce != steps.sync_in(request).nonce
    assert steps.deliver(late) == []
    assert synchronising(steps.a)
    steps.pair.queue = [renewed]
    finish(steps)
    steps.agree()


def test_a_peer_that_never_answers_is_dead(steps: SyncSteps) -> None:
    steps.fail_over()
    steps.ask()
    steps.pair.network = lambda packet: [packet] if packet.source == ("", 0) else []
    steps.pair.advance(300.0)
    assert "peer-dead" in steps.a.events


@pytest.mark.parametrize("field", ["send", "receive"])
def test_message_ids_at_their_end_are_refused(steps: SyncSteps, field: str) -> None:
    """An authenticated peer must not leave us without message IDs: the IKE SA could not even be rekeyed."""
    steps.check(steps.a)
    before = steps.ids()
    for value in (window.REKEY_MESSAGE_ID, 0xFFFFFFFF):
        sync = MessageIdSync(b"nonc", 5000, 0)._replace(**{field: value})
        assert steps.deliver(steps.forged_sync(steps.a, sync)) == []
    assert steps.ids() == before
    (request,) = steps.ask()
    nonce = steps.sync_in(request).nonce
    before = steps.ids()
    answer = MessageIdSync(nonce, 0, 5000)._replace(**{field: window.REKEY_MESSAGE_ID})
    assert steps.deliver(steps.forged_sync(steps.b, answer, response=True)) == []
    assert steps.ids() == before
    assert steps.a.endpoint.counters["sync-out-of-range"] == 1
    steps.pair.queue = [request]
    finish(steps)
    steps.agree()


def test_nothing_is_asked_at_the_end_of_message_ids(steps: SyncSteps) -> None:
    steps.a.sa.next_request_id = window.REKEY_MESSAGE_ID - JUMP
    assert steps.ask() == []


def test_an_answer_never_turns_anything_back(steps: SyncSteps) -> None:
    """A peer that answers with lower values than it was sent."""
    steps.check(steps.b)
    (request,) = steps.ask()
    before = steps.ids()[0]
    answer = MessageIdSync(steps.sync_in(request).nonce, 0, 0)
    steps.deliver(steps.forged_sync(steps.b, answer, response=True))
    assert steps.ids()[0] == before
    assert steps.a.sa.exchange is None


def test_an_ike_sa_that_is_closed_is_not_synchronised(steps: SyncSteps) -> None:
    """Only its last answer is left of it."""
    steps.pair.queue = delete_ike(steps.b, steps)
    steps.pair.run()
    (closed,) = steps.a.sas
    assert steps.ask() == []
    assert closed.exchange is None


def test_an_ordinary_answer_with_message_id_zero_does_not_count(steps: SyncSteps) -> None:
    """What an attacker has recorded before: the answer to our first request after a rekey, say."""
    steps.fail_over()
    (request,) = steps.ask()
    old = steps.forged(steps.b, [], response=True)
    assert steps.deliver(old) == []
    assert synchronising(steps.a)
    steps.pair.queue = [request]
    finish(steps)
    steps.agree()


def test_a_peer_behind_a_nat_is_followed_by_what_is_new(steps: SyncSteps) -> None:
    """An authentic synchronisation is as good as any other message (RFC 7296 section 2.23); a replay is not."""
    steps.fail_over()
    (request,) = steps.ask()
    steps.b.sa.flags |= REMOTE_NAT
    home = steps.b.sa.remote
    moved = (home[0], 4711)
    steps.deliver(Packet(request.data, moved, request.destination))
    assert steps.b.sa.remote == moved
    steps.deliver(Packet(request.data, (home[0], 4712), request.destination))
    assert steps.b.sa.remote == moved


def test_a_probe_is_settled_by_the_peers_synchronisation(steps: SyncSteps) -> None:
    """Both sides have failed over and lost updates, only one of them asks by RFC 6311: that is enough for both."""
    steps.check(steps.a)
    steps.check(steps.b)
    sa = steps.b.sa
    sa.exchange = Exchange(ExchangeKind.PROBE, sa.next_request_id, (b"",), steps.now)
    steps.fail_over()
    steps.pair.queue = steps.ask()
    steps.pair.run()
    assert sa.exchange is None
    steps.agree()
