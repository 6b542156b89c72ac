"""The synch channel as an attack surface: whoever is not the partner is refused and counted, and has no effect."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from channel_ends import ALPHA, BETA, STRANGER, Members, hung_up, until
from ipsecha.gateway import channel as channel_module
from ipsecha.gateway.channel import MAX_FRAME, PENDING_LIMIT, LossReason
from ipsecha.lab.pki import Authority

Scene = Callable[[Members], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    """Plays a scene with an established channel; at its end the channel still carries frames, unless it was stopped."""

    async def played(scene: Scene) -> None:
        members = Members(tmp_path)
        await members.start()
        try:
            await scene(members)
        finally:
            await members.stop()

    return lambda scene: asyncio.run(played(scene))


async def unharmed(members: Members) -> None:
    """The channel is the one that it was."""
    await members.exchange()
    assert (members.alpha.ups, members.beta.ups) == (1, 1)
    assert LossReason.LOST not in members.alpha.downs


async def refused(members: Members, count: int, *, context: ssl.SSLContext | None = None, first: bytes = b"") -> None:
    """Somebody at the partner's address dials with ``context`` and is refused."""
    try:
        reader, writer = await members.dial(context)
    except (OSError, ssl.SSLError):
        pass
    else:
        writer.write(first)
        await hung_up(reader)
        writer.close()
    await until(lambda: members.alpha.channel.refused_peers >= count)
    await unharmed(members)


def test_frames_pass_both_ways(play: Callable[[Scene], None]) -> None:
    async def scene(members: Members) -> None:
        frames = [bytes((number,)) * size for number, size in enumerate((0, 1, 3, 4, 5, 70_000, MAX_FRAME))]
        for frame in frames:
            members.alpha.channel.send(frame)
        await until(lambda: len(members.beta.frames) == len(frames))
        assert members.beta.frames == frames

    play(scene)


def test_a_stranger_without_a_certificate(play: Callable[[Scene], None]) -> None:
    async def scene(members: Members) -> None:
        context = members.paper("nobody").client(show=False)
        await refused(members, 1, context=context, first=struct.pack(">I", MAX_FRAME + 1))

    play(scene)


def test_a_certificate_of_another_authority(play: Callable[[Scene], None]) -> None:
    async def scene(members: Members) -> None:
        await refused(members, 1, context=members.paper("beta", Authority("Cluster")).client(), first=b"\0\0\0\1x")

    play(scene)


@pytest.mark.parametrize("name", ["gamma", "alpha", "BETA", "beta.example"])
def test_the_right_authority_and_another_name(play: Callable[[Scene], None], name: str) -> None:
    """Somebody else of the same cluster's CA, even we ourselves, is not the partner; not a single frame is read."""

    async def scene(members: Members) -> None:
        for number in range(3):
            await refused(members, number + 1, context=members.paper(name).client(), first=b"\xff\xff\xff\xff")
        assert members.alpha.frames == [b"a frame"] * 3
        assert len(members.alpha.refused) == 1, "one line a minute, however often somebody knocks"
        assert repr(name) in members.alpha.refused[0]

    play(scene)


def test_tls_1_2_is_refused(play: Callable[[Scene], None]) -> None:
    async def scene(members: Members) -> None:
        await refused(members, 1, context=members.papers["beta"].client(ssl.TLSVersion.TLSv1_2))

    play(scene)


@pytest.mark.parametrize("latest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_whoever_dials_accepts_no_older_version_either(tmp_path: Path, latest: ssl.TLSVersion) -> None:
    """No downgrade: with the partner's own certificate, and all it is asked for, TLS 1.2 is not spoken."""

    async def scene() -> None:
        members = Members(tmp_path)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(members.papers["alpha"].certificate, members.papers["alpha"].private_key)
        context.maximum_version = latest
        knocks = 0
        greeted: list[asyncio.StreamWriter] = []

        async def knocked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal knocks
            knocks += 1
            try:
                await writer.start_tls(context)
            except (OSError, ssl.SSLError):
                return
            greeted.append(writer)

        server = await asyncio.start_server(knocked, ALPHA, members.port)
        await members.beta.channel.start()
        try:
            if latest is ssl.TLSVersion.TLSv1_3:
                await until(lambda: bool(greeted) and members.beta.channel.is_up)
                return
            await until(lambda: knocks >= 3)
            assert not members.beta.channel.is_up
            assert not greeted
        finally:
            await members.beta.channel.stop()
            server.close()

    asyncio.run(scene())


@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\n\r\n", bytes(400), b"\x16\x03\x01\xff\xff" + bytes(70_000)])
def test_plain_octets_are_refused(play: Callable[[Scene], None], octets: bytes) -> None:
    async def scene(members: Members) -> None:
        await refused(members, 1, first=octets)

    play(scene)


def test_other_addresses_are_turned_away_before_tls(play: Callable[[Scene], None]) -> None:
    """Even with the partner's own certificate: it is the partner's address that may connect."""

    async def scene(members: Members) -> None:
        for number in range(50):
            try:
                reader, writer = await members.dial(None, STRANGER)
            except ConnectionResetError:
                continue
            await hung_up(reader)
            writer.close()
            assert members.alpha.channel.refused_peers == number + 1
        assert not members.alpha.channel._pending
        with pytest.raises((OSError, ssl.SSLError)):
            await members.dial(members.papers["beta"].client(), STRANGER)
        await unharmed(members)

    play(scene)


def test_slow_lorises_are_limited_and_time_out(play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections from the partner's own address that never get done: few are kept, and none for long."""
    monkeypatch.setattr(channel_module, "HANDSHAKE_TIMEOUT_S", 0.3)

    async def scene(members: Members) -> None:
        dialled = [await members.dial(None) for _ in range(PENDING_LIMIT * 3)]
        assert len(members.alpha.channel._pending) <= PENDING_LIMIT
        for _, writer in dialled:
            writer.write(b"\x16")  # the first octet of a TLS record, and no more
        await unharmed(members)
        await until(lambda: members.alpha.channel.refused_peers == len(dialled) and not members.alpha.channel._pending)
        for reader, writer in dialled:
            await hung_up(reader)
            writer.close()
        await unharmed(members)

    play(scene)


def test_half_open_connections_leave_nothing_behind(play: Callable[[Scene], None]) -> None:
    """Connected and reset at once, as by a port scanner or the partner's own knocks."""

    async def scene(members: Members) -> None:
        for number in range(200):
            sock = socket.socket()
            if number % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.setblocking(False)
            sock.bind((BETA, 0))
            await asyncio.get_running_loop().sock_connect(sock, (ALPHA, members.port))
            sock.close()
        await until(lambda: not members.alpha.channel._pending)
        await unharmed(members)

    play(scene)


def test_a_giant_length_ends_the_connection_that_sent_it(play: Callable[[Scene], None]) -> None:
    """From the partner itself it is a fault: the channel is built anew."""

    async def scene(members: Members) -> None:
        link = members.beta.channel._link
        assert link is not None
        assert link.transport is not None
        link.transport.write(struct.pack(">I", MAX_FRAME + 1) + b"x" * 1000)
        await until(lambda: members.alpha.ups == 2 and members.beta.ups == 2)
        assert members.alpha.frames == []
        await members.exchange()

    play(scene)


def test_a_second_connection_of_the_partner_replaces_the_first(play: Callable[[Scene], None]) -> None:
    """It came back before we saw that it was gone; and its frames are cut at every octet, and arrive whole."""

    async def scene(members: Members) -> None:
        frames = [b"", b"x", b"frame" * 9, bytes(300)]
        octets = b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)
        await members.beta.channel.stop()
        _, writer = await members.dial(members.papers["beta"].client())
        await until(lambda: members.alpha.ups == 2)
        for cut in range(len(octets) + 1):
            for part in (octets[:cut], octets[cut:]):
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0)
        for octet in octets:
            writer.write(bytes((octet,)))
        await until(lambda: len(members.alpha.frames) == len(frames) * (len(octets) + 2))
        assert members.alpha.frames == frames * (len(octets) + 2)
        assert LossReason.LOST in members.alpha.downs
        writer.close()

    play(scene)


def test_a_partner_that_restarts(play: Callable[[Scene], None]) -> None:
    """Its death is proved by its live host's refusal, and its return is a new channel."""

    async def scene(members: Members) -> None:
        for number in range(3):
            members.alpha.downs.clear()
            await members.beta.channel.stop()
            await until(lambda: LossReason.REFUSED in members.alpha.downs)
            assert members.alpha.downs[0] is LossReason.LOST
            members.beta = members.another_beta()
            await members.beta.channel.start()
            await until(lambda number=number: members.alpha.ups == number + 2)  # type: ignore[misc]
            await members.exchange()
        assert members.alpha.channel.refused_peers == 0, "a partner's knocks are no strangers"

    play(scene)


def test_a_fault_in_a_callback_does_not_end_the_search(play: Callable[[Scene], None]) -> None:
    async def scene(members: Members) -> None:
        seen: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: seen.append(context.get("exception")))

        def fail(reason: LossReason) -> None:
            raise ZeroDivisionError

        members.alpha.channel._events = type(members.alpha.channel._events)(
            members.alpha._up, fail, members.alpha.frames.append, members.alpha.refused.append
        )
        await members.beta.channel.stop()
        await until(lambda: len(seen) > 2)
        members.beta = members.another_beta()
        await members.beta.channel.start()
        await until(lambda: members.alpha.channel.is_up and members.beta.channel.is_up)
        await members.exchange()

    play(scene)
