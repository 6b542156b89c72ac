"""Two endpoints make IKE SAs: shared secrets, certificates, identities, and everything that can go wrong."""

from __future__ import annotations

import datetime

import pytest

from certificates import Authority, Holder
from ike_pair import (
    ESP_PROPOSAL,
    LEFT_IP,
    PSK,
    RIGHT_IP,
    Entropy,
    Pair,
    Side,
    child_policy,
    connection,
    esp,
    left_connection,
    proposal,
    right_connection,
)
from ipsecha.crypto.credentials import ConnectionSecrets
from ipsecha.model.effects import InstallChild, Replicate, Transmit
from ipsecha.model.identity import parse_identity
from ipsecha.model.policy import Authentication
from ipsecha.model.records import ExchangeKind, IkeFlag, decode_record, encode_record

CA = Authority()
CERTIFICATES = {"local_auth": Authentication.CERTIFICATE, "remote_auth": Authentication.CERTIFICATE}


def holder(name: str, kind: str = "p256", authority: Authority = CA, **more: object) -> Holder:
    return authority.issue(name, kind, **more)  # type: ignore[arg-type]


def secrets(own: Holder, trusted: Authority = CA) -> ConnectionSecrets:
    return ConnectionSecrets(chain=own.chain, private_key=own.private_key, ca=(trusted.certificate,))


def certificate_pair(left: Holder, right: Holder, **more: object) -> Pair:
    return Pair(
        left_connection(**CERTIFICATES, **more),
        right_connection(**CERTIFICATES, **more),
        left_secrets=secrets(left),
        right_secrets=secrets(right),
    )


def assert_established(pair: Pair) -> None:
    left, right = pair.left.sa, pair.right.sa
    assert (left.spi_i, left.spi_r, left.keys) == (right.spi_i, right.spi_r, right.keys)
    (one,), (other,) = pair.left.installed.values(), pair.right.installed.values()
    half = len(one.keys) // 2
    assert (one.spi_in, one.spi_out) == (other.spi_out, other.spi_in)
    assert (one.keys[:half], one.keys[half:]) == (other.keys[half:], other.keys[:half])
    assert (one.local_ts, one.remote_ts) == (other.remote_ts, other.local_ts)
    assert not pair.left.endpoint.initiations
    assert not pair.right.endpoint.half_open


def failed_line(side: Side, event: str = "authentication-failed") -> str:
    """The one line for the operator."""
    (line,) = [report.text for report in side.reports if report.event == event]
    return line


@pytest.mark.parametrize(
    "suite",
    [
        "aes128gcm16-prfsha256-x25519",
        "aes256gcm16-prfsha384-ecp256",
        "aes256-sha256-prfsha256-modp2048",
        "chacha20poly1305-prfsha512-ecp384",
        "aes128-sha512-prfsha512-ecp521",
    ],
)
def test_a_shared_secret_and_each_kind_of_suite(suite: str) -> None:
    pair = Pair(left_connection(proposals=(proposal(suite),)), right_connection(proposals=(proposal(suite),)))
    pair.establish()
    assert_established(pair)
    assert str(pair.left.sa.suite) == suite
    assert pair.left.events == pair.right.events == ["ike-established"]


@pytest.mark.parametrize("kind", ["rsa", "p256", "p384", "ed25519"])
def test_certificates_of_each_kind(kind: str) -> None:
    pair = certificate_pair(holder("left.example", kind), holder("right.example", kind))
    pair.establish()
    assert_established(pair)


def test_a_chain_with_an_intermediate_travels_in_several_payloads() -> None:
    below = Authority("Intermediate", "rsa", CA)
    pair = certificate_pair(holder("left.example", "rsa", below), holder("right.example", "rsa", below))
    pair.establish()
    assert_established(pair)
    assert max(len(packet.data) for packet in pair.sent) <= 1280 - 32
    assert any(packet.data[16] == 53 for packet in pair.sent)


def test_one_side_with_a_certificate_the_other_with_a_secret() -> None:
    pair = Pair(
        left_connection(remote_auth=Authentication.CERTIFICATE),
        right_connection(local_auth=Authentication.CERTIFICATE),
        left_secrets=ConnectionSecrets(psk=PSK, ca=(CA.certificate,)),
        right_secrets=ConnectionSecrets(
            psk=PSK, chain=holder("right.example").chain, private_key=holder("right.example").private_key
        ),
    )
    pair.establish()
    assert_established(pair)


def test_effects_come_in_the_order_of_output_commit() -> None:
    pair = Pair()
    pair.establish()
    kinds = [type(effect) for effect in pair.right.effects if isinstance(effect, Replicate | InstallChild | Transmit)]
    assert kinds == [Transmit, Replicate, InstallChild, Transmit]
    init, answer = (effect for effect in pair.right.effects if isinstance(effect, Transmit))
    assert init.stateless
    assert not answer.stateless
    assert not [effect for effect in pair.right.effects[:1] if isinstance(effect, Replicate)]


def test_the_record_survives_its_encoding() -> None:
    pair = Pair()
    pair.establish()
    for side in pair.sides:
        assert decode_record(encode_record(side.sa)) == side.sa
        assert "keys" not in repr(side.sa)


def test_a_wrong_secret_is_told_to_both_operators() -> None:
    pair = Pair(left_secrets=ConnectionSecrets(psk=b"something else entirely"))
    pair.establish()
    assert not pair.left.sas
    assert not pair.right.sas
    assert "shared secret" in failed_line(pair.right)
    assert "AUTHENTICATION_FAILED" in failed_line(pair.left, "initiation-failed")
    assert not pair.left.endpoint.child_index


def test_an_unknown_initiator_is_refused() -> None:
    pair = Pair(left_connection(local_id=parse_identity("mallory.example")))
    pair.establish()
    assert not pair.right.sas
    assert "mallory.example" in failed_line(pair.right)


def test_an_initiator_that_asks_for_somebody_else_is_refused() -> None:
    pair = Pair(left_connection(remote_id=parse_identity("other.example")))
    pair.establish()
    assert not pair.right.sas
    assert "other.example" in failed_line(pair.right)


def test_an_initiator_enforces_the_identity_and_tells_the_responder() -> None:
    """The responder answers the IDr that it was asked for; here it is made to answer with another."""
    pair = Pair(left_connection(remote_id=None))
    pair.left.endpoint._connections["site"] = left_connection(remote_id=None)
    pair.left.endpoint.initiate("site", None, pair.now)
    pair.gather()
    pair.deliver(pair.queue.pop(0))
    pair.gather()
    pair.deliver(pair.queue.pop(0))
    pair.left.endpoint._connections["site"] = left_connection(remote_id=parse_identity("other.example"))
    pair.run()
    assert "expected is other.example" in failed_line(pair.left)
    assert not pair.left.sas
    assert not pair.right.sas
    assert not pair.right.installed
    assert "authentication-failed" in pair.right.events


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (holder("left.example", authority=Authority("Another CA")), "not known here"),
        (
            holder(
                "left.example",
                valid=(
                    datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
                    datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC),
                ),
            ),
            "expired",
        ),
        (holder("mallory.example"), "left.example"),
    ],
)
def test_a_bad_certificate_has_its_reason_in_one_line(left: Holder, reason: str) -> None:
    pair = certificate_pair(left, holder("right.example"))
    pair.establish()
    assert not pair.left.sas
    assert not pair.right.sas
    assert reason in failed_line(pair.right)
    assert "AUTHENTICATION_FAILED" in failed_line(pair.left, "initiation-failed")


def test_a_bad_certificate_of_the_responder_is_refused_by_the_initiator() -> None:
    pair = certificate_pair(holder("left.example"), holder("right.example", authority=Authority("Another CA")))
    pair.establish()
    assert not pair.left.sas
    assert not pair.right.sas
    assert "not known here" in failed_line(pair.left)


def test_no_common_proposal_is_told_to_both_operators() -> None:
    pair = Pair(left_connection(proposals=(proposal("aes256-sha512-prfsha512-modp4096"),)))
    pair.establish()
    pair.advance(2.0)
    assert not pair.left.sas
    assert LEFT_IP in failed_line(pair.right, "no-proposal")
    assert "NO_PROPOSAL_CHOSEN" in failed_line(pair.left, "initiation-failed")


def test_an_unexpected_address_has_no_connection() -> None:
    pair = Pair(right=connection(RIGHT_IP, "203.0.113.0/24", "right.example", "left.example"))
    pair.establish()
    pair.advance(2.0)
    assert LEFT_IP in failed_line(pair.right, "no-connection")


@pytest.mark.parametrize(
    ("change", "notify"),
    [
        ({"children": (child_policy(remote="10.77.0.0/16"),)}, "TS_UNACCEPTABLE"),
        ({"children": (child_policy(proposals=(esp("chacha20poly1305"),)),)}, "NO_PROPOSAL_CHOSEN"),
    ],
)
def test_a_refused_child_leaves_the_ike_sa_up(change: dict[str, object], notify: str) -> None:
    pair = Pair(left_connection(**change))
    pair.establish()
    assert pair.left.sa.spi_r == pair.right.sa.spi_r
    assert not pair.left.installed
    assert not pair.right.installed
    assert notify in failed_line(pair.left, "child-failed")
    assert failed_line(pair.right, "child-refused")
    assert not pair.left.endpoint.child_index


def test_selectors_are_narrowed_to_what_both_want() -> None:
    pair = Pair(left_connection(children=(child_policy(local="10.0.0.0/8", remote="10.2.3.0/24"),)))
    pair.establish()
    assert_established(pair)
    (child,) = pair.left.installed.values()
    assert (str(child.local_ts[0]), str(child.remote_ts[0])) == ("10.1.0.0/16", "10.2.3.0/24")


def test_an_answer_beyond_our_selectors_closes_the_ike_sa() -> None:
    pair = Pair()
    pair.left.endpoint.initiate("site", None, pair.now)
    pair.gather()
    pair.deliver(pair.queue.pop(0))
    pair.gather()
    pair.deliver(pair.queue.pop(0))
    narrow = left_connection(children=(child_policy(local="10.1.2.0/24"),))
    pair.left.endpoint._connections["site"] = narrow
    pair.run()
    assert "subset" in failed_line(pair.left, "child-failed")
    assert not pair.left.sas
    assert not pair.right.installed


def test_all_children_of_a_connection_come_up() -> None:
    left = (child_policy("a"), child_policy("b", "10.3.0.0/16", "10.4.0.0/16"))
    right = (child_policy("x", "10.2.0.0/16", "10.1.0.0/16"), child_policy("y", "10.4.0.0/16", "10.3.0.0/16"))
    pair = Pair(left_connection(children=left), right_connection(children=right))
    pair.establish()
    assert sorted(child.name for child in pair.left.sa.children) == ["a", "b"]
    assert sorted(child.name for child in pair.right.sa.children) == ["x", "y"]


def test_the_group_that_the_peer_wants_is_used() -> None:
    both = proposal("aes128gcm16-prfsha256-x25519-ecp256")
    pair = Pair(
        left_connection(proposals=(both,)), right_connection(proposals=(proposal("aes128gcm16-prfsha256-ecp256"),))
    )
    pair.establish()
    assert_established(pair)
    assert pair.left.sa.suite.group == 19
    assert len([packet for packet in pair.sent if packet.exchange == 34]) == 4


def test_one_responder_tells_its_peers_apart_by_identity() -> None:
    other = ConnectionSecrets(psk=b"the secret of the other one")
    pair = Pair(left_connection(local_id=parse_identity("second.example")), left_secrets=other)
    first = right_connection()
    second = connection(
        RIGHT_IP,
        "0.0.0.0/0",
        "right.example",
        "second.example",
        name="second",
        children=(child_policy("b", "10.2.0.0/16", "10.1.0.0/16"),),
    )
    pair.right = Side("right", (first, second), {"site": ConnectionSecrets(psk=PSK), "second": other})
    pair.right.endpoint.activate(2, pair.now)
    pair.establish()
    assert pair.right.sa.connection == "second"
    assert pair.right.sa.children[0].name == "b"


def test_forced_encapsulation_without_nat() -> None:
    pair = Pair(left_connection(encapsulate=True))
    pair.establish()
    assert_established(pair)
    for side in pair.sides:
        assert side.sa.flags & IkeFlag.ENCAPSULATE
        assert side.sa.remote[1] == side.sa.local[1] == 4500


def test_without_nat_nothing_is_encapsulated() -> None:
    pair = Pair()
    pair.establish()
    for side in pair.sides:
        assert not side.sa.flags & (IkeFlag.ENCAPSULATE | IkeFlag.LOCAL_NAT | IkeFlag.REMOTE_NAT)
        assert side.sa.remote[1] == 500


def test_without_fragmentation_nothing_is_cut() -> None:
    pair = certificate_pair(holder("left.example", "rsa"), holder("right.example", "rsa"), fragmentation=False)
    pair.establish()
    assert_established(pair)
    assert not any(packet.data[16] == 53 for packet in pair.sent)


def test_a_lossy_network_only_delays() -> None:
    pair = Pair(left_connection(retransmit_tries=20, retransmit_factor=1.1), right_connection())
    fate = Entropy("fate")
    pair.network = lambda packet: [packet] * (fate(1)[0] % 3)
    pair.establish()
    pair.advance(30.0)
    assert_established(pair)


def test_exchange_kinds_are_plain_after_the_handshake() -> None:
    pair = Pair()
    pair.establish()
    assert pair.left.sa.exchange is None
    assert pair.left.sa.queue == ()
    assert ExchangeKind.NEW_CHILD not in [task.kind for task in pair.right.sa.queue]
    assert ESP_PROPOSAL.protocol == pair.left.sa.children[0].suite.protocol
