"""Refusals and lifetimes: what is tried again, when, and when not any more (RFC 7296 sections 2.8 and 2.25)."""

from __future__ import annotations

import pytest

from ike_agreement import live
from ike_pair import Pair, Side, child_policy, left_connection, right_connection
from ike_steps import Steps, delete_ike, is_ike_delete, new_child, rekey_child, rekey_ike
from ipsecha.ike.auth import replace_others
from ipsecha.ike.retries import FIRST_PAUSE_S, PATIENCE_S
from ipsecha.ike.window import Payloads
from ipsecha.model.errors import PeerError
from ipsecha.model.numbers import ExchangeType, Notify
from ipsecha.model.policy import Start
from ipsecha.model.records import ChildState


def refuse(side: Side, notify: int) -> None:
    """Let ``side`` refuse all CREATE_CHILD_SA requests from now on."""

    def handler(*_: object) -> Payloads:
        raise PeerError(notify)

    side.endpoint.request_handlers = {**side.endpoint.request_handlers, ExchangeType.CREATE_CHILD_SA: handler}


@pytest.mark.parametrize("wanted", [new_child, rekey_child, rekey_ike])
def test_a_temporary_failure_is_not_tried_again_at_once(wanted: object) -> None:
    """Section 2.25: "it MUST NOT immediately retry the operation; it MUST wait"."""
    steps = Steps()
    refuse(steps.b, Notify.TEMPORARY_FAILURE)
    (request,) = wanted(steps.a, steps)  # type: ignore[operator]
    (response,) = steps.deliver(request)
    assert steps.deliver(response) == []
    assert steps.pass_time(FIRST_PAUSE_S * 0.9) == []
    assert len(steps.pass_time(FIRST_PAUSE_S)) == 1


def test_temporary_failure_for_minutes_closes_the_ike_sa() -> None:
    """Section 2.25: "If a peer continues to receive TEMPORARY_FAILURE on the same IKE SA after several minutes, it
    SHOULD conclude that the state information is out of sync and close the IKE SA"."""
    steps = Steps()
    refuse(steps.b, Notify.TEMPORARY_FAILURE)
    steps.pair.queue = rekey_child(steps.a, steps)
    steps.pair.advance(PATIENCE_S / 2)
    assert len(live(steps.a)) == 1
    steps.pair.advance(PATIENCE_S)
    assert steps.a.sas == []
    assert "out-of-sync" in steps.a.events
    tries = [packet for packet in steps.pair.sent if packet.exchange == 36 and not packet.is_response]
    assert 5 < len(tries) < 30


def test_a_success_in_between_counts_anew() -> None:
    """Section 2.25: several minutes without any success, not two refusals that lie far apart."""
    steps = Steps()
    steps.a.sa.refused_since, steps.a.sa.refused_at = steps.now - 4000, steps.now - 3000
    refuse(steps.b, Notify.TEMPORARY_FAILURE)
    steps.pair.queue = rekey_child(steps.a, steps)
    steps.pair.run()
    assert steps.a.sa.refused_since == steps.now
    steps.b.endpoint.request_handlers = steps.a.endpoint.request_handlers
    steps.finish(30.0)
    assert steps.a.sa.refused_since == 0.0


def timed_pair(**times: float) -> Pair:
    left = child_policy(**times)  # type: ignore[arg-type]
    right = child_policy(local="10.2.0.0/16", remote="10.1.0.0/16")
    pair = Pair(left_connection(children=(left,), dpd_s=0.0), right_connection(children=(right,), dpd_s=0.0))
    pair.establish()
    return pair


def test_a_child_sa_is_rekeyed_before_its_time() -> None:
    """Section 2.8: "SAs should be rekeyed proactively, i.e., the new SA should be established before the old one
    expires"; the times are jittered (section 2.8.1)."""
    pair = timed_pair(rekey_s=100.0, life_s=120.0)
    first = pair.left.sa.children[0]
    assert 90.0 <= first.rekey_at - first.created_at <= 95.0
    pair.advance(96.0)
    (second,) = pair.left.sa.children
    assert second.spi_in != first.spi_in
    pair.advance(96.0)
    assert pair.left.sa.children[0].spi_in != second.spi_in


def test_a_rekey_that_fails_until_the_end_closes_the_ike_sa() -> None:
    """Section 2.8: "If an SA has expired or is about to expire and rekeying attempts using the mechanisms described
    here fail, an implementation MUST close the IKE SA and any associated Child SAs and then MAY start new ones"."""
    pair = timed_pair(rekey_s=100.0, life_s=200.0)
    refuse(pair.right, Notify.NO_ADDITIONAL_SAS)
    pair.advance(190.0)
    assert len(pair.left.sa.children) == 1
    pair.advance(20.0)
    assert live(pair.left) == live(pair.right) == {}


def test_a_child_sa_without_rekey_ends_alone() -> None:
    """Section 2.8: "When the lifetime of a Security Association expires, the Security Association MUST NOT be used"."""
    pair = timed_pair(rekey_s=0.0, life_s=50.0)
    pair.advance(60.0)
    assert pair.left.sa.children == pair.right.sa.children == ()


def test_the_soft_limit_rekeys() -> None:
    """RFC 4301 section 4.4.2.1: "initiate action such as setting up a replacement SA"."""
    steps = Steps()
    old = steps.a.sa.children[0].spi_in
    steps.pair.queue = steps.do(lambda: steps.a.endpoint.child_soft_limit(old, steps.now))
    steps.finish()
    assert [child.spi_in != old for child in steps.a.sa.children] == [True]


def test_the_hard_limit_stops_the_child_sa_at_once() -> None:
    """RFC 4301 section 4.4.2.1: when the hard lifetime ends "the current SA ends": no packet is sent on it any more,
    even while the window is busy."""
    steps = Steps()
    child = steps.a.sa.children[0]
    rekey_ike(steps.a, steps)  # lost: the DELETE has to wait
    steps.do(lambda: steps.a.endpoint.child_hard_limit(child.spi_in, steps.now))
    assert not child.use_outbound
    steps.finish()
    assert steps.a.sa.children == ()


def test_a_child_sa_that_is_to_be_up_comes_back() -> None:
    """A hard limit takes away what the policy wants up: it is made anew."""
    left = child_policy(start=Start.START)
    steps = Steps("left", left_connection(children=(left,)))
    spi = steps.a.sa.children[0].spi_in
    steps.pair.queue = steps.do(lambda: steps.a.endpoint.child_hard_limit(spi, steps.now))
    steps.finish()
    assert [child.spi_in != spi for child in steps.a.sa.children] == [True]


def test_limits_of_a_child_sa_that_is_gone() -> None:
    """The data plane may be late: an SPI that is not known any more does no harm."""
    steps = Steps()
    for call in (
        steps.a.endpoint.child_soft_limit,
        steps.a.endpoint.child_hard_limit,
        steps.a.endpoint.traffic_seen,
        steps.a.endpoint.rekey_child,
    ):
        assert steps.do(lambda call=call: call(4711, steps.now)) == []  # type: ignore[misc]


def test_a_second_command_while_the_first_is_on_its_way() -> None:
    """A rekey of what is being rekeyed is moot by the time that the window has room."""
    steps = Steps()
    child = steps.a.sa.children[0]
    (request,) = rekey_child(steps.a, steps)
    assert rekey_child(steps.a, steps, child) == []
    steps.pair.queue = [request]
    steps.finish()
    assert sum(packet.exchange == 36 and not packet.is_response for packet in steps.pair.sent) == 1


def test_a_policy_that_is_gone_is_not_rekeyed() -> None:
    """Section 2.9.2: a child SA that is against the policy is not replaced."""
    steps = Steps()
    child = steps.a.sa.children[0]
    policy = steps.a.policy.__class__((left_connection(children=(child_policy("other"),)),))
    steps.a.endpoint.configure(policy, steps.a.endpoint.credentials, steps.now)
    assert rekey_child(steps.a, steps, child) == []
    assert child.state == ChildState.ESTABLISHED


def test_a_policy_that_goes_while_the_answer_is_on_its_way() -> None:
    """Section 2.9.2: the child SA that the peer has made by then is deleted."""
    steps = Steps()
    (request,) = new_child(steps.a, steps)
    (response,) = steps.deliver(request)
    policy = steps.a.policy.__class__((left_connection(children=(child_policy("other"),)),))
    steps.a.endpoint.configure(policy, steps.a.endpoint.credentials, steps.now)
    steps.take()
    (delete,) = steps.deliver(response)
    assert not is_ike_delete(steps, delete)
    steps.deliver(delete)
    assert len(steps.b.sa.children) == 1


def test_a_peer_that_comes_back_replaces_only_what_it_has_lost() -> None:
    """Section 2.4: INITIAL_CONTACT deletes the IKE SAs of the same peer; one that the peer has deleted itself, and
    that is kept to repeat the answer, is none of them."""
    steps = Steps("right")
    steps.pair.queue = delete_ike(steps.b, steps)
    steps.pair.run()
    assert len(steps.a.sas) == 1
    replace_others(steps.a.endpoint, steps.a.policy.connections[0], steps.a.sa.remote_id)
    assert len(steps.a.sas) == 1
    assert "ike-replaced" not in steps.a.events
