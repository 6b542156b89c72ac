"""ipsecha and strongSwan agree: both ways of beginning, all ways of authenticating, all algorithms, NAT or not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from interop_session import Connect

from ipsecha.lab import network, stage
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.processes import LabError
from ipsecha.lab.stage import CHILD, CONNECTION, Certificates, Tunnel
from ipsecha.lab.strongswan import StrongSwan, child, connection

pytestmark = [pytest.mark.root, pytest.mark.peer]

INITIATORS = ("ipsecha", "strongswan")
CIPHERS = {
    "gcm": ("aes256gcm16-prfsha256", "aes256gcm16"),
    "chacha": ("chacha20poly1305-prfsha512", "chacha20poly1305"),
    "cbc": ("aes256-sha384", "aes256-sha256"),
}
GROUPS = ("x25519", "ecp256", "modp2048")


def certificates_for(auth: str, certificates: Callable[[str], Certificates]) -> Certificates | None:
    return None if auth == "psk" else certificates(auth)


@pytest.mark.parametrize("initiator", INITIATORS)
@pytest.mark.parametrize("auth", ["psk", "rsa", "ecdsa", "ecdsa384", "ed25519"])
def test_authentication_with_default_proposals(
    direct: Topology,
    connect: Connect,
    certificates: Callable[[str], Certificates],
    auth: str,
    initiator: str,
) -> None:
    """RFC 7296 section 2.15, RFC 7427, RFC 8420: each kind of key on both sides, with an intermediate CA."""
    session = connect(direct, Tunnel(auth=auth), certificates_for(auth, certificates))
    session.bring_up(initiator)
    session.traffic()
    assert session.spis() == session.peer_spis()


@pytest.mark.parametrize(
    ("initiator", "cipher", "group"),
    # each cipher with each group, the initiators taking turns
    [
        (INITIATORS[number % 2], cipher, group)
        for number, (cipher, group) in enumerate(itertools.product(CIPHERS, GROUPS))
    ]
    + [(INITIATORS[(number + 1) % 2], cipher, GROUPS[number]) for number, cipher in enumerate(CIPHERS)],
)
def test_algorithms(direct: Topology, connect: Connect, initiator: str, cipher: str, group: str) -> None:
    """RFC 5282, RFC 7634, RFC 4868, RFC 8031, RFC 5903: the same keys on both sides, in IKE and in ESP."""
    ike, esp = CIPHERS[cipher]
    session = connect(direct, Tunnel(ike=f"{ike}-{group}", esp=f"{esp}-noesn"))
    session.bring_up(initiator)
    session.traffic()


@pytest.mark.parametrize("group", ["ecp384", "ecp521", "modp3072", "modp4096"])
def test_larger_groups_need_another_round(direct: Topology, connect: Connect, group: str) -> None:
    """RFC 7296 section 1.2: the guess of the first key exchange was wrong, INVALID_KE_PAYLOAD names the right one."""
    session = connect(direct, Tunnel(peer_options={"proposals": f"aes128gcm16-prfsha256-{group}"}))
    session.bring_up("ipsecha")
    session.traffic()


@pytest.mark.parametrize("auth", ["psk", "ecdsa"])
def test_peer_behind_a_nat(
    natted: Topology, connect: Connect, certificates: Callable[[str], Certificates], auth: str
) -> None:
    """RFC 7296 section 2.23: the NAT is found, ports follow it, also when it forgets and maps anew."""
    network.masquerade(natted["nat"])
    tunnel = Tunnel(auth=auth, peer_local=network.PEER_BEHIND_NAT, gateway_options={"remote": "any"})
    session = connect(natted, tunnel, certificates_for(auth, certificates))
    session.bring_up("strongswan")
    session.traffic()
    before = session.gateway.sas()[0].remote
    assert session.gateway.sas()[0].nat in ("remote", "both")
    network.masquerade(natted["nat"], "30000-39999")
    assert session.host_b.ping(network.HOST_A, count=5)
    after = session.gateway.wait_for("new port", lambda gateway: gateway.sas()[0].remote != before)
    assert after
    session.traffic()


def test_gateway_behind_a_nat(natted: Topology, connect: Connect, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The other way about: ipsecha behind the NAT initiates towards strongSwan."""
    network.masquerade(natted["nat"])
    directory = tmp_path_factory.mktemp("behind")
    tunnel = Tunnel(peer_local=network.PEER_BEHIND_NAT)
    with (
        stage.single(natted, directory / "ipsecha", tunnel, peer=True) as inside,
        StrongSwan(natted["gw1"], directory / "strongswan") as outside,
    ):
        children = {CHILD: child([network.NET_A], [network.NET_B])}
        outside.add_secret(stage.PSK_TEXT, stage.GATEWAY_ID, stage.PEER_ID)
        outside.connections[CONNECTION] = connection(
            (network.MEMBER_OUTER[0], stage.GATEWAY_ID), ("%any", stage.PEER_ID), children
        )
        outside.load()
        inside.initiate(CONNECTION, CHILD)
        outside.wait_for(CHILD, "INSTALLED")
        assert natted["hostb"].ping(network.HOST_A, count=2)
        assert natted["hosta"].ping(network.HOST_B, count=2)
        assert inside.sas()[0].nat in ("local", "both")


def test_over_ipv6_with_both_families_inside(direct: Topology, connect: Connect) -> None:
    session = connect(
        direct,
        Tunnel(
            networks_a=(network.NET_A, network.NET_A6),
            networks_b=(network.NET_B, network.NET_B6),
            gateway_address=network.MEMBER_OUTER6[0],
            peer_address=network.PEER_OUTER6,
        ),
    )
    session.bring_up("strongswan")
    session.traffic()
    assert session.host_a.ping(network.HOST_B6, count=2)


@pytest.mark.parametrize("initiator", INITIATORS)
def test_a_long_chain_travels_in_fragments(direct: Topology, connect: Connect, initiator: str) -> None:
    """RFC 7383: a chain of RSA certificates that is far larger than a datagram."""
    chain = stage.make_certificates("rsa", depth=2, padding=4000)
    session = connect(direct, Tunnel(auth="rsa"), chain)
    session.bring_up(initiator)
    session.traffic()
    assert "EF(" in session.peer.log.read_text()


def test_narrowing_by_the_gateway(direct: Topology, connect: Connect) -> None:
    """RFC 7296 section 2.9: strongSwan asks for more than we allow and gets the intersection."""
    session = connect(direct, Tunnel(peer_child_options={"local_ts": "10.0.0.0/8", "remote_ts": "10.0.0.0/8"}))
    session.bring_up("strongswan")
    session.traffic()
    child = session.gateway.children(CHILD)[0]
    assert (child.local_ts, child.remote_ts) == ((network.NET_A,), (network.NET_B,))


def test_narrowing_by_the_peer(direct: Topology, connect: Connect) -> None:
    wide = {"local": ["10.0.0.0/15"], "remote": ["10.2.0.0/15"]}
    session = connect(direct, Tunnel(gateway_child_options=wide))
    session.bring_up("ipsecha")
    session.traffic()
    child = session.gateway.children(CHILD)[0]
    assert (child.local_ts, child.remote_ts) == ((network.NET_A,), (network.NET_B,))


def test_a_wrong_secret_is_refused_both_ways(direct: Topology, connect: Connect) -> None:
    session = connect(direct, Tunnel())
    session.peer.secrets.clear()
    session.peer.add_secret("another one", stage.GATEWAY_ID, stage.PEER_ID)
    session.peer.load()
    with pytest.raises(LabError, match=r"AUTH_FAILED|AUTHENTICATION_FAILED"):
        session.peer.initiate(CHILD)
    assert session.gateway.sas() == ()
    session.gateway.initiate(CONNECTION, CHILD)
    session.gateway.wait_for("refusal", lambda gateway: "authentication" in gateway.log.read_text().lower())
    assert session.gateway.children() == []


def test_a_certificate_of_another_authority_is_refused(direct: Topology, connect: Connect) -> None:
    ours, theirs = stage.make_certificates("ecdsa"), stage.make_certificates("ecdsa")
    session = connect(direct, Tunnel(auth="ecdsa"), ours)
    session.peer.add_credential("own", theirs.peer)
    session.peer.load()
    with pytest.raises(LabError, match=r"AUTH_FAILED|AUTHENTICATION_FAILED"):
        session.peer.initiate(CHILD)
    assert session.gateway.sas() == ()


def test_nothing_in_common_is_no_proposal_chosen(direct: Topology, connect: Connect) -> None:
    session = connect(
        direct,
        Tunnel(
            gateway_options={"proposals": ["aes256gcm16-prfsha256-x25519"]},
            peer_options={"proposals": "aes128-sha256-ecp256"},
        ),
    )
    with pytest.raises(LabError, match=r"NO_PROPOSAL_CHOSEN|NO_PROP"):
        session.peer.initiate(CHILD)
    assert session.gateway.sas() == ()
