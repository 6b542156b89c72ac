"""The TUN device: clear packets from and to the protected side, with TCP's segmentation left to us (``offload``)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import Protocol

from pyroute2.netlink.exceptions import NetlinkError

from ipsecha.dataplane.userspace.netlink import NetlinkThread
from ipsecha.dataplane.userspace.offload import HEADER_LENGTH, NO_HEADER, join, split
from ipsecha.model.errors import DataPlaneError

_DEVICE = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_TUNSETOFFLOAD = 0x400454D0
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6, _TUN_F_TSO_ECN = 1, 2, 4, 8
_LONGEST = 65536
_GSO_SEGMENTS = 44  # one read becomes one UDP_SEGMENT send
_GSO_OCTETS = 65000
_NAME_LIMIT = 15
_QUEUE = 1000  # packets that the kernel keeps for us


class InnerDevice(Protocol):
    """Where clear packets come from and go to.

    ``forwards``: nothing behind it decrements the TTL of what it hands over (RFC 4301 section 5.1.2).  ``refused``:
    reads and writes that the kernel has refused.
    """

    forwards: bool
    refused: int

    def fileno(self) -> int: ...

    def read_batch(self, limit: int) -> list[bytes]: ...

    def write_batch(self, packets: list[bytes]) -> None: ...

    def close(self) -> None: ...


class Tun:
    """A TUN interface of this name and MTU in the current network namespace, up, without addresses.

    Raises DataPlaneError where it cannot be made.
    """

    forwards = False  # the kernel forwards into it and has decremented the TTL

    def __init__(self, name: str, mtu: int) -> None:
        self.name = name
        self.mtu = mtu
        self.refused = 0
        if not 0 < len(name) <= _NAME_LIMIT:
            raise DataPlaneError(f"interface name {name!r}: expected 1 to {_NAME_LIMIT} characters")
        try:
            self._fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise DataPlaneError(f"{_DEVICE}: {error.strerror}; is the tun module loaded?") from None
        try:
            request = struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR)
            fcntl.ioctl(self._fd, _TUNSETIFF, request)
            fcntl.ioctl(self._fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 | _TUN_F_TSO_ECN)
            self.index = _bring_up(name, mtu)
        except (OSError, NetlinkError) as error:
            os.close(self._fd)
            raise DataPlaneError(f"interface {name}: {error}; this needs CAP_NET_ADMIN") from None
        self._buffer = bytearray(HEADER_LENGTH + _LONGEST)
        self._view = memoryview(self._buffer)

    def fileno(self) -> int:
        return self._fd

    def read_batch(self, limit: int) -> list[bytes]:
        """Packets that are there, about ``limit``: a read that TCP has filled yields many."""
        packets: list[bytes] = []
        fd, buffers, view, read = self._fd, [self._buffer], self._view, os.readv
        try:
            while len(packets) < limit:
                packets += split(bytes(view[: read(fd, buffers)]))
        except BlockingIOError:
            pass
        except OSError:
            self.refused += 1
        return packets

    def write_batch(self, packets: list[bytes]) -> None:
        """Hand packets to the kernel; what it does not take is lost, as on any interface."""
        fd, write = self._fd, os.writev
        for buffers in join(packets) if len(packets) > 1 else [[NO_HEADER, packet] for packet in packets]:
            try:
                write(fd, buffers)
            except OSError:
                self.refused += 1

    def close(self) -> None:
        os.close(self._fd)


def _bring_up(name: str, mtu: int) -> int:
    """MTU and state; the interface's index."""
    conf = Path("/proc/sys/net/ipv6/conf") / name / "addr_gen_mode"
    with contextlib.suppress(OSError):  # where IPv6 is switched off
        conf.write_text("1")  # no link-local address: nobody asks for routers through a tunnel
    netlink = NetlinkThread()
    try:
        index = int(netlink.run(lambda link: link.link_lookup(ifname=name))[0])
        netlink.run(lambda link: link.link("set", index=index, mtu=mtu, state="up", txqlen=_QUEUE))
        with contextlib.suppress(NetlinkError):  # before Linux 6.3 or so: reads come in other sizes then
            limits = {"gso_max_segs": _GSO_SEGMENTS, "gso_max_size": _GSO_OCTETS}
            netlink.run(lambda link: link.link("set", index=index, **limits))
    finally:
        netlink.close()
    return index
