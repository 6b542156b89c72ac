"""Traffic selectors (RFC 7296 section 2.9)."""

from __future__ import annotations

import pytest

from ike_pair import child_policy, left_connection
from ipsecha.ike.children import check_answer, narrow_offer, narrow_rekey, offer_selectors
from ipsecha.model.errors import PeerError
from ipsecha.model.numbers import Notify
from ipsecha.model.proposals import ChildSuite
from ipsecha.model.records import ChildSa
from ipsecha.model.selectors import TrafficSelector, selector_from_prefix

ALL = selector_from_prefix("0.0.0.0/0")
ALL6 = selector_from_prefix("::/0")


def ts(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(selector_from_prefix(text) for text in texts)


def tcp(text: str, port: int) -> TrafficSelector:
    return selector_from_prefix(text, 6, (port, port))


def old_child(local: str = "10.1.0.0/16", remote: str = "10.2.0.0/16") -> ChildSa:
    suite = ChildSuite(3, 20, 128, 0, 0, False)
    return ChildSa("net", 1000, 2000, suite, b"", ts(local), ts(remote), 0.0, 0.0, 0.0)


CONNECTION = left_connection(
    children=(
        child_policy("net", "10.1.0.0/16", "10.2.0.0/16"),
        child_policy("web", "10.1.0.0/16", "10.3.0.0/16"),
    )
)


def test_nothing_in_common() -> None:
    """ "If the responder's policy does not allow it to accept any part of the proposed Traffic Selectors, it responds
    with a TS_UNACCEPTABLE"."""
    assert narrow_offer(CONNECTION, ts("192.168.0.0/16"), ts("10.1.0.0/16")) is None
    assert narrow_offer(CONNECTION, ts("10.2.0.0/16"), ts("192.168.0.0/16")) is None
    assert narrow_offer(CONNECTION, (ALL6,), (ALL6,)) is None
    assert narrow_offer(CONNECTION, (), ()) is None


def test_the_entire_set() -> None:
    """ "If the responder's policy allows the entire set of traffic [...], no narrowing is necessary"."""
    narrowed = narrow_offer(CONNECTION, ts("10.2.5.0/24"), ts("10.1.0.0/16"))
    assert narrowed is not None
    assert (narrowed.remote_ts, narrowed.local_ts) == (ts("10.2.5.0/24"), ts("10.1.0.0/16"))
    assert not narrowed.more


def test_the_first_selectors_decide() -> None:
    """ "If the responder's policy allows it to accept the first selector of TSi and TSr, then the responder MUST
    narrow the Traffic Selectors to a subset that includes the initiator's first choices"."""
    narrowed = narrow_offer(CONNECTION, (tcp("10.3.0.9", 4000), ALL), (tcp("10.1.0.7", 80), ALL))
    assert narrowed is not None
    assert narrowed.policy.name == "web"
    assert any(one.covers(tcp("10.3.0.9", 4000)) for one in narrowed.remote_ts)
    assert any(one.covers(tcp("10.1.0.7", 80)) for one in narrowed.local_ts)


def test_an_acceptable_subset() -> None:
    """ "If the responder's policy does not allow it to accept the first selector of TSi and TSr, the responder narrows
    to an acceptable subset"; ADDITIONAL_TS_POSSIBLE where another would do in a separate SA."""
    narrowed = narrow_offer(CONNECTION, (ALL,), (ALL,))
    assert narrowed is not None
    assert narrowed.policy.name == "net"
    assert (narrowed.remote_ts, narrowed.local_ts) == (ts("10.2.0.0/16"), ts("10.1.0.0/16"))
    assert narrowed.more


def test_both_selectors_must_fit_one_policy() -> None:
    """The rule about the first selectors speaks of "the first selector of TSi and TSr": of both."""
    narrowed = narrow_offer(CONNECTION, (tcp("10.3.0.9", 1), ALL), (tcp("172.16.0.1", 80), ALL))
    assert narrowed is not None
    assert narrowed.policy.name == "net"


def test_a_rekey_keeps_its_policy_and_scope() -> None:
    """Section 2.9.2: a superset is narrowed to the policy, never to less than the scope in use."""
    policy = CONNECTION.children[0]
    narrowed = narrow_rekey(policy, old_child(), (ALL,), (ALL,))
    assert (narrowed.local_ts, narrowed.remote_ts) == (policy.local_ts, policy.remote_ts)
    for remote, local in ((ts("10.2.0.0/17"), (ALL,)), ((ALL,), ts("10.1.0.0/17")), ((ALL6,), (ALL,))):
        with pytest.raises(PeerError) as caught:
            narrow_rekey(policy, old_child(), remote, local)
        assert caught.value.notify == Notify.TS_UNACCEPTABLE


def test_a_policy_that_has_become_narrower_refuses_the_rekey() -> None:
    """Section 2.9.2: "that would mean that the policy was changed in a way such that the currently used SA is against
    the policy"."""
    narrower = child_policy("net", "10.1.0.0/24", "10.2.0.0/16")
    with pytest.raises(PeerError):
        narrow_rekey(narrower, old_child(), (ALL,), (ALL,))


def test_what_a_rekey_offers() -> None:
    """Section 2.9.2: the same or a superset, and no selectors of a packet."""
    packet = (tcp("10.1.0.7", 80), tcp("10.2.0.9", 4000))
    policy = CONNECTION.children[0]
    assert offer_selectors(policy, old_child("10.1.3.0/24", "10.2.3.0/24"), packet) == (
        policy.local_ts,
        policy.remote_ts,
    )
    foreign = old_child("10.9.0.0/16", "10.2.0.0/16")
    assert offer_selectors(policy, foreign, packet) == (foreign.local_ts, foreign.remote_ts)


def test_what_a_new_child_sa_offers() -> None:
    """Section 2.9: the packet's selectors first, where there is a packet."""
    packet = (tcp("10.1.0.7", 80), tcp("10.2.0.9", 4000))
    policy = CONNECTION.children[0]
    assert offer_selectors(policy, None, ()) == (policy.local_ts, policy.remote_ts)
    assert offer_selectors(policy, None, packet) == ((packet[0], *policy.local_ts), (packet[1], *policy.remote_ts))


def test_the_answer_must_be_a_subset() -> None:
    """Section 2.9: the responder chooses a subset; section 2.9.2: in a rekey one that has the scope in use."""
    offered = ts("10.1.0.0/16", "10.5.0.0/16")
    check_answer(offered, ts("10.1.0.0/16"))
    check_answer(offered, ts("10.5.0.0/24", "10.1.0.0/24"))
    check_answer(offered, ts("10.1.0.0/16"), ts("10.1.2.0/24"))
    for answer, in_use in ((ts("10.0.0.0/8"), ()), ((), ()), (ts("10.1.0.0/24"), ts("10.1.0.0/16"))):
        with pytest.raises(PeerError):
            check_answer(offered, answer, in_use)
