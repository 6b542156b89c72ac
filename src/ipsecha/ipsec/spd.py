"""The security policy database (RFC 4301 section 4.4.1): ordered rules, then the connections' children in the order
of the configuration, then nothing (discard).

Two structures keep the number of SAs out of a lookup's cost.

*Bundles.*  Child SAs of one child policy with the same narrowed selectors (a rekeyed SA and its successor) form one
bundle; traffic goes to the newest whose ``use_outbound`` is set.  A rekey changes the bundle, not the lookup tables.

*Tuple space.*  Bundles are found by hash: for every pair of prefix lengths that occurs among the remote and local
selectors there is one table, keyed on the prefixes themselves.  The handful of pairs that occur is tried, never the
SAs.

Lookups are cached on the packet's addresses alone where no entry that could match them looks at protocols or ports
(the decorrelation of RFC 4301 appendix B, done for each pair of addresses when it first appears); otherwise on
all selectors.  Both caches are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ipsecha.ipsec.selection import Selection, cover_by_prefixes
from ipsecha.model.policy import Action, ChildPolicy, Connection, Policy, Rule, Start
from ipsecha.model.records import ChildSa
from ipsecha.model.selectors import TrafficSelector
from ipsecha.model.shards import Sharded

if TYPE_CHECKING:
    from ipsecha.ipsec.live import LiveSa

CACHE_LIMIT = 8192

_AnyKey = TypeVar("_AnyKey")
_AnyValue = TypeVar("_AnyValue")

BYPASS = 1
DISCARD = 2
ACQUIRE = 3
NO_MATCH = 4
NO_SA = 5


class Verdict(NamedTuple):
    """What is done with a packet that no SA carries; with ACQUIRE the child SA to be negotiated."""

    kind: int
    connection: str = ""
    child: str = ""


_SENDS_NOT = -math.inf
_BYPASSED, _DISCARDED, _NO_MATCH, _NO_SA = Verdict(BYPASS), Verdict(DISCARD), Verdict(NO_MATCH), Verdict(NO_SA)


class Bundle(Selection):
    """The child SAs of one policy entry with the same selectors.  ``spi_in`` names the one that sends (0: none);
    ``current`` is its state in use, filled in by the SAD.

    Of the child SAs it keeps what the choice needs and no more, since a backup has a hundred thousand bundles: their
    SPIs, and of those that may send the time of their making.
    """

    __slots__ = ("_first", "_made_at", "_others", "connection", "current", "name", "spi_in")

    def __init__(self, connection: str, child: ChildSa) -> None:
        super().__init__(child.local_ts, child.remote_ts)
        self.connection = connection
        self.name = child.name
        self.spi_in = 0
        self.current: LiveSa | None = None
        self._first = 0  # mostly the only one: a dictionary would be its fivefold
        self._made_at = _SENDS_NOT
        self._others: dict[int, float] | None = None

    def holds(self, connection: str, child: ChildSa) -> bool:
        """Whether a child SA of this connection belongs here."""
        return (
            self.local == child.local_ts
            and self.remote == child.remote_ts
            and self.connection == connection
            and self.name == child.name
        )

    def put(self, child: ChildSa) -> None:
        spi_in, made_at = child.spi_in, child.created_at if child.use_outbound else _SENDS_NOT
        others = self._others
        if self._first in (0, spi_in):
            known = self._first != 0
            self._first, self._made_at = spi_in, made_at
        else:
            if others is None:
                others = self._others = {}
            known = others.pop(spi_in, None) is not None
            others[spi_in] = made_at
        if known or not self.spi_in:
            self._choose()
        elif made_at >= self._when(self.spi_in):
            # the common case, without a walk: thousands of peers may have the same selectors
            self.spi_in, self.current = spi_in, None

    def _when(self, spi_in: int) -> float:
        return self._made_at if spi_in == self._first or self._others is None else self._others[spi_in]

    def drop(self, spi_in: int) -> bool:
        """Whether the bundle is empty now."""
        others = self._others
        if spi_in == self._first:
            self._first = next(iter(others), 0) if others else 0
            self._made_at = others.pop(self._first) if others else _SENDS_NOT
        elif others is not None:
            others.pop(spi_in, None)
        if spi_in == self.spi_in:
            self._choose()
        return not self._first

    def members(self) -> list[tuple[int, float]]:
        first = [(self._first, self._made_at)] if self._first else []
        return [*first, *(self._others or {}).items()]

    def _choose(self) -> None:
        newest, newest_at = 0, _SENDS_NOT
        for spi_in, made_at in self.members():
            if made_at != _SENDS_NOT and made_at >= newest_at:
                newest, newest_at = spi_in, made_at
        self.spi_in = newest
        self.current = None


class Entry(NamedTuple):
    """A child policy with its place in the SPD."""

    position: int
    connection: Connection
    child: ChildPolicy
    selection: Selection


_UNKNOWN_POSITION = 1 << 30  # SAs whose policy has gone from the configuration come last


class Spd:
    """The rules and entries of one ``Policy`` and the bundles of installed child SAs."""

    def __init__(self, policy: Policy) -> None:
        self._places = Sharded[Bundle]()
        self._tables: dict[tuple[int, int, int], Sharded[Bundle | list[Bundle]]] = {}
        self.by_addresses: dict[bytes, Bundle | Verdict | None] = {}
        self.by_selectors: dict[tuple[bytes, bytes, int, int | None, int | None], Bundle | Verdict] = {}
        self._entries: dict[tuple[str, str], Entry] = {}
        self._rules: list[tuple[Rule, Selection]] = []
        self._set_policy(policy)

    def _set_policy(self, policy: Policy) -> None:
        self._rules = [(rule, Selection(rule.local_ts, rule.remote_ts)) for rule in policy.rules]
        self._entries = {}
        for connection in policy.connections:
            for child in connection.children:
                selection = Selection(child.local_ts, child.remote_ts)
                position = len(self._entries)
                self._entries[connection.name, child.name] = Entry(position, connection, child, selection)
        self.forget_lookups()

    def configure(self, policy: Policy) -> None:
        """Take a new policy.  Installed child SAs keep their selectors, and with them their bundles and cells; their
        place in the order is looked up when it matters.  So this costs nothing per SA."""
        self._set_policy(policy)

    def _position(self, bundle: Bundle) -> int:
        entry = self._entries.get((bundle.connection, bundle.name))
        return entry.position if entry is not None else _UNKNOWN_POSITION

    def entry(self, connection: str, child: str) -> Entry | None:
        return self._entries.get((connection, child))

    def forget_lookups(self) -> None:
        self.by_addresses.clear()
        self.by_selectors.clear()

    # --- installed child SAs

    def put(self, connection: str, child: ChildSa) -> Bundle:
        """Install or update a child SA: its bundle.  A bundle that is new empties the caches."""
        bundle = self._places.get(child.spi_in)
        if bundle is not None and not bundle.holds(connection, child):
            self.drop(child.spi_in)
            bundle = None
        if bundle is None:
            bundle = self._bundle_for(connection, child)
            self._places[child.spi_in] = bundle
        bundle.put(child)
        return bundle

    def _bundle_for(self, connection: str, child: ChildSa) -> Bundle:
        for table, index in self._cells(child.local_ts, child.remote_ts):
            cells = self._tables.get(table)
            for bundle in _in_cell(None if cells is None else cells.get(index)):
                if bundle.holds(connection, child):
                    return bundle
            break  # it stands in all of its cells
        bundle = Bundle(connection, child)
        entry = self._entries.get((connection, child.name))
        if entry is not None:  # one object of each for all peers
            bundle.connection, bundle.name = entry.connection.name, entry.child.name
            if bundle.local == entry.child.local_ts:
                bundle.local = entry.child.local_ts
        self._enter(bundle)
        self.forget_lookups()
        return bundle

    def _enter(self, bundle: Bundle) -> None:
        for table, index in self._cells(bundle.local, bundle.remote):
            cells = self._tables.get(table)
            if cells is None:
                cells = self._tables[table] = Sharded()
            there = cells.get(index)
            if isinstance(there, list):
                there.append(bundle)
            else:
                cells[index] = bundle if there is None else [there, bundle]

    def take_all(self) -> list[dict[Any, Any]]:
        """Forget all child SAs; gives the tables as they were."""
        gone = self._places.take_all()
        for cells in self._tables.values():
            gone += cells.take_all()
        self._tables = {}
        self.forget_lookups()
        return gone

    def __len__(self) -> int:
        """The child SAs that are installed."""
        return len(self._places)

    def __iter__(self) -> Iterator[int]:
        """Their inbound SPIs."""
        return iter(self._places)

    def walk(self) -> Iterator[int]:
        """Their inbound SPIs, while some may come or go."""
        return self._places.walk()

    def __contains__(self, spi_in: int) -> bool:
        return spi_in in self._places

    def drop(self, spi_in: int) -> None:
        bundle = self._places.pop(spi_in, None)
        if bundle is None or not bundle.drop(spi_in):
            return
        for table, index in self._cells(bundle.local, bundle.remote):
            cells = self._tables[table]
            rest = [other for other in _in_cell(cells[index]) if other is not bundle]
            if rest:
                cells[index] = rest
            else:
                del cells[index]
                if not cells:
                    del self._tables[table]
        self.forget_lookups()

    @staticmethod
    def _cells(
        local_ts: tuple[TrafficSelector, ...], remote_ts: tuple[TrafficSelector, ...]
    ) -> Iterator[tuple[tuple[int, int, int], int]]:
        """The tables and keys under which selectors stand: every pair of covering prefixes, each once.

        The remote one's bits come last, in which peers differ: by them the tables are spread.
        """
        seen = set()
        for remote in remote_ts:
            for local in local_ts:
                if len(local.start) != len(remote.start):
                    continue
                for remote_length, remote_bits in cover_by_prefixes(remote.start, remote.end):
                    for local_length, local_bits in cover_by_prefixes(local.start, local.end):
                        table = (len(local.start), remote_length, local_length)
                        cell = (table, local_bits << remote_length | remote_bits)
                        if cell not in seen:
                            seen.add(cell)
                            yield cell

    # --- lookup

    def lookup_addresses(self, key: bytes) -> Bundle | Verdict | None:
        """The decision for packets between two addresses (``key``: local and remote, concatenated); None where it
        depends on protocol and ports: then ``lookup``.  The answer is cached in ``by_addresses``."""
        half = len(key) // 2
        local, remote = key[:half], key[half:]
        found = None if self._needs_ports(local, remote) else self._decide(local, remote, 0, None, None)
        _remember(self.by_addresses, key, found)
        return found

    def lookup(
        self, local: bytes, remote: bytes, protocol: int, local_port: int | None, remote_port: int | None
    ) -> Bundle | Verdict:
        """The decision for a packet's selectors (ports: None where it shows none); cached in ``by_selectors``."""
        key = (local, remote, protocol, local_port, remote_port)
        found = self.by_selectors.get(key)
        if found is None:
            found = self._decide(local, remote, protocol, local_port, remote_port)
            _remember(self.by_selectors, key, found)
        return found

    def _needs_ports(self, local: bytes, remote: bytes) -> bool:
        selections = [selection for _, selection in self._rules]
        selections += [entry.selection for entry in self._entries.values()]
        selections += self._candidates(local, remote)
        return any(not one.addresses_only and one.may_match(local, remote) for one in selections)

    def _decide(
        self, local: bytes, remote: bytes, protocol: int, local_port: int | None, remote_port: int | None
    ) -> Bundle | Verdict:
        for rule, selection in self._rules:
            if selection.matches(local, remote, protocol, local_port, remote_port):
                return _BYPASSED if rule.action is Action.BYPASS else _DISCARDED
        best, best_at = self._best(local, remote, protocol, local_port, remote_port)
        for entry in self._entries.values():
            if best is not None and best_at <= entry.position:
                return best
            if entry.selection.matches(local, remote, protocol, local_port, remote_port):
                if entry.child.start is not Start.NONE:
                    return Verdict(ACQUIRE, entry.connection.name, entry.child.name)
                if entry.connection.remote:
                    return _NO_SA
                # a kind of peers, none of which is here for this packet: the entries below may have one
        return best if best is not None else _NO_MATCH

    def _best(
        self, local: bytes, remote: bytes, protocol: int, local_port: int | None, remote_port: int | None
    ) -> tuple[Bundle | None, int]:
        """The first bundle in the order of the SPD that matches, and its place."""
        best, best_at = None, _UNKNOWN_POSITION
        for bundle in self._candidates(local, remote):
            if bundle.matches(local, remote, protocol, local_port, remote_port):
                at = self._position(bundle)
                if best is None or at < best_at or (at == best_at and _preferred(bundle, best)):
                    best, best_at = bundle, at
        return best, best_at

    def _candidates(self, local: bytes, remote: bytes) -> Iterator[Bundle]:
        size = len(remote)
        remote_bits, local_bits, bits = int.from_bytes(remote, "big"), int.from_bytes(local, "big"), size * 8
        for (family, remote_length, local_length), table in self._tables.items():
            if family == size:
                leading = local_bits >> (bits - local_length), remote_bits >> (bits - remote_length)
                yield from _in_cell(table.get(leading[0] << remote_length | leading[1]))


def _in_cell(cell: Bundle | list[Bundle] | None) -> Sequence[Bundle]:
    """Mostly one: a list around it would be half as large again."""
    return () if cell is None else cell if isinstance(cell, list) else (cell,)


def _preferred(one: Bundle, other: Bundle) -> bool:
    """Within one entry of the SPD: the bundle that can send, then the one that came later."""
    return bool(one.spi_in) or not other.spi_in


def _remember(cache: dict[_AnyKey, _AnyValue], key: _AnyKey, value: _AnyValue) -> None:
    if len(cache) >= CACHE_LIMIT:
        del cache[next(iter(cache))]
    cache[key] = value
