"""The file of saved state on a real disk, written by a thread of its own; and how it is read back at the start."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ipsecha.cluster.journal import Opening, Saved, read_saved
from ipsecha.model.errors import ClusterError

_MODE = 0o600
NEW = ".new"


def open_private(path: Path) -> int:
    """A new file that only its owner can read, instead of whatever is at ``path``: nothing is followed from there, and
    nobody has it open.  Raises OSError."""
    path.unlink(missing_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, _MODE)


class FileDisk:
    """Implements ``state_file.Disk``; used by one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = path.with_name(path.name + NEW)
        self._file = self._next = -1

    def replace(self, data: bytes) -> None:
        self.begin()
        self.append(data, new=True)
        self.put_in_place()

    def begin(self) -> None:
        self._close_next()
        self._next = open_private(self._new)

    def append(self, data: bytes, new: bool) -> None:
        file = self._next if new else self._file
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.fdatasync(file)

    def put_in_place(self) -> None:
        os.rename(self._new, self._path)
        self._sync_directory()
        if self._file >= 0:
            os.close(self._file)
        self._file, self._next = self._next, -1

    def remove(self) -> None:
        self._close_next()
        for path in (self._path, self._new):
            path.unlink(missing_ok=True)
        self._sync_directory()

    def close(self) -> None:
        self._close_next()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _close_next(self) -> None:
        if self._next >= 0:
            os.close(self._next)
            self._next = -1

    def _sync_directory(self) -> None:
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class DiskThread:
    """Does the jobs of a ``StateFile`` one after the other."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor = ThreadPoolExecutor(1, "saved-state")
        self._closed = False

    def submit(self, job: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        if self._closed:
            return

        def work() -> None:
            error: OSError | None = None
            try:
                job()
            except OSError as problem:
                error = problem
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(done, error)

        self._executor.submit(work)

    def close(self) -> None:
        """What has been given is done; nothing more is taken."""
        self._closed = True
        self._executor.shutdown()


def read_file(path: Path, key: bytes, cluster: str, member: str) -> Saved | None:
    """What was saved at ``path``; None where there is nothing.  Raises ClusterError with the reason where it is not
    to be relied on, or is another member's; OSError where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # a FIFO must not hang the start
            raise ClusterError("it is not a regular file")
        data = file.read()
    saved = read_saved(data, key)
    if (saved.opening.cluster, saved.opening.member) != (cluster, member):
        whose: Opening = saved.opening
        raise ClusterError(f"it is that of {whose.member!r} of the cluster {whose.cluster!r}")
    return saved
