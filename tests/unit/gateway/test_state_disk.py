"""The file of saved state on a real disk: what is synced when, who may read it, and whose it is; and what happens when
the disk fails, is slow, or the owner changes in mid-write."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ipsecha.cluster.journal import Opening, Seal, Write, read_saved
from ipsecha.gateway import state_disk
from ipsecha.gateway.state_disk import FileDisk, read_file
from ipsecha.gateway.state_file import PATIENCE_TICKS, StateFile
from ipsecha.model.errors import ClusterError

KEY = bytes(range(32))
OWNER = Opening("office", "alpha", True, 0x120, 0x100, 0x130)


def _file(opening: Opening = OWNER) -> bytes:
    seal = Seal(KEY, os.urandom)
    return seal.beginning + seal.chunk(Write(opening))


# The disk


def test_a_file_is_for_its_owner_only(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "state")
    disk.replace(_file())
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_octets_are_synced_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments: (done.append(name), call(*arguments))[1]

    for name in ("write", "fdatasync", "rename", "fsync"):
        monkeypatch.setattr(state_disk.os, name, watched(name, getattr(os, name)))
    FileDisk(tmp_path / "state").replace(b"octets")
    assert done == ["write", "fdatasync", "rename", "fsync"]


def test_what_is_appended_follows_the_file_that_is_in_place(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path / "state")
    disk.replace(b"one")
    disk.begin()
    disk.append(b" and more", new=False)
    disk.append(b"two", new=True)
    assert (tmp_path / "state").read_bytes() == b"one and more"
    disk.put_in_place()
    disk.append(b"!", new=False)
    assert (tmp_path / "state").read_bytes() == b"two!"
    disk.remove()
    assert not list(tmp_path.iterdir())
    disk.close()


def test_a_directory_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        FileDisk(tmp_path / "nowhere" / "state").replace(b"octets")


@pytest.mark.parametrize(("cluster", "member"), [("office", "beta"), ("home", "alpha")])
def test_another_members_file_is_refused(tmp_path: Path, cluster: str, member: str) -> None:
    FileDisk(tmp_path / "state").replace(_file())
    with pytest.raises(ClusterError, match="it is that of 'alpha' of the cluster 'office'"):
        read_file(tmp_path / "state", KEY, cluster, member)


def test_no_file_is_no_error(tmp_path: Path) -> None:
    assert read_file(tmp_path / "state", KEY, "office", "alpha") is None


# What writes to it


class Plane:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.bounds_left = False

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.told.append(name) or []


class Bench:
    """A state file, whose disk does what it is told when it is told to."""

    def __init__(self) -> None:
        self.timers: list[Callable[[], None]] = []
        self.plane = Plane()
        loop = SimpleNamespace(
            call_later=lambda delay, action: self.timers.append(action),
            call_soon=lambda action: self.timers.append(action),
        )
        clock = SimpleNamespace(now=lambda: 0.0)
        gateway = SimpleNamespace(
            loop=loop, clock=clock, plane=self.plane, endpoint=SimpleNamespace(sas={}), wake=lambda: None
        )
        self.opening = OWNER
        self.jobs: list[tuple[Callable[[], None], Callable[[OSError | None], None]]] = []
        self.replaced: list[bytes] = []
        self.removed = 0
        self.failing = False
        self.file = StateFile(
            gateway, self, KEY, os.urandom, lambda: self.opening, lambda job, done: self.jobs.append((job, done))
        )  # type: ignore[arg-type]
        self.file.start()

    def replace(self, data: bytes) -> None:
        self.replaced.append(data)

    def begin(self) -> None: ...
    def append(self, data: bytes, new: bool) -> None: ...
    def put_in_place(self) -> None: ...

    def remove(self) -> None:
        self.removed += 1

    def work(self, error: OSError | None = None) -> None:
        """The disk does what it has been given first."""
        job, done = self.jobs.pop(0)
        if error is None:
            job()
        done(error)

    def tick(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            timer()


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


def test_the_marker_comes_first_and_numbers_stay_in_their_margins_until_then() -> None:
    bench = Bench()
    assert bench.plane.told == ["await_marker"]
    bench.file.look()
    assert not bench.file.marked
    assert "begin_saving" not in bench.plane.told
    bench.work()
    assert not read_saved(bench.replaced[0], KEY).opening.owner
    assert bench.file.marked
    assert bench.plane.told[-1] == "begin_saving"


def test_a_marker_of_a_former_ownership_is_not_taken_for_the_present_one() -> None:
    bench = Bench()
    bench.file.look()
    bench.opening = msgspec.structs.replace(OWNER, epoch=0x140)
    bench.file.look()
    bench.work()
    assert not bench.file.marked
    bench.work()
    assert bench.file.marked
    assert read_saved(bench.replaced[-1], KEY).opening.epoch == 0x140


def test_bounds_hold_until_a_file_that_grows_old_is_gone() -> None:
    bench = Bench()
    bench.file.look()
    bench.work()
    bench.work(NO_SPACE)
    assert bench.file.state == "failed: No space left on device"
    assert "end_saving" not in bench.plane.told
    bench.work(NO_SPACE)
    assert "end_saving" not in bench.plane.told
    bench.tick()
    assert "rekey_near" in bench.plane.told
    bench.work()
    assert bench.removed == 1
    assert bench.plane.told[-1] == "end_saving"


def test_a_disk_that_works_again_is_used_again() -> None:
    bench = Bench()
    bench.file.look()
    bench.work(NO_SPACE)
    bench.work()  # the file is removed
    bench.tick()
    bench.work()
    assert bench.file.marked
    assert not bench.file.failure


def test_the_tunnels_do_not_wait_for_a_disk_that_does_not_answer() -> None:
    bench = Bench()
    bench.file.look()
    for _ in range(PATIENCE_TICKS + 1):
        bench.tick()
    assert bench.file.state == "the disk does not answer"
    assert "rekey_near" in bench.plane.told


def test_busy_sas_are_looked_at_in_several_turns() -> None:
    """Until all have been: with a write where there is something to write, and without one."""
    bench = Bench()
    bench.file.look()
    bench.work()  # the marker
    bench.work()  # the new file is begun
    bench.work()  # its first write, which is its last
    bench.plane.told.clear()
    bench.timers.clear()
    bench.plane.bounds_left = True
    bench.file._pump()
    for _ in range(3):
        assert len(bench.timers) == 1
        bench.tick()
    bench.plane.bounds_left = False
    bench.tick()
    assert not bench.timers
    assert bench.plane.told.count("bounds_to_write") == 5


def test_a_join_ends_when_the_disk_knows_its_owner_or_never_will() -> None:
    bench, ended = Bench(), []
    bench.file.look()
    bench.file.when_marked(lambda: ended.append(1))
    assert not ended
    bench.work()
    assert ended == [1]
    other = Bench()
    other.file.look()
    other.file.when_marked(lambda: ended.append(2))
    other.work(NO_SPACE)
    assert ended == [1, 2]


@pytest.mark.parametrize("error", [None, NO_SPACE])
def test_a_file_is_used_up_before_it_is_used(error: OSError | None) -> None:
    bench, answers = Bench(), []
    bench.file.use_up(answers.append)
    assert answers == []
    bench.work(error)
    assert answers == [error is None]
