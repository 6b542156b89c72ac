"""Which connections a pair of addresses allows (the PAD's first half, RFC 4301 section 4.4.3): before IKE_AUTH the
addresses are all that is known of a peer."""

from __future__ import annotations

import ipaddress
from typing import NamedTuple

from ipsecha.model.policy import Connection, Policy
from ipsecha.model.proposals import Proposal

MEMO_LIMIT = 4096


class CandidateSet(NamedTuple):
    """The connections between two addresses, the most specific first, and what they have in common."""

    names: tuple[str, ...]
    connections: tuple[Connection, ...]
    proposals: tuple[Proposal, ...]
    fragmentation: bool
    encapsulate: bool


class Candidates:
    """Finds candidates for a policy; memoised by address pair, bounded."""

    def __init__(self, policy: Policy) -> None:
        self._by_local: dict[str, list[tuple[Connection, list[tuple[int, int, int]]]]] = {}
        for connection in policy.connections:
            ranges = [_range(text) for text in connection.remote]
            for local in connection.local:
                self._by_local.setdefault(local, []).append((connection, ranges))
        self._ranged = {local for local, known in self._by_local.items() if any(ranges for _, ranges in known)}
        self._found: dict[tuple[str, str], CandidateSet | None] = {}
        self._sets: dict[tuple[str, ...], CandidateSet] = {}

    def find(self, local_ip: str, remote_ip: str) -> CandidateSet | None:
        """The connections for a peer at ``remote_ip`` that sends to ``local_ip``, or None."""
        key = (local_ip, remote_ip)
        try:
            return self._found[key]
        except KeyError:
            pass
        if len(self._found) >= MEMO_LIMIT:
            self._found.clear()
        found = self._found[key] = self._find(local_ip, remote_ip)
        return found

    def _find(self, local_ip: str, remote_ip: str) -> CandidateSet | None:
        version, number = _numbered(remote_ip) if local_ip in self._ranged else (0, 0)
        matches: list[tuple[int, int, Connection]] = []
        for order, (connection, ranges) in enumerate(self._by_local.get(local_ip, ())):
            widths = [last - first for family, first, last in ranges if family == version and first <= number <= last]
            if widths:
                matches.append((min(widths), order, connection))
            elif not ranges:
                matches.append((1 << 128, order, connection))
        if not matches:
            return None
        connections = tuple(match[2] for match in sorted(matches, key=lambda match: match[:2]))
        names = tuple(connection.name for connection in connections)
        candidates = self._sets.get(names)
        if candidates is None:
            candidates = self._sets[names] = _candidate_set(names, connections)
        return candidates


def _candidate_set(names: tuple[str, ...], connections: tuple[Connection, ...]) -> CandidateSet:
    proposals = dict.fromkeys(proposal for connection in connections for proposal in connection.proposals)
    return CandidateSet(
        names,
        connections,
        tuple(proposals),
        any(connection.fragmentation for connection in connections),
        any(connection.encapsulate for connection in connections),
    )


def _numbered(ip: str) -> tuple[int, int]:
    address = ipaddress.ip_address(ip)
    return address.version, int(address)


def _range(text: str) -> tuple[int, int, int]:
    network = ipaddress.ip_network(text, strict=False)
    return network.version, int(network[0]), int(network[-1])
