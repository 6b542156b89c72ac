"""What a member saves of its SAs, sealed: the octets of the file (invariant I6).

A file begins with a magic number and a salt; the key of everything behind it is derived from the operator's key and the
salt, which is fresh for each file, so that counters as nonces never repeat (invariant I1).  Then come chunks, one for
each write that was waited for: a marker, a number, a length, and an AEAD's ciphertext.  The marker is there to find
chunks behind a damaged one: a file that lacks its last chunk was cut off by a power failure and is as good as it was a
moment before; one that lacks a chunk in the middle has lost what had been relied on, and is refused.
"""

from __future__ import annotations

import struct

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ipsecha.cluster.frames import Change
from ipsecha.model.errors import ClusterError
from ipsecha.model.spi import Entropy

MAGIC = b"ipsecha saved 1\n"
SALT_LENGTH = 16
KEY_LENGTH = 32
_MARKER = b"\xc4UNK"
_HEADER = struct.Struct(">4sQI")
_TAG_LENGTH = 16
_INFO = b"ipsecha saved state"
_BOUND = struct.Struct(">IQQ")

Bound = tuple[int, int, int]
"""Inbound SPI of a child SA; the inbound and the outbound number that nobody goes beyond before a higher one has been
saved."""


class Opening(msgspec.Struct, array_like=True, frozen=True):
    """Who the file's member was.  ``owner``: the records in the file are its own; else it had seen ``epoch``."""

    cluster: str
    member: str
    owner: bool
    epoch: int
    lineage: int
    highest_epoch: int


class Write(msgspec.Struct, array_like=True, frozen=True):
    """One chunk.  Later ones supersede earlier ones, record by record and bound by bound."""

    opening: Opening | None = None
    changes: tuple[Change, ...] = ()
    bounds: bytes = b""

    def __repr__(self) -> str:  # records hold keys
        return f"Write({self.opening}, {len(self.changes)} changes, {len(self.bounds) // _BOUND.size} bounds)"


class Saved(msgspec.Struct):
    """What a file says in the end: encoded records by local SPI, bounds by inbound SPI."""

    opening: Opening
    records: dict[bytes, bytes]
    bounds: dict[int, tuple[int, int]]
    torn: bool = False  # the last chunk did not get through

    def __repr__(self) -> str:
        return f"Saved({self.opening}, {len(self.records)} records)"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Write)


class Seal:
    """Seals the chunks of one file; ``beginning`` are its first octets."""

    def __init__(self, key: bytes, entropy: Entropy) -> None:
        salt = entropy(SALT_LENGTH)
        self.beginning = MAGIC + salt
        self._cipher = _cipher(key, salt)
        self._number = 0

    def chunk(self, write: Write) -> bytes:
        plain = _encoder.encode(write)
        header = _HEADER.pack(_MARKER, self._number, len(plain) + _TAG_LENGTH)
        sealed = self._cipher.encrypt(self._number.to_bytes(12, "big"), plain, header)
        self._number += 1
        return header + sealed


def pack_bounds(bounds: list[Bound]) -> bytes:
    """20 octets each."""
    pack = _BOUND.pack
    return b"".join([pack(*bound) for bound in bounds])


def read_saved(data: bytes, key: bytes) -> Saved:
    """The contents of a file.  Raises ClusterError with the reason where they are not to be relied on."""
    start = len(MAGIC) + SALT_LENGTH
    if len(data) < start or not data.startswith(MAGIC):
        raise ClusterError("not a file of saved state, or of another version")
    cipher = _cipher(key, data[len(MAGIC) : start])
    saved: Saved | None = None
    offset, number, torn = start, 0, False
    while offset < len(data):
        write = _open(cipher, data, offset, number)
        if write is None:
            _refuse_damage(cipher, data, offset, number)
            torn = True
            break
        if saved is None:
            if write.opening is None:
                raise ClusterError("the file does not say whose state it is")
            saved = Saved(write.opening, {}, {})
        _apply(saved, write)
        offset += _HEADER.size + _HEADER.unpack_from(data, offset)[2]
        number += 1
    if saved is None:
        raise ClusterError("nothing in it can be opened: another key, or it was cut off at its beginning")
    saved.torn = torn
    return saved


def _apply(saved: Saved, write: Write) -> None:
    if write.opening is not None:
        saved.opening = write.opening
    for spi, record in write.changes:
        if record is None:
            saved.records.pop(spi, None)
        else:
            saved.records[spi] = record
    if len(write.bounds) % _BOUND.size:
        raise ClusterError("an array of bounds has an impossible length")
    for spi_in, inbound, outbound in _BOUND.iter_unpack(write.bounds):
        saved.bounds[spi_in] = (inbound, outbound)


def _open(cipher: AESGCM, data: bytes, offset: int, number: int) -> Write | None:
    """The chunk at ``offset``, if it is whole, genuine and has this number."""
    if offset + _HEADER.size > len(data):
        return None
    header = data[offset : offset + _HEADER.size]
    marker, found, length = _HEADER.unpack(header)
    body = data[offset + _HEADER.size : offset + _HEADER.size + length]
    if marker != _MARKER or found != number or len(body) != length or length < _TAG_LENGTH:
        return None
    try:
        return _decoder.decode(cipher.decrypt(number.to_bytes(12, "big"), body, header))
    except (InvalidTag, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _refuse_damage(cipher: AESGCM, data: bytes, offset: int, number: int) -> None:
    """A chunk is damaged: raise ClusterError unless it was the last one."""
    at = data.find(_MARKER, offset + 1)
    while at >= 0:
        if at + _HEADER.size <= len(data):
            later = _HEADER.unpack_from(data, at)[1]
            if later > number and _open(cipher, data, at, later) is not None:
                raise ClusterError(f"chunk {number} is damaged and later ones are not: the file cannot be relied on")
        at = data.find(_MARKER, at + 1)


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=KEY_LENGTH, salt=salt, info=_INFO).derive(key))
