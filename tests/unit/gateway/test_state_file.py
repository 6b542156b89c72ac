"""The file of saved state: what is durable when, and what a file that was cut off, damaged or forged is worth."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.cluster.journal import MAGIC, Opening, Seal, Write, pack_bounds, read_saved
from ipsecha.gateway.state_disk import DiskThread, FileDisk, read_file
from ipsecha.model.errors import ClusterError

KEY = bytes(range(32))
OPENING = Opening("office", "alpha", True, 0x120, 0x100, 0x130)


def entropy(count: int) -> bytes:
    return bytes(range(count))


def _file(*writes: Write) -> tuple[bytes, list[int]]:
    """The octets, and where each chunk begins."""
    seal = Seal(KEY, entropy)
    data, starts = seal.beginning, []
    for write in writes:
        starts.append(len(data))
        data += seal.chunk(write)
    return data, starts


FIRST = Write(OPENING, ((b"initiato", b"one"), (b"responde", b"two")), pack_bounds([(1, 10, 20), (2, 30, 40)]))
SECOND = Write(None, ((b"initiato", b"new"), (b"responde", None)), pack_bounds([(1, 50, 60)]))


def test_later_writes_supersede_earlier_ones() -> None:
    data, _ = _file(FIRST, SECOND)
    saved = read_saved(data, KEY)
    assert saved.opening == OPENING
    assert saved.records == {b"initiato": b"new"}
    assert saved.bounds == {1: (50, 60), 2: (30, 40)}
    assert not saved.torn


@given(st.data())
def test_a_file_that_was_cut_off_is_as_good_as_it_was_a_moment_before(data: Any) -> None:
    octets, starts = _file(FIRST, SECOND)
    cut = data.draw(st.integers(starts[1] + 1, len(octets) - 1))
    tail = data.draw(st.sampled_from([b"", bytes(300), b"\xff" * 50]))  # what the disk had there before
    saved = read_saved(octets[:cut] + tail, KEY)
    assert saved.torn
    assert saved.records == {b"initiato": b"one", b"responde": b"two"}
    assert saved.bounds == {1: (10, 20), 2: (30, 40)}


@given(st.data())
def test_damage_in_the_middle_is_refused(data: Any) -> None:
    """What is missing had been relied on: numbers may have been used up to a bound that is not there any more."""
    octets, starts = _file(FIRST, SECOND, SECOND)
    at = data.draw(st.integers(starts[1], starts[2] - 1))
    damaged = octets[:at] + bytes((octets[at] ^ data.draw(st.integers(1, 255)),)) + octets[at + 1 :]
    with pytest.raises(ClusterError, match="chunk 1 is damaged"):
        read_saved(damaged, KEY)


def test_another_key_opens_nothing() -> None:
    data, _ = _file(FIRST)
    with pytest.raises(ClusterError, match="another key"):
        read_saved(data, bytes(32))


@given(st.binary(max_size=200))
def test_arbitrary_octets_are_refused(octets: bytes) -> None:
    for data in (octets, MAGIC + octets):
        with pytest.raises(ClusterError):
            read_saved(data, KEY)


def test_nothing_of_the_records_is_readable() -> None:
    data, _ = _file(Write(OPENING, ((b"initiato", b"SECRET KEYS"),)))
    assert b"SECRET" not in data
    assert b"office" not in data
    assert "SECRET" not in repr(read_saved(data, KEY)) + repr(FIRST)


def test_two_files_never_share_a_key() -> None:
    """The salt is fresh for each file: the nonces, counters, may begin anew (invariant I1)."""
    one, other = Seal(KEY, lambda count: bytes(count)), Seal(KEY, lambda count: b"\1" * count)
    assert one.chunk(FIRST)[16:] != other.chunk(FIRST)[16:]


def test_a_disk_that_is_closed_takes_nothing_more() -> None:
    """The daemon ends one thing after the other, and what ends later may still change the ownership."""

    async def play() -> list[str]:
        done: list[str] = []
        thread = DiskThread(asyncio.get_running_loop())
        thread.submit(lambda: done.append("written"), lambda error: thread.submit(lambda: None, lambda error: None))
        thread.close()
        await asyncio.sleep(0)
        thread.submit(lambda: done.append("too late"), lambda error: done.append("told"))
        await asyncio.sleep(0)
        return done

    faults: list[object] = []

    async def watched() -> list[str]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        return await play()

    assert asyncio.run(watched()) == ["written"]
    assert not faults


def test_a_fifo_does_not_hang_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state")
    with pytest.raises(ClusterError, match="not a regular file"):
        read_file(tmp_path / "state", KEY, "office", "alpha")
    assert read_file(tmp_path / "nothing", KEY, "office", "alpha") is None


def test_a_new_file_is_nobody_elses(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "state.new").symlink_to(victim)
    disk = FileDisk(tmp_path / "state")
    disk.replace(b"sealed")
    disk.close()
    assert victim.read_text() == "precious"
    assert (tmp_path / "state").read_bytes() == b"sealed"
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o600
