"""What an endpoint knows from its policy, and what follows from that alone: connections by name, pauses, memos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipsecha.crypto.credentials import Credentials
from ipsecha.ike.candidates import Candidates
from ipsecha.ike.negotiation import SuiteMemo
from ipsecha.ike.step import Step
from ipsecha.model.policy import Connection, Policy
from ipsecha.model.records import IkeSa
from ipsecha.model.spi import Entropy

if TYPE_CHECKING:
    from ipsecha.ike.auth import FirstSelectors

JITTER_STOCK = 64


class Configured(Step):
    """All of it is made anew at a reload."""

    def __init__(self, entropy: Entropy, policy: Policy, credentials: Credentials) -> None:
        super().__init__(entropy)
        self._jitter = b""  # drawn, not yet used
        self.set_policy(policy, credentials)

    def set_policy(self, policy: Policy, credentials: Credentials) -> None:
        self.policy = policy
        self.credentials = credentials
        self.suites = SuiteMemo()
        self.candidates = Candidates(policy)
        self.narrowed: dict[tuple[str, bytes, bytes], FirstSelectors | None] = {}
        self._connections = {connection.name: connection for connection in policy.connections}
        self._backoff: dict[tuple[str, int], float] = {}

    def connection_of(self, sa: IkeSa) -> Connection | None:
        """The configured connection of ``sa``; None after a reload that took it away."""
        return self._connections.get(sa.connection)

    def connection_named(self, name: str) -> Connection | None:
        return self._connections.get(name)

    def jittered(self, seconds: float) -> float:
        """``seconds`` less 5 to 10 per cent, so that the two peers do not rekey at the same moment."""
        if not self._jitter:
            self._jitter = self.entropy(JITTER_STOCK)
        octet, self._jitter = self._jitter[-1], self._jitter[:-1]
        return seconds * (0.90 + 0.05 * octet / 255)

    def backoff(self, connection: str, tries: int) -> float:
        """The seconds from a request's first transmission to its repetition number ``tries`` (the first is 1)."""
        key = (connection, tries)
        pause = self._backoff.get(key)
        if pause is None:
            configured = self._connections.get(connection)
            first = configured.retransmit_timeout_s if configured is not None else 1.0
            factor = configured.retransmit_factor if configured is not None else 1.7
            pause = self._backoff[key] = sum(first * factor**number for number in range(tries))
        return pause
