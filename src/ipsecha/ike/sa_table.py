"""IKE SAs by local SPI, some of them as octets: a backup keeps a hundred thousand and uses none.

Whoever asks for an SA gets the object, decoded on the spot and from then on kept (*thawed*); so taking over needs no
pass over the table.  Whoever walks over all of them looks at copies of those that are octets, and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping, ValuesView

from ipsecha.model.records import IkeSa, decode_record, encode_record


def _nothing(sa: IkeSa) -> None:
    pass


class SaTable(MutableMapping[bytes, IkeSa]):
    """``on_thaw(sa)`` hears of each SA that is an object again, before whoever has asked for it."""

    def __init__(self) -> None:
        self.on_thaw: Callable[[IkeSa], None] = _nothing
        self._entries: dict[bytes, IkeSa | bytes] = {}

    def freeze(self, spi: bytes) -> IkeSa | None:
        """Keep only the octets of an SA; gives the object, for whoever else holds it.  None: they are octets already,
        or there is no such SA."""
        found = self._entries.get(spi)
        if not isinstance(found, IkeSa):
            return None
        self._entries[spi] = encode_record(found)
        return found

    def thawed(self, spi: bytes) -> IkeSa | None:
        """The SA if it is an object."""
        found = self._entries.get(spi)
        return found if isinstance(found, IkeSa) else None

    def take_all(self) -> dict[bytes, IkeSa | bytes]:
        """Empty the table; gives what was in it."""
        entries, self._entries = self._entries, {}
        return entries

    def peek(self, spi: bytes) -> IkeSa:
        """The SA for somebody who only looks at it.  Raises KeyError."""
        found = self._entries[spi]
        return found if isinstance(found, IkeSa) else decode_record(found)

    def __getitem__(self, spi: bytes) -> IkeSa:
        found = self._entries[spi]
        if isinstance(found, IkeSa):
            return found
        sa = self._entries[spi] = decode_record(found)
        self.on_thaw(sa)
        return sa

    def __setitem__(self, spi: bytes, sa: IkeSa) -> None:
        self._entries[spi] = sa

    def __delitem__(self, spi: bytes) -> None:
        del self._entries[spi]

    def __contains__(self, spi: object) -> bool:
        return spi in self._entries

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def values(self) -> ValuesView[IkeSa]:
        return ValuesView(_Copies(self))

    def items(self) -> ItemsView[bytes, IkeSa]:
        return ItemsView(_Copies(self))


class _Copies(Mapping[bytes, IkeSa]):
    """All SAs of a table, to be looked at."""

    def __init__(self, table: SaTable) -> None:
        self._table = table

    def __getitem__(self, spi: bytes) -> IkeSa:
        return self._table.peek(spi)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)
