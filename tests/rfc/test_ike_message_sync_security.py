"""RFC 6311 from section 5.2 on: replay counters, and what protects either side from old and from hostile messages."""

from __future__ import annotations

import msgspec
import pytest

from ike_pair import Packet, child_policy, esp, left_connection, proposal, right_connection
from ike_steps import new_child, notifies, rekey_child
from ipsecha.model.numbers import ExchangeType, Notify, Payload
from ipsecha.model.policy import Connection
from ipsecha.model.records import IkeFlag
from ipsecha.wire.payloads.counter_sync import MessageIdSync
from ipsecha.wire.payloads.notify import build_notify
from sync_steps import SyncSteps, check_ivs, failed_over, raised, synchronising

DELTA = build_notify(Notify.IPSEC_REPLAY_COUNTER_SYNC, (500).to_bytes(4, "big"))


@pytest.fixture(params=["left", "right"])
def steps(request: pytest.FixtureRequest) -> SyncSteps:
    """The cluster is the original initiator (left) or the responder."""
    return SyncSteps(request.param)


# Section 5.2


def test_message_ids_first(steps: SyncSteps) -> None:
    """Section 5.2: "the peer MUST process the Message ID notification first (which might cause the entire message to be
    dropped as a replay)"."""
    failed_over(steps)
    old = MessageIdSync(b"nonc", steps.b.sa.expected_request_id - 1, 0)
    assert steps.deliver(steps.forged_sync(steps.a, old, (Payload.NOTIFY, DELTA))) == []
    assert raised(steps.b) == {}


def test_the_counters_of_all_child_sas(steps: SyncSteps) -> None:
    """Section 5.2: "it MUST increment the replay counters for all Child SAs associated with the current IKE SA by the
    amount requested"; once, however often the request comes."""
    steps.pair.queue = new_child(steps.a, steps)
    steps.pair.run()
    assert len(steps.b.sa.children) == 2
    failed_over(steps)
    (request,) = steps.ask(delta=1 << 20)
    (response,) = steps.deliver(request)
    for _ in range(3):
        assert steps.deliver(request) == [response]
    assert raised(steps.b) == {child.spi_in: 1 << 20 for child in steps.b.sa.children}


def esn_connections(left: str, right: str) -> tuple[Connection, Connection]:
    prefixes = ("10.1.0.0/16", "10.2.0.0/16")
    return (
        left_connection(children=(child_policy(proposals=(esp(left),)),)),
        right_connection(children=(child_policy("net", *reversed(prefixes), proposals=(esp(right),)),)),
    )


@pytest.mark.parametrize(("esn", "octets"), [("aes128gcm16", 4), ("aes128gcm16-esn", 8)])
@pytest.mark.parametrize("message_ids", [True, False])
def test_the_size_of_the_delta(esn: str, octets: int, message_ids: bool) -> None:
    """Section 6.4: "if the ESN bit is 1, the field's size is 8 octets; otherwise, it is 4 octets"."""
    steps = SyncSteps("left", *esn_connections(esn, esn))
    steps.fail_over()
    (request,) = steps.ask(message_ids=message_ids, delta=70_000)
    notify = notifies(steps.open(request))[-1]
    assert notify.type == Notify.IPSEC_REPLAY_COUNTER_SYNC
    assert notify.data == (70_000).to_bytes(octets, "big")
    (response,) = steps.deliver(request)
    assert set(raised(steps.b).values()) == {70_000}
    steps.deliver(response)
    steps.agree()


def test_mixed_child_sas_are_not_asked_for(steps: SyncSteps) -> None:
    """Section 6.4: "this constrains the Child SAs of each IKE SA to either all have the ESN bit on or off"; where they
    do not, one delta fits nobody.  Nor is there anything to ask for without a child SA."""
    steps.pair.queue = new_child(steps.a, steps)
    steps.pair.run()
    child = steps.a.sa.children[0]
    child.suite = msgspec.structs.replace(child.suite, esn=True)
    assert steps.ask(message_ids=False, delta=100) == []
    steps.a.sa.children = ()
    assert steps.ask(message_ids=False, delta=100) == []
    (request,) = steps.ask(delta=100)
    assert [notify.type for notify in notifies(steps.open(request))] == [Notify.IKEV2_MESSAGE_ID_SYNC]


# Section 7


def test_once_in_a_failover(steps: SyncSteps) -> None:
    """Section 7: "MUST NOT initiate counter synchronization for any particular IKE SA more than once per failover
    event", or replayed messages would trigger it again and again."""
    failed_over(steps)
    steps.pair.queue = steps.ask()
    steps.pair.run()
    assert steps.ask() == []
    (counters,) = steps.ask(message_ids=False, delta=5)
    assert counters.message_id
    steps.pair.queue = [counters]
    steps.pair.run()
    assert steps.ask(message_ids=False, delta=5) == []
    steps.agree()
    steps.fail_over()
    assert len(steps.ask(delta=5)) == 1


# Section 8.1


def test_requests_outside_the_declared_window_are_dropped(steps: SyncSteps) -> None:
    """Section 8.1: "After sending its 'receive' counter, the cluster member MUST reject (silently drop) any incoming
    IKE messages that are outside its declared window"; a strict one also those that arrive "before Message ID
    synchronization is complete"."""
    failed_over(steps, lost=0)
    (pending,) = rekey_child(steps.b, steps)
    (request,) = steps.ask()
    assert pending.message_id == steps.sync_in(request).receive
    children = steps.a.sa.children
    assert steps.deliver(pending) == []
    assert steps.a.sa.children == children
    for packet in steps.deliver(request):
        if packet.is_response:
            steps.pair.queue += steps.deliver(packet)
    assert steps.deliver(pending) == [], "it is below the window now"
    steps.pair.advance(5.0)
    steps.agree()


def test_the_peer_rejects_old_requests_too(steps: SyncSteps) -> None:
    """Section 8.1: "A similar rule applies to the peer": what a dead owner has sent arrives late."""
    failed_over(steps, lost=0)
    (late,) = rekey_child(steps.a, steps)
    steps.backup().cut = True
    steps.fail_over()
    assert steps.a.sa.exchange is not None
    steps.a.sa.exchange = None
    (request,) = steps.ask()
    (response,) = steps.deliver(request)
    children = steps.b.sa.children
    assert steps.deliver(late) == []
    assert steps.b.sa.children == children
    steps.deliver(response)
    steps.agree()


# Section 9


def test_the_peer_does_not_wait_for_pending_responses(steps: SyncSteps) -> None:
    """Section 9: the peer "should not wait for any pending responses while responding with the new Message ID values";
    what it has asked for, it asks for again with a new message ID."""
    failed_over(steps)
    (lost,) = rekey_child(steps.b, steps)
    (request,) = steps.ask()
    answers = steps.deliver(request)
    (response,) = [packet for packet in answers if packet.is_response]
    assert steps.sync_in(response).send == lost.message_id + 1
    steps.pair.queue = answers
    old = steps.b.sa.children[0].spi_in
    steps.pair.advance(2.0)
    assert [child.spi_in for child in steps.b.sa.children] != [old]
    steps.agree()


# Section 11


def test_a_replayed_request_changes_nothing(steps: SyncSteps) -> None:
    """Section 11: "the Send counter sent by the cluster member should always be monotonically increasing, a rule that
    the peer enforces by silently dropping messages that contradict it".  Right behind it, the same octets are a
    retransmission and get the same answer; later they get none."""
    failed_over(steps)
    (request,) = steps.ask(delta=9)
    (response,) = steps.deliver(request)
    before = steps.ids()[1], raised(steps.b)
    assert steps.deliver(request) == [response]
    assert (steps.ids()[1], raised(steps.b)) == before
    steps.deliver(response)
    steps.check(steps.a)
    before = steps.ids()[1], raised(steps.b)
    assert steps.deliver(request) == []
    assert (steps.ids()[1], raised(steps.b)) == before
    steps.agree()


def test_a_replayed_response_changes_nothing(steps: SyncSteps) -> None:
    """Section 11: "After it receives a valid response, it MUST NOT process the same response again and MUST discard any
    additional responses"; one of an earlier failover has another nonce."""
    failed_over(steps)
    (request,) = steps.ask()
    (response,) = steps.deliver(request)
    steps.deliver(response)
    steps.check(steps.b)
    before = steps.ids()
    assert steps.deliver(response) == []
    assert steps.ids() == before
    steps.fail_over()
    (second,) = steps.ask()
    before = steps.ids()
    assert steps.deliver(response) == []
    assert steps.ids() == before
    assert synchronising(steps.a)
    steps.pair.queue = [second]
    steps.pair.run()
    steps.agree()


def test_what_is_not_authentic_changes_nothing(steps: SyncSteps) -> None:
    """Section 9: "The peer first authenticates the message"."""
    failed_over(steps)
    (request,) = steps.ask()
    forged = Packet(request.data[:-1] + bytes((request.data[-1] ^ 1,)), request.source, request.destination)
    before = steps.ids()
    assert steps.deliver(forged) == []
    assert steps.ids() == before
    (response,) = steps.deliver(request)
    forged = Packet(response.data[:-1] + bytes((response.data[-1] ^ 1,)), response.source, response.destination)
    before = steps.ids()
    assert steps.deliver(forged) == []
    assert steps.ids() == before
    steps.deliver(response)
    steps.agree()


# RFC 7383 section 3


def test_it_is_never_fragmented(steps: SyncSteps) -> None:
    """RFC 7383 section 3: messages with message ID synchronisation are not fragmented."""
    failed_over(steps)
    (request,) = steps.ask(delta=1)
    (response,) = steps.deliver(request)
    assert steps.a.sa.flags & IkeFlag.FRAGMENTATION
    assert (request.data[16], response.data[16]) == (Payload.SK, Payload.SK)
    assert max(len(request.data), len(response.data)) < 200


# Appendix A.4


def test_simultaneous_failover(steps: SyncSteps) -> None:
    """Appendix A.4: both send their requests at the same time; "the eventual outcome of synchronization consists of the
    higher counter values"."""
    failed_over(steps)
    steps.backup(steps.b).cut = True
    steps.check(steps.b)
    steps.fail_over(steps.b)
    (from_a,), (from_b,) = steps.ask(steps.a), steps.ask(steps.b)
    (answer_b,) = steps.deliver(from_a)
    (answer_a,) = steps.deliver(from_b)
    assert steps.sync_in(answer_a)[1:] == (steps.sync_in(from_a).send, steps.sync_in(from_b).send)
    steps.deliver(answer_a)
    steps.deliver(answer_b)
    assert steps.ids()[0] == (steps.sync_in(from_a).send, steps.sync_in(from_b).send)
    steps.agree()


def test_simultaneous_failover_with_losses(steps: SyncSteps) -> None:
    """The same where first messages are lost, in either direction."""
    failed_over(steps)
    steps.fail_over(steps.b)
    steps.ask(steps.a)
    (from_b,) = steps.ask(steps.b)
    steps.deliver(from_b)
    steps.pair.advance(60.0)
    steps.agree()
    check_ivs(steps.pair)


# DESIGN I1


@pytest.mark.parametrize("ike", ["aes128gcm16-prfsha256-x25519", "aes128-sha256-prfsha256-x25519"])
def test_ivs_do_not_follow_message_ids(ike: str) -> None:
    """RFC 7296 section 3.14, RFC 5282: message ID 0 comes again and again, the IV never does, whoever sends it."""
    proposals = (proposal(ike),)
    steps = SyncSteps("left", left_connection(proposals=proposals), right_connection(proposals=proposals))
    for _ in range(4):
        steps.check(steps.b)
        steps.backup().cut = True
        steps.check(steps.a)
        steps.fail_over()
        steps.pair.queue = steps.ask()
        steps.pair.run()
        steps.agree()
    zero = [
        packet
        for packet in steps.pair.sent
        if packet.exchange == ExchangeType.INFORMATIONAL and not packet.message_id and not packet.data[19] & 0x20
    ]
    assert len(zero) >= 4
    check_ivs(steps.pair)
