"""A member's connection to the witness: kept up, so that the question and its answer are all that a vote costs.

TLS 1.3 with mutual certificates of the cluster's CA; the witness's bears the common name ``witness``.  Messages travel
with a 2-octet length in front; what is inside is the business of ``ipsecha.cluster.witness``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable

import msgspec

from ipsecha.cluster.witness import MAX_MESSAGE, NAME
from ipsecha.gateway.channel import cluster_tls, common_name_of
from ipsecha.model.records import Address

CONNECT_TIMEOUT_S = 1.0
REDIAL_S = 0.2
LENGTH = struct.Struct(">H")


class WitnessConfig(msgspec.Struct, frozen=True):
    address: Address
    certificate: str
    private_key: str
    ca: str


class WitnessEvents(msgspec.Struct, frozen=True):
    up: Callable[[], None]
    down: Callable[[], None]
    message: Callable[[bytes], None]
    refused: Callable[[str], None]  # somebody at the witness's address is not the witness; once a connection


class WitnessLink:
    """Dials until it is stopped."""

    def __init__(self, config: WitnessConfig, events: WitnessEvents) -> None:
        self._config = config
        self._events = events
        self._tls = cluster_tls(config.certificate, config.private_key, config.ca, server=False)
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._told = ""

    @property
    def is_up(self) -> bool:
        return self._writer is not None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._keep_up())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def send(self, message: bytes) -> None:
        """Without a connection it is dropped: the core repeats what matters."""
        if self._writer is not None:
            self._writer.write(LENGTH.pack(len(message)) + message)

    def reset(self) -> None:
        """Hang up; a new connection follows."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def _keep_up(self) -> None:
        while True:
            try:
                await self._connection()
            except (OSError, ssl.SSLError, TimeoutError, asyncio.IncompleteReadError):
                pass  # silence or a refusal: the core counts what is not answered
            except Exception as fault:  # whatever it is, the next vote needs a connection
                context = {"message": "talking to the witness", "exception": fault}
                asyncio.get_running_loop().call_exception_handler(context)
            finally:
                self._hang_up()
            await asyncio.sleep(REDIAL_S)

    async def _connection(self) -> None:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                *self._config.address, ssl=self._tls, server_hostname="", limit=4 * MAX_MESSAGE
            )
        name = common_name_of(writer.get_extra_info("peercert"))
        if name != NAME:
            writer.transport.abort()
            if name != self._told:
                self._told = name
                self._events.refused(f"certificate of {name[:80]!r}, expected {NAME!r}")
            return
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writer = writer
        self._events.up()
        while True:
            (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
            if length > MAX_MESSAGE:
                return
            self._events.message(await reader.readexactly(length))

    def _hang_up(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()
            self._events.down()
