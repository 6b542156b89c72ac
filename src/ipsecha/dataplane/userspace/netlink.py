"""Synchronous netlink from code that runs inside an event loop.

pyroute2's IPRoute drives an event loop of its own and refuses to do so in a thread where one is running already.  It
lives in one worker thread here; a caller waits for it, since what it does (a few messages to the kernel) takes
fractions of a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pyroute2 import IPRoute

_Result = TypeVar("_Result")


class NetlinkThread:
    """One IPRoute in the network namespace of its making."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "netlink")
        self._netlink: Any = self._executor.submit(IPRoute).result()

    def run(self, work: Callable[[Any], _Result]) -> _Result:
        """``work(netlink)`` to its end; raises what it raises (OSError, NetlinkError)."""
        return self._executor.submit(work, self._netlink).result()

    def start(self, work: Callable[[Any], object]) -> None:
        """``work(netlink)`` some time soon; what it raises is lost."""
        self._executor.submit(work, self._netlink)

    def close(self) -> None:
        self._executor.submit(self._netlink.close).result()
        self._executor.shutdown()
