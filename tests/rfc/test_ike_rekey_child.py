"""CREATE_CHILD_SA for child SAs: RFC 7296 sections 1.3, 1.3.1, 1.3.3, 2.8, 2.9.2 and 2.17."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ike_agreement import live
from ike_pair import ESP_PROPOSAL, Side, child_policy, esp, left_connection, right_connection
from ike_steps import Steps, body, deleted, new_child, notifies, only_notify, rekey_child, types
from ipsecha.crypto.key_derivation import derive_child_keys, unpack_record_keys
from ipsecha.crypto.key_exchange import restore_key_exchange
from ipsecha.ike.create_child import MAX_CHILDREN
from ipsecha.ike.window import Payloads
from ipsecha.model.effects import InstallChild, Transmit, UpdateChild
from ipsecha.model.errors import PeerError
from ipsecha.model.numbers import ExchangeType, Group, Notify, Payload, Protocol
from ipsecha.model.policy import ChildPolicy
from ipsecha.model.proposals import Proposal
from ipsecha.model.records import ChildState
from ipsecha.model.selectors import selector_from_prefix
from ipsecha.wire.payloads.ke import parse_ke
from ipsecha.wire.payloads.nonce import parse_nonce
from ipsecha.wire.payloads.notify import build_notify
from ipsecha.wire.payloads.sa import build_sa, parse_sa
from ipsecha.wire.payloads.selectors import build_selectors, parse_selectors

LEFT_NET, RIGHT_NET = selector_from_prefix("10.1.0.0/16"), selector_from_prefix("10.2.0.0/16")


def _steps(
    a: str = "left", left: tuple[Proposal, ...] = (ESP_PROPOSAL,), right: tuple[Proposal, ...] = (ESP_PROPOSAL,)
) -> Steps:
    return Steps(
        a,
        left_connection(children=(child_policy(proposals=left),)),
        right_connection(children=(child_policy(local="10.2.0.0/16", remote="10.1.0.0/16", proposals=right),)),
    )


@pytest.fixture(params=("left", "right"))
def steps(request: pytest.FixtureRequest) -> Steps:
    """``a`` is the initiator of the exchange; the original initiator of the IKE SA is always the left side."""
    return _steps(request.param)


def test_a_new_child_sa(steps: Steps) -> None:
    """Section 1.3.1: SK {SA, Ni, TSi, TSr} is answered by SK {SA, Nr, TSi, TSr}."""
    (request,) = new_child(steps.a, steps)
    assert types(steps.open(request)) == [Payload.SA, Payload.NONCE, Payload.TSI, Payload.TSR]
    (response,) = steps.deliver(request)
    assert types(steps.open(response)) == [Payload.SA, Payload.NONCE, Payload.TSI, Payload.TSR]
    assert steps.deliver(response) == []
    steps.finish()
    assert [child.name for child in steps.a.sa.children] == ["net", "net"]


def test_a_rekey_names_the_old_child_sa(steps: Steps) -> None:
    """Section 1.3.3: REKEY_SA "MUST be included" with "the SPI the exchange initiator would expect in inbound ESP or AH
    packets" and the protocol of the SA."""
    old = steps.a.sa.children[0]
    (request,) = rekey_child(steps.a, steps)
    payloads = steps.open(request)
    assert types(payloads) == [Payload.NOTIFY, Payload.SA, Payload.NONCE, Payload.TSI, Payload.TSR]
    assert notifies(payloads) == [(Protocol.ESP, old.spi_in.to_bytes(4, "big"), Notify.REKEY_SA, b"")]
    assert old.state == ChildState.REKEYING


def test_the_initiator_deletes_the_old_child_sa(steps: Steps) -> None:
    """Section 2.8: "create a new, equivalent SA [...] and when the new one is established, delete the old one"."""
    old = steps.a.sa.children[0]
    (request,) = rekey_child(steps.a, steps)
    (response,) = steps.deliver(request)
    (delete,) = steps.deliver(response)
    assert deleted(steps.open(delete)) == [old.spi_in]
    (answer,) = steps.deliver(delete)
    assert deleted(steps.open(answer)) == [old.spi_out]
    steps.deliver(answer)
    steps.finish()
    assert len(steps.a.sa.children) == 1


def test_the_responder_can_receive_before_it_answers(steps: Steps) -> None:
    """Section 2.8: "The responder to a CREATE_CHILD_SA MUST be prepared to accept messages on an SA before sending its
    response"; before both comes the record (output commit)."""
    (request,) = rekey_child(steps.a, steps)
    seen = len(steps.b.effects)
    steps.deliver(request)
    kinds = [type(effect) for effect in steps.b.effects[seen:]]
    assert kinds.index(InstallChild) < kinds.index(Transmit)
    assert type(steps.b.effects[seen]).__name__ == "Replicate"


def test_the_responder_sends_on_the_old_child_sa_until_the_delete(steps: Steps) -> None:
    """Section 2.8: "When rekeying an SA, the responder continues to send traffic on the old SA until one of those
    events occurs", here "(2) the new SA rekeys an existing SA and it receives an IKE request to close the replaced
    SA"."""
    (request,) = rekey_child(steps.a, steps)
    (response,) = steps.deliver(request)
    old, new = steps.b.sa.children
    assert (old.use_outbound, new.use_outbound) == (True, False)
    (delete,) = steps.deliver(response)
    assert [child.use_outbound for child in steps.a.sa.children] == [False, True]
    seen = len(steps.b.effects)
    steps.deliver(delete)
    assert new.use_outbound
    assert any(isinstance(effect, UpdateChild) and effect.child is new for effect in steps.b.effects[seen:])


def test_the_responder_sends_on_the_new_child_sa_when_traffic_arrives_there(steps: Steps) -> None:
    """Section 2.8: "(1) it has received a cryptographically valid message on the other half of the SA pair"."""
    (request,) = rekey_child(steps.a, steps)
    steps.deliver(request)
    old, new = steps.b.sa.children
    steps.b.endpoint.traffic_seen(new.spi_in, steps.now)
    assert (old.use_outbound, new.use_outbound) == (False, True)
    assert {old.spi_in, new.spi_in} == set(steps.b.installed)


def test_traffic_on_the_old_child_sa_changes_nothing(steps: Steps) -> None:
    """Section 2.8: both child SAs are eligible to receive; only traffic on the new one shows that the peer has it."""
    (request,) = rekey_child(steps.a, steps)
    steps.deliver(request)
    old, new = steps.b.sa.children
    steps.b.endpoint.traffic_seen(old.spi_in, steps.now)
    assert (old.use_outbound, new.use_outbound) == (True, False)


def test_keys_come_from_the_nonces_of_the_exchange(steps: Steps) -> None:
    """Section 2.17: KEYMAT = prf+(SK_d, Ni | Nr); "All keys for SAs carrying data from the initiator to the responder
    are taken before"."""
    (request,) = new_child(steps.a, steps)
    (response,) = steps.deliver(request)
    ni = parse_nonce(body(steps.open(request), Payload.NONCE))
    nr = parse_nonce(body(steps.open(response), Payload.NONCE))
    steps.deliver(response)
    sa = steps.a.sa
    child = sa.children[-1]
    sk_d = unpack_record_keys(sa.suite, sa.keys).sk_d
    to_responder, to_initiator = derive_child_keys(sa.suite.prf, sk_d, child.suite, ni, nr)
    assert child.keys == to_initiator + to_responder
    assert steps.b.sa.children[-1].keys == to_responder + to_initiator


@pytest.mark.parametrize("a", ["left", "right"])
@pytest.mark.parametrize("group", ["x25519", "ecp256", "modp2048"])
def test_a_rekey_with_a_key_exchange_of_its_own(a: str, group: str) -> None:
    """Section 2.17: with KE payloads KEYMAT = prf+(SK_d, g^ir (new) | Ni | Nr)."""
    proposals = (esp(f"aes128gcm16-{group}"),)
    steps = _steps(a, proposals, proposals)
    (request,) = rekey_child(steps.a, steps)
    exchange = steps.a.sa.exchange
    assert exchange is not None
    private = restore_key_exchange(exchange.group, exchange.private_key)
    (response,) = steps.deliver(request)
    ni = body(steps.open(request), Payload.NONCE)
    nr = body(steps.open(response), Payload.NONCE)
    number, public = parse_ke(body(steps.open(response), Payload.KE))
    steps.deliver(response)
    sa = steps.a.sa
    child = sa.children[-1]
    assert number == child.suite.group == exchange.group
    sk_d = unpack_record_keys(sa.suite, sa.keys).sk_d
    to_responder, to_initiator = derive_child_keys(sa.suite.prf, sk_d, child.suite, ni, nr, private.shared(public))
    assert child.keys == to_initiator + to_responder
    steps.pair.gather()
    steps.finish()


def test_another_group_is_asked_for_by_invalid_ke_payload() -> None:
    """Section 1.3: "the responder MUST reject the request and indicate its preferred Diffie-Hellman group in the
    INVALID_KE_PAYLOAD"; the initiator retries with that group, and offers all that it has offered before."""
    steps = _steps("left", (esp("aes128gcm16-x25519-ecp256"),), (esp("aes128gcm16-ecp256"),))
    (request,) = new_child(steps.a, steps)
    assert parse_ke(body(steps.open(request), Payload.KE))[0] == Group.CURVE25519
    (refusal,) = steps.deliver(request)
    (notify,) = notifies(steps.open(refusal))
    assert (notify.type, notify.data) == (Notify.INVALID_KE_PAYLOAD, b"\x00\x13")
    (retry,) = steps.deliver(refusal)
    assert parse_ke(body(steps.open(retry), Payload.KE))[0] == Group.ECP_256
    offers = [parse_sa(body(steps.open(packet), Payload.SA))[0].transforms for packet in (request, retry)]
    assert offers[0] == offers[1]
    steps.pair.queue = [retry]
    steps.finish()
    assert len(steps.a.sa.children) == 2


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x0e", b"\x00\x1f"])
def test_a_group_that_was_not_offered_or_is_asked_for_again_ends_the_attempt(steps: Steps, data: bytes) -> None:
    """Section 1.3: the retry is with "the group that the responder gave"; a peer cannot make us go round in circles."""
    proposals = (esp("aes128gcm16-x25519"),)
    steps = _steps(steps.a.name, proposals, proposals)
    _refuse(steps.b, PeerError(Notify.INVALID_KE_PAYLOAD, "", data))
    steps.pair.queue = rekey_child(steps.a, steps)
    steps.pair.run()
    assert sum(packet.exchange == 36 and not packet.is_response for packet in steps.pair.sent) <= 2
    assert "child-failed" in steps.a.events
    steps.finish(20.0)


def _refuse(side: Side, error: PeerError) -> None:
    """Let ``side`` answer all CREATE_CHILD_SA requests with an error."""

    def handler(*_: object) -> Payloads:
        raise error

    side.endpoint.request_handlers = {**side.endpoint.request_handlers, ExchangeType.CREATE_CHILD_SA: handler}


def _answer(side: Side, change: Callable[[int, bytes], bytes]) -> None:
    """Let ``side`` change the payloads of its CREATE_CHILD_SA answers."""
    real = side.endpoint.request_handlers[ExchangeType.CREATE_CHILD_SA]

    def handler(*arguments: object) -> Payloads:
        return [(kind, change(kind, octets)) for kind, octets in real(*arguments)]  # type: ignore[arg-type]

    side.endpoint.request_handlers = {**side.endpoint.request_handlers, ExchangeType.CREATE_CHILD_SA: handler}


@pytest.mark.parametrize(
    "notify", [Notify.NO_PROPOSAL_CHOSEN, Notify.TS_UNACCEPTABLE, Notify.NO_ADDITIONAL_SAS, Notify(34), 8191]
)
@pytest.mark.parametrize("wanted", [new_child, rekey_child])
def test_a_failed_attempt_leaves_the_ike_sa_and_the_old_child_sa(
    steps: Steps, wanted: Callable[[Side, Steps], list], notify: int
) -> None:
    """Section 1.3.1: "A failed attempt to create a Child SA SHOULD NOT tear down the IKE SA"; section 3.10.1: an
    unknown error type in a response fails the request."""
    _refuse(steps.b, PeerError(notify))
    steps.pair.queue = wanted(steps.a, steps)
    steps.finish(10.0)
    assert len(steps.a.sa.children) == 1
    assert "child-failed" in steps.a.events


def test_no_proposal_fits(steps: Steps) -> None:
    """Section 2.7: "it MUST [...] reject all the proposals" with NO_PROPOSAL_CHOSEN."""
    steps.b.endpoint.configure(
        steps.b.policy.__class__(
            (
                (left_connection if steps.b.name == "left" else right_connection)(
                    children=(_other_proposals(steps.b.policy.connections[0].children[0]),)
                ),
            )
        ),
        steps.b.endpoint.credentials,
        steps.now,
    )
    (request,) = new_child(steps.a, steps)
    (response,) = steps.deliver(request)
    assert only_notify(steps.open(response)) == Notify.NO_PROPOSAL_CHOSEN


def _other_proposals(policy: ChildPolicy) -> ChildPolicy:
    return child_policy(
        policy.name, local_ts=policy.local_ts, remote_ts=policy.remote_ts, proposals=(esp("aes256-sha256"),)
    )


def test_no_more_child_sas_than_a_peer_can_need(steps: Steps) -> None:
    """Section 1.3: NO_ADDITIONAL_SAS "to indicate that [...] the responder is unwilling to accept any more Child
    SAs"."""
    for _ in range(MAX_CHILDREN - 1):
        steps.pair.queue = new_child(steps.a, steps)
        steps.pair.run()
    assert len(steps.b.sa.children) == MAX_CHILDREN
    (request,) = new_child(steps.a, steps)
    (response,) = steps.deliver(request)
    assert only_notify(steps.open(response)) == Notify.NO_ADDITIONAL_SAS


def test_what_we_cannot_use_of_the_answer_is_deleted(steps: Steps) -> None:
    """Section 2.9: a subset of our selectors is all that the responder may choose; the child SA that it has made goes,
    the old one and the IKE SA stay."""
    wide = build_selectors((selector_from_prefix("0.0.0.0/0"),))
    _answer(steps.b, lambda kind, octets: wide if kind == Payload.TSI else octets)
    (request,) = rekey_child(steps.a, steps)
    (response,) = steps.deliver(request)
    (delete,) = steps.deliver(response)
    assert len(deleted(steps.open(delete))) == 1
    steps.pair.queue = [delete]
    steps.finish(10.0)
    assert [child.state for child in steps.a.sa.children] == [ChildState.ESTABLISHED]


def test_a_suite_that_was_not_offered_is_not_accepted(steps: Steps) -> None:
    """Section 3.3.6: "the initiator of an exchange MUST check that the accepted offer is consistent with one of its
    proposals, and if not MUST terminate the exchange"."""
    strange = esp("aes256-sha256")

    def change(kind: int, octets: bytes) -> bytes:
        return build_sa((Proposal(1, 3, b"\1\2\3\4", strange.transforms),)) if kind == Payload.SA else octets

    _answer(steps.b, change)
    steps.pair.queue = new_child(steps.a, steps)
    steps.pair.run()
    assert len(steps.a.sa.children) == 1
    assert "child-failed" in steps.a.events


def test_the_responder_does_not_narrow_a_rekey(steps: Steps) -> None:
    """Section 2.9.2: "The responder MUST NOT narrow down the Traffic Selectors narrower than the scope currently in
    use": an offer or a policy that would is refused."""
    child = steps.a.sa.children[0]
    small = build_selectors((selector_from_prefix("10.1.7.0/24" if steps.a.name == "left" else "10.2.7.0/24"),))
    other = build_selectors(child.remote_ts)
    rekey = build_notify(Notify.REKEY_SA, protocol=3, spi=child.spi_in.to_bytes(4, "big"))
    sa = build_sa((Proposal(1, 3, b"\1\2\3\4", ESP_PROPOSAL.transforms),))
    payloads = [(Payload.NOTIFY, rekey), (Payload.SA, sa), (Payload.NONCE, bytes(32))]
    request = steps.forge(
        steps.a, ExchangeType.CREATE_CHILD_SA, [*payloads, (Payload.TSI, small), (Payload.TSR, other)]
    )
    (response,) = steps.deliver(request)
    assert only_notify(steps.open(response)) == Notify.TS_UNACCEPTABLE


def test_the_initiator_refuses_a_rekey_that_narrows(steps: Steps) -> None:
    """Section 2.9.2: "the new SA MUST NOT have narrower selectors than the original"."""
    _answer(
        steps.b,
        lambda kind, octets: (
            build_selectors((selector_from_prefix("10.1.7.0/24" if steps.a.name == "left" else "10.2.7.0/24"),))
            if kind == Payload.TSI
            else octets
        ),
    )
    old = steps.a.sa.children[0].spi_in
    steps.pair.queue = rekey_child(steps.a, steps)
    steps.finish(10.0)
    assert [child.spi_in for child in steps.a.sa.children] == [old]


def test_a_rekey_proposes_at_least_the_scope_in_use(steps: Steps) -> None:
    """Section 2.9.2: "the proposed Traffic Selectors SHOULD be either the same as, or a superset of, the Traffic
    Selectors used in the old Child SA"."""
    (request,) = rekey_child(steps.a, steps)
    payloads = steps.open(request)
    child = steps.a.sa.children[0]
    assert parse_selectors(body(payloads, Payload.TSI)) == child.local_ts
    assert parse_selectors(body(payloads, Payload.TSR)) == child.remote_ts


def test_the_packet_that_wants_a_child_sa_goes_first() -> None:
    """Section 2.9: "the initiator SHOULD include as the first Traffic Selector in each of TSi and TSr a very specific
    Traffic Selector including the addresses in the packet"."""
    steps = Steps()
    child = steps.a.sa.children[0]
    steps.pair.queue = steps.do(lambda: steps.a.endpoint.terminate(steps.now, spi_in=child.spi_in))
    steps.pair.run()
    packet = selector_from_prefix("10.1.0.5", 6, (4000, 4000)), selector_from_prefix("10.2.0.7", 6, (80, 80))
    (request,) = steps.do(lambda: steps.a.endpoint.acquire("site", "net", steps.now, packet))
    payloads = steps.open(request)
    assert parse_selectors(body(payloads, Payload.TSI)) == (packet[0], LEFT_NET)
    assert parse_selectors(body(payloads, Payload.TSR)) == (packet[1], RIGHT_NET)
    steps.pair.queue = [request]
    steps.finish(10.0)
    assert steps.a.sa.children[0].local_ts == (LEFT_NET,)


def test_a_malformed_request_ends_the_ike_sa(steps: Steps) -> None:
    """Section 2.21.3: an authentic message that is malformed is answered with INVALID_SYNTAX and ends the IKE SA."""
    request = steps.forge(steps.a, ExchangeType.CREATE_CHILD_SA, [(Payload.TSI, b""), (Payload.TSR, b"")])
    spis = steps.b.sa
    (response,) = steps.deliver(request)
    assert steps.b.sas == []
    assert spis.children
    assert only_notify(steps.open(response)) == Notify.INVALID_SYNTAX


def test_a_reserved_spi_is_not_accepted(steps: Steps) -> None:
    """RFC 4303 section 2.1: SPIs up to 255 are reserved."""
    sa = build_sa((Proposal(1, 3, b"\0\0\0\7", ESP_PROPOSAL.transforms),))
    child = steps.a.sa.children[0]
    payloads = [(Payload.SA, sa), (Payload.NONCE, bytes(32))]
    selectors = [
        (Payload.TSI, build_selectors(child.local_ts)),
        (Payload.TSR, build_selectors(child.remote_ts)),
    ]
    (response,) = steps.deliver(steps.forge(steps.a, ExchangeType.CREATE_CHILD_SA, payloads + selectors))
    assert only_notify(steps.open(response)) == Notify.NO_PROPOSAL_CHOSEN


def test_transport_mode_is_declined_by_silence(steps: Steps) -> None:
    """Section 1.3.1: "If the responder declines the request, the Child SA will be established in tunnel mode": no
    USE_TRANSPORT_MODE in the answer."""
    sa = build_sa((Proposal(1, 3, b"\1\2\3\4", ESP_PROPOSAL.transforms),))
    child = steps.a.sa.children[0]
    request = steps.forge(
        steps.a,
        ExchangeType.CREATE_CHILD_SA,
        [
            (Payload.NOTIFY, build_notify(Notify.USE_TRANSPORT_MODE)),
            (Payload.SA, sa),
            (Payload.NONCE, bytes(32)),
            (Payload.TSI, build_selectors(child.local_ts)),
            (Payload.TSR, build_selectors(child.remote_ts)),
        ],
    )
    (response,) = steps.deliver(request)
    assert types(steps.open(response)) == [Payload.SA, Payload.NONCE, Payload.TSI, Payload.TSR]
    assert len(live(steps.b)) == 1
