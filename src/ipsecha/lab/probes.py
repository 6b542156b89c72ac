"""Numbered probes both ways through a tunnel, and what they say about a fault: lost, longest gap, time to recover."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from ipsecha.lab.namespaces import Namespace
from ipsecha.lab.prober import ANSWERED, ARRIVED, RECORD, SENT
from ipsecha.lab.processes import LabError, start, stop, tail

PORT = 7007


class Observation(NamedTuple):
    """One side's log: when each probe left, when answers came back, when the other side's probes came in."""

    sent: dict[int, float]
    answered: list[tuple[int, float]]
    arrived: list[tuple[int, float]]


class Report(NamedTuple):
    """What one direction's probes (and their answers, which take the other direction) felt.  Times in seconds."""

    sent: int
    answered: int
    lost: int
    lost_outbound: int  # never arrived at the far side; the rest of the lost were answers
    duplicates: int
    longest_gap_s: float  # between two answers that follow each other
    recovered_s: float | None  # from the fault to the first answer to a probe sent after it; None: never, or no fault
    lost_s: tuple[float, ...] = ()  # when each lost probe was sent, counted from the fault if there was one


def read_log(path: Path) -> Observation:
    """A prober's log so far."""
    seen = Observation({}, [], [])
    data = path.read_bytes() if path.exists() else b""
    for kind, number, at in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size]):
        if kind == SENT:
            seen.sent[number] = at
        elif kind == ANSWERED:
            seen.answered.append((number, at))
        elif kind == ARRIVED:
            seen.arrived.append((number, at))
    return seen


def evaluate(near: Observation, far: Observation, fault_at: float | None = None, since: float = 0.0) -> Report:
    """The report of the probes that ``near`` sent after ``since``; ``far`` saw them arrive."""
    sent = {number: at for number, at in near.sent.items() if at >= since}
    answers = Counter(number for number, _ in near.answered if number in sent)
    arrivals = Counter(number for number, _ in far.arrived if number in sent)
    times = sorted(at for number, at in near.answered if number in sent)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    after = [at for number, at in near.answered if fault_at is not None and near.sent.get(number, 0.0) >= fault_at]
    return Report(
        sent=len(sent),
        answered=len(answers),
        lost=len(sent) - len(answers),
        lost_outbound=len(sent) - len(arrivals),
        duplicates=answers.total() - len(answers) + arrivals.total() - len(arrivals),
        longest_gap_s=max(gaps, default=0.0),
        recovered_s=min(after) - fault_at if after and fault_at is not None else None,
        lost_s=tuple(at - (fault_at or 0.0) for number, at in sent.items() if number not in answers),
    )


class Side(NamedTuple):
    """Where a prober runs.  ``namespace`` None: right here; then packets travel in UDP datagrams between ``near`` and
    the ``gateways`` (``address:port``) and no root is needed."""

    address: str
    namespace: Namespace | None = None
    near: str = ""
    gateways: tuple[str, ...] = ()


class Probes:
    """Probes between two inner hosts, both ways at once, while the context lasts."""

    def __init__(self, a: Side, b: Side, directory: Path, interval_s: float = 0.01, size: int = 64) -> None:
        self._sides = (a, b)
        self._directory = directory
        self._interval_s = interval_s
        self._size = size
        self._logs = (directory / "probes-a.log", directory / "probes-b.log")
        self._consoles = (directory / "prober-a.log", directory / "prober-b.log")
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Probes:
        self._directory.mkdir(parents=True, exist_ok=True)
        for path in self._logs:
            path.unlink(missing_ok=True)
        a, b = self._sides
        self._processes = [self._start(0, a, b), self._start(1, b, a)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            stop(process)

    def _start(self, number: int, near: Side, far: Side) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "ipsecha.lab.prober", "--local", near.address, "--remote", far.address]
        argv += ["--port", str(PORT), "--log", str(self._logs[number])]
        argv += ["--interval", str(self._interval_s), "--size", str(self._size)]
        if near.namespace is not None:
            return near.namespace.start(argv, self._consoles[number])
        return start([*argv, "--near", near.near, "--gateway", *near.gateways], self._consoles[number])

    def observations(self) -> tuple[Observation, Observation]:
        """What both sides have seen so far (written out about every 50 ms)."""
        return read_log(self._logs[0]), read_log(self._logs[1])

    def reports(self, fault_at: float | None = None, since: float = 0.0) -> tuple[Report, Report]:
        """The reports of the probes sent by a and by b after ``since``."""
        a, b = self.observations()
        return evaluate(a, b, fault_at, since), evaluate(b, a, fault_at, since)

    def wait_until_answered(self, timeout_s: float = 20.0, after: float | None = None) -> None:
        """Waits until both sides have got an answer to a probe sent after ``after`` (default: now).

        Raises LabError if that takes longer than ``timeout_s``.
        """
        start_at = time.monotonic() if after is None else after
        deadline = time.monotonic() + timeout_s
        while not all(_flows(seen, start_at) for seen in self.observations()):
            for process, console in zip(self._processes, self._consoles, strict=True):
                if process.poll() is not None:
                    raise LabError(f"a prober ended with code {process.returncode}:\n{tail(console)}")
            if time.monotonic() > deadline:
                raise LabError(f"no answers both ways within {timeout_s:g} s: {self.reports(since=start_at)}")
            time.sleep(0.02)

    def settle(self, patience_s: float = 0.5) -> None:
        """Stops sending and lets what is under way arrive: afterwards, what is missing is lost."""
        for process in self._processes:
            process.send_signal(signal.SIGUSR1)
        time.sleep(patience_s)
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            stop(process)


def _flows(seen: Observation, since: float) -> bool:
    return any(seen.sent.get(number, 0.0) >= since for number, _ in seen.answered[-50:])


def worst(reports: Sequence[Report]) -> Report:
    """Both directions in one line: sums of the counts, the longest of the times."""
    recovered = [report.recovered_s for report in reports]
    return Report(
        sent=sum(report.sent for report in reports),
        answered=sum(report.answered for report in reports),
        lost=sum(report.lost for report in reports),
        lost_outbound=sum(report.lost_outbound for report in reports),
        duplicates=sum(report.duplicates for report in reports),
        longest_gap_s=max(report.longest_gap_s for report in reports),
        recovered_s=None if None in recovered else max(value for value in recovered if value is not None),
    )
