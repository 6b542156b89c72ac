"""Two sites in namespaces, with a gateway of either make on each side, for measurements between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ipsecha.lab import namespaces, network, stage, strongswan
from ipsecha.lab.member import Member, toml, write_secret
from ipsecha.lab.namespaces import Namespace, Topology
from ipsecha.lab.processes import LabError
from ipsecha.lab.strongswan import StrongSwan, child, connection
from ipsecha.lab.vici import Section, Vici

IKE = "aes256gcm16-prfsha256-x25519"
ESP = "aes256gcm16"
RESPONDER = network.MEMBER_OUTER[0]
CLIENTS = 16

SILENT: Section = {"filelog": {"null": {"path": "/dev/null", "default": "-1"}}}
"""A strongSwan that logs nothing at all: logging is not what is to be compared."""


def missing() -> str | None:
    """Why measurements with strongSwan in namespaces are not possible here, or None."""
    return namespaces.available() or strongswan.available()


def responder_member(namespace: Namespace, directory: Path) -> Member:
    """A single ipsecha that answers anybody who knows the secret, not started."""
    directory.mkdir(parents=True)
    write_secret(directory / "psk", stage.PSK_TEXT.encode())
    site: dict[str, Any] = {"local": RESPONDER, "remote": "any", "local_id": stage.GATEWAY_ID, "remote_id": "any"}
    site |= {"psk_file": "psk", "proposals": [IKE], "encapsulate": True}
    net = {"local": [network.NET_A], "remote": [network.NET_B], "proposals": [ESP]}
    (directory / "policy.toml").write_text(toml({"connections": {"site": {**site, "children": {"net": net}}}}))
    links = {network.OUTER: network.OUTER, network.INNER: network.INNER}
    return Member("gw1", directory, {"policy": "policy.toml", "links": links}, namespace)


def responder_strongswan(namespace: Namespace, directory: Path) -> StrongSwan:
    """The same made of strongSwan, not started: silent, and without the defences that
    would slow down a crowd."""
    settings: Section = {**SILENT, "dos_protection": "no", "ikesa_table_size": "4096", "ikesa_table_segments": "16"}
    return StrongSwan(namespace, directory, settings)


def configure_responder(gateway: StrongSwan) -> None:
    gateway.add_secret(stage.PSK_TEXT)
    children: dict[str, Section] = {"net": child([network.NET_A], [network.NET_B], ESP)}
    near, far = (RESPONDER, stage.GATEWAY_ID), ("%any", "%any")
    gateway.connections["site"] = connection(near, far, children, ike=IKE, unique="never")
    gateway.load()


def initiators(topology: Topology, directory: Path) -> StrongSwan:
    """A strongSwan (not started) that plays ``CLIENTS`` clients, who call again and again without giving up what they
    have.  All of them want the same networks: so strongSwan's userspace ESP needs no route for each call."""
    settings: Section = {**SILENT, "reuse_ikesa": "no", "ikesa_table_size": "4096", "ikesa_table_segments": "16"}
    peer = StrongSwan(topology["peer"], directory, settings)
    peer.add_secret(stage.PSK_TEXT)
    for number in range(CLIENTS):
        children: dict[str, Section] = {f"n{number}": child([network.NET_B], [network.NET_A], ESP)}
        near, far = (network.PEER_OUTER, f"client-{number}.example"), (RESPONDER, stage.GATEWAY_ID)
        peer.connections[f"c{number}"] = connection(near, far, children, ike=IKE, unique="never")
    return peer


def call_all(peer: StrongSwan, count: int, at_once: int) -> None:
    """Lets clients call ``count`` times, ``at_once`` at a time; returns when all calls have their child SA."""
    with Vici(peer.socket, 30.0) as vici, Vici(peer.socket, 30.0) as ear:
        events = ear.listen("child-updown")
        for number in range(count):
            if number >= at_once:
                _expect_up(next(events))
            client = str(number % CLIENTS)
            vici.call("initiate", {"ike": f"c{client}", "child": f"n{client}", "timeout": "-1"})
        for _ in range(min(count, at_once)):
            _expect_up(next(events))


def _expect_up(event: Section) -> None:
    if event.get("up") != "yes":
        raise LabError(f"a client has lost its child SA: {event}")
