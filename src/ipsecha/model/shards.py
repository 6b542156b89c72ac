"""A table by SPI that grows without a pause.

A dictionary of two hundred thousand entries that grows moves all of them at once, and several tables of the same SAs do
so in the same turn of the event loop.  Here the entries are spread over a few dictionaries, each of which grows at a
moment of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any, TypeVar, overload

Value = TypeVar("Value")
Other = TypeVar("Other")

SHARDS = 16
_SHIFT, _MASK = 8, SHARDS - 1
"""Neither the slot in the top bits of an SPI, nor its last bits: by those, numbers that were given out one after the
other would have all shards grow together."""


class Sharded(MutableMapping[int, Value]):
    """A dictionary by SPI (32 bits, of ESP or AH).  Its order is that of insertion within a shard only."""

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards: list[dict[int, Value]] = [{} for _ in range(SHARDS)]

    def take_all(self) -> list[dict[Any, Any]]:
        """Empty it at once; gives what was in it."""
        shards, self._shards = self._shards, [{} for _ in range(SHARDS)]
        return list[dict[Any, Any]](shards)

    def walk(self) -> Iterator[int]:
        """Its keys, while it may change: what comes or goes in the meantime is among them or not."""
        for shard in self._shards:
            yield from tuple(shard)

    def __getitem__(self, key: int) -> Value:
        return self._shards[key >> _SHIFT & _MASK][key]

    def __setitem__(self, key: int, value: Value) -> None:
        self._shards[key >> _SHIFT & _MASK][key] = value

    def __delitem__(self, key: int) -> None:
        del self._shards[key >> _SHIFT & _MASK][key]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, int) and key in self._shards[key >> _SHIFT & _MASK]

    def __iter__(self) -> Iterator[int]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    @overload
    def get(self, key: int, default: None = None, /) -> Value | None: ...
    @overload
    def get(self, key: int, default: Value | Other, /) -> Value | Other: ...
    def get(self, key: int, default: Any = None, /) -> Any:
        return self._shards[key >> _SHIFT & _MASK].get(key, default)


_OCTET = 6
"""The octet of an IKE SPI that tells where it is: by the last one, SPIs in a row would fill all parts together."""


class ShardedByIkeSpi(MutableMapping[bytes, Value]):
    """The same by IKE SPI (8 octets)."""

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self._shards: list[dict[bytes, Value]] = [{} for _ in range(SHARDS)]

    def _shard(self, key: bytes) -> dict[bytes, Value]:
        return self._shards[key[_OCTET] % SHARDS if len(key) > _OCTET else 0]

    def __getitem__(self, key: bytes) -> Value:
        return self._shard(key)[key]

    def __setitem__(self, key: bytes, value: Value) -> None:
        self._shard(key)[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self._shard(key)[key]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and key in self._shard(key)

    def __iter__(self) -> Iterator[bytes]:
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        return sum(map(len, self._shards))
