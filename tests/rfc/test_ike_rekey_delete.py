"""INFORMATIONAL exchanges: RFC 7296 sections 1.4, 1.4.1, 2.4, 2.25 and 3.10.1."""

from __future__ import annotations

import pytest

from ike_agreement import live
from ike_steps import (
    Steps,
    delete_child,
    delete_ike,
    deleted,
    is_ike_delete,
    new_child,
    only_notify,
    rekey_ike,
    types,
)
from ipsecha.model.effects import RemoveChild, Replicate, Transmit
from ipsecha.model.numbers import ExchangeType, Notify, Payload, Protocol
from ipsecha.wire.payloads.delete import build_delete, parse_delete
from ipsecha.wire.payloads.notify import build_notify


@pytest.fixture(params=("left", "right"))
def steps(request: pytest.FixtureRequest) -> Steps:
    return Steps(request.param)


def test_a_child_sa_is_deleted_in_both_directions(steps: Steps) -> None:
    """Section 1.4.1: the DELETE lists "the SPIs (as they would be expected in the headers of inbound packets)"; the
    answer has "Delete payloads for the paired SAs going in the other direction"."""
    child = steps.a.sa.children[0]
    (request,) = delete_child(steps.a, steps)
    assert deleted(steps.open(request)) == [child.spi_in]
    assert not child.use_outbound
    (response,) = steps.deliver(request)
    assert deleted(steps.open(response)) == [child.spi_out]
    steps.deliver(response)
    assert steps.a.installed == steps.b.installed == {}
    steps.finish()
    assert len(live(steps.a)) == 1


def test_several_child_sas_in_one_message(steps: Steps) -> None:
    """Section 1.4.1: "If there are many SAs to delete at the same time, one includes Delete payloads for the inbound
    half of each SA pair"; what is unknown among them is left out of the answer."""
    for _ in range(2):
        steps.pair.queue = new_child(steps.a, steps)
        steps.pair.run()
    spis = [child.spi_in.to_bytes(4, "big") for child in steps.a.sa.children]
    pairs = {child.spi_in: child.spi_out for child in steps.b.sa.children}
    payloads = [
        (Payload.DELETE, build_delete(Protocol.ESP, spis[:2])),
        (Payload.DELETE, build_delete(Protocol.ESP, [b"\1\2\3\4", spis[2]])),
        (Payload.DELETE, build_delete(Protocol.AH, [spis[0]])),
    ]
    (response,) = steps.deliver(steps.forge(steps.a, ExchangeType.INFORMATIONAL, payloads))
    answer = steps.open(response)
    assert types(answer) == [Payload.DELETE]
    assert sorted(deleted(answer)) == sorted(pairs)
    assert steps.b.sa.children == ()


def test_the_ike_sa_is_deleted_with_its_child_sas(steps: Steps) -> None:
    """Section 1.4.1: "Deleting an IKE SA implicitly closes any remaining Child SAs negotiated under it. The response
    to a request that deletes the IKE SA is an empty INFORMATIONAL response"; section 3.11: no SPI."""
    (request,) = delete_ike(steps.a, steps)
    assert is_ike_delete(steps, request)
    assert parse_delete(steps.open(request)[0].body) == (Protocol.IKE, ())
    (response,) = steps.deliver(request)
    assert steps.open(response) == []
    assert steps.b.installed == {}
    steps.deliver(response)
    assert steps.a.sas == []
    assert steps.a.installed == {}
    steps.finish()
    assert steps.b.sas == []


def test_the_answer_to_a_delete_of_the_ike_sa_can_be_repeated(steps: Steps) -> None:
    """Section 2.1: a repeated request gets the same answer, octet for octet; also when it was the last one."""
    (request,) = delete_ike(steps.a, steps)
    (first,) = steps.deliver(request)
    (again,) = steps.deliver(request)
    assert first == again


def test_after_the_delete_nothing_is_answered(steps: Steps) -> None:
    """Section 1.4.1: the IKE SA is gone: what else comes under its keys is dropped."""
    sa = steps.b.sa
    (request,) = delete_ike(steps.a, steps)
    steps.deliver(request)
    answered = sa.expected_request_id
    steps.a.sa.exchange = None
    steps.a.sa.flags = 0
    late = steps.forge(steps.a, ExchangeType.INFORMATIONAL, [])
    assert steps.deliver(late) == []
    assert sa.expected_request_id == answered


def test_commands_on_what_the_peer_has_closed_do_nothing(steps: Steps) -> None:
    """Section 1.4.1: nothing starts on an IKE SA that is only kept to repeat its last answer."""
    (request,) = delete_ike(steps.a, steps)
    steps.deliver(request)
    spi = steps.b.sa.local_spi
    endpoint = steps.b.endpoint
    assert steps.do(lambda: endpoint.check_liveness(spi, steps.now)) == []
    assert steps.do(lambda: endpoint.rekey_ike(spi, steps.now)) == []
    assert steps.do(lambda: endpoint.terminate(steps.now, local_spi=spi)) == []


def test_a_request_in_flight_comes_before_the_delete(steps: Steps) -> None:
    """Section 2.3: the window is 1: a DELETE waits for the answer to what is in flight, and all that waited goes."""
    (request,) = new_child(steps.a, steps)
    assert delete_ike(steps.a, steps) == []
    (response,) = steps.deliver(request)
    (delete,) = steps.deliver(response)
    assert is_ike_delete(steps, delete)
    steps.pair.queue = [delete]
    steps.finish()
    assert steps.a.sas == []


def test_closing_during_the_rekey_of_the_ike_sa(steps: Steps) -> None:
    """Section 2.8: what waits on the old IKE SA goes over to the new one, a DELETE as well."""
    (request,) = rekey_ike(steps.a, steps)
    assert delete_ike(steps.a, steps) == []
    steps.pair.queue = [request]
    steps.finish()
    assert steps.a.sas == steps.b.sas == []


def test_an_empty_request_is_answered(steps: Steps) -> None:
    """Section 1.4: "The request message in an INFORMATIONAL exchange MAY also contain no payloads. This is the
    expected way an endpoint can ask the other endpoint to verify that it is alive"."""
    (request,) = steps.do(lambda: steps.a.endpoint.check_liveness(steps.a.sa.local_spi, steps.now))
    assert steps.open(request) == []
    (response,) = steps.deliver(request)
    assert steps.open(response) == []
    steps.deliver(response)
    assert steps.a.sa.exchange is None


@pytest.mark.parametrize("notify", [9999, 40000, Notify.INITIAL_CONTACT, Notify.COOKIE])
def test_unknown_notifications_are_ignored(steps: Steps, notify: int) -> None:
    """Section 3.10.1: "An implementation receiving a Notify payload with [an unrecognized] type [...] in a request MUST
    ignore it"; the request is answered all the same (section 1.4)."""
    payloads = [(Payload.NOTIFY, build_notify(notify, b"data"))]
    (response,) = steps.deliver(steps.forge(steps.a, ExchangeType.INFORMATIONAL, payloads))
    assert steps.open(response) == []
    assert len(steps.b.sa.children) == 1


@pytest.mark.parametrize("notify", [Notify.INVALID_SPI, Notify.INVALID_SELECTORS, Notify.INVALID_MESSAGE_ID])
def test_complaints_of_the_peer_are_shown(steps: Steps, notify: int) -> None:
    """Section 1.5: INVALID_SPI "within an IKE SA" tells of ESP that the peer cannot use: the operator should know."""
    payloads = [(Payload.NOTIFY, build_notify(notify, b"\1\2\3\4"))]
    (response,) = steps.deliver(steps.forge(steps.a, ExchangeType.INFORMATIONAL, payloads))
    assert steps.open(response) == []
    assert steps.b.events[-1] == "peer-complains"
    assert "01020304" in steps.b.reports[-1].text


def test_a_malformed_delete(steps: Steps) -> None:
    """Section 2.21.3: an authentic message that is malformed: INVALID_SYNTAX, and the IKE SA is gone on both sides."""
    payloads = [(Payload.DELETE, b"\3\4\0\2\1\2\3\4")]
    request = steps.forge(steps.a, ExchangeType.INFORMATIONAL, payloads)
    (response,) = steps.deliver(request)
    assert only_notify(steps.open(response)) == Notify.INVALID_SYNTAX
    assert steps.b.sas == []
    steps.deliver(response)
    assert steps.a.sas == []


def test_the_record_comes_before_the_removal_and_the_answer(steps: Steps) -> None:
    """DESIGN section 3, output commit: replicate, then the data plane, then the answer."""
    (request,) = delete_child(steps.a, steps)
    seen = len(steps.b.effects)
    steps.deliver(request)
    kinds = [
        type(effect) for effect in steps.b.effects[seen:] if isinstance(effect, Replicate | RemoveChild | Transmit)
    ]
    assert kinds == [Replicate, RemoveChild, Transmit]


def test_a_hostile_flood_of_unknown_spis_is_bounded(steps: Steps) -> None:
    """An authenticated peer cannot make the record grow: only the last unknown SPIs are noted."""
    (creation,) = new_child(steps.a, steps)
    for part in range(4):
        spis = [(0x10000 * part + number + 256).to_bytes(4, "big") for number in range(200)]
        payloads = [(Payload.DELETE, build_delete(Protocol.ESP, spis))]
        steps.deliver(steps.forge(steps.b, ExchangeType.INFORMATIONAL, payloads))
        steps.b.sa.exchange = None
    exchange = steps.a.sa.exchange
    assert exchange is not None
    assert len(exchange.gone_spis) <= 65
    steps.deliver(creation)
