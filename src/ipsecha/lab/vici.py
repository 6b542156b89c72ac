"""A client of strongSwan's control socket (VICI): commands in, structured answers out.

A packet is a 32-bit length, a type octet, for named types an 8-bit length and the name, then a message: a sequence of
elements that build sections, key/value pairs and lists.  swanctl prints the same answers as text that cannot be
parsed safely (distinguished names contain ``=`` and spaces), hence this module.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Union

from ipsecha.lab.processes import LabError

Value = Union[str, list[str], "Section"]
Section = dict[str, Value]

_COMMAND, _RESPONSE, _UNKNOWN_COMMAND, _REGISTER, _UNREGISTER, _CONFIRM, _UNKNOWN_EVENT, _EVENT = range(8)
_SECTION_START, _SECTION_END, _KEY_VALUE, _LIST_START, _LIST_ITEM, _LIST_END = range(1, 7)


def encode(section: Section) -> bytes:
    """The elements of a message."""
    return b"".join(_encode_element(name, value) for name, value in section.items())


def _encode_element(name: str, value: Value) -> bytes:
    if isinstance(value, dict):
        return bytes((_SECTION_START,)) + _name(name) + encode(value) + bytes((_SECTION_END,))
    if isinstance(value, list):
        items = b"".join(bytes((_LIST_ITEM,)) + _value(item) for item in value)
        return bytes((_LIST_START,)) + _name(name) + items + bytes((_LIST_END,))
    return bytes((_KEY_VALUE,)) + _name(name) + _value(value)


def _name(name: str) -> bytes:
    data = name.encode()
    return bytes((len(data),)) + data


def _value(value: str) -> bytes:
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def decode(data: bytes) -> Section:
    """The inverse of ``encode``; values that are not UTF-8 keep their octets as backslash escapes."""
    section, rest = _decode_section(data, 0)
    if rest != len(data):
        raise LabError("VICI message with a section end too many")
    return section


def _decode_section(data: bytes, offset: int) -> tuple[Section, int]:
    section: Section = {}
    while offset < len(data):
        element, offset = data[offset], offset + 1
        if element == _SECTION_END:
            return section, offset
        name, offset = _take(data, offset, 1)
        if element == _SECTION_START:
            section[name], offset = _decode_section(data, offset)
        elif element == _KEY_VALUE:
            section[name], offset = _take(data, offset, 2)
        elif element == _LIST_START:
            section[name], offset = _decode_list(data, offset)
        else:
            raise LabError(f"VICI element type {element} where a section continues")
    return section, offset


def _decode_list(data: bytes, offset: int) -> tuple[list[str], int]:
    items = []
    while data[offset] == _LIST_ITEM:
        item, offset = _take(data, offset + 1, 2)
        items.append(item)
    return items, offset + 1


def _take(data: bytes, offset: int, length_octets: int) -> tuple[str, int]:
    start = offset + length_octets
    end = start + int.from_bytes(data[offset:start], "big")
    return data[start:end].decode("utf-8", "backslashreplace"), end


class Vici:
    """One connection to a daemon's socket.  Calls block, at most ``timeout_s``."""

    def __init__(self, path: Path, timeout_s: float = 20.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise LabError(f"VICI socket {path}: {error.strerror}") from None

    def __enter__(self) -> Vici:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def call(self, command: str, arguments: Section | None = None) -> Section:
        """One command.  Raises LabError where the daemon reports a failure or does not answer in time."""
        self._send(_COMMAND, command, encode(arguments or {}))
        kind, _name, message = self._receive()
        if kind != _RESPONSE:
            raise LabError(f"VICI command {command}: unknown to the daemon")
        if message.get("success", "yes") != "yes":
            raise LabError(f"VICI command {command}: {message.get('errmsg', 'failed')}")
        return message

    def stream(self, command: str, event: str, arguments: Section | None = None) -> Iterator[Section]:
        """A command that reports by events until its response (list-sas, initiate with a log...).

        Raises LabError like ``call``, after the events.
        """
        self._send(_REGISTER, event)
        if self._receive()[0] != _CONFIRM:
            raise LabError(f"VICI event {event}: unknown to the daemon")
        self._send(_COMMAND, command, encode(arguments or {}))
        while True:
            kind, _name, message = self._receive()
            if kind != _EVENT:
                break
            yield message
        if message.get("success", "yes") != "yes":
            raise LabError(f"VICI command {command}: {message.get('errmsg', 'failed')}")
        self._send(_UNREGISTER, event)
        while self._receive()[0] != _CONFIRM:
            pass

    def listen(self, event: str) -> Iterator[Section]:
        """Registers for an event at once; the iterator gives one after the other, without end.  The connection is
        good for nothing else then."""
        self._send(_REGISTER, event)
        if self._receive()[0] != _CONFIRM:
            raise LabError(f"VICI event {event}: unknown to the daemon")
        return iter(lambda: self._receive()[2], None)

    def _send(self, kind: int, name: str, message: bytes = b"") -> None:
        packet = bytes((kind,)) + _name(name) + message
        self._socket.sendall(struct.pack(">I", len(packet)) + packet)

    def _receive(self) -> tuple[int, str, Section]:
        packet = self._exactly(int.from_bytes(self._exactly(4), "big"))
        kind = packet[0]
        if kind != _EVENT:
            return kind, "", decode(packet[1:])
        name, offset = _take(packet, 1, 1)
        return kind, name, decode(packet[offset:])

    def _exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                piece = self._socket.recv(length - len(data))
            except TimeoutError:
                raise LabError("VICI: no answer in time") from None
            if not piece:
                raise LabError("VICI: the daemon closed the connection")
            data += piece
        return data
