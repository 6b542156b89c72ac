"""The IKE endpoint: all IKE SAs of one owner, their tables and timers, and the way in for everything that happens.

Theory of operation.  Every public call is one *step*.  Within a step the exchanges' code changes SAs in place and says
what follows from it: ``touch`` (the record goes to the backups), ``emit`` (install, update, remove, report) and
``transmit``.  The step ends by putting these in the order of output commit: replicate, install, transmit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from ipsecha.crypto.credentials import Credentials
from ipsecha.ike.timers import Timers
from ipsecha.model.effects import Effect, RemoveChild, Replicate, Report, Transmit, Withdraw
from ipsecha.model.policy import Connection, Policy
from ipsecha.model.records import Address, IkeSa
from ipsecha.model.spi import Entropy, new_esp_spi, new_ike_spi, slot_of_ike_spi

INFO, WARNING, ERROR = 20, 30, 40


class IkeEndpoint:
    """IKE SAs in both roles, for the slots that one member owns or backs up."""

    def __init__(
        self,
        policy: Policy,
        credentials: Credentials,
        entropy: Entropy,
        *,
        wall_clock: Callable[[], float],
        slots: Sequence[int] = (0,),
    ) -> None:
        self.policy = policy
        self.credentials = credentials
        self.entropy = entropy
        self.wall_clock = wall_clock
        self.slots = tuple(slots)
        self.active = False
        self.incarnation = 0
        self.now = 0.0  # of the step that runs
        self.sas: dict[bytes, IkeSa] = {}
        self.child_index: dict[int, bytes] = {}
        self.timers = Timers()
        self.counters: dict[str, int] = defaultdict(int)
        self._connections = {connection.name: connection for connection in policy.connections}
        self._effects: list[Effect] = []
        self._touched: dict[bytes, IkeSa | None] = {}
        self._emitted: list[Effect] = []
        self._transmits: list[Transmit] = []

    # What the exchanges' code may use

    def emit(self, effect: Effect) -> None:
        """Install, update, remove, report: carried out after the step's replication, before its messages."""
        self._emitted.append(effect)

    def touch(self, sa: IkeSa) -> None:
        """The record of ``sa`` has changed: one Replicate at the end of this step, however often it is touched."""
        self._touched[sa.local_spi] = sa

    def transmit(
        self, datagrams: tuple[bytes, ...], local: Address, remote: Address, *, stateless: bool = False
    ) -> None:
        self._transmits.append(Transmit(datagrams, local, remote, stateless))

    def report(self, event: str, text: str, connection: str = "", level: int = INFO) -> None:
        self._emitted.append(Report(event, text, connection, level))

    def count(self, event: str) -> None:
        """One more of ``event``: what is dropped is counted, not reported."""
        self.counters[event] += 1

    def add_sa(self, sa: IkeSa) -> None:
        """A new IKE SA (from IKE_AUTH or a rekey) with the children that it has: tables, timers, replication.

        Children that it takes over from another IKE SA change hands in the index; the caller emits UpdateChild.
        """
        spi = sa.local_spi
        self.sas[spi] = sa
        for child in sa.children:
            self.child_index[child.spi_in] = spi
        self.touch(sa)
        self.rearm(sa)

    def remove_sa(self, sa: IkeSa) -> None:
        """The IKE SA is gone: Withdraw, RemoveChild for the children it still has, no more timers."""
        spi = sa.local_spi
        self.sas.pop(spi, None)
        self.timers.cancel(spi)
        for child in sa.children:
            self.child_index.pop(child.spi_in, None)
            self._emitted.append(RemoveChild(child.spi_in))
        self._touched[spi] = None

    def new_ike_spi(self, sa: IkeSa | None = None) -> bytes:
        """A fresh local IKE SPI; in the slot of ``sa`` when that is to be rekeyed."""
        slot = slot_of_ike_spi(sa.local_spi) if sa is not None else self.slots[0]
        return new_ike_spi(slot, self.entropy, self.sas)

    def new_child_spi(self, local_spi: bytes) -> int:
        """A fresh inbound ESP SPI in the slot of the IKE SA with this local SPI.

        It is reserved in ``child_index`` until ``children.install`` or ``release_child_spi``.
        """
        spi = new_esp_spi(slot_of_ike_spi(local_spi), self.entropy, self.child_index)
        self.child_index[spi] = local_spi
        return spi

    def release_child_spi(self, spi: int) -> None:
        """The child SA that ``spi`` was meant for did not come about."""
        self.child_index.pop(spi, None)

    def connection_of(self, sa: IkeSa) -> Connection | None:
        """The configured connection of ``sa``; None after a reload that took it away."""
        return self._connections.get(sa.connection)

    def jittered(self, seconds: float) -> float:
        """``seconds`` less 5 to 10 per cent, so that the two peers do not rekey at the same moment."""
        return seconds * (0.90 + 0.05 * self.entropy(1)[0] / 255)

    def rearm(self, sa: IkeSa) -> None:
        """Arm the timer of ``sa`` for its next deadline (retransmission, rekey, expiry, liveness, waiting task).

        To be called when a deadline has come nearer; those that move away take care of themselves.
        """

    def child_lost(self, sa: IkeSa, name: str) -> None:
        """A child SA of ``sa`` is gone; if the policy wants it always up and no other carries its traffic, it is
        brought up again."""

    # The way in

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

    def records(self) -> Iterator[IkeSa]:
        """All records, for a snapshot."""
        return iter(tuple(self.sas.values()))
