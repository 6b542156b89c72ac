"""A member that can be told to die at an exact step of an exchange: between any two effects of the IKE core.

Run in place of ``ipsecha run``.  At SIGUSR1 it reads ``die-at`` beside its member file, a number, and from then on
counts the steps of IKE exchanges: each commit to the backup, each datagram, each child SA put in or taken out.  Behind
the step of that number it kills itself (SIGKILL), as a crash there would.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipsecha.gateway import daemon
from ipsecha.model.effects import InstallChild, RemoveChild, Transmit

DIE_AT = "die-at"
STEPS = (Transmit, InstallChild, RemoveChild)


class Countdown:
    """``left``: steps to go; negative while nobody counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.left = -1

    def begin(self, *ignored: object) -> None:
        self.left = int(self._path.read_text())
        self._die_if_due()

    def step(self) -> None:
        if self.left > 0:
            self.left -= 1
            self._die_if_due()

    def _die_if_due(self) -> None:
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _counted(countdown: Countdown, action: Callable[..., Any]) -> Callable[..., Any]:
    def act(*arguments: Any) -> Any:
        result = action(*arguments)
        countdown.step()
        return result

    return act


def run() -> None:
    """The entry point of the member's process; its last argument is the member's file."""
    countdown = Countdown(Path(sys.argv[-1]).parent / DIE_AT)
    signal.signal(signal.SIGUSR1, countdown.begin)
    made = daemon.Daemon.__init__

    def make(self: daemon.Daemon, *arguments: Any) -> None:
        made(self, *arguments)
        gateway = self.gateway
        for kind in STEPS:
            gateway._actions[kind] = _counted(countdown, gateway._actions[kind])
        if self.side is not None:
            self.side.commit = _counted(countdown, self.side.commit)  # type: ignore[method-assign]

    daemon.Daemon.__init__ = make  # type: ignore[assignment, method-assign]
    sys.exit(daemon.run(sys.argv[-1]))
