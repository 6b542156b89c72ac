"""Connections that are to be up: tried again with growing pauses, brought up again when lost, held when taken down."""

from __future__ import annotations

import itertools

import pytest

from ike_pair import PSK, Pair, Side, child_policy, left_connection, right_connection
from ipsecha.crypto.credentials import ConnectionSecrets
from ipsecha.model.errors import PolicyError
from ipsecha.model.policy import Policy, Start

ALWAYS = (child_policy(start=Start.START),)


def settled(**more: object) -> Pair:
    pair = Pair(left_connection(children=ALWAYS, **more))
    pair.advance(1.0)
    return pair


def test_a_connection_comes_up_by_itself() -> None:
    pair = settled()
    assert len(pair.left.sa.children) == 1


def test_a_peer_that_is_away_is_tried_again_with_growing_pauses() -> None:
    pair = Pair(left_connection(children=ALWAYS, retransmit_tries=1))
    times: list[float] = []

    def away(packet: object) -> list[object]:
        times.append(pair.now)
        return []

    pair.network = away  # type: ignore[assignment]
    pair.advance(400.0)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] < 4
    assert pauses[-1] > 50
    assert max(pauses) < 70
    assert len([event for event in pair.left.events if event == "initiation-failed"]) >= 6
    pair.network = lambda packet: [packet]
    pair.advance(70.0)
    assert len(pair.left.sa.children) == 1
    assert not pair.left.endpoint.failures


def test_what_the_peer_deletes_comes_up_again() -> None:
    pair = settled()
    pair.right.endpoint.terminate(pair.now, connection="site")
    pair.advance(3.0)
    assert len([sa for sa in pair.left.sas if sa.children]) == 1
    (child,) = [child for sa in pair.left.sas for child in sa.children]
    pair.left.endpoint.child_hard_limit(child.spi_in, pair.now)
    pair.advance(3.0)
    assert len([sa for sa in pair.left.sas if sa.children]) == 1


def test_a_dead_peer_is_replaced_when_it_returns() -> None:
    pair = settled(dpd_s=5.0, retransmit_tries=3)
    pair.right = Side("right, restarted", pair.right.policy.connections, {"site": ConnectionSecrets(psk=PSK)})
    pair.right.endpoint.activate(9, pair.now)
    pair.advance(60.0)
    assert "peer-dead" in pair.left.events
    assert len(pair.left.sa.children) == len(pair.right.sa.children) == 1


def test_what_the_operator_takes_down_stays_down_until_he_says_so() -> None:
    pair = settled()
    assert pair.left.endpoint.terminate(pair.now, connection="site") == 1
    pair.advance(300.0)
    assert not pair.left.sas
    pair.left.endpoint.initiate("site", "net", pair.now)
    pair.run()
    assert len(pair.left.sa.children) == 1


def test_terminate_takes_one_child_or_one_ike_sa() -> None:
    pair = Pair()
    pair.establish()
    spi = pair.left.sa.children[0].spi_in
    assert pair.left.endpoint.terminate(pair.now, spi_in=spi) == 1
    pair.run()
    assert pair.left.sa.children == ()
    pair.left.endpoint.initiate("site", "net", pair.now)
    pair.run()
    assert pair.left.endpoint.terminate(pair.now, connection="site", child="net") == 1
    pair.run()
    assert pair.left.sa.children == ()
    assert pair.left.endpoint.terminate(pair.now, local_spi=pair.left.sa.local_spi) == 1
    pair.run()
    assert not pair.left.sas
    assert pair.left.endpoint.terminate(pair.now, local_spi=b"12345678") == 0


def test_a_packet_brings_up_its_child_once() -> None:
    pair = Pair(left_connection(children=(child_policy(start=Start.TRAP),)))
    pair.advance(5.0)
    assert not pair.sent
    for _ in range(3):
        pair.left.endpoint.acquire("site", "net", pair.now)
    pair.run()
    assert len(pair.left.sa.children) == 1
    pair.left.endpoint.acquire("site", "net", pair.now)
    pair.run()
    assert len(pair.left.sa.children) == 1


def test_a_refused_child_is_not_asked_for_again_by_each_packet() -> None:
    """A wrong secret and traffic that goes on: handshakes must not follow one another as fast as the peer refuses."""
    pair = Pair(
        left_connection(children=(child_policy(start=Start.TRAP),)),
        left_secrets=ConnectionSecrets(psk=b"wrong"),
    )
    for _ in range(600):
        pair.left.endpoint.acquire("site", "net", pair.now)
        pair.advance(0.1)
    refused = [event for event in pair.right.events if event == "authentication-failed"]
    assert 4 <= len(refused) <= 8
    pair.left.endpoint.initiate("site", "net", pair.now)
    pair.run()
    assert len([event for event in pair.right.events if event == "authentication-failed"]) == len(refused) + 1


def test_a_child_that_the_peer_refuses_leaves_the_others_alone() -> None:
    children = (child_policy(start=Start.TRAP), child_policy("other", "10.8.0.0/16", "10.9.0.0/16", start=Start.TRAP))
    pair = Pair(left_connection(children=children))
    pair.left.endpoint.acquire("site", "net", pair.now)
    pair.run()
    for _ in range(100):
        pair.left.endpoint.acquire("site", "other", pair.now)
        pair.advance(0.1)
    assert 3 <= len([event for event in pair.left.events if event == "child-failed"]) <= 6
    pair.left.endpoint.terminate(pair.now, connection="site", child="net")
    pair.run()
    pair.left.endpoint.acquire("site", "net", pair.now)
    pair.run()
    assert [child.name for child in pair.left.sa.children] == ["net"]


def test_unknown_names_are_the_operators_mistake() -> None:
    pair = Pair()
    with pytest.raises(PolicyError, match="nowhere"):
        pair.left.endpoint.initiate("nowhere", None, pair.now)
    with pytest.raises(PolicyError, match="it has net"):
        pair.left.endpoint.initiate("site", "nothing", pair.now)


def test_a_peer_without_an_address_cannot_be_called() -> None:
    pair = Pair(left_connection(remote=("198.51.100.0/24",)))
    pair.establish()
    assert pair.left.events == ["cannot-initiate"]


def test_a_reload_deletes_what_is_gone_and_brings_up_what_is_new() -> None:
    pair = Pair()
    pair.establish()
    pair.left.endpoint.configure(Policy(()), pair.left.endpoint.credentials, pair.now)
    pair.run()
    assert not pair.left.sas
    policy = Policy((left_connection(children=ALWAYS),))
    pair.left.endpoint.configure(policy, pair.left.endpoint.credentials, pair.now)
    pair.advance(1.0)
    assert len(pair.left.sa.children) == 1
    assert right_connection().name == "site"
