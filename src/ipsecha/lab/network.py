"""The lab's network: who sits where, with which addresses.

::

    hosta --- inner bridge --- gw1 (gw2) --- outer bridge --- [nat ---] peer --- hostb
                                gw1 --- cluster bridge --- gw2

The three bridges live in one namespace, the switch ``sw``: pulling a cable there takes the carrier away, as with a
real switch, and a capture there sees what is on the wire between the sites.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ipsecha.lab.namespaces import Namespace, Topology

CLUSTER_OUTER, CLUSTER_OUTER6 = "192.0.2.10", "2001:db8:0:2::10"
MEMBER_OUTER = ("192.0.2.11", "192.0.2.12")
MEMBER_OUTER6 = ("2001:db8:0:2::11", "2001:db8:0:2::12")
CLUSTER_INNER, CLUSTER_INNER6 = "10.1.0.1", "fd00:1::1"
MEMBER_INNER = ("10.1.0.11", "10.1.0.12")
MEMBER_INNER6 = ("fd00:1::11", "fd00:1::12")
MEMBER_SYNCH = ("10.99.0.1", "10.99.0.2")

WITNESS_OUTER = "192.0.2.50"
"""Where the witness is, if there is one: a third box on the outer link."""

PEER_OUTER, PEER_OUTER6 = "192.0.2.20", "2001:db8:0:2::20"
PEER_INNER, PEER_INNER6 = "10.2.0.1", "fd00:2::1"
PEER_BEHIND_NAT = "198.51.100.20"
NAT_INSIDE = "198.51.100.1"
"""With a NAT in between, PEER_OUTER is the NAT's outside address."""

HOST_A, HOST_A6 = "10.1.0.100", "fd00:1::100"
HOST_B, HOST_B6 = "10.2.0.100", "fd00:2::100"
NET_A, NET_A6 = "10.1.0.0/24", "fd00:1::/64"
NET_B, NET_B6 = "10.2.0.0/24", "fd00:2::/64"

OUTER, INNER, SYNCH = "outer", "inner", "synch"
"""Names of the members' and the peer's interfaces."""

OUTER_BRIDGE, INNER_BRIDGE, SYNCH_BRIDGE = "br-outer", "br-inner", "br-synch"
MEMBERS = ("gw1", "gw2")


@contextmanager
def standing(*, members: int = 1, nat: bool = False, witness: bool = False) -> Iterator[Topology]:
    """The network, while the context lasts.

    With one member it holds the inner cluster address itself; with two the members move it between them.
    """
    with Topology() as topology:
        _build(topology, members, nat)
        if witness:
            topology.namespace("witness")
            topology.plug("witness", OUTER, "sw", OUTER_BRIDGE)
            topology.address("witness", OUTER, f"{WITNESS_OUTER}/24")
        yield topology


def _build(topology: Topology, members: int, nat: bool) -> None:
    topology.namespace("sw")
    for bridge in (OUTER_BRIDGE, INNER_BRIDGE, SYNCH_BRIDGE):
        topology.bridge("sw", bridge)
    for number in range(members):
        _member(topology, number)
    if members == 1:
        topology.address("gw1", INNER, f"{CLUSTER_INNER}/24", f"{CLUSTER_INNER6}/64")
    _host_a(topology)
    _peer(topology, nat)


def _member(topology: Topology, number: int) -> None:
    role = MEMBERS[number]
    topology.namespace(role)
    topology.plug(role, OUTER, "sw", OUTER_BRIDGE)
    topology.plug(role, INNER, "sw", INNER_BRIDGE)
    topology.plug(role, SYNCH, "sw", SYNCH_BRIDGE)
    topology.address(role, OUTER, f"{MEMBER_OUTER[number]}/24", f"{MEMBER_OUTER6[number]}/64")
    topology.address(role, INNER, f"{MEMBER_INNER[number]}/24", f"{MEMBER_INNER6[number]}/64")
    topology.address(role, SYNCH, f"{MEMBER_SYNCH[number]}/24")


def _host_a(topology: Topology) -> None:
    topology.namespace("hosta")
    topology.plug("hosta", "eth0", "sw", INNER_BRIDGE)
    topology.address("hosta", "eth0", f"{HOST_A}/24", f"{HOST_A6}/64")
    topology.route("hosta", "default", CLUSTER_INNER)
    topology.route("hosta", "default", CLUSTER_INNER6)


def _peer(topology: Topology, nat: bool) -> None:
    topology.namespace("peer")
    topology.namespace("hostb")
    if nat:
        topology.namespace("nat")
        topology.plug("nat", OUTER, "sw", OUTER_BRIDGE)
        topology.address("nat", OUTER, f"{PEER_OUTER}/24")
        topology.cable("peer", OUTER, "nat", "inside")
        topology.address("nat", "inside", f"{NAT_INSIDE}/24")
        topology.address("peer", OUTER, f"{PEER_BEHIND_NAT}/24")
        topology.route("peer", "default", NAT_INSIDE)
        masquerade(topology["nat"])
    else:
        topology.plug("peer", OUTER, "sw", OUTER_BRIDGE)
        topology.address("peer", OUTER, f"{PEER_OUTER}/24", f"{PEER_OUTER6}/64")
    topology.cable("peer", INNER, "hostb", "eth0")
    topology.address("peer", INNER, f"{PEER_INNER}/24", f"{PEER_INNER6}/64")
    topology.address("hostb", "eth0", f"{HOST_B}/24", f"{HOST_B6}/64")
    topology.route("hostb", "default", PEER_INNER)
    topology.route("hostb", "default", PEER_INNER6)


def masquerade(nat: Namespace, ports: str = "20000-29999") -> None:
    """Lets the NAT map the peer's UDP ports into ``ports``, and forget all mappings it had: a rebooted NAT.

    Called again with other ports it changes the peer's address in mid-flight, as NATs do.
    """
    nat.run("nft", "-f", "-", stdin=_RULES.format(outer=OUTER, ports=ports))
    nat.run("python3", "-c", _FORGET)


_RULES = """
table ip lab
delete table ip lab
table ip lab {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname "{outer}" meta l4proto {{ tcp, udp }} masquerade to :{ports}
    oifname "{outer}" masquerade
  }}
}}
"""

# IPCTNL_MSG_CT_DELETE without a tuple empties the table of connections (no package carries this by default)
_FORGET = """
import socket, struct
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netlink:
    netlink.settimeout(5)
    netlink.send(struct.pack("=IHHIIBBH", 20, 1 << 8 | 2, 5, 1, 0, 0, 0, 0))
    code = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
    raise SystemExit(f"netlink error {code}" if code else 0)
"""
