"""Policy routing for the protect entries: what may need an SA goes to the TUN, whatever the main table says.

Each distinct local prefix of the policy has a routing table of its own (220, 221, ...) with the remote prefixes that
belong to it, and a rule "from that prefix: look there".  In front stands one rule that sends marked packets to the
main table.  Selecting by source as well as by destination keeps a remote of 0.0.0.0/0 from swallowing the traffic of
everybody else; the outer sockets' mark keeps our own ESP and IKE out of it, so that the peer's address may lie within
its own selectors.

Routes stand as long as the policy does; becoming or ceasing to be the owner adds or removes the rules only: a few
netlink messages.  BYPASS rules become "throw" routes, DISCARD rules "blackhole" routes, as far as prefixes can say
it; the SPD has the last word on what reaches the TUN.

Rules of two kinds stand in front of all that, on a standby as well.  What comes out of the TUN follows the main table,
unless that has but a default route for it: selectors of both sides may overlap (10.0.0.0/8 here and there), and what
was just decapsulated must not go back.  What a protect entry selects and comes from anywhere else is dropped.

While an owner's policy is replaced, what it protects is dropped by rules behind all that: a reload must not let a
packet out in clear.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from pyroute2.netlink.exceptions import NetlinkError

from ipsecha.dataplane.userspace.netlink import NetlinkThread
from ipsecha.model.errors import DataPlaneError
from ipsecha.model.policy import Action, Connection, Policy
from ipsecha.model.selectors import ANY_PROTOCOL, FULL_PORT_RANGE, TrafficSelector

TABLE = 220
PRIORITY = 220
MARK = 0x495053
_TABLES_LIMIT = 512
_RT_PROTO_STATIC = 4
_MAIN = 254


def prefixes(selectors: tuple[TrafficSelector, ...]) -> list[str]:
    """The prefixes that cover selectors, protocols and ports aside."""
    found: list[str] = []
    for one in selectors:
        first, last = ipaddress.ip_address(one.start), ipaddress.ip_address(one.end)
        found += [str(network) for network in ipaddress.summarize_address_range(first, last)]
    return list(dict.fromkeys(found))


def plan(policy: Policy) -> dict[str, dict[str, str]]:
    """For each local prefix: remote prefix -> route type (``unicast``, ``throw`` or ``blackhole``)."""
    tables: dict[str, dict[str, str]] = {}
    for connection in policy.connections:
        for child in connection.children:
            for local in prefixes(child.local_ts):
                routes = tables.setdefault(local, {})
                routes.update(
                    {remote: "unicast" for remote in prefixes(child.remote_ts) if (":" in remote) == (":" in local)}
                )
    for rule in reversed(policy.rules):  # the first rule of the file has the last word here
        if not all(map(_is_plain, rule.local_ts + rule.remote_ts)):
            continue
        kind = "throw" if rule.action is Action.BYPASS else "blackhole"
        for local, routes in tables.items():
            if any(_covers(wide, local) for wide in prefixes(rule.local_ts)):
                routes.update(
                    {remote: kind for remote in prefixes(rule.remote_ts) if (":" in remote) == (":" in local)}
                )
    return tables


def _is_plain(selector: TrafficSelector) -> bool:
    return (selector.protocol, selector.start_port, selector.end_port) == (ANY_PROTOCOL, *FULL_PORT_RANGE)


def _covers(wide: str, narrow: str) -> bool:
    outer, inner = ipaddress.ip_network(wide), ipaddress.ip_network(narrow)
    if outer.version != inner.version:
        return False
    return int(outer[0]) <= int(inner[0]) and int(inner[-1]) <= int(outer[-1])


def _family(prefix: str) -> int:
    return socket.AF_INET6 if ":" in prefix else socket.AF_INET


def guarded(policy: Policy, tables: dict[str, dict[str, str]]) -> list[tuple[str, str]]:
    """(remote, local) prefixes between which only the TUN may bring packets: whatever a protect entry selects and
    arrives in clear is dropped (RFC 4301 section 5.2).  Left out where the prefixes overlap (a remote of 0.0.0.0/0 has
    the local network's own traffic in it) and where the peer's own address would be hit."""
    return [
        (remote, local)
        for local, routes in tables.items()
        for remote, kind in routes.items()
        if kind == "unicast"
        and not ipaddress.ip_network(remote).overlaps(ipaddress.ip_network(local))
        and not any(_hits_peer(connection, remote, local) for connection in policy.connections)
    ]


def _hits_peer(connection: Connection, remote: str, local: str) -> bool:
    """Whether IKE and ESP between the gateways themselves lie within the prefixes (host to host)."""
    theirs = connection.remote or ("::/0" if ":" in remote else "0.0.0.0/0",)
    return any(_covers(local, f"{ours}/128" if ":" in ours else f"{ours}/32") for ours in connection.local) and any(
        _covers(remote, str(ipaddress.ip_network(one))) for one in theirs
    )


class PolicyRoutes:
    """Tables from ``table`` on, rules with ``priority``, the two before it and the one behind it, for the interface
    with ``index``."""

    def __init__(self, name: str, index: int, table: int = TABLE, priority: int = PRIORITY, mark: int = MARK) -> None:
        self._name = name
        self._index = index
        self._table = table
        self._priority = priority
        self._mark = mark
        self._tables: dict[str, dict[str, str]] = {}
        self._guarded: list[tuple[str, str]] = []
        self._shutting: dict[str, dict[str, Any]] = {}  # rules that stand only while the policy is replaced
        self._active = False
        self._netlink = NetlinkThread()

    def configure(self, policy: Policy) -> None:
        """Put the routes of ``policy`` in place of those before; raises DataPlaneError."""
        tables = plan(policy)
        if len(tables) > _TABLES_LIMIT:
            raise DataPlaneError(f"{len(tables)} distinct local prefixes: at most {_TABLES_LIMIT} can be routed")
        self._do(lambda netlink: self._replace(netlink, tables, guarded(policy, tables)))

    def activate(self) -> None:
        """Send what the policy selects to the interface."""
        self._do(self._activate)

    def deactivate(self) -> None:
        self._do(self._deactivate)

    def close(self) -> None:
        """Leave no rule and no route behind."""
        with contextlib.suppress(DataPlaneError):  # the namespace may be going away
            self._do(self._remove)
        self._netlink.close()

    def _do(self, work: Callable[[Any], None]) -> None:
        try:
            self._netlink.run(work)
        except (OSError, NetlinkError) as error:
            raise DataPlaneError(f"policy routing: {error}") from None

    def _replace(self, netlink: Any, tables: dict[str, dict[str, str]], pairs: list[tuple[str, str]]) -> None:
        was_active = self._active
        if was_active:
            self._shut(netlink, [*self._drops(self._tables), *self._drops(tables)])
        self._deactivate(netlink)
        self._delete(netlink, self._guards())
        self._flush(netlink, max(len(tables), len(self._tables)))
        self._tables, self._guarded = tables, pairs
        for number, routes in enumerate(tables.values()):
            for remote, kind in routes.items():
                self._add_route(netlink, self._table + number, remote, kind)
        # what an earlier life of this process left behind would send the traffic into nothing
        self._deactivate(netlink)
        self._delete(netlink, self._guards())
        for rule in self._guards():
            netlink.rule("add", **rule)
        if was_active:
            self._activate(netlink)
        self._open(netlink)

    def _shut(self, netlink: Any, rules: list[dict[str, Any]]) -> None:
        # noted first: what may be there is taken away some time, whatever fails now
        self._shutting |= {str(rule): rule for rule in rules}
        for rule in self._shutting.values():
            try:
                netlink.rule("add", **rule)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise

    def _open(self, netlink: Any) -> None:
        self._delete(netlink, list(self._shutting.values()))
        self._shutting = {}

    def _remove(self, netlink: Any) -> None:
        self._deactivate(netlink)
        self._delete(netlink, self._guards())
        self._open(netlink)
        self._flush(netlink, len(self._tables))
        self._tables, self._guarded = {}, []

    def _add_route(self, netlink: Any, table: int, remote: str, kind: str) -> None:
        request = {"family": _family(remote), "dst": remote, "table": table, "proto": _RT_PROTO_STATIC}
        if kind == "unicast":
            netlink.route("replace", oif=self._index, **request)
        else:
            netlink.route("replace", type=kind, **request)

    def _activate(self, netlink: Any) -> None:
        if self._active:
            return
        self._delete(netlink, self._rules())  # those of an attempt that failed half-way
        for rule in self._rules():
            netlink.rule("add", **rule)
        self._active = True

    def _deactivate(self, netlink: Any) -> None:
        self._delete(netlink, self._rules())
        self._active = False

    @staticmethod
    def _delete(netlink: Any, rules: list[dict[str, Any]]) -> None:
        for rule in rules:
            try:
                netlink.rule("del", **rule)
            except NetlinkError as error:
                if error.code not in (errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL):
                    raise

    def _guards(self) -> list[dict[str, Any]]:
        """Before the rules: packets from the TUN go where the main table knows more than a default route, or else on
        to the rules (from one tunnel into another); then "from REMOTE to LOCAL blackhole"."""
        rules: list[dict[str, Any]] = []
        for family in dict.fromkeys(map(_family, self._tables)):
            from_tun = {"family": family, "priority": self._priority - 2, "iifname": self._name}
            rules.append(from_tun | {"table": _MAIN, "action": "to_tbl", "suppress_prefixlen": 0})
            rules.append(from_tun | {"action": "goto", "goto": self._priority})
        return rules + [self._blackhole(self._priority - 1, remote, local) for remote, local in self._guarded]

    def _drops(self, tables: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
        """Behind the rules: "from LOCAL to REMOTE blackhole" for what the tables send to the TUN."""
        return [
            self._blackhole(self._priority + 1, local, remote)
            for local, routes in tables.items()
            for remote, kind in routes.items()
            if kind == "unicast"
        ]

    @staticmethod
    def _blackhole(priority: int, source: str, destination: str) -> dict[str, Any]:
        rule: dict[str, Any] = {"family": _family(source), "priority": priority, "action": "blackhole"}
        for side, prefix in (("src", source), ("dst", destination)):
            address, _, length = prefix.partition("/")
            if int(length):
                rule |= {side: address, f"{side}_len": int(length)}
        return rule

    def _rules(self) -> list[dict[str, Any]]:
        """First "fwmark MARK lookup main" for each family in use, then "from LOCAL lookup TABLE": rules of the same
        priority are tried in the order in which they were added.  (An inverted "not fwmark" would invert the
        source as well.)"""
        families = dict.fromkeys(map(_family, self._tables))
        rules: list[dict[str, Any]] = [
            self._rule(family, _MAIN) | {"fwmark": self._mark} for family in families if self._mark
        ]
        for number, local in enumerate(self._tables):
            address, _, length = local.partition("/")
            source = {"src": address, "src_len": int(length)} if int(length) else {}
            rules.append(self._rule(_family(local), self._table + number) | source)
        return rules

    def _rule(self, family: int, table: int) -> dict[str, Any]:
        return {"family": family, "priority": self._priority, "table": table, "action": "to_tbl"}

    def _flush(self, netlink: Any, count: int) -> None:
        for family in (socket.AF_INET, socket.AF_INET6):
            for number in range(count):
                netlink.flush_routes(family=family, table=self._table + number)
