"""The pieces that tests, measurements and the failover demonstration put together: a tunnel that both sides agree on,
gateways and peers configured for it.

A *gateway* is the side of host A: one ipsecha, or a pair of members that share an address.  A *peer* is the side of
host B: a real strongSwan or another ipsecha.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from ipsecha.cluster.witness import NAME
from ipsecha.lab import network
from ipsecha.lab.member import Member, Table, toml, write_secret
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.pki import Authority, Credential
from ipsecha.lab.probes import Probes, Side
from ipsecha.lab.strongswan import StrongSwan, child, connection
from ipsecha.lab.vici import Section

CONNECTION, CHILD = "site", "net"
GATEWAY_ID, PEER_ID = "gw.example", "peer.example"
SYNCH_PORT, BEAT_PORT = 4600, 4601
WITNESS = f"{network.WITNESS_OUTER}:4603"
PSK_TEXT = "0x" + "5a" * 32


class Tunnel(msgspec.Struct, frozen=True):
    """What both sides of a tunnel agree on.  ``auth``: psk, or the kind of key (pki.KEY_KINDS).

    Empty proposals leave both sides their defaults.  The ``..._options`` are further keys of each side's own
    configuration: of the connection, of the child.
    """

    auth: str = "psk"
    ike: str = ""
    esp: str = ""
    networks_a: Sequence[str] = (network.NET_A,)
    networks_b: Sequence[str] = (network.NET_B,)
    gateway_address: str = network.MEMBER_OUTER[0]
    peer_address: str = network.PEER_OUTER  # as the gateway sees it
    peer_local: str = ""  # as the peer itself sees it: differs behind a NAT
    gateway_options: Table = {}
    gateway_child_options: Table = {}
    peer_options: dict[str, Any] = {}
    peer_child_options: dict[str, Any] = {}


class Certificates(NamedTuple):
    """Both sides' credentials and the root that signed them."""

    root: bytes
    gateway: Credential
    peer: Credential


def make_certificates(kind: str, *, depth: int = 0, padding: int = 0) -> Certificates:
    """Credentials of a kind of key; ``depth`` intermediate authorities and ``padding`` octets make the chain long."""
    root = authority = Authority("lab root", "ecdsa" if kind == "ed25519" else kind)
    for level in range(depth):
        authority = Authority(f"lab intermediate {level}", kind, authority)
    gateway, peer = (authority.issue(name, kind, padding=padding) for name in (GATEWAY_ID, PEER_ID))
    return Certificates(root.certificate, gateway, peer)


def connection_table(tunnel: Tunnel, directory: Path, certificates: Certificates | None, *, peer: bool) -> Table:
    """The table ``[connections.site]`` of an ipsecha on the gateway's (or the peer's) side; writes its secrets."""
    here, there = (GATEWAY_ID, PEER_ID) if not peer else (PEER_ID, GATEWAY_ID)
    local, remote = tunnel.gateway_address, tunnel.peer_address
    networks = tunnel.networks_a, tunnel.networks_b
    if peer:
        local, remote, networks = tunnel.peer_local or remote, local, (networks[1], networks[0])
    entry: dict[str, Any] = {"local": local, "remote": remote, "local_id": here, "remote_id": there}
    entry |= _secrets(tunnel.auth, directory, certificates, peer)
    entry |= {"proposals": [tunnel.ike]} if tunnel.ike else {}
    entry |= {
        "retransmit_timeout": "500ms",
        "rekey": "never",
        **(tunnel.peer_options if peer else tunnel.gateway_options),
    }
    inner: dict[str, Any] = {"local": list(networks[0]), "remote": list(networks[1]), "rekey": "never"}
    inner |= {"proposals": [tunnel.esp]} if tunnel.esp else {}
    inner |= tunnel.peer_child_options if peer else tunnel.gateway_child_options
    return {**entry, "children": {CHILD: inner}}


def _secrets(auth: str, directory: Path, certificates: Certificates | None, peer: bool) -> dict[str, Any]:
    if auth == "psk":
        write_secret(directory / "psk", PSK_TEXT.encode())
        return {"psk_file": "psk"}
    assert certificates is not None
    own = certificates.peer if peer else certificates.gateway
    write_secret(directory / "own.key", own.private_key)
    (directory / "own.pem").write_bytes(own.certificate + b"".join(own.intermediates))
    (directory / "ca.pem").write_bytes(certificates.root)
    return {"certificate": "own.pem", "private_key": "own.key", "ca": "ca.pem"}


def single(
    topology: Topology, directory: Path, tunnel: Tunnel, certificates: Certificates | None = None, *, peer: bool = False
) -> Member:
    """A single ipsecha (not started) in ``gw1``, or in ``peer`` on the peer's side."""
    role = "peer" if peer else "gw1"
    directory.mkdir(parents=True, exist_ok=True)
    table = connection_table(tunnel, directory, certificates, peer=peer)
    (directory / "policy.toml").write_text(toml({"connections": {CONNECTION: table}}))
    links = {network.OUTER: network.OUTER, network.INNER: network.INNER}
    return Member(role, directory, {"policy": "policy.toml", "links": links}, topology[role])


def pair(
    topology: Topology,
    directory: Path,
    tunnel: Tunnel,
    certificates: Certificates | None = None,
    *,
    saves: bool = False,
    **cluster: Any,
) -> tuple[Member, Member]:
    """Two members (not started) that share the cluster's addresses.  ``cluster``: further keys of ``[cluster]``.

    ``saves``: they save their state.  With a namespace for it, a witness is configured, too.
    """
    directory.mkdir(parents=True, exist_ok=True)
    table = connection_table(tunnel, directory, certificates, peer=False)
    addresses = [
        {"address": f"{network.CLUSTER_OUTER}/24", "link": network.OUTER},
        {"address": f"{network.CLUSTER_INNER}/24", "link": network.INNER},
        {"address": f"{network.CLUSTER_OUTER6}/64", "link": network.OUTER},
        {"address": f"{network.CLUSTER_INNER6}/64", "link": network.INNER},
    ]
    if topology.has("witness"):
        cluster = {"witness": WITNESS, **cluster}
    shared = {"name": "lab", "members": list(network.MEMBERS), **cluster, "addresses": addresses}
    (directory / "policy.toml").write_text(toml({"cluster": shared, "connections": {CONNECTION: table}}))
    synch_ca = Authority("lab cluster")
    first, second = (_pair_member(topology, directory, number, synch_ca, saves) for number in range(2))
    if topology.has("witness"):
        own = directory / NAME
        settings = {"cluster": "lab", "members": list(network.MEMBERS), "listen": WITNESS, "state": "ledger.json"}
        table = {**settings, **cluster_link(own, NAME, synch_ca)}
        (own / "witness.toml").write_text(toml(table))
    return first, second


def persistence(directory: Path) -> Table:
    """A member's ``[persistence]``, with its key."""
    write_secret(directory / "seal.key", os.urandom(32).hex().encode())
    return {"persistence": {"path": "state", "key_file": "seal.key"}}


def _pair_member(topology: Topology, directory: Path, number: int, synch_ca: Authority, saves: bool) -> Member:
    name, other = network.MEMBERS[number], network.MEMBERS[1 - number]
    own = directory / name
    link = cluster_link(own, name, synch_ca)
    link |= {
        "listen": f"{network.MEMBER_SYNCH[number]}:{SYNCH_PORT}",
        "peers": {other: f"{network.MEMBER_SYNCH[1 - number]}:{SYNCH_PORT}"},
        "beats": {
            role: {"local": f"{addresses[number]}:{BEAT_PORT}", "partner": f"{addresses[1 - number]}:{BEAT_PORT}"}
            for role, addresses in ((network.OUTER, network.MEMBER_OUTER), (network.INNER, network.MEMBER_INNER))
        },
    }
    links = {role: role for role in (network.OUTER, network.INNER)}
    settings = {"policy": "../policy.toml", "links": links, "cluster": link, **(persistence(own) if saves else {})}
    return Member(name, own, settings, topology[name])


def cluster_link(directory: Path, name: str, authority: Authority) -> dict[str, Any]:
    """A member's certificate of the cluster's own CA, as files; the keys of ``[cluster]`` that name them."""
    credential = authority.issue(name)
    write_secret(directory / "cluster.key", credential.private_key)
    (directory / "cluster.pem").write_bytes(credential.certificate)
    (directory / "cluster-ca.pem").write_bytes(authority.certificate)
    return {"certificate": "cluster.pem", "private_key": "cluster.key", "ca": "cluster-ca.pem"}


def configure_strongswan(peer: StrongSwan, tunnel: Tunnel, certificates: Certificates | None = None) -> None:
    """Loads the tunnel into a strongSwan on the peer's side, in place of what it had."""
    auth = "psk" if tunnel.auth == "psk" else "pubkey"
    children: dict[str, Section] = {
        CHILD: {
            **child(tunnel.networks_b, tunnel.networks_a, tunnel.esp or "default"),
            **tunnel.peer_child_options,
        }
    }
    peer.secrets.clear()
    if auth == "psk":
        peer.add_secret(PSK_TEXT, GATEWAY_ID, PEER_ID)
    else:
        assert certificates is not None
        peer.add_authority("root", certificates.root)
        peer.add_credential("own", certificates.peer)
    peer.connections[CONNECTION] = connection(
        (tunnel.peer_local or tunnel.peer_address, PEER_ID),
        (tunnel.gateway_address, GATEWAY_ID),
        children,
        auth=auth,
        ike=tunnel.ike or "default",
        certificate="" if auth == "psk" else "own",
        **tunnel.peer_options,
    )
    peer.load()


def inner_probes(topology: Topology, directory: Path, interval_s: float = 0.01) -> Probes:
    """Probes between the inner hosts A and B, both ways."""
    a, b = Side(network.HOST_A, topology["hosta"]), Side(network.HOST_B, topology["hostb"])
    return Probes(a, b, directory, interval_s)
