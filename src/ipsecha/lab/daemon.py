"""A daemon of the lab: a context manager that starts a process, waits until it serves, and ends it by its id."""

from __future__ import annotations

import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from ipsecha.lab.processes import LabError, stop, tail


class Daemon(ABC):
    """``called``: its name for readers.  ``outputs``: the files that show why it did not start; the last is its log."""

    log_lines = 100
    """So many of the log go with an error that passes through here."""

    def __init__(self, called: str, *outputs: Path) -> None:
        self.called = called
        self.log = outputs[-1]
        self._outputs = outputs
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            error.add_note(f"--- log of {self.called} ---\n{tail(self.log, self.log_lines)}")

    @abstractmethod
    def _spawn(self) -> subprocess.Popen[bytes]: ...

    @abstractmethod
    def _serves(self) -> bool:
        """Whether it is there for others."""

    def start(self, timeout_s: float = 15.0) -> None:
        """Starts the daemon and waits until it serves.  Raises LabError with what it has written if it does not."""
        self._process = self._spawn()
        deadline = time.monotonic() + timeout_s
        while not self._serves():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise LabError("\n".join([f"{self.called} did not start:", *map(tail, self._outputs)]))
            time.sleep(0.02)

    def stop(self) -> None:
        """Ends the daemon in an orderly way, if it runs."""
        if self._process is not None:
            stop(self._process)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> float:
        """Kills the daemon (SIGKILL), so that it says goodbye to nobody; returns when, as CLOCK_MONOTONIC."""
        assert self._process is not None
        at = time.monotonic()
        self._process.kill()
        self._process.wait()
        return at
