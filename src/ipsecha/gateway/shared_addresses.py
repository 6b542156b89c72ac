"""The addresses that the cluster shows to the world: claimed by the owner, announced, and fenced by the kernel.

A claimed address bears a valid lifetime of a few seconds that a living owner keeps renewing: when the process is
killed or hangs, the kernel itself takes the address away, so that a dead member does not go on answering ARP.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import socket
import struct
from functools import partial
from typing import Any, Protocol

import msgspec
from pyroute2.netlink.exceptions import NetlinkError

from ipsecha.dataplane.userspace.netlink import NetlinkThread
from ipsecha.model.errors import DataPlaneError

LIFETIME_S = 3
RENEW_S = 1.0
ANNOUNCE_AT_S = (0.0, 0.05, 0.2, 0.5, 1.1, 2.2)
"""Announcements are repeated: a neighbour may ignore one that comes right after an update (its "locktime")."""

_SIOCGIFFLAGS = 0x8913
_IFF_UP_AND_RUNNING = 0x1 | 0x40
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200
_ETHERTYPE_ARP = 0x0806
_ETHERTYPE_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6


class SharedAddress(msgspec.Struct, frozen=True):
    address: str  # without prefix length
    prefix_length: int
    interface: str


class AddressKeeper(Protocol):
    """How a member takes, keeps and gives back the shared addresses."""

    def claim(self) -> None: ...
    def renew(self) -> None: ...
    def announce(self) -> None: ...
    def release(self) -> None: ...
    def links_up(self) -> bool: ...
    def carriers(self) -> frozenset[str]: ...
    def close(self) -> None: ...


class NoAddresses:
    """For a single gateway, and for clusters on loopback where every address is there already."""

    def claim(self) -> None: ...
    def renew(self) -> None: ...
    def announce(self) -> None: ...
    def release(self) -> None: ...

    def links_up(self) -> bool:
        return True

    def carriers(self) -> frozenset[str]:
        return frozenset()

    def close(self) -> None: ...


class KernelAddresses:
    """Shared addresses on real interfaces, by netlink; announcements by packet socket."""

    def __init__(self, addresses: tuple[SharedAddress, ...], watched: tuple[str, ...]) -> None:
        """``watched``: interfaces whose carrier tells whether this member is connected at all.

        Raises DataPlaneError naming an interface that does not exist.
        """
        self._netlink = NetlinkThread()
        self._addresses = addresses
        self._watched = watched
        self._indexes: dict[str, int] = {}
        for interface in {address.interface for address in addresses} | set(watched):
            found = self._netlink.run(partial(_index_of, interface))
            if not found:
                raise DataPlaneError(f"interface {interface!r} does not exist")
            self._indexes[interface] = found[0]
        self._packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._claimed = False
        self._placed: frozenset[SharedAddress] = frozenset()

    def claim(self) -> None:
        """Put the addresses on; those that are there already are renewed.

        Raises DataPlaneError with the first that the kernel refuses, after the others have been put on.
        """
        self._claimed = True
        try:
            self._netlink.run(self._put_all)
        except (OSError, NetlinkError) as error:
            raise DataPlaneError(f"shared addresses: {error}") from error

    def renew(self) -> None:
        """Keep the kernel from taking the addresses away, without waiting; nothing for a member that has none."""
        if self._claimed:
            self._netlink.start(self._put_all)

    def _put_all(self, netlink: Any) -> None:
        placed, trouble = set(), None
        for address in self._addresses:
            if not self._claimed:
                return
            try:
                self._put(netlink, address)
                placed.add(address)
            except (OSError, NetlinkError) as error:
                trouble = trouble or error
        self._placed = frozenset(placed)
        if trouble is not None:
            raise trouble

    def _put(self, netlink: Any, address: SharedAddress) -> None:
        flags = _IFA_F_NOPREFIXROUTE if address.prefix_length in (32, 128) else 0
        if ":" in address.address:
            flags |= _IFA_F_NODAD
        netlink.addr(
            "replace",
            index=self._indexes[address.interface],
            address=address.address,
            prefixlen=address.prefix_length,
            flags=flags,
            preferred=LIFETIME_S,
            valid=LIFETIME_S,
        )

    def release(self) -> None:
        """Take the addresses off; those that are gone already do not matter.

        Raises DataPlaneError with the first that stays (the kernel takes it off when its lifetime is over).
        """
        self._claimed = False
        self._placed = frozenset()
        try:
            self._netlink.run(self._take_all)
        except (OSError, NetlinkError) as error:
            raise DataPlaneError(f"shared addresses: {error}") from error

    def _take_all(self, netlink: Any) -> None:
        trouble = None
        for address in self._addresses:
            try:
                netlink.addr(
                    "del",
                    index=self._indexes[address.interface],
                    address=address.address,
                    prefixlen=address.prefix_length,
                )
            except NetlinkError as error:
                if error.code not in (errno.ENODEV, errno.EADDRNOTAVAIL):
                    trouble = trouble or error
        if trouble is not None:
            raise trouble

    def announce(self) -> None:
        """Gratuitous ARP (request and reply form) and unsolicited neighbour advertisement for every address that is on
        an interface with carrier."""
        for address in self._placed:
            if self._carrier(address.interface):
                # should the link go away between the look and the send, the next round tries again
                with contextlib.suppress(OSError):
                    self._announce(address)

    def _announce(self, address: SharedAddress) -> None:
        mac = self._mac(address.interface)
        frames = (
            (_neighbour_advertisement(mac, address.address),)
            if ":" in address.address
            else _gratuitous_arp(mac, address.address)
        )
        for frame in frames:
            self._packets.sendto(frame, (address.interface, 0))

    def links_up(self) -> bool:
        """Whether any watched interface has carrier; a member with none distrusts itself first."""
        return any(self._carrier(interface) for interface in self._watched)

    def carriers(self) -> frozenset[str]:
        """The interfaces with shared addresses that have carrier."""
        return frozenset(filter(self._carrier, {address.interface for address in self._addresses}))

    def _carrier(self, interface: str) -> bool:
        request = struct.pack("16sH14x", interface.encode(), 0)
        try:
            answer = fcntl.ioctl(self._probe, _SIOCGIFFLAGS, request)
        except OSError:
            return False
        flags: int = struct.unpack_from("16xH", answer)[0]
        return flags & _IFF_UP_AND_RUNNING == _IFF_UP_AND_RUNNING

    def _mac(self, interface: str) -> bytes:
        request = struct.pack("16s24x", interface.encode())
        answer = fcntl.ioctl(self._probe, 0x8927, request)  # SIOCGIFHWADDR
        return bytes(answer[18:24])

    def close(self) -> None:
        self._netlink.close()
        self._packets.close()
        self._probe.close()


def _index_of(interface: str, netlink: Any) -> list[int]:
    found: list[int] = netlink.link_lookup(ifname=interface)
    return found


def _gratuitous_arp(mac: bytes, address: str) -> tuple[bytes, bytes]:
    """An ARP announcement (RFC 5227 section 3) as request and as reply: stacks differ in which they heed."""
    ip = ipaddress.ip_address(address).packed
    ethernet = _BROADCAST + mac + struct.pack(">H", _ETHERTYPE_ARP)
    fixed = struct.pack(">HHBB", 1, 0x0800, 6, 4)
    request = ethernet + fixed + struct.pack(">H", 1) + mac + ip + bytes(6) + ip
    reply = ethernet + fixed + struct.pack(">H", 2) + mac + ip + mac + ip
    return request, reply


def _neighbour_advertisement(mac: bytes, address: str) -> bytes:
    """An unsolicited neighbour advertisement to all nodes with the override flag (RFC 4861 section 7.2.6)."""
    source = ipaddress.ip_address(address).packed
    destination = ipaddress.ip_address("ff02::1").packed
    body = struct.pack(">BBHI", 136, 0, 0, 0x20000000) + source + b"\x02\x01" + mac
    pseudo = source + destination + struct.pack(">II", len(body), 58) + body
    total = sum(struct.unpack(f">{len(pseudo) // 2}H", pseudo))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    body = body[:2] + struct.pack(">H", ~total & 0xFFFF) + body[4:]
    ip_header = struct.pack(">IHBB", 0x60000000, len(body), 58, 255) + source + destination
    ethernet = b"\x33\x33\x00\x00\x00\x01" + mac + struct.pack(">H", _ETHERTYPE_IPV6)
    return ethernet + ip_header + body
