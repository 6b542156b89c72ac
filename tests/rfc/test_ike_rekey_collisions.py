"""RFC 7296 section 2.25 row by row, both sides at once, whatever gets lost; sections 2.8.1 and 2.8.2 message by
message."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from ike_agreement import live
from ike_pair import Packet, Side
from ike_steps import (
    Steps,
    body,
    delete_child,
    delete_ike,
    deleted,
    new_child,
    notifies,
    only_notify,
    rekey_child,
    rekey_ike,
    types,
)
from ipsecha.ike import children
from ipsecha.ike.flags import LEAVING
from ipsecha.model.numbers import ExchangeType, Notify, Payload, Protocol
from ipsecha.model.spi import Entropy
from ipsecha.wire.payloads.delete import build_delete
from ipsecha.wire.payloads.sa import parse_sa

LOSSES = ("nothing", "our request", "our answer", "both")


@pytest.fixture(params=("left", "right"))
def steps(request: pytest.FixtureRequest) -> Steps:
    """``a`` has a request on its way when that of ``b`` arrives."""
    return Steps(request.param)


def conclude(steps: Steps, ours: list[Packet], answer: list[Packet], lost: str) -> None:
    """The rest of both exchanges, with one or both of these messages lost the first time."""
    steps.pair.queue = (ours if lost in ("nothing", "our answer") else []) + (
        answer if lost in ("nothing", "our request") else []
    )
    steps.finish()


def child_names(side: Side) -> list[str]:
    return sorted(child.name for sa in live(side).values() for child in sa.children)


@pytest.mark.parametrize("lost", LOSSES)
def test_closing_a_child_refuses_its_rekey(steps: Steps, lost: str) -> None:
    """Section 2.25.1: "If a peer receives a request to rekey a Child SA that it is currently trying to close, it SHOULD
    reply with TEMPORARY_FAILURE"."""
    ours = delete_child(steps.a, steps)
    (theirs,) = rekey_child(steps.b, steps)
    answer = steps.deliver(theirs)
    assert only_notify(steps.open(answer[0])) == Notify.TEMPORARY_FAILURE
    conclude(steps, ours, answer, lost)
    assert child_names(steps.a) == []


@pytest.mark.parametrize("lost", LOSSES)
def test_rekeying_a_child_answers_its_rekey(steps: Steps, lost: str) -> None:
    """Section 2.25.1: "If a peer receives a request to rekey a Child SA that it is currently rekeying, it SHOULD reply
    as usual"."""
    old = steps.a.sa.children[0].spi_in
    ours = rekey_child(steps.a, steps)
    (theirs,) = rekey_child(steps.b, steps)
    answer = steps.deliver(theirs)
    assert Payload.SA in types(steps.open(answer[0]))
    conclude(steps, ours, answer, lost)
    assert child_names(steps.a) == ["net"]
    assert steps.a.sa.children[0].spi_in != old


@pytest.mark.parametrize("lost", ["nothing", "our answer"])
def test_a_child_that_is_not_there_is_not_rekeyed(steps: Steps, lost: str) -> None:
    """Section 2.25: CHILD_SA_NOT_FOUND with the SPI of the REKEY_SA notification; who receives it "SHOULD silently
    delete the Child SA" and "send a request to create a new Child SA from scratch"."""
    spi = steps.b.sa.children[0].spi_in
    children.remove(steps.a.endpoint, steps.a.sa, steps.a.sa.children[0])
    steps.a.endpoint.end_step()
    (theirs,) = rekey_child(steps.b, steps)
    answer = steps.deliver(theirs)
    (notify,) = notifies(steps.open(answer[0]))
    assert notify == (Protocol.ESP, spi.to_bytes(4, "big"), Notify.CHILD_SA_NOT_FOUND, b"")
    conclude(steps, [], answer, lost)
    assert child_names(steps.b) == ["net"]
    assert steps.b.sa.children[0].spi_in != spi
    assert not any(spi in deleted(steps.open(packet)) for packet in steps.pair.sent if packet.exchange == 37)


@pytest.mark.parametrize("lost", LOSSES)
def test_closing_a_child_on_both_sides(steps: Steps, lost: str) -> None:
    """Section 1.4.1: both delete: "it MUST delete the outgoing SAs while processing the request and the incoming SAs
    while processing the response", and "the responses MUST NOT include Delete payloads"."""
    child = steps.a.sa.children[0]
    ours = delete_child(steps.a, steps)
    (theirs,) = delete_child(steps.b, steps)
    answer = steps.deliver(theirs)
    assert steps.open(answer[0]) == []
    assert not child.use_outbound
    assert child.spi_in in steps.a.installed
    conclude(steps, ours, answer, lost)
    assert child_names(steps.a) == []


@pytest.mark.parametrize("lost", LOSSES)
def test_rekeying_a_child_answers_its_delete(steps: Steps, lost: str) -> None:
    """Section 2.25.1: a request to close a child SA that we are rekeying is answered "as usual, with a Delete
    payload"."""
    child = steps.a.sa.children[0]
    ours = rekey_child(steps.a, steps)
    (theirs,) = delete_child(steps.b, steps)
    answer = steps.deliver(theirs)
    assert deleted(steps.open(answer[0])) == [child.spi_in]
    conclude(steps, ours, answer, lost)
    assert child_names(steps.a) == []


@pytest.mark.parametrize("lost", ["nothing", "our answer"])
def test_deleting_a_child_that_is_not_there(steps: Steps, lost: str) -> None:
    """Section 2.25.1: "If a peer receives a request to close a Child SA that does not exist, it SHOULD reply without a
    Delete payload"."""
    theirs = steps.forge(steps.b, ExchangeType.INFORMATIONAL, [(Payload.DELETE, build_delete(3, (b"\1\2\3\4",)))])
    answer = steps.deliver(theirs)
    assert steps.open(answer[0]) == []
    conclude(steps, [], answer, lost)
    assert child_names(steps.a) == ["net"]


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("busy", [new_child, rekey_child, delete_child])
def test_changing_a_child_refuses_the_rekey_of_the_ike_sa(
    steps: Steps, busy: Callable[[Side, Steps], list[Packet]], lost: str
) -> None:
    """Section 2.25.1: a request to rekey the IKE SA while "creating, rekeying, or closing a Child SA" is answered with
    TEMPORARY_FAILURE; section 2.25: it is tried again, not at once."""
    before = set(live(steps.a))
    ours = busy(steps.a, steps)
    (theirs,) = rekey_ike(steps.b, steps)
    answer = steps.deliver(theirs)
    assert only_notify(steps.open(answer[0])) == Notify.TEMPORARY_FAILURE
    conclude(steps, ours, answer, lost)
    assert len(live(steps.a)) == 1
    assert before.isdisjoint(live(steps.a))


@pytest.mark.parametrize("lost", LOSSES)
def test_rekeying_the_ike_sa_on_both_sides(steps: Steps, lost: str) -> None:
    """Section 2.25.2: "If a peer receives a request to rekey an IKE SA that it is currently rekeying, it SHOULD reply
    as usual"; one new IKE SA survives and has the child SAs (section 2.8.2)."""
    before = set(live(steps.a))
    ours = rekey_ike(steps.a, steps)
    (theirs,) = rekey_ike(steps.b, steps)
    answer = steps.deliver(theirs)
    assert Payload.SA in types(steps.open(answer[0]))
    conclude(steps, ours, answer, lost)
    assert len(steps.a.sas) == 1
    assert before.isdisjoint(live(steps.a))
    assert child_names(steps.a) == ["net"]


@pytest.mark.parametrize("lost", LOSSES)
def test_closing_the_ike_sa_refuses_its_rekey(steps: Steps, lost: str) -> None:
    """Section 2.25.2: "If a peer receives a request to rekey an IKE SA that it is currently trying to close, it SHOULD
    reply with TEMPORARY_FAILURE"."""
    ours = delete_ike(steps.a, steps)
    (theirs,) = rekey_ike(steps.b, steps)
    answer = steps.deliver(theirs)
    assert only_notify(steps.open(answer[0])) == Notify.TEMPORARY_FAILURE
    conclude(steps, ours, answer, lost)
    assert steps.a.sas == steps.b.sas == []


@pytest.mark.parametrize("lost", LOSSES)
def test_rekeying_the_ike_sa_answers_its_delete(steps: Steps, lost: str) -> None:
    """Section 2.25.2: a request to close an IKE SA that we are rekeying: "reply as usual, and forget about its own
    rekeying request"."""
    ours = rekey_ike(steps.a, steps)
    (theirs,) = delete_ike(steps.b, steps)
    answer = steps.deliver(theirs)
    assert steps.open(answer[0]) == []
    assert steps.a.sa.exchange is None
    conclude(steps, ours, answer, lost)
    assert steps.a.sas == steps.b.sas == []


@pytest.mark.parametrize("lost", LOSSES)
def test_closing_the_ike_sa_on_both_sides(steps: Steps, lost: str) -> None:
    """Section 2.25.2: a request to close an IKE SA that we are closing: "reply as usual, and forget about its own close
    request"."""
    ours = delete_ike(steps.a, steps)
    (theirs,) = delete_ike(steps.b, steps)
    answer = steps.deliver(theirs)
    assert steps.open(answer[0]) == []
    assert steps.a.sa.exchange is None
    conclude(steps, ours, answer, lost)
    assert steps.a.sas == steps.b.sas == []


@pytest.mark.parametrize("lost", LOSSES)
@pytest.mark.parametrize("wanted", [new_child, rekey_child])
def test_rekeying_the_ike_sa_refuses_child_sas(
    steps: Steps, wanted: Callable[[Side, Steps], list[Packet]], lost: str
) -> None:
    """Section 2.25.2: "If a peer receives a request to create or rekey a Child SA when it is currently rekeying the IKE
    SA, it SHOULD reply with TEMPORARY_FAILURE"; what was wanted comes about later."""
    old = steps.a.sa.children[0].spi_in
    ours = rekey_ike(steps.a, steps)
    (theirs,) = wanted(steps.b, steps)
    answer = steps.deliver(theirs)
    assert only_notify(steps.open(answer[0])) == Notify.TEMPORARY_FAILURE
    conclude(steps, ours, answer, lost)
    (sa,) = live(steps.a).values()
    if wanted is new_child:
        assert child_names(steps.a) == ["net", "net"]
    else:
        assert [child.spi_in for child in sa.children] != [old]


@pytest.mark.parametrize("lost", LOSSES)
def test_rekeying_the_ike_sa_answers_the_delete_of_a_child(steps: Steps, lost: str) -> None:
    """Section 2.25.2: "If a peer receives a request to delete a Child SA when it is currently rekeying the IKE SA, it
    SHOULD reply as usual, with a Delete payload"."""
    child = steps.a.sa.children[0]
    ours = rekey_ike(steps.a, steps)
    (theirs,) = delete_child(steps.b, steps)
    answer = steps.deliver(theirs)
    assert deleted(steps.open(answer[0])) == [child.spi_in]
    conclude(steps, ours, answer, lost)
    assert child_names(steps.a) == []


# The four nonces


def _steer(side: Side, firsts: list[int | None]) -> None:
    """Give the next strings of 32 octets that ``side`` draws these first octets (None: as they come)."""
    real: Entropy = side.endpoint.entropy
    plan: Iterator[int | None] = iter(firsts)

    def entropy(length: int) -> bytes:
        octets = real(length)
        first = next(plan, None) if length == 32 else None
        return octets if first is None else bytes((first,)) + octets[1:]

    side.endpoint.entropy = entropy


NONCES = {"Ni1": (1, 9, 9, 9), "Nr1": (9, 1, 9, 9), "Ni2": (9, 9, 1, 9), "Nr2": (9, 9, 9, 1)}
"""First octets of the nonces: Ni1 and Nr1 belong to the exchange of ``a``, Ni2 and Nr2 to that of ``b``."""


@pytest.mark.parametrize("lowest", NONCES)
def test_the_child_sa_with_the_lowest_nonce_is_closed_by_who_made_it(steps: Steps, lowest: str) -> None:
    """Section 2.8.1: "the SA created with the lowest of the four nonces used in the two exchanges SHOULD be closed by
    the endpoint that created it"; "the node that initiated the surviving rekeyed SA should delete the replaced SA"; a
    node "MUST accept incoming packets through either SA"."""
    ni1, nr1, ni2, nr2 = NONCES[lowest]
    _steer(steps.a, [ni1, nr2])
    _steer(steps.b, [ni2, nr1])
    old_a, old_b = steps.a.sa.children[0].spi_in, steps.b.sa.children[0].spi_in
    (req1,) = rekey_child(steps.a, steps)
    (req2,) = rekey_child(steps.b, steps)
    made_a, made_b = (int.from_bytes(offered_spi(steps, request), "big") for request in (req1, req2))
    (resp2,) = steps.deliver(req2)
    (resp1,) = steps.deliver(req1)
    delete_of_a = steps.deliver(resp1)
    delete_of_b = steps.deliver(resp2)
    for side in (steps.a, steps.b):
        assert len(side.installed) == 3
        assert sum(child.use_outbound for child in side.sa.children) == 1
    loser_is_a = lowest in ("Ni1", "Nr1")
    assert deleted(steps.open(delete_of_a[0])) == [made_a if loser_is_a else old_a]
    assert deleted(steps.open(delete_of_b[0])) == [old_b if loser_is_a else made_b]
    steps.pair.queue = delete_of_a + delete_of_b
    steps.finish()
    winner, made = (steps.b, made_b) if loser_is_a else (steps.a, made_a)
    assert [child.spi_in for child in winner.sa.children] == [made]


@pytest.mark.parametrize("lowest", NONCES)
def test_the_ike_sa_with_the_lowest_nonce_is_closed_by_who_made_it(steps: Steps, lowest: str) -> None:
    """Section 2.8.2: "The new IKE SA containing the lowest nonce SHOULD be deleted by the node that created it, and the
    other surviving new IKE SA MUST inherit all the Child SAs"."""
    ni1, nr1, ni2, nr2 = NONCES[lowest]
    _steer(steps.a, [None, ni1, None, nr2])  # the key exchange is drawn before the nonce
    _steer(steps.b, [None, ni2, None, nr1])
    old = steps.a.sa
    child = old.children[0].spi_in
    (req1,) = rekey_ike(steps.a, steps)
    (req2,) = rekey_ike(steps.b, steps)
    made_a, made_b = offered_spi(steps, req1), offered_spi(steps, req2)
    (resp2,) = steps.deliver(req2)
    (resp1,) = steps.deliver(req1)
    (delete_of_a,) = steps.deliver(resp1)
    (delete_of_b,) = steps.deliver(resp2)
    assert len(steps.a.sas) == len(steps.b.sas) == 3
    loser_is_a = lowest in ("Ni1", "Nr1")
    winner_spi = made_b if loser_is_a else made_a
    assert delete_of_a.data[:8] == (made_a if loser_is_a else old.spi_i)
    assert delete_of_b.data[:8] == (old.spi_i if loser_is_a else made_b)
    for side in (steps.a, steps.b):
        (heir,) = (sa for sa in side.sas if sa.children)
        assert heir.spi_i == winner_spi
    assert steps.a.endpoint.child_index[child] in steps.a.endpoint.sas
    steps.pair.queue = [delete_of_a, delete_of_b]
    steps.finish()
    assert [sa.spi_i for sa in steps.a.sas] == [winner_spi]


def offered_spi(steps: Steps, request: Packet) -> bytes:
    return parse_sa(body(steps.open(request), Payload.SA))[0].spi


# Sections 2.8.1 and 2.8.2 as they are told


def test_one_side_finishes_its_child_rekey_before_it_sees_the_other(steps: Steps) -> None:
    """Section 2.8.1, second sequence: req1 is lost, B finishes, deletes the old child SA and answers req1, when it
    comes again, with CHILD_SA_NOT_FOUND; A "already knows there was simultaneous rekeying, so it can ignore the
    error"."""
    rekey_child(steps.a, steps)  # lost
    (req2,) = rekey_child(steps.b, steps)
    (resp2,) = steps.deliver(req2)
    (req3,) = steps.deliver(resp2)
    (resp3,) = steps.deliver(req3)
    assert steps.deliver(resp3) == []
    (req1,) = steps.pass_time(1.5)
    (resp1,) = steps.deliver(req1)
    assert only_notify(steps.open(resp1)) == Notify.CHILD_SA_NOT_FOUND
    assert steps.deliver(resp1) == []
    steps.finish()
    assert child_names(steps.a) == ["net"]


def test_one_side_finishes_its_ike_rekey_before_it_sees_the_other(steps: Steps) -> None:
    """Section 2.8.2: A finishes without having seen req2; B gets the DELETE, replies as usual, forgets its own rekey
    and stops to repeat it."""
    (req1,) = rekey_ike(steps.a, steps)
    rekey_ike(steps.b, steps)  # lost
    (resp1,) = steps.deliver(req1)
    (req3,) = steps.deliver(resp1)
    (resp3,) = steps.deliver(req3)
    assert steps.open(resp3) == []
    assert all(sa.exchange is None for sa in steps.b.sas)
    steps.deliver(resp3)
    assert steps.pass_time(5) == []
    steps.finish()
    assert child_names(steps.a) == ["net"]


def test_an_ike_sa_that_is_replaced_is_not_rekeyed_again(steps: Steps) -> None:
    """Section 2.8.2: the request to rekey the IKE SA that it has already rekeyed: "it SHOULD return TEMPORARY_FAILURE";
    who gets that has noticed the other rekey, which counts."""
    (req1,) = rekey_ike(steps.a, steps)
    (req2,) = rekey_ike(steps.b, steps)
    (resp1,) = steps.deliver(req1)
    (delete,) = steps.deliver(resp1)
    (resp2,) = steps.deliver(req2)
    assert only_notify(steps.open(resp2)) == Notify.TEMPORARY_FAILURE
    assert steps.deliver(resp2) == []
    (heir,) = (sa for sa in steps.b.sas if sa.children)
    assert not heir.flags & LEAVING
    steps.pair.queue = [delete]
    steps.finish()
    assert len(steps.a.sas) == 1


def test_the_peer_uses_an_ike_sa_before_we_know_that_it_has_won(steps: Steps) -> None:
    """Section 2.8: the surviving IKE SA "is used for all control messages needed to maintain those Child SAs": a
    request on it may arrive before the answer that would tell which one survives."""
    (req1,) = rekey_ike(steps.a, steps)
    (req2,) = rekey_ike(steps.b, steps)
    (resp2,) = steps.deliver(req2)
    _, on_new = steps.deliver(resp2), live(steps.b)  # the DELETE of the old one is lost
    (heir,) = on_new.values()
    (use,) = rekey_child(steps.b, steps, heir.children[0])
    (answer,) = steps.deliver(use)
    assert Payload.SA in types(steps.open(answer))
    steps.pair.queue = [req1, answer]
    steps.finish()
    assert child_names(steps.a) == ["net"]


# RFC 4718 sections 5.11.6 and 5.11.7


def test_a_new_child_sa_is_deleted_before_its_initiator_knows_it(steps: Steps) -> None:
    """RFC 4718 section 5.11.6: the answer that makes a child SA is lost, then it is deleted: the reply is empty, and
    the child SA is not made when the answer comes again."""
    (request,) = new_child(steps.a, steps)
    steps.deliver(request)  # the answer is lost
    fresh = steps.b.sa.children[-1]
    (delete,) = delete_child(steps.b, steps, fresh)
    answer = steps.deliver(delete)
    assert steps.open(answer[0]) == []
    steps.pair.queue = answer
    steps.finish()
    assert child_names(steps.a) == ["net"]


def test_a_new_child_sa_is_rekeyed_before_its_initiator_knows_it(steps: Steps) -> None:
    """RFC 4718 section 5.11.7: the same with a rekey. TEMPORARY_FAILURE instead of CHILD_SA_NOT_FOUND: the latter
    would make the peer drop a child SA that comes about here a moment later."""
    (request,) = new_child(steps.a, steps)
    steps.deliver(request)  # the answer is lost
    fresh = steps.b.sa.children[-1]
    (rekey,) = rekey_child(steps.b, steps, fresh)
    answer = steps.deliver(rekey)
    assert only_notify(steps.open(answer[0])) == Notify.TEMPORARY_FAILURE
    steps.pair.queue = answer
    steps.finish()
    assert child_names(steps.a) == ["net", "net"]
    assert fresh.spi_in not in steps.b.installed
