"""An owner of many IKE SAs with a child SA each, in a gateway that notes its commits; nobody acknowledges them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from ike_pair import Entropy, Pair
from ipsecha.gateway.commands import Commands
from ipsecha.gateway.core import Gateway
from ipsecha.gateway.output_commit import Changes
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.identity import parse_identity
from ipsecha.model.records import IkeSa, LeaseEntry, decode_record, encode_record


def owner_of(total: int) -> IkeEndpoint:
    """An active endpoint with ``total`` IKE SAs of the connection "site", each of another peer, all of them octets; the
    child SA number N receives under the SPI 1000 + N."""
    pair = Pair()
    pair.establish()
    side = pair.right.endpoint
    record = encode_record(pair.right.sa)
    endpoint = IkeEndpoint(side.policy, side.credentials, Entropy("owner"), wall_clock=side.wall_clock)
    for number in range(total):
        sa = decode_record(record)
        sa.spi_i, sa.spi_r = own_spi(number)[::-1], own_spi(number)
        sa.remote_id = parse_identity(f"peer{number}.example.net")
        sa.children[0].spi_in = 1000 + number
        endpoint.adopt(sa)
        endpoint.sas.freeze(sa.local_spi)
    endpoint.activate(9, pair.now)
    while endpoint.next_timer() == pair.now:
        endpoint.handle_timer(pair.now)
    endpoint.take_effects()
    return endpoint


def own_spi(number: int) -> bytes:
    return (number + 1).to_bytes(8, "big")


class NotingCluster:
    """``commits``: the keys of each.  ``events``: what happens behind the commit of this number, in the same turn."""

    def __init__(self) -> None:
        self.commits: list[list[bytes]] = []
        self.events: dict[int, Callable[[], object]] = {}

    def commit(self, changes: Changes) -> int:
        self.commits.append([key for key, _ in changes])
        return len(self.commits)

    def extend(self, entries: Sequence[LeaseEntry], now: float) -> None: ...

    def share(self, state: bytes) -> None: ...

    def carry_out(self, now: float) -> bool:
        event = self.events.pop(len(self.commits), None)
        if event is not None:
            event()
        return False

    def next_timer(self) -> float:
        return float("inf")

    def handle_timer(self, now: float) -> None: ...


class Office:
    """The operator's way in to a gateway that owns these SAs."""

    def __init__(self, endpoint: IkeEndpoint) -> None:
        self.endpoint = endpoint
        self.cluster = NotingCluster()
        self.member = SimpleNamespace(owns=True, partner_name="beta")
        self.gateway: Gateway
        self.commands: Commands

    def run(self, work: Callable[[Office], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """In an event loop of its own."""

        async def main() -> dict[str, Any]:
            now = self.endpoint.now
            self.gateway = Gateway(
                asyncio.get_running_loop(), cast(Any, SimpleNamespace(now=lambda: now)), self.endpoint
            )
            self.gateway.cluster = self.cluster
            side: Any = SimpleNamespace(member=self.member)
            self.commands = Commands(self.gateway, side, cast(Any, None), lambda: None)
            try:
                return await work(self)
            finally:
                await asyncio.sleep(0)
                self.gateway.stop()

        return asyncio.run(main())

    def ask(self, command: str, **arguments: str) -> dict[str, Any]:
        return self.run(lambda office: office.commands(command, arguments))

    def sas(self) -> list[IkeSa]:
        return list(self.endpoint.sas.values())
