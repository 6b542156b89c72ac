"""Saving an owner's SAs, so that a cluster that lost all its members at once comes back (``cluster.journal``).

Theory of operation.  Only the owner's SAs are saved; a member that is not the owner saves a marker, which epoch it has
seen, so that no older owner's file is believed later.  A change of ownership writes the marker first.  An owner then
writes a file of all its records, a part with each write, with what changes meanwhile behind it, and puts it in place
when it is complete; from then on changes are appended, until so much has been that a new file is begun beside it in the
same way.  One write is under way at a time, twice a second, in a thread; what it has made durable, and only that,
raises the bounds of sequence numbers (``ipsec.durable``).

Should the disk fail, the member goes on without: the file goes, and it is said; now and then it tries again.  While
the file cannot even be removed its bounds hold, and so they do when the disk does not answer: SAs that come near them
are rekeyed, for the file does not know the new ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

import msgspec

from ipsecha.cluster.journal import Bound, Opening, Seal, Write, pack_bounds
from ipsecha.gateway.core import Gateway
from ipsecha.model.records import ChildSa, encode_record
from ipsecha.model.spi import Entropy

log = logging.getLogger("ipsecha")

_SPI_LENGTH = 8
FLUSH_S = 0.5
PATIENCE_TICKS = 10
"""A write that takes so many flushes may never end: the tunnels must not wait for it."""

PART = 256
"""Records of a new file in one write, and of those that have changed."""

GROWTH = 2
LEAST_GROWTH = 1 << 20
"""A file is written anew when what was appended is so many times what it began with, in octets, and at least that."""


class Disk(Protocol):
    """Where the file is; each call returns when what it has done is there for good, or raises OSError."""

    def replace(self, data: bytes) -> None:
        """The file consists of ``data`` from now on, whatever happens: as a whole, or not at all."""

    def begin(self) -> None:
        """A new file, empty, beside the present one."""

    def append(self, data: bytes, new: bool) -> None:
        """Behind what the present file holds, or the new one."""

    def put_in_place(self) -> None:
        """The new file replaces the present one."""

    def remove(self) -> None: ...


Job = Callable[[], None]
Submit = Callable[[Job, Callable[[OSError | None], None]], None]
"""``submit(job, done)``: has the job done elsewhere and calls ``done`` on the loop, with what went wrong."""


class _File(msgspec.Struct):
    """One that is written to.  ``waiting``: local SPIs of records that are not in it yet; None: it is in its place."""

    seal: Seal
    waiting: Iterator[bytes] | None
    base: int = 0
    size: int = 0


class StateFile:
    """``describe`` says who this member is now; with epoch 0 it has seen no owner yet.  ``note`` hears of each changed
    record."""

    def __init__(
        self,
        gateway: Gateway,
        disk: Disk,
        key: bytes,
        entropy: Entropy,
        describe: Callable[[], Opening],
        submit: Submit,
    ) -> None:
        self._gateway = gateway
        self._disk = disk
        self._key = key
        self._entropy = entropy
        self._describe = describe
        self._submit = submit
        self._files: list[_File] = []
        self._opening: Opening | None = None
        self._dirty: dict[bytes, None] = {}
        self._busy = self._urgent = False
        self._busy_ticks = 0
        self._removed = False  # there is nothing on the disk, after a failure
        self._then: Callable[[], None] | None = None  # once the disk knows of the present ownership
        self.marked = False  # it does
        self.failure = ""  # of the disk, for the operator
        self.writes = 0
        self.octets = 0

    def start(self) -> None:
        self._gateway.plane.await_marker()
        self._gateway.loop.call_later(FLUSH_S, self._tick)

    def note(self, keys: list[bytes]) -> None:
        """The records with these keys have changed, or are gone.  Handshakes of ours are not saved: they begin anew."""
        if self._files:
            self._dirty.update(dict.fromkeys(key for key in keys if len(key) == _SPI_LENGTH))

    def look(self) -> None:
        """The owner may have changed: what is on the disk must not be believed any more."""
        opening = self._describe()
        if not opening.epoch:
            return
        if self._opening is not None and (self._opening.owner, self._opening.epoch) == (opening.owner, opening.epoch):
            return
        self._opening = opening
        self._files.clear()
        self._dirty.clear()
        self._then = None
        self.marked = False
        if not self._removed:
            self._gateway.plane.await_marker()
        self._pump()

    def when_marked(self, then: Callable[[], None]) -> None:
        """Calls ``then`` once the disk knows of the present ownership, or as soon as it is known to fail; not at all
        when the ownership changes before."""
        if self.settled:
            then()
        else:
            self._then = then

    @property
    def settled(self) -> bool:
        """Whether the disk knows who owns the SAs, or will never know."""
        return self.marked or bool(self.failure)

    def use_up(self, then: Callable[[bool], None]) -> None:
        """The records on the disk are about to be used: nobody is to believe them again.  Tells whether that is so."""
        data = self._marker(self._describe())
        self._submit(lambda: self._disk.replace(data), lambda error: then(error is None))

    @property
    def state(self) -> str:
        """For the operator: whether a power failure at this moment would cost SAs."""
        if self.failure:
            return f"failed: {self.failure}"
        if self._busy_ticks >= PATIENCE_TICKS:
            return "the disk does not answer"
        if self._files:
            return "being written" if self._files[0].waiting is not None else "complete"
        if self._opening is None or not self.marked:
            return "not yet"
        return "being written" if self._opening.owner else "marker"

    # Writing

    def _tick(self) -> None:
        self._busy_ticks = self._busy_ticks + 1 if self._busy else 0
        if self.failure or self._busy_ticks >= PATIENCE_TICKS:
            self._gateway.plane.rekey_near()
        if self.failure and not self._removed and not self._busy:
            self._remove()
        self._pump()
        self._gateway.loop.call_later(FLUSH_S, self._tick)

    def _soon(self) -> None:
        """An SA comes near its bound: do not wait for the next tick."""
        if not self._urgent:
            self._urgent = True
            self._gateway.loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Have the next thing written, if nothing is under way."""
        self._urgent = False
        if self._busy or self._opening is None or (self.failure and not self._removed):
            return
        if not self.marked:
            self._mark(self._opening)
        elif not self._opening.owner:
            return
        elif not self._files or (len(self._files) == 1 and _has_grown(self._files[0])):
            self._begin()
        else:
            self._flush()

    def _marker(self, opening: Opening) -> bytes:
        seal = Seal(self._key, self._entropy)
        return seal.beginning + seal.chunk(Write(msgspec.structs.replace(opening, owner=False)))

    def _mark(self, opening: Opening) -> None:
        data = self._marker(opening)
        self._write(lambda: self._disk.replace(data), lambda: self._have_marked(opening))

    def _have_marked(self, opening: Opening) -> None:
        self.marked, self.failure, self._removed = True, "", False
        if opening.owner:
            self._gateway.plane.begin_saving(self._soon)
        else:
            self._gateway.plane.await_marker()
            self._gateway.plane.marked()
        self._go_on()
        self._pump()

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()

    def _begin(self) -> None:
        file = _File(Seal(self._key, self._entropy), iter(list(self._gateway.endpoint.sas)))
        file.size = len(file.seal.beginning)
        self._files.append(file)
        self._write(self._disk.begin, self._pump)

    def _flush(self) -> None:
        """One write to each file: what has changed to both, and a part of the records to a new one."""
        endpoint, plane = self._gateway.endpoint, self._gateway.plane
        new = self._files[-1] if self._files[-1].waiting is not None else None
        changed = [self._dirty.popitem()[0] for _ in range(min(PART, len(self._dirty)))]
        part = _take(new.waiting, PART) if new is not None and new.waiting is not None else []
        records: dict[bytes, bytes | None] = {}
        fresh: list[ChildSa] = []
        bounds: list[Bound] = []
        for spi in (*changed, *part):
            sa = endpoint.sas.peek(spi) if spi in endpoint.sas else None
            records[spi] = None if sa is None else encode_record(sa)
            fresh += () if sa is None else sa.children
        wanted = plane.bounds_to_write(fresh, self._gateway.clock.now())
        if new is not None:
            bounds = plane.bounds_of(fresh)  # those that the other file has already
        ends = new is not None and len(part) < PART and not self._dirty
        jobs: list[Job] = []
        for file in self._files:
            of_part = records if file is new else {spi: records[spi] for spi in changed}
            more = bounds if file is new else []
            self._append(jobs, file, Write(self._opening, tuple(of_part.items()), pack_bounds(more + wanted)))
        if ends:
            jobs.append(self._disk.put_in_place)
        if jobs:
            self._write(lambda: _run(jobs), lambda: self._have_flushed(new if ends else None))
        else:
            self._go_on_looking()

    def _go_on_looking(self) -> None:
        if self._gateway.plane.bounds_left:
            self._gateway.loop.call_soon(self._pump)

    def _append(self, jobs: list[Job], file: _File, write: Write) -> None:
        if not file.base or write.changes or write.bounds:
            begins = file.base == 0
            data = file.seal.chunk(write if begins else msgspec.structs.replace(write, opening=None))
            data = file.seal.beginning + data if begins else data
            file.base = file.base or len(data)
            file.size += len(data)
            is_new = file.waiting is not None
            jobs.append(lambda: self._disk.append(data, is_new))
            self.octets += len(data)

    def _have_flushed(self, complete: _File | None) -> None:
        self.writes += 1
        if complete is not None and complete in self._files:
            complete.waiting = None
            complete.base = complete.size
            self._files = [complete]
        if self._files:
            self._gateway.plane.bounds_written()
            if self._files[-1].waiting is not None or self._dirty:
                self._gateway.loop.call_soon(self._pump)
            else:
                self._go_on_looking()

    def _write(self, job: Job, then: Callable[[], None]) -> None:
        generation = self._opening

        def done(error: OSError | None) -> None:
            self._busy = False
            if error is not None:
                self._give_up(error)
            elif generation is self._opening:
                then()
            else:
                self._pump()

        self._busy = True
        self._submit(job, done)

    def _give_up(self, error: OSError) -> None:
        """What is on the disk grows old and must go; until it has, its bounds hold."""
        if not self.failure:
            log.error("saved state: %s: SAs are not saved any more", error.strerror or error)
        self.failure = error.strerror or str(error)
        self.marked = False
        self._files.clear()
        self._dirty.clear()
        self._go_on()
        if not self._removed:
            self._remove()

    def _remove(self) -> None:
        """Again with each tick where it fails.  A disk that has let go of the file is tried again."""
        self._busy = True
        self._submit(self._disk.remove, self._have_removed)

    def _have_removed(self, error: OSError | None) -> None:
        self._busy = False
        if error is None:
            self._removed = True
            self._gateway.plane.end_saving()


def _run(jobs: list[Job]) -> None:
    for job in jobs:
        job()


def _take(keys: Iterator[bytes], count: int) -> list[bytes]:
    return [key for _, key in zip(range(count), keys, strict=False)]  # in this order: no key is drawn and lost


def _has_grown(file: _File) -> bool:
    return file.waiting is None and file.size - file.base > max(LEAST_GROWTH, GROWTH * file.base)
