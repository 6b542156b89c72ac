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

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ipsecha.ipsec.selection import Selection, cover_by_prefixes
from ipsecha.model.policy import Action, ChildPolicy, Connection, Policy, Rule, Start
from ipsecha.model.records import ChildSa
from ipsecha.model.selectors import TrafficSelector

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


_BYPASSED, _DISCARDED, _NO_MATCH, _NO_SA = Verdict(BYPASS), Verdict(DISCARD), Verdict(NO_MATCH), Verdict(NO_SA)


class Bundle:
    """The child SAs of one policy entry with the same selectors.  ``spi_in`` names the one that sends (0: none);
    ``current`` is its state in use, filled in by the SAD."""

    __slots__ = ("_members", "current", "position", "selection", "spi_in")

    def __init__(self, position: int, selection: Selection) -> None:
        self.position = position
        self.selection = selection
        self.spi_in = 0
        self.current: LiveSa | None = None
        self._members: dict[int, ChildSa] | ChildSa | None = None  # mostly one: a dictionary would be its fivefold

    def put(self, child: ChildSa) -> None:
        members = self._members
        if members is None or (isinstance(members, ChildSa) and members.spi_in == child.spi_in):
            self._members = child
            self._choose()
            return
        if isinstance(members, ChildSa):
            members = self._members = {members.spi_in: members}
        known = members.pop(child.spi_in, None) is not None
        members[child.spi_in] = child
        if known or not self.spi_in:
            self._choose()
        elif child.use_outbound and child.created_at >= members[self.spi_in].created_at:
            # the common case, without a walk: thousands of peers may have the same selectors
            self.spi_in, self.current = child.spi_in, None

    def drop(self, spi_in: int) -> bool:
        """Whether the bundle is empty now."""
        if isinstance(self._members, dict):
            self._members.pop(spi_in, None)
        elif self._members is not None and self._members.spi_in == spi_in:
            self._members = None
        if spi_in == self.spi_in:
            self._choose()
        return not self._members

    def children(self) -> list[ChildSa]:
        if isinstance(self._members, dict):
            return list(self._members.values())
        return [self._members] if self._members is not None else []

    def _choose(self) -> None:
        newest: ChildSa | None = None
        for child in self.children():
            if child.use_outbound and (newest is None or child.created_at >= newest.created_at):
                newest = child
        self.spi_in = newest.spi_in if newest is not None else 0
        self.current = None


class Entry(NamedTuple):
    """A child policy with its place in the SPD."""

    position: int
    connection: Connection
    child: ChildPolicy
    selection: Selection


_UNKNOWN_POSITION = 1 << 30  # SAs whose policy has gone from the configuration come last
_Key = tuple[int, tuple[TrafficSelector, ...], tuple[TrafficSelector, ...], str, str]


class Spd:
    """The rules and entries of one ``Policy`` and the bundles of installed child SAs."""

    def __init__(self, policy: Policy) -> None:
        self._bundles: dict[_Key, Bundle] = {}
        self._places: dict[int, _Key] = {}
        self._tables: dict[tuple[int, int, int], dict[int, list[Bundle]]] = {}
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
        """Take a new policy; installed child SAs keep their selectors and move to their policies' new places."""
        installed = [(key, bundle.children()) for key, bundle in self._bundles.items()]
        self._bundles, self._places, self._tables = {}, {}, {}
        self._set_policy(policy)
        for key, children in installed:
            for child in children:
                self.put(key[3], child)

    def entry(self, connection: str, child: str) -> Entry | None:
        return self._entries.get((connection, child))

    def forget_lookups(self) -> None:
        self.by_addresses.clear()
        self.by_selectors.clear()

    # --- installed child SAs

    def put(self, connection: str, child: ChildSa) -> Bundle:
        """Install or update a child SA: its bundle.  A bundle that is new empties the caches."""
        entry = self._entries.get((connection, child.name))
        position = entry.position if entry is not None else _UNKNOWN_POSITION
        key = (position, child.local_ts, child.remote_ts, connection, child.name)
        before = self._places.get(child.spi_in)
        if before is not None and before != key:
            self.drop(child.spi_in)
        bundle = self._bundles.get(key)
        if bundle is None:
            bundle = self._bundles[key] = Bundle(position, Selection(child.local_ts, child.remote_ts))
            for table, index in self._cells(child.local_ts, child.remote_ts):
                cells = self._tables.setdefault(table, {})
                if index in cells:
                    cells[index].append(bundle)
                else:
                    cells[index] = [bundle]
            self.forget_lookups()
        self._places[child.spi_in] = key
        bundle.put(child)
        return bundle

    def drop(self, spi_in: int) -> None:
        key = self._places.pop(spi_in, None)
        if key is None or not self._bundles[key].drop(spi_in):
            return
        bundle = self._bundles.pop(key)
        for table, index in self._cells(key[1], key[2]):
            cell = self._tables[table][index]
            cell.remove(bundle)
            if not cell:
                del self._tables[table][index]
                if not self._tables[table]:
                    del self._tables[table]
        self.forget_lookups()

    @staticmethod
    def _cells(
        local_ts: tuple[TrafficSelector, ...], remote_ts: tuple[TrafficSelector, ...]
    ) -> Iterator[tuple[tuple[int, int, int], int]]:
        """The tables and keys under which selectors stand: every pair of covering prefixes, each once."""
        seen = set()
        for remote in remote_ts:
            for local in local_ts:
                if len(local.start) != len(remote.start):
                    continue
                for remote_length, remote_bits in cover_by_prefixes(remote.start, remote.end):
                    for local_length, local_bits in cover_by_prefixes(local.start, local.end):
                        table = (len(local.start), remote_length, local_length)
                        cell = (table, remote_bits << local_length | local_bits)
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
        selections += [bundle.selection for bundle in self._candidates(local, remote)]
        return any(not one.addresses_only and one.may_match(local, remote) for one in selections)

    def _decide(
        self, local: bytes, remote: bytes, protocol: int, local_port: int | None, remote_port: int | None
    ) -> Bundle | Verdict:
        for rule, selection in self._rules:
            if selection.matches(local, remote, protocol, local_port, remote_port):
                return _BYPASSED if rule.action is Action.BYPASS else _DISCARDED
        best: Bundle | None = None
        for bundle in self._candidates(local, remote):
            if bundle.selection.matches(local, remote, protocol, local_port, remote_port) and (
                best is None or _preferred(bundle, best)
            ):
                best = bundle
        for entry in self._entries.values():
            if best is not None and best.position <= entry.position:
                return best
            if entry.selection.matches(local, remote, protocol, local_port, remote_port):
                if entry.child.start is not Start.NONE:
                    return Verdict(ACQUIRE, entry.connection.name, entry.child.name)
                if entry.connection.remote:
                    return _NO_SA
                # a kind of peers, none of which is here for this packet: the entries below may have one
        return best if best is not None else _NO_MATCH

    def _candidates(self, local: bytes, remote: bytes) -> Iterator[Bundle]:
        size = len(remote)
        remote_bits, local_bits, bits = int.from_bytes(remote, "big"), int.from_bytes(local, "big"), size * 8
        for (family, remote_length, local_length), table in self._tables.items():
            if family == size:
                leading = remote_bits >> (bits - remote_length), local_bits >> (bits - local_length)
                yield from table.get(leading[0] << local_length | leading[1], ())


def _preferred(one: Bundle, other: Bundle) -> bool:
    """The order of the SPD decides; within one entry the bundle that can send, then the one that came later."""
    if one.position != other.position:
        return one.position < other.position
    return bool(one.spi_in) or not other.spi_in


def _remember(cache: dict[_AnyKey, _AnyValue], key: _AnyKey, value: _AnyValue) -> None:
    if len(cache) >= CACHE_LIMIT:
        del cache[next(iter(cache))]
    cache[key] = value
