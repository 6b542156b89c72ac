"""One step of an endpoint: what follows from it, and in which order.

Theory of operation.  Within a step the exchanges' code changes SAs in place and says what follows from it: ``touch``
(the record goes to the backups), ``emit`` (install, update, remove, report) and ``transmit``.  The step ends by putting
these in the order of output commit: replicate, install, transmit.
"""

from __future__ import annotations

from collections import defaultdict

from ipsecha.ike.limits import TokenBucket
from ipsecha.ike.tables import Tables
from ipsecha.model.effects import Effect, Replicate, ReplicateInitiation, Report, Transmit, Withdraw
from ipsecha.model.records import Address, IkeSa
from ipsecha.model.spi import Entropy

INFO, WARNING, ERROR = 20, 30, 40
LAST_RESPONSES = 256
REPORT_RATE, REPORT_BURST = 1.0, 20.0


class Step(Tables):
    """What the step that runs has yielded so far, and what is to be carried out of the steps before."""

    def __init__(self, entropy: Entropy) -> None:
        super().__init__(entropy)
        self.now = 0.0  # of the step that runs
        self.counters: dict[str, int] = defaultdict(int)
        self.reports: dict[str, TokenBucket] = {}  # by event: a flood of one kind hides no other
        self.last_responses: dict[bytes, tuple[bytes, ...]] = {}  # of IKE SAs that are gone, by their request's digest
        self._effects: list[Effect] = []
        self._touched: dict[bytes, IkeSa | None] = {}
        self._emitted: list[Effect] = []
        self._transmits: list[Effect] = []

    def emit(self, effect: Effect) -> None:
        """Install, update, remove, report: carried out after the step's replication, before its messages."""
        self._emitted.append(effect)

    def touch(self, sa: IkeSa) -> None:
        """The record of ``sa`` has changed: one Replicate at the end of this step, however often it is touched; in the
        order of the last touches, so that child SAs which change hands never seem to be gone."""
        self._touched.pop(sa.local_spi, None)
        self._touched[sa.local_spi] = sa

    def withdraw(self, local_spi: bytes) -> None:
        """The IKE SA is gone: a Withdraw at the end of this step."""
        self._touched[local_spi] = None

    def replicate_initiation(self, effect: ReplicateInitiation) -> None:
        """A handshake of ours has come so far that the backups must know, or is over."""
        self._effects.append(effect)

    def transmit(
        self, datagrams: tuple[bytes, ...], local: Address, remote: Address, *, stateless: bool = False
    ) -> None:
        self._transmits.append(Transmit(datagrams, local, remote, stateless))

    def report(self, event: str, text: str, connection: str = "", level: int = INFO) -> None:
        self._emitted.append(Report(event, text, connection, level))

    def report_stranger(self, event: str, text: str, connection: str = "", level: int = WARNING) -> None:
        """Report what anybody can cause: at a limited rate, always counted."""
        self.counters[event] += 1
        bucket = self.reports.get(event)
        if bucket is None:
            bucket = self.reports[event] = TokenBucket(REPORT_RATE, REPORT_BURST)
        if bucket.take(self.now):
            self._emitted.append(Report(event, text, connection, level))

    def count(self, event: str) -> None:
        """One more of ``event``: what is dropped is counted, not reported."""
        self.counters[event] += 1

    def remember_last_response(self, digest: bytes, datagrams: tuple[bytes, ...]) -> None:
        """The last response of an IKE SA that is gone or never came about: its request may come again."""
        if len(self.last_responses) >= LAST_RESPONSES:
            del self.last_responses[next(iter(self.last_responses))]
        self.last_responses[digest] = datagrams

    @property
    def has_effects(self) -> bool:
        return bool(self._effects)

    def take_effects(self) -> list[Effect]:
        """What is to be done since the last call, in order."""
        effects, self._effects = self._effects, []
        return effects

    def end_step(self) -> None:
        """Order what the step yielded: replicate, install, transmit."""
        effects = self._effects
        if self._touched:
            for spi, sa in self._touched.items():
                effects.append(Withdraw(spi) if sa is None else Replicate(sa))
            self._touched.clear()
        if self._emitted:
            effects += self._emitted
            self._emitted.clear()
        if self._transmits:
            effects += self._transmits
            self._transmits.clear()
