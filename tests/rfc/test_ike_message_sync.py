"""RFC 6311 sections 5 and 5.1: what a cluster and its peer have to do to agree on message IDs after a failover."""

from __future__ import annotations

import pytest

from ike_pair import Pair
from ike_steps import notifies, rekey_ike, types
from ipsecha.ike import counter_sync
from ipsecha.ike.message_sync import JUMP
from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.records import IkeFlag, decode_record
from ipsecha.wire.payloads.counter_sync import MessageIdSync
from ipsecha.wire.payloads.notify import build_notify
from sync_steps import SyncSteps, failed_over, raised, sync_payload, synchronising

BOTH = IkeFlag.MESSAGE_ID_SYNC | IkeFlag.REPLAY_COUNTER_SYNC
SUPPORTED = {Notify.IKEV2_MESSAGE_ID_SYNC_SUPPORTED, Notify.IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED}
DELTA = build_notify(Notify.IPSEC_REPLAY_COUNTER_SYNC, (500).to_bytes(4, "big"))


@pytest.fixture(params=["left", "right"])
def steps(request: pytest.FixtureRequest) -> SyncSteps:
    """The cluster is the original initiator (left) or the responder."""
    return SyncSteps(request.param)


# Section 5: capabilities


def test_both_capabilities_are_asserted_in_ike_auth() -> None:
    """Section 5: by exchanging the two SUPPORTED notifications in IKE_AUTH; they are IKE SA state of both sides."""
    pair = Pair()
    pair.establish()
    for side in pair.sides:
        assert side.sa.flags & BOTH == BOTH


@pytest.mark.parametrize("offered", [IkeFlag(0), IkeFlag.MESSAGE_ID_SYNC, IkeFlag.REPLAY_COUNTER_SYNC, BOTH])
def test_the_responder_asserts_only_what_was_offered(monkeypatch: pytest.MonkeyPatch, offered: IkeFlag) -> None:
    """Section 5: "the responder MUST NOT assert support of a capability unless such support was asserted by the
    initiator"; only one that both asserted can be used."""
    support = counter_sync.support
    asked: list[int] = []

    def less(flags: int) -> list[tuple[int, bytes]]:
        asked.append(flags)
        return support(flags if len(asked) > 1 else offered)

    monkeypatch.setattr(counter_sync, "support", less)
    pair = Pair()
    pair.establish()
    assert len(asked) == 2, "one by the initiator, one by the responder"
    assert asked[1] & BOTH == offered
    assert pair.left.sa.flags & BOTH == offered
    assert pair.right.sa.flags & BOTH == offered


def test_what_was_not_negotiated_is_not_used(steps: SyncSteps) -> None:
    """Section 5: "Only a capability whose support was asserted by both parties can be used during the lifetime of the
    SA"; a message that asks all the same is out of the window."""
    steps.check(steps.a)
    steps.check(steps.a)
    for side in (steps.a, steps.b):
        side.sa.flags &= ~BOTH
    assert steps.ask(delta=100) == []
    before = steps.ids()
    assert steps.deliver(steps.forged_sync(steps.a, MessageIdSync(b"nonc", 5000, 0), (Payload.NOTIFY, DELTA))) == []
    assert steps.ids() == before
    assert raised(steps.b) == {}


def test_capabilities_are_shared_and_survive_a_rekey(steps: SyncSteps) -> None:
    """Section 5: they "are part of the IKEv2 SA state, and thus MUST be shared between the cluster members".  The RFC
    is silent on rekeys; the new IKE SA inherits them."""
    steps.pair.queue = rekey_ike(steps.a, steps)
    steps.pair.advance(400.0)
    for side in (steps.a, steps.b):
        (octets,) = (steps.backup(side).octets[sa.local_spi] for sa in side.sas)
        assert decode_record(octets).flags & BOTH == BOTH
    failed_over(steps)
    steps.pair.queue = steps.ask()
    steps.pair.run()
    steps.agree()


# Section 5: the messages


def test_message_ids_alone(steps: SyncSteps) -> None:
    """Section 5, case 1: "an Informational exchange, with Message ID zero and the sole notification
    IKEV2_MESSAGE_ID_SYNC"; the peer MUST respond in kind."""
    failed_over(steps)
    (request,) = steps.ask()
    (response,) = steps.deliver(request)
    for packet in (request, response):
        assert (packet.exchange, packet.message_id) == (ExchangeType.INFORMATIONAL, 0)
        assert types(steps.open(packet)) == [Payload.NOTIFY]
        (notify,) = notifies(steps.open(packet))
        assert (notify.type, notify.protocol, notify.spi) == (Notify.IKEV2_MESSAGE_ID_SYNC, 0, b"")
        assert len(notify.data) == 12
    assert (request.is_response, response.is_response) == (False, True)
    steps.deliver(response)
    steps.agree()


def test_counters_alone(steps: SyncSteps) -> None:
    """Section 5, case 2: "a regular IKEv2 Informational exchange using the current Message ID values"; the answer is
    empty."""
    steps.check(steps.a)
    steps.fail_over()
    ids = steps.ids()[0]
    (request,) = steps.ask(message_ids=False, delta=500)
    assert (request.exchange, request.message_id) == (ExchangeType.INFORMATIONAL, ids[0])
    (notify,) = notifies(steps.open(request))
    assert (notify.type, notify.protocol, notify.spi) == (Notify.IPSEC_REPLAY_COUNTER_SYNC, 0, b"")
    (response,) = steps.deliver(request)
    assert steps.open(response) == []
    assert raised(steps.b) == {child.spi_in: 500 for child in steps.b.sa.children}
    steps.deliver(response)
    steps.agree()


def test_both_in_one_message(steps: SyncSteps) -> None:
    """Section 5, case 3: both notifications in the message with message ID zero; the response has the first alone."""
    failed_over(steps)
    (request,) = steps.ask(delta=500)
    assert request.message_id == 0
    assert [notify.type for notify in notifies(steps.open(request))] == [
        Notify.IKEV2_MESSAGE_ID_SYNC,
        Notify.IPSEC_REPLAY_COUNTER_SYNC,
    ]
    (response,) = steps.deliver(request)
    assert [notify.type for notify in notifies(steps.open(response))] == [Notify.IKEV2_MESSAGE_ID_SYNC]
    assert set(raised(steps.b).values()) == {500}
    steps.deliver(response)
    steps.agree()


# Section 5.1: the cluster


def test_m1_is_above_all_that_was_known_to_be_used(steps: SyncSteps) -> None:
    """Section 5.1: "M1 MUST be chosen so that it is larger than any value known to have been used. It is RECOMMENDED to
    increment the known value at least by the size of the IKE sender window"."""
    failed_over(steps)
    known = steps.a.sa.next_request_id
    (request,) = steps.ask()
    sync = steps.sync_in(request)
    assert sync.send >= known + 1
    assert sync.send == known + JUMP
    assert steps.a.sa.next_request_id == sync.send


def test_p1_is_one_more_than_the_last_received(steps: SyncSteps) -> None:
    """Section 5.1: "P1 SHOULD be 1 more than the last Message ID value received from the peer"."""
    failed_over(steps)
    expected = steps.a.sa.expected_request_id
    (request,) = steps.ask()
    assert steps.sync_in(request).receive == expected


def test_the_values_sent_are_known_to_the_backup(steps: SyncSteps) -> None:
    """Section 5.1: "The member SHOULD communicate the sent values to the other cluster members, so that if a second
    failover event takes place, the synchronization message is not replayed": the third owner goes on with the same
    exchange, octet for octet, and what it sends after that is above it."""
    failed_over(steps)
    (request,) = steps.ask()
    steps.fail_over()
    assert synchronising(steps.a)
    assert steps.ask() == []
    repeated = steps.pass_time(2.0)
    assert {packet.data for packet in repeated} == {request.data}
    (response,) = steps.deliver(request)
    steps.deliver(response)
    steps.agree()
    used = steps.a.sa.next_request_id
    steps.fail_over()
    (again,) = steps.ask()
    assert steps.sync_in(again).send > used
    steps.pair.queue = [again]
    steps.pair.run()
    steps.agree()


def test_a_lost_record_of_the_values_sent(steps: SyncSteps) -> None:
    """The same where that could not be communicated: the second request is a replay for the peer and is dropped, until
    it is renewed with higher values."""
    failed_over(steps)
    steps.backup().cut = True
    steps.pair.queue = steps.ask()
    steps.pair.run()
    steps.fail_over()
    (request,) = steps.ask()
    assert steps.deliver(request) == []
    assert steps.b.endpoint.counters["old-sync"] == 1
    steps.pair.advance(30.0)
    steps.agree()


# Section 5.1: the peer


def test_old_values_are_dropped(steps: SyncSteps) -> None:
    """Section 5.1: "The peer MUST silently drop any received synchronization message if M1 is lower than or equal to
    the highest value it has seen from the cluster"."""
    failed_over(steps)
    highest = steps.b.sa.expected_request_id - 1
    before = steps.ids()
    for old in (0, highest - 1, highest):
        assert steps.deliver(steps.forged_sync(steps.a, MessageIdSync(b"nonc", old, 0))) == []
    assert steps.ids() == before
    assert len(steps.deliver(steps.forged_sync(steps.a, MessageIdSync(b"nonc", highest + 1, 0)))) == 1


def test_old_values_are_those_of_synchronisations_too(steps: SyncSteps) -> None:
    """Section 5.1: "This includes any previous received synchronization messages"."""
    failed_over(steps)
    assert len(steps.deliver(steps.forged_sync(steps.a, MessageIdSync(b"one.", 5000, 7)))) == 1
    before = steps.ids()
    for old in (4999, 5000):
        assert steps.deliver(steps.forged_sync(steps.a, MessageIdSync(b"two.", old, 9))) == []
    assert steps.ids() == before
    assert len(steps.deliver(steps.forged_sync(steps.a, MessageIdSync(b"two.", 5001, 0)))) == 1


@pytest.mark.parametrize(("behind", "ahead"), [(0, 0), (1, 0), (0, 3), (2, 7)])
def test_the_answer_has_the_higher_values(steps: SyncSteps, behind: int, ahead: int) -> None:
    """Section 5.1: M2 at least the higher of M1 and one more than the highest value received; P2 "MUST be the higher of
    the received P1 value, and one more than the highest sender value used by the peer" (appendix A.1 to A.3)."""
    failed_over(steps)
    ours, theirs = steps.b.sa.next_request_id, steps.b.sa.expected_request_id
    p1 = ours - behind + ahead
    (response,) = steps.deliver(steps.forged_sync(steps.a, MessageIdSync(b"nonc", theirs + 40, p1)))
    answer = steps.sync_in(response)
    assert answer.receive == theirs + 40
    assert answer.send == max(p1, ours)
    assert (steps.b.sa.next_request_id, steps.b.sa.expected_request_id) == (answer.send, answer.receive)


def test_the_nonce_is_returned(steps: SyncSteps) -> None:
    """Section 5.1: "This field MUST be returned in the response, unchanged"."""
    failed_over(steps)
    (request,) = steps.ask()
    (response,) = steps.deliver(request)
    assert steps.sync_in(response).nonce == steps.sync_in(request).nonce


def test_another_nonce_is_dropped(steps: SyncSteps) -> None:
    """Section 5.1: "A response MUST be silently dropped if the received nonce does not match the one that was sent"."""
    failed_over(steps)
    (request,) = steps.ask()
    (response,) = steps.deliver(request)
    before = steps.ids()[0]
    wrong = steps.sync_in(response)._replace(nonce=b"\0\0\0\0", send=77, receive=99_999)
    assert steps.deliver(steps.forged_sync(steps.b, wrong, response=True)) == []
    assert steps.ids()[0] == before
    assert synchronising(steps.a), "the right answer may still come"
    steps.deliver(response)
    steps.agree()


@pytest.mark.parametrize(
    "more",
    [
        (Payload.NOTIFY, build_notify(Notify.INITIAL_CONTACT)),
        (Payload.VENDOR, b"who"),
        sync_payload(MessageIdSync(b"nonc", 9000, 0)),
        (Payload.NOTIFY, build_notify(Notify.IPSEC_REPLAY_COUNTER_SYNC, b"\0\0\1")),
        (Payload.NOTIFY, build_notify(Notify.IPSEC_REPLAY_COUNTER_SYNC)),
    ],
    ids=["notification", "vendor id", "twice", "3 octets", "0 octets"],
)
def test_nothing_else_may_be_in_it(steps: SyncSteps, more: tuple[int, bytes]) -> None:
    """Section 5.1: "Both the request and the response MUST NOT contain any additional payloads, other than an optional
    IPSEC_REPLAY_COUNTER_SYNC notification in the request"."""
    failed_over(steps)
    before = steps.ids()
    assert steps.deliver(steps.forged_sync(steps.a, MessageIdSync(b"nonc", 5000, 0), more)) == []
    assert steps.ids() == before
    (request,) = steps.ask()
    sync = steps.sync_in(request)
    for extra in (more, (int(Payload.NOTIFY), DELTA)):
        response = steps.forged_sync(steps.b, MessageIdSync(sync.nonce, 50, sync.send), extra, response=True)
        assert steps.deliver(response) == []
        assert synchronising(steps.a)
    steps.pair.queue = [request]
    steps.pair.run()
    steps.agree()


def test_message_id_zero_and_nothing_else(steps: SyncSteps) -> None:
    """Section 5.1: "The request and the response MUST both be sent with a Message ID value of zero": with another one
    the notification has no meaning."""
    failed_over(steps, lost=0)
    before = steps.ids()[1]
    sync = MessageIdSync(b"nonc", 5000, 9)
    (response,) = steps.deliver(steps.forge(steps.a, ExchangeType.INFORMATIONAL, [sync_payload(sync)]))
    assert steps.open(response) == []
    assert steps.ids()[1] == (before[0], before[1] + 1)


def test_other_requests_with_message_id_zero_go_their_way() -> None:
    """RFC 7296 section 2.2: the original responder's first request has message ID 0, too; and so has every first
    request after a rekey."""
    steps = SyncSteps("right")
    (request,) = steps.do(lambda: steps.a.endpoint.check_liveness(steps.a.sa.local_spi, steps.now))
    assert request.message_id == 0
    (response,) = steps.deliver(request)
    steps.deliver(response)
    assert steps.deliver(request) == [response]
    steps.agree()
