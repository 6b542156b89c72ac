"""A bounds-checked cursor for the parsers that are not on a hot path."""

from __future__ import annotations

from ipsecha.model.errors import WireError


class Reader:
    """Reads big-endian integers and octets from ``data``, front to back; raises WireError at the end of the octets."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def remaining(self) -> int:
        """How many octets are left."""
        return len(self._data) - self._offset

    def octets(self, count: int) -> bytes:
        """The next ``count`` octets."""
        if not 0 <= count <= self.remaining:
            raise WireError(f"{count} octets wanted, {self.remaining} left")
        start = self._offset
        self._offset = start + count
        return self._data[start : self._offset]

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.octets(self.remaining)

    def uint8(self) -> int:
        return self.octets(1)[0]

    def uint16(self) -> int:
        return int.from_bytes(self.octets(2), "big")

    def uint32(self) -> int:
        return int.from_bytes(self.octets(4), "big")

    def skip(self, count: int) -> None:
        """Passes over RESERVED octets, which receivers ignore (RFC 7296 section 2.5)."""
        self.octets(count)

    def finish(self) -> None:
        """Raises WireError if octets are left."""
        if self.remaining:
            raise WireError(f"{self.remaining} octets too many")
