"""Disks that lose, tear and refuse what is written to them: what the saved state of a simulated member stands on."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulation.clockwork import Process
    from simulation.world import World

Job = Callable[[], None]
Done = Callable[[OSError | None], None]
Operation = tuple[str, bytes, bool]


class SimulatedDisk:
    """Implements ``gateway.state_file.Disk``, and the thread in front of it: one job at a time, each takes a while.

    What a job does is on the disk when it is done.  Where the process or the power ends in the middle, some of it is:
    the first so many operations, and of an append the first octets, with anything behind them.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.present: bytes | None = None
        self.latency_s = 0.005
        self.failure_chance = 0.0
        self.present_failures = 0  # jobs that have failed
        self._new = b""
        self._jobs: deque[tuple[Process, Job, Done]] = deque()
        self._doing: tuple[Process, list[Operation], Done] | None = None
        self._turn = 0
        self._operations: list[Operation] = []

    # What the product calls, inside a job

    def replace(self, data: bytes) -> None:
        self._operations += [("begin", b"", False), ("append", data, True), ("put", b"", False)]

    def begin(self) -> None:
        self._operations.append(("begin", b"", False))

    def append(self, data: bytes, new: bool) -> None:
        self._operations.append(("append", data, new))

    def put_in_place(self) -> None:
        self._operations.append(("put", b"", False))

    def remove(self) -> None:
        self._operations.append(("remove", b"", False))

    # The thread

    def submitter(self, process: Process) -> Callable[[Job, Done], None]:
        self._cut()

        def submit(job: Job, done: Done) -> None:
            process.act()
            self._jobs.append((process, job, done))
            if self._doing is None:
                self._begin()

        return submit

    def _begin(self) -> None:
        while self._jobs:
            process, job, done = self._jobs.popleft()
            if not process.alive:
                continue
            self._operations = []
            job()
            self._doing = process, self._operations, done
            self._turn += 1
            self.world.timeline.at(self.world.timeline.jitter(self.latency_s), self._end, self._turn)
            return

    def _end(self, turn: int) -> None:
        if turn != self._turn or self._doing is None:
            return
        process, operations, done = self._doing
        if not process.alive:
            self._cut()
            return
        error: OSError | None = None
        if self.world.random.random() < self.failure_chance:
            self.present_failures += 1
            self._partly([operation for operation in operations if operation[0] != "remove"])
            error = OSError(self.world.random.choice((errno.ENOSPC, errno.EIO)), "no space, or no disk")
        else:
            for operation in operations:
                self._do(*operation)
        self._doing = None
        process.run(done, error)
        self._begin()

    def _cut(self) -> None:
        """The process that had something written is no more."""
        if self._doing is not None:
            self._turn += 1
            operations, self._doing = self._doing[1], None
            self._partly(operations)
        self._jobs.clear()

    def settle(self) -> None:
        """After the end of the process: what is on the disk is what it is."""
        self._cut()

    def lose(self) -> None:
        self._cut()
        self.present, self._new = None, b""

    def _partly(self, operations: list[Operation]) -> None:
        chance = self.world.random
        done = chance.randint(0, len(operations))
        for operation in operations[:done]:
            self._do(*operation)
        for kind, data, new in operations[done : done + 1]:
            if kind == "append":
                kept = chance.randint(0, len(data))
                self._do(kind, data[:kept] + chance.choice((b"", bytes(len(data) - kept))), new)

    def _do(self, kind: str, data: bytes, new: bool) -> None:
        if kind == "begin":
            self._new = b""
        elif kind == "append" and new:
            self._new += data
        elif kind == "append":
            self.present = (self.present or b"") + data
        elif kind == "put":
            self.present, self._new = self._new, b""
        else:
            self.present, self._new = None, b""
