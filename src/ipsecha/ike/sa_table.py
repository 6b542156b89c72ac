"""IKE SAs by local SPI, some of them as octets: a backup keeps a hundred thousand and uses none.

Whoever asks for an SA gets the object, decoded on the spot and from then on kept (*thawed*); so taking over needs no
pass over the table.  Whoever walks over all of them looks at copies of those that are octets, and keeps nothing.

As in ``model.shards`` the entries are spread over a few dictionaries, which grow at different moments.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from itertools import chain
from typing import Any

from ipsecha.model.records import IkeSa, decode_record, encode_record

_SHARDS = 16
_OCTET = 6
"""The octet of an SPI that tells where it is: by the last one, SPIs in a row would fill all parts together."""


def _nothing(sa: IkeSa) -> None:
    pass


class SaTable(MutableMapping[bytes, IkeSa]):
    """``on_thaw(sa)`` hears of each SA that is an object again, before whoever has asked for it."""

    def __init__(self) -> None:
        self.on_thaw: Callable[[IkeSa], None] = _nothing
        self._shards: list[dict[bytes, IkeSa | bytes]] = [{} for _ in range(_SHARDS)]

    def _shard(self, spi: bytes) -> dict[bytes, IkeSa | bytes]:
        return self._shards[spi[_OCTET] % _SHARDS if len(spi) > _OCTET else 0]

    def freeze(self, spi: bytes) -> IkeSa | None:
        """Keep only the octets of an SA; gives the object, for whoever else holds it.  None: they are octets already,
        or there is no such SA."""
        shard = self._shard(spi)
        found = shard.get(spi)
        if not isinstance(found, IkeSa):
            return None
        shard[spi] = encode_record(found)
        return found

    def thawed(self, spi: bytes) -> IkeSa | None:
        """The SA if it is an object."""
        found = self._shard(spi).get(spi)
        return found if isinstance(found, IkeSa) else None

    def take_all(self) -> list[dict[Any, Any]]:
        """Empty the table; gives what was in it."""
        shards, self._shards = self._shards, [{} for _ in range(_SHARDS)]
        return list[dict[Any, Any]](shards)

    def walk(self) -> Iterator[bytes]:
        """The SPIs, while the table may change: what comes or goes in the meantime is among them or not."""
        for shard in self._shards:
            yield from tuple(shard)

    def peek(self, spi: bytes) -> IkeSa:
        """The SA for somebody who only looks at it.  Raises KeyError."""
        found = self._shard(spi)[spi]
        return found if isinstance(found, IkeSa) else decode_record(found)

    def __getitem__(self, spi: bytes) -> IkeSa:
        shard = self._shard(spi)
        found = shard[spi]
        if isinstance(found, IkeSa):
            return found
        sa = shard[spi] = decode_record(found)
        self.on_thaw(sa)
        return sa

    def __setitem__(self, spi: bytes, sa: IkeSa) -> None:
        self._shard(spi)[spi] = sa

    def __delitem__(self, spi: bytes) -> None:
        del self._shard(spi)[spi]

    def __contains__(self, spi: object) -> bool:
        return isinstance(spi, bytes) and spi in self._shard(spi)

    def __iter__(self) -> Iterator[bytes]:
        return chain.from_iterable(self._shards)

    def __len__(self) -> int:
        return sum(map(len, self._shards))

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
