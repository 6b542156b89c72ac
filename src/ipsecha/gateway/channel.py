"""The synch channel between two members: TCP, TLS 1.3, mutual certificates of the cluster's own CA.

The member with the higher index dials, the other listens, so that there is at most one channel.  After a loss *both*
knock at the other's port: a live host that refuses the connection is proof that the process behind it is dead
(DESIGN section 3, "pair"); a knock that is accepted proves nothing and is hung up before the TLS handshake.

Frames travel with a 4-octet length in front; what is inside is the business of ``ipsecha.cluster``.

Strangers.  A connection that does not come from the partner's address is closed before TLS begins, and so is one more
than PENDING_LIMIT that are still shaking hands: whoever fills them slows a reconnection down, no more.  All of it is
counted, and told at a limited rate.  Until TLS has named the partner, nothing touches the established channel.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import struct
from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

from ipsecha.gateway.listener import Listener
from ipsecha.model.records import Address

MAX_FRAME = 16 * 1024 * 1024
FIRST_REDIAL_S = 0.004
LAST_REDIAL_S = 0.25
"""The pause between attempts doubles: while a process is dying its port may still accept for a moment, and the refusal
that follows is the proof that a takeover waits for."""
CONNECT_TIMEOUT_S = 0.5
HANDSHAKE_TIMEOUT_S = 5.0
PENDING_LIMIT = 16
BACKLOG = 16
STEADY_S = 1.0
"""A channel that did not live so long was no channel: the pause before the next attempt goes on growing."""
TELL_S = 60.0
_LENGTH = struct.Struct(">I")


class LossReason(Enum):
    """What is known about a channel that is down."""

    LOST = "lost"  # closed or reset; says nothing about the other member yet
    REFUSED = "refused"  # its live host refused the connection: the process is dead


class ChannelConfig(msgspec.Struct, frozen=True):
    listen: Address
    partner: Address
    partner_name: str  # common name of the partner's certificate
    dials: bool  # this member has the higher index
    certificate: str
    private_key: str
    ca: str


class ChannelEvents(msgspec.Struct, frozen=True):
    """What the gateway wants to be called for."""

    up: Callable[[], None]
    down: Callable[[LossReason], None]
    frame: Callable[[bytes], None]
    refused_peer: Callable[[str], None]  # somebody without the right certificate knocked; the text says who


def tls_context(config: ChannelConfig, *, server: bool) -> ssl.SSLContext:
    """As the settings of a channel say."""
    return cluster_tls(config.certificate, config.private_key, config.ca, server=server)


def cluster_tls(certificate: str, private_key: str, ca: str, *, server: bool) -> ssl.SSLContext:
    """TLS 1.3 only, both sides must show a certificate of the cluster's CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the name is a member's, not a host's: _Link compares it
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, private_key)
    context.load_verify_locations(ca)
    return context


class SynchChannel:
    """Keeps one authenticated connection to the partner up and cuts its octets into frames."""

    def __init__(self, config: ChannelConfig, events: ChannelEvents) -> None:
        self._config = config
        self._events = events
        self._link: _Link | None = None
        self._listener = Listener(config.listen, BACKLOG, self._accepted)
        self._pending: set[asyncio.Task[None]] = set()
        self._told_at = -TELL_S
        self._pause_s = FIRST_REDIAL_S
        self._up_at = 0.0
        self._dialler: asyncio.Task[None] | None = None
        self._server_tls = tls_context(config, server=True)
        self._client_tls = tls_context(config, server=False)
        self.frames_sent = 0
        self.frames_received = 0
        self.bytes_sent = 0
        self.bytes_received = 0
        self.refused_peers = 0

    @property
    def is_up(self) -> bool:
        return self._link is not None

    async def start(self) -> None:
        """Listen and begin to look for the partner.  Raises OSError when the address cannot be bound."""
        self._listener.open()
        self.seek()

    async def stop(self) -> None:
        self._listener.close()
        for pending in tuple(self._pending):
            pending.cancel()
        if self._dialler is not None:
            self._dialler.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._dialler
            self._dialler = None
        link, self._link = self._link, None
        if link is not None and link.transport is not None:
            link.transport.close()

    def send(self, frame: bytes) -> None:
        """Queue one frame; without a connection it is dropped (the cluster core knows from ``down``)."""
        if self._link is not None and self._link.transport is not None:
            self.frames_sent += 1
            self.bytes_sent += len(frame) + _LENGTH.size
            self._link.transport.write(_LENGTH.pack(len(frame)) + frame)

    def reset(self) -> None:
        """Hang up, as after a frame that made no sense; the channel is built anew."""
        if self._link is not None and self._link.transport is not None:
            self._link.transport.abort()

    # Accepting

    def _accepted(self, raw: socket.socket, host: str) -> None:
        if not self.take(raw, host):
            raw.close()
            self.refuse(f"a connection from {host}, which is not the partner's address")

    def take(self, raw: socket.socket, host: str) -> bool:
        """A connection that came in from ``host``; whether that is the partner's."""
        if not _same_host(host, self._config.partner[0]):
            return False
        if len(self._pending) >= PENDING_LIMIT:
            raw.close()
            self.refuse(f"more than {PENDING_LIMIT} connections that do not get done with TLS")
        else:
            raw.setblocking(False)
            task = asyncio.get_running_loop().create_task(self._shake_hands(raw))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
        return True

    async def _shake_hands(self, raw: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Link(self), raw, ssl=self._server_tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S
            )
        except ssl.SSLError as error:
            self.refuse(f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}")
        except (ConnectionResetError, BrokenPipeError):
            pass  # a knock of the partner ends like that, too
        except OSError:
            self.refuse("a connection that did not get done with TLS in time")

    def refuse(self, why: str) -> None:
        """Count somebody who is not the partner, and tell of it now and then."""
        self.refused_peers += 1
        now = asyncio.get_running_loop().time()
        if now >= self._told_at + TELL_S:
            self._told_at = now
            self._events.refused_peer(f"{why} ({self.refused_peers} refused so far)")

    # Dialling

    def seek(self) -> None:
        """Look for the partner until it is found."""
        if self._dialler is None or self._dialler.done():
            self._dialler = asyncio.get_running_loop().create_task(self._dial_until_up())

    async def _dial_until_up(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() >= self._up_at + STEADY_S:
            self._pause_s = FIRST_REDIAL_S
        while self._link is None:
            try:
                await self._attempt(loop)
            except Exception as fault:  # whatever it is, somebody has to go on looking for the partner
                loop.call_exception_handler({"message": "looking for the partner", "exception": fault})
            if self._link is None:
                await asyncio.sleep(self._pause_s)
                self._pause_s = min(2 * self._pause_s, LAST_REDIAL_S)

    async def _attempt(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._knock(loop)
        except ConnectionRefusedError:
            self._events.down(LossReason.REFUSED)
        except (OSError, ssl.SSLError, TimeoutError):
            pass  # silence: the heartbeats decide what it means

    async def _knock(self, loop: asyncio.AbstractEventLoop) -> None:
        raw = socket.socket(socket.AF_INET6 if ":" in self._config.partner[0] else socket.AF_INET, socket.SOCK_STREAM)
        raw.setblocking(False)
        try:
            raw.bind((self._config.listen[0], 0))
            await loop.sock_connect(raw, self._config.partner)
        except BaseException:
            raw.close()
            raise
        if not self._config.dials:
            raw.close()  # the partner lives and will dial
            return
        await loop.create_connection(lambda: _Link(self), sock=raw, ssl=self._client_tls, server_hostname="")

    def link_up(self, link: _Link, name: str) -> bool:
        """A TLS connection is complete; returns whether it becomes the channel."""
        if name != self._config.partner_name:
            self.refuse(f"certificate of {name[:80]!r}, expected {self._config.partner_name!r}")
            return False
        previous, self._link = self._link, link
        self._up_at = asyncio.get_running_loop().time()
        if previous is not None and previous.transport is not None:
            previous.transport.abort()  # the partner came back before we saw that it was gone
            self._events.down(LossReason.LOST)
        self._events.up()
        return True

    def link_down(self, link: _Link) -> None:
        if link is self._link:
            self._link = None
            self.seek()
            self._events.down(LossReason.LOST)

    def frame_received(self, link: _Link, frame: bytes) -> None:
        if link is self._link:
            self.frames_received += 1
            self.bytes_received += len(frame) + _LENGTH.size
            self._events.frame(frame)


class _Link(asyncio.Protocol):
    """One TLS connection, dialled or accepted."""

    def __init__(self, channel: SynchChannel) -> None:
        self._channel = channel
        self._buffer = bytearray()
        self._accepted = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3000)
        transport.set_write_buffer_limits(high=64 * 1024 * 1024)
        self._accepted = self._channel.link_up(self, common_name_of(transport.get_extra_info("peercert")))
        if not self._accepted:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._channel.link_down(self)

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        if not self._accepted:
            return
        buffer = self._buffer
        buffer += data
        offset = 0
        while len(buffer) - offset >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, offset)
            if length > MAX_FRAME:
                self.transport.abort()
                buffer.clear()
                return
            end = offset + _LENGTH.size + length
            if len(buffer) < end:
                break
            self._channel.frame_received(self, bytes(buffer[offset + _LENGTH.size : end]))
            offset = end
        if offset:
            del buffer[:offset]


def _same_host(one: str, other: str) -> bool:
    return ipaddress.ip_address(one.partition("%")[0]) == ipaddress.ip_address(other.partition("%")[0])


def common_name_of(certificate: dict[str, Any] | None) -> str:
    for relative_name in (certificate or {}).get("subject", ()):
        for key, value in relative_name:
            if key == "commonName":
                return str(value)
    return ""
