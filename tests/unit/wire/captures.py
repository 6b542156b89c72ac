"""Reads the link layer frames of pcap and pcapng files, and the IKE messages and ESP packets in them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

VECTORS = Path(__file__).resolve().parents[3] / ".." / "shared" / "vectors"

_SECTION_HEADER = 0x0A0D0D0A
_ENHANCED_PACKET = 6
_ETHERNET_HEADER = 14


def vectors(name: str) -> Path:
    """The path of a test vector; skips the test where the vectors are absent."""
    path = VECTORS / name
    if not path.exists():
        pytest.skip(f"test vector {name} is not beside the repository")
    return path


def frames(path: Path) -> list[bytes]:
    """All frames of a capture file."""
    data = path.read_bytes()
    return _pcapng(data) if struct.unpack_from("<I", data)[0] == _SECTION_HEADER else _pcap(data)


def _pcap(data: bytes) -> list[bytes]:
    result = []
    at = 24
    while at < len(data):
        captured = struct.unpack_from("<I", data, at + 8)[0]
        result.append(data[at + 16 : at + 16 + captured])
        at += 16 + captured
    return result


def _pcapng(data: bytes) -> list[bytes]:
    result = []
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        if kind == _ENHANCED_PACKET:
            captured = struct.unpack_from("<I", data, at + 20)[0]
            result.append(data[at + 28 : at + 28 + captured])
        at += length
    return result


def ip_packets(path: Path) -> list[bytes]:
    """The IPv4 packets of a capture of Ethernet frames (frames may be padded)."""
    return [frame[_ETHERNET_HEADER:] for frame in frames(path) if frame[12:14] == b"\x08\x00"]
