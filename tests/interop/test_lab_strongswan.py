"""The lab itself: two real strongSwans make a tunnel, so that what fails against ipsecha fails for ipsecha."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipsecha.lab import network
from ipsecha.lab.pki import Authority
from ipsecha.lab.processes import LabError
from ipsecha.lab.strongswan import StrongSwan, child, connection

pytestmark = [pytest.mark.root, pytest.mark.peer]

GATEWAY, PEER = (network.MEMBER_OUTER[0], "gw.example"), (network.PEER_OUTER, "peer.example")


def configure(gateway: StrongSwan, peer: StrongSwan, auth: str, esp: str, ike: str, peer_local: str = PEER[0]) -> None:
    certificate = "own" if auth == "pubkey" else ""
    here, there = [network.NET_A, network.NET_A6], [network.NET_B, network.NET_B6]
    options = {"auth": auth, "ike": ike, "certificate": certificate}
    gateway.connections["site"] = connection(GATEWAY, ("%any", PEER[1]), {"net": child(here, there, esp)}, **options)
    local = (peer_local, PEER[1])
    peer.connections["site"] = connection(local, GATEWAY, {"net": child(there, here, esp)}, **options)


@pytest.mark.parametrize("nat", [False, True], ids=["direct", "nat"])
def test_psk_tunnel_carries_both_families(tmp_path: Path, nat: bool) -> None:
    with (
        network.standing(nat=nat) as topology,
        StrongSwan(topology["gw1"], tmp_path / "gw") as gateway,
        StrongSwan(topology["peer"], tmp_path / "peer") as peer,
    ):
        local = network.PEER_BEHIND_NAT if nat else network.PEER_OUTER
        configure(gateway, peer, "psk", "aes256gcm16", "aes256gcm16-prfsha256-x25519", local)
        for side in (gateway, peer):
            side.add_secret("a lab's secret", GATEWAY[1], PEER[1])
            side.load()
        assert not topology["hostb"].ping(network.HOST_A, timeout_s=1)
        peer.initiate("net")
        assert topology["hostb"].ping(network.HOST_A)
        assert topology["hosta"].ping(network.HOST_B)
        assert topology["hosta"].ping(network.HOST_B6)
        remote_port = gateway.sas()[0]["remote-port"]
        assert (remote_port != "4500") == nat
        first = gateway.wait_for("net", "INSTALLED")
        peer.rekey_child("net")
        assert topology["hosta"].ping(network.HOST_B, count=3)
        assert {str(found["spi-in"]) for found in gateway.children("net")} != {str(first["spi-in"])}
        if nat:
            network.masquerade(topology["nat"], "30000-39999")
            peer.rekey_child("net")  # kernel-libipsec learns a new port from IKE alone, not from ESP
            assert topology["hostb"].ping(network.HOST_A, count=5)
            assert gateway.sas()[0]["remote-port"] != remote_port
        peer.terminate_ike("site")
        assert gateway.sas() == []
        assert not topology["hostb"].ping(network.HOST_A, timeout_s=1)


@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_certificates_made_by_the_lab_are_accepted(tmp_path: Path, kind: str) -> None:
    root = Authority("lab root", kind)
    intermediate = Authority("lab intermediate", kind, root)
    with (
        network.standing() as topology,
        StrongSwan(topology["gw1"], tmp_path / "gw") as gateway,
        StrongSwan(topology["peer"], tmp_path / "peer") as peer,
    ):
        configure(gateway, peer, "pubkey", "chacha20poly1305", "aes128-sha256-ecp256")
        for side, name in ((gateway, GATEWAY[1]), (peer, PEER[1])):
            side.add_authority("root", root.certificate)
            side.add_credential("own", intermediate.issue(name, kind))
            side.load()
        peer.initiate("net")
        assert topology["hostb"].ping(network.HOST_A)
        peer.terminate_ike("site")
        peer.add_credential("own", root.issue(PEER[1], kind, lifetime_days=-1))
        peer.load()
        with pytest.raises(LabError, match="AUTH_FAILED"):
            peer.initiate("net")
