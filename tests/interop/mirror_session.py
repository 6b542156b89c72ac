"""Three members in namespaces, and a strongSwan: the lab's network with a member more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ipsecha.cluster.witness import NAME
from ipsecha.lab import network, stage
from ipsecha.lab.member import Member, toml
from ipsecha.lab.namespaces import Topology
from ipsecha.lab.pki import Authority
from ipsecha.lab.stage import CONNECTION, Tunnel
from ipsecha.lab.strongswan import StrongSwan
from ipsecha.lab.witness import Witness

NAMES = (*network.MEMBERS, "gw3")
OUTER = (*network.MEMBER_OUTER, "192.0.2.13")
INNER = (*network.MEMBER_INNER, "10.1.0.13")
SYNCH = (*network.MEMBER_SYNCH, "10.99.0.3")


class MirrorSession:
    def __init__(self, topology: Topology, members: tuple[Member, ...], peer: StrongSwan) -> None:
        self.topology = topology
        self.members = members
        self.peer = peer

    def in_role(self, role: str, timeout_s: float = 15.0) -> Member:
        found: list[Member] = []

        def look(_: Member) -> bool:
            found[:] = [one for one in self.members if one.running and one.role() == role]
            return bool(found)

        next(one for one in self.members if one.running).wait_for(f"member in the role {role}", look, timeout_s)
        return found[0]

    def is_whole(self) -> bool:
        views = [member.status().cluster for member in self.members]
        found = {view.role: view.protection for view in views if view is not None}
        return found == {"active": "protected", "standby": "protected", "mirror": "mirror"}


@contextmanager
def three_members(directory: Path, *, witness: bool = False) -> Iterator[MirrorSession]:
    tunnel = Tunnel(gateway_address=network.CLUSTER_OUTER)
    with ExitStack() as running:
        topology = running.enter_context(network.standing(members=2, witness=witness))
        _third(topology)
        peer = running.enter_context(StrongSwan(topology["peer"], directory / "strongswan"))
        stage.configure_strongswan(peer, tunnel)
        shared = directory / "three"
        shared.mkdir(parents=True)
        authority = Authority("lab cluster")
        addresses = [
            {"address": f"{network.CLUSTER_OUTER}/24", "link": network.OUTER},
            {"address": f"{network.CLUSTER_INNER}/24", "link": network.INNER},
        ]
        cluster = {"name": "lab", "members": list(NAMES), **({"witness": stage.WITNESS} if witness else {})}
        table = stage.connection_table(tunnel, shared, None, peer=False)
        policy = {"cluster": {**cluster, "addresses": addresses}, "connections": {CONNECTION: table}}
        (shared / "policy.toml").write_text(toml(policy))
        if witness:
            own = shared / NAME
            settings = {"cluster": "lab", "members": list(NAMES), "listen": stage.WITNESS, "state": "ledger.json"}
            link = stage.cluster_link(own, NAME, authority)
            (own / "witness.toml").write_text(toml({**settings, **link}))
            running.enter_context(Witness(own, topology["witness"]))
        members = tuple(_member(topology, shared, number, authority) for number in range(3))
        for member in members:
            running.enter_context(member)
        session = MirrorSession(topology, members, peer)
        members[0].wait_for("whole cluster", lambda _: session.is_whole())
        yield session


def _third(topology: Topology) -> None:
    topology.namespace("gw3")
    plugs = (
        (network.OUTER, network.OUTER_BRIDGE, OUTER[2]),
        (network.INNER, network.INNER_BRIDGE, INNER[2]),
        (network.SYNCH, network.SYNCH_BRIDGE, SYNCH[2]),
    )
    for link, bridge, address in plugs:
        topology.plug("gw3", link, "sw", bridge)
        topology.address("gw3", link, f"{address}/24")


def _member(topology: Topology, directory: Path, number: int, authority: Authority) -> Member:
    name = NAMES[number]
    own = directory / name
    link: dict[str, Any] = stage.cluster_link(own, name, authority)

    def others(hosts: tuple[str, ...], port: int) -> dict[str, str]:
        return {other: f"{hosts[index]}:{port}" for index, other in enumerate(NAMES) if other != name}

    port = stage.BEAT_PORT
    link |= {"listen": f"{SYNCH[number]}:{stage.SYNCH_PORT}", "peers": others(SYNCH, stage.SYNCH_PORT)}
    link["beats"] = {
        role: {"local": f"{hosts[number]}:{port}", "partners": others(hosts, port)}
        for role, hosts in ((network.OUTER, OUTER), (network.INNER, INNER))
    }
    links = {role: role for role in (network.OUTER, network.INNER)}
    return Member(name, own, {"policy": "../policy.toml", "links": links, "cluster": link}, topology[name])
