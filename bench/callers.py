"""Peers that call at a steady pace while a member is busy with something else.

Their own CPU is kept apart: on a real network it is not the gateway's.  Seconds are those of this process's CPU, which
never rests: as many peers call, and they wait as long, as if it had a core to itself.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from itertools import count

from bench import clients
from bench.clients import BATCH, Sent
from ipsecha.gateway.core import Gateway
from ipsecha.ike.endpoint import IkeEndpoint
from ipsecha.model.effects import Transmit
from ipsecha.model.records import Address

Timed = Callable[[Callable[..., object]], Callable[..., None]]

AT_ONCE = 64
"""Datagrams that a socket's reader takes in one callback of the event loop, like the data plane's."""


class Callers:
    """One of them begins a handshake every ``1 / per_s`` seconds (0: nobody does), whether or not those before it have
    been answered.

    What they send goes in as a socket's reader would bring it, with the gateway's turn right behind it: ``timed`` makes
    that a pause.  What comes out is what output commit has let go.
    """

    def __init__(self, gateway: Gateway, first: int, timed: Timed, per_s: float) -> None:
        self.begun = self.completed = 0
        self.longest_s = 0.0  # of a handshake, from the first datagram to the last
        self.cpu_s = 0.0  # of the peers
        self._gateway = gateway
        self._read = timed(gateway.read)
        self._interval_s = 1 / per_s if per_s else math.inf
        self._numbers = count(first)
        self._crowd: list[tuple[IkeEndpoint, int]] = []  # who has not called yet; last first
        self._calling: dict[str, tuple[IkeEndpoint, float]] = {}  # by address: since when
        self._to_gateway: Sent = []
        self._from_gateway: deque[Transmit] = deque()
        self._due = math.inf
        if per_s:
            gateway.plane.send_ike = self._answered  # type: ignore[method-assign]
            self._gather()

    def start(self) -> None:
        """New ones call from now on."""
        self._due = time.process_time() + self._interval_s

    def stop(self) -> None:
        """No new ones call; those that have begun go on."""
        self._due = math.inf

    def step(self) -> bool:
        """What the peers do by now."""
        began = time.process_time()
        self._hear()
        now = time.process_time()
        while self._due <= now:
            self._due += self._interval_s
            self._begin(now)
        self.cpu_s += time.process_time() - began
        while self._to_gateway:
            self._read(self._drain)
        return True

    @property
    def under_way(self) -> int:
        return len(self._calling)

    def _gather(self) -> None:
        """More peers, well before they call."""
        numbers = [next(self._numbers) for _ in range(BATCH)]
        endpoint = clients.crowd(numbers[0], BATCH)
        self._crowd = [(endpoint, number) for number in reversed(numbers)]

    def _begin(self, now: float) -> None:
        if not self._crowd:
            self._gather()
        endpoint, number = self._crowd.pop()
        endpoint.initiate(clients.caller(number), None, clients.NOW)
        self._calling[clients.address(number, 100)] = endpoint, now
        self.begun += 1
        self._send(endpoint)

    def _send(self, endpoint: IkeEndpoint) -> None:
        self._to_gateway += clients.datagrams(endpoint.take_effects())

    def _hear(self) -> None:
        while self._from_gateway:
            answer = self._from_gateway.popleft()
            calling = self._calling.get(answer.remote[0])
            if calling is None:
                continue
            endpoint, since = calling
            before = len(endpoint.sas)
            for datagram in answer.datagrams:
                endpoint.receive(datagram, answer.remote, answer.local, clients.NOW)
            self._send(endpoint)
            if len(endpoint.sas) > before:
                del self._calling[answer.remote[0]]
                self.completed += 1
                self.longest_s = max(self.longest_s, time.process_time() - since)

    def _drain(self) -> None:
        now, self._to_gateway = self._to_gateway[:AT_ONCE], self._to_gateway[AT_ONCE:]
        for data, source, destination in now:
            self._gateway.on_ike(data, destination, source)

    def _answered(self, datagram: bytes, local: Address, remote: Address) -> None:
        self._from_gateway.append(Transmit((datagram,), local, remote))
