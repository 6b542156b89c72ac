"""Shared addresses: one that the kernel refuses is in nobody's way."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from pyroute2.netlink.exceptions import NetlinkError

from ipsecha.gateway import shared_addresses
from ipsecha.gateway.shared_addresses import KernelAddresses, SharedAddress
from ipsecha.model.errors import DataPlaneError

OUTSIDE = SharedAddress("192.0.2.1", 24, "outside")
INSIDE = SharedAddress("2001:db8::1", 64, "inside")


class Kernel:
    """Instead of the netlink thread and of the packet socket."""

    def __init__(self) -> None:
        self.refused: dict[str, int] = {}
        self.addresses: set[str] = set()
        self.announced: list[str] = []

    def run(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    start = run

    def link_lookup(self, ifname: str) -> list[int]:
        return [1]

    def addr(self, command: str, address: str, **more: object) -> None:
        if address in self.refused:
            raise NetlinkError(self.refused[address])
        (self.addresses.discard if command == "del" else self.addresses.add)(address)

    def sendto(self, frame: bytes, interface: tuple[str, int]) -> None:
        if interface[0] in self.refused:
            raise OSError(self.refused[interface[0]], "refused")
        self.announced.append(interface[0])


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    monkeypatch.setattr(shared_addresses, "NetlinkThread", lambda: made)
    monkeypatch.setattr(shared_addresses.socket, "socket", lambda *arguments: made)
    monkeypatch.setattr(KernelAddresses, "_carrier", lambda self, interface: True)
    monkeypatch.setattr(KernelAddresses, "_mac", lambda self, interface: bytes(6))
    return made


@pytest.fixture
def keeper(kernel: Kernel) -> KernelAddresses:
    return KernelAddresses((OUTSIDE, INSIDE), ())


def test_an_address_that_cannot_be_put_on_keeps_no_other_away(kernel: Kernel, keeper: KernelAddresses) -> None:
    kernel.refused[OUTSIDE.address] = errno.ENODEV
    with pytest.raises(DataPlaneError, match="shared addresses"):
        keeper.claim()
    assert kernel.addresses == {INSIDE.address}
    keeper.announce()
    assert kernel.announced == ["inside"]
    kernel.refused.clear()
    keeper.renew()
    assert kernel.addresses == {OUTSIDE.address, INSIDE.address}


def test_an_address_that_cannot_be_taken_off_keeps_no_other_on(kernel: Kernel, keeper: KernelAddresses) -> None:
    keeper.claim()
    kernel.refused[OUTSIDE.address] = errno.EPERM
    with pytest.raises(DataPlaneError, match="shared addresses"):
        keeper.release()
    assert kernel.addresses == {OUTSIDE.address}


def test_what_has_been_released_is_neither_renewed_nor_announced(kernel: Kernel, keeper: KernelAddresses) -> None:
    keeper.claim()
    keeper.release()
    keeper.renew()
    keeper.announce()
    assert kernel.addresses == set()
    assert kernel.announced == []


def test_a_link_that_goes_away_in_the_middle_of_an_announcement_is_no_fault(
    kernel: Kernel, keeper: KernelAddresses
) -> None:
    keeper.claim()
    kernel.refused["outside"] = errno.ENXIO
    keeper.announce()
    assert set(kernel.announced) == {"inside"}
