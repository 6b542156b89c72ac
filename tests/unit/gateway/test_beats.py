"""Heartbeats as an attack surface: what is forged, replayed or foreign neither counts as life nor does harm."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from functools import partial

from channel_ends import ALPHA, BETA, STRANGER, free_port, until
from ipsecha.cluster.detector import Beat, BeatListener, seal_beat
from ipsecha.gateway.beats import MAX_BEAT, BeatPath, Beats

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
BOOT = b"boot of beta ..."
MISSED = 3


def beat(number: int, key: bytes = KEY, boot: bytes = BOOT, epoch: int = 16) -> bytes:
    return seal_beat(Beat(boot, number, epoch, True, 2, 1000.0 + number), key)


class Listening:
    """Alpha listens for beta's beats on two paths."""

    def __init__(self) -> None:
        port = free_port()
        self.ports = {"synch": port, "lan": port + 1}
        self.listener = BeatListener(MISSED)
        self.listener.expect(BOOT, KEY)
        self.opened: list[Beat] = []
        self.came = 0
        paths = [BeatPath(name, (ALPHA, number), (BETA, number)) for name, number in self.ports.items()]
        self.beats = Beats((path, partial(self._received, path.name)) for path in paths)

    def _received(self, path: str, data: bytes) -> None:
        self.came += 1
        found = self.listener.open(path, data)
        if found is not None:
            self.opened.append(found)

    def make_silent(self) -> None:
        for _ in range(MISSED + 1):
            self.listener.tick()
        assert self.listener.silent

    async def send(self, datagrams: list[bytes], source: str = BETA, path: str = "synch") -> None:
        """Datagrams to alpha from beta's port on ``source``; returns when alpha has seen them all."""
        port, expected = self.ports[path], self.came + self.beats.foreign + len(datagrams)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((source, port))
            for datagram in datagrams:
                sock.sendto(datagram, (ALPHA, port))
        await until(lambda: self.came + self.beats.foreign == expected)


def play(scene: Callable[[Listening], Awaitable[None]]) -> None:
    async def played() -> None:
        loop = asyncio.get_running_loop()
        listening = Listening()
        listening.beats.start(loop)
        try:
            await scene(listening)
        finally:
            listening.beats.stop(loop)

    asyncio.run(played())


def test_fresh_beats_count() -> None:
    async def scene(alpha: Listening) -> None:
        alpha.make_silent()
        await alpha.send([beat(1), beat(2)])
        await alpha.send([beat(2)], path="lan")
        assert [one.counter for one in alpha.opened] == [1, 2, 2]
        assert not alpha.listener.silent

    play(scene)


def test_forged_beats_have_no_effect() -> None:
    """Under another key, of another process, cut short, spoiled or too long."""

    async def scene(alpha: Listening) -> None:
        good = beat(9)
        rng = random.Random(1)
        forged = [beat(9, OTHER_KEY), beat(9, bytes(32)), beat(9, boot=b"boot of another."), b"", b"\0" * MAX_BEAT * 4]
        forged += [good[:cut] for cut in range(len(good))]
        for place in range(len(good)):
            spoiled = bytearray(good)
            spoiled[place] ^= 1 << rng.randrange(8)
            forged.append(bytes(spoiled))
        alpha.make_silent()
        before = alpha.listener.refused
        await alpha.send(forged)
        assert alpha.opened == []
        assert alpha.listener.silent
        assert alpha.listener.refused == before + len(forged)
        await alpha.send([good])
        assert not alpha.listener.silent

    play(scene)


def test_foreign_datagrams_are_not_even_looked_at() -> None:
    async def scene(alpha: Listening) -> None:
        alpha.make_silent()
        await alpha.send([beat(number) for number in range(1, 40)], STRANGER)
        assert alpha.beats.foreign == 39
        assert alpha.came == 0
        assert alpha.listener.silent

    play(scene)


def test_replayed_beats_do_not_keep_the_dead_alive() -> None:
    """On the path that they came by, and on one that they never came by: not for longer than a member may be silent."""

    async def scene(alpha: Listening) -> None:
        recorded = [beat(number) for number in range(1, 60)]
        await alpha.send(recorded)
        alpha.make_silent()
        alpha.opened.clear()
        await alpha.send(recorded)
        assert alpha.opened == []
        assert alpha.listener.silent
        await alpha.send(recorded, path="lan")
        assert [one.counter for one in alpha.opened] == list(range(59 - MISSED, 60))

    play(scene)


def test_no_beat_counts_before_the_partner_has_said_its_key() -> None:
    listener = BeatListener(MISSED)
    assert listener.open("synch", seal_beat(Beat(b"", 1, 0, False, 0, 0.0), b"")) is None
    assert listener.refused == 1
