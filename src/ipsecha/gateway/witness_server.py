"""The witness as a daemon: a socket, a file, and ``ipsecha.cluster.witness.Ledger`` in between.

What was promised must not be forgotten: the line is on disk (fsync of the file and of its directory) before an answer
leaves.  Clients are members with a certificate of the cluster's CA; each is bounded in number, in the size and rate of
its messages and in time, and none can do more than what the ledger allows.  So are strangers before TLS has named them:
they may keep a member from connecting anew, but not take the descriptors that keeping a promise needs.  A file that
cannot be read is an error, not an empty ledger: who lost it must say so by removing it (docs/split-brain.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path

import msgspec

from ipsecha.cluster.witness import MAX_MESSAGE, Ledger, Line
from ipsecha.gateway.channel import cluster_tls, common_name_of
from ipsecha.gateway.config_source import read_regular_file, reason_of
from ipsecha.gateway.config_witness import WitnessDaemonConfig, load_witness
from ipsecha.gateway.listener import Listener
from ipsecha.gateway.state_disk import open_private
from ipsecha.gateway.witness_link import LENGTH
from ipsecha.ike.limits import TokenBucket
from ipsecha.model.errors import ClusterError, IpsecHaError

EXIT_OK, EXIT_FAILURE = 0, 1
MAX_CLIENTS = 16
MAX_STRANGERS = 32
"""Connections that are not done with TLS."""
HANDSHAKE_TIMEOUT_S = 5.0
IDLE_S = 30.0
MESSAGES_PER_S, BURST = 50.0, 100.0
LINES_PER_S, FIRST_LINES = 0.1, 10.0
_MAX_FILE = 64 * 1024

log = logging.getLogger("ipsecha")


class StoredLine(msgspec.Struct, forbid_unknown_fields=True):
    """One cluster in the file."""

    epoch: int
    holder: str  # boot id, hexadecimal
    member: str
    lineage: int


class Store:
    """The file: a JSON object, cluster name -> line, with one cluster in it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, cluster: str) -> Line:
        """The line as it was kept; an empty one where there is no file.  Raises ClusterError for a broken one."""
        try:
            data = read_regular_file(self._path, _MAX_FILE)
        except FileNotFoundError:
            return Line()
        except (OSError, ValueError) as error:
            raise ClusterError(f"cannot read {self._path}: {reason_of(error)}") from None
        try:
            stored = msgspec.json.decode(data, type=dict[str, StoredLine])
            lines = {name: _line(line) for name, line in stored.items()}
        except (msgspec.DecodeError, ValueError):
            raise ClusterError(f"{self._path} is damaged: restore it, or remove it while the pair is whole") from None
        if set(lines) != {cluster}:  # writing ours would wipe out what was promised to others
            raise ClusterError(f"{self._path} is the ledger of {', '.join(lines)[:80]!r}, not of {cluster!r}")
        return lines[cluster]

    def write(self, cluster: str, line: Line) -> None:
        """Raises OSError where it cannot be kept."""
        stored = StoredLine(line.epoch, line.holder.hex(), line.member, line.lineage)
        fresh = self._path.with_name(f".{self._path.name}.new")
        with open(open_private(fresh), "wb") as file:
            file.write(msgspec.json.encode({cluster: stored}))
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _line(stored: StoredLine) -> Line:
    return Line(stored.epoch, bytes.fromhex(stored.holder), stored.member, stored.lineage)


class WitnessServer:
    """Listens, answers, keeps."""

    def __init__(self, config: WitnessDaemonConfig) -> None:
        """Raises ClusterError where the file is damaged or cannot be written."""
        self._config = config
        self._store = Store(config.state)
        line = self._store.read(config.cluster)
        self.ledger = Ledger(config.cluster, config.members, line)
        try:
            self._store.write(config.cluster, line)  # a disk that refuses is found out now, not at the first vote
        except OSError as error:
            raise ClusterError(f"cannot write {config.state}: {reason_of(error)}") from None
        self._tls = cluster_tls(str(config.certificate), str(config.private_key), str(config.ca), server=True)
        self._clients: set[asyncio.Task[None]] = set()
        self._lines = TokenBucket(LINES_PER_S, FIRST_LINES)
        self._strangers: set[asyncio.Task[None]] = set()
        self._listener = Listener(config.listen, MAX_CLIENTS, self._accepted)
        self.refused = 0
        self.votes = 0

    async def start(self) -> None:
        """Raises OSError where the address cannot be bound."""
        self._listener.open()

    async def stop(self) -> None:
        self._listener.close()
        tasks = (*self._strangers, *self._clients)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accepted(self, raw: socket.socket, host: str) -> None:
        if len(self._strangers) >= MAX_STRANGERS:
            raw.close()
            self._refuse(f"more than {MAX_STRANGERS} connections that do not get done with TLS")
            return
        raw.setblocking(False)
        task = asyncio.get_running_loop().create_task(self._shake_hands(raw))
        self._strangers.add(task)
        task.add_done_callback(self._strangers.discard)

    async def _shake_hands(self, raw: socket.socket) -> None:
        reader = asyncio.StreamReader(limit=4 * MAX_MESSAGE)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(reader, self._client),
                raw,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
            )
        except ssl.SSLError as error:
            self._refuse(f"TLS: {(error.reason or 'failed').lower().replace('_', ' ')}")
        except OSError:
            self._refuse("a connection that did not get done with TLS")

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        member = common_name_of(writer.get_extra_info("peercert"))
        self._clients.add(task)
        try:
            if len(self._clients) > MAX_CLIENTS or member not in self._config.members:
                raise ClusterError(f"no place for {member[:80]!r}")
            await self._serve(member, reader, writer)
        except ClusterError as error:
            self._refuse(str(error))
        except (OSError, TimeoutError, ssl.SSLError, asyncio.IncompleteReadError):
            pass  # gone, or silent for too long
        except asyncio.CancelledError:
            if asyncio.current_task() is None:
                raise
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def _serve(self, member: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        rate = TokenBucket(MESSAGES_PER_S, BURST)
        while True:
            async with asyncio.timeout(IDLE_S):
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                if length > MAX_MESSAGE or not rate.take(loop.time()):
                    raise ClusterError(f"{member} sends too much")
                message = await reader.readexactly(length)
                reply = self._answer(member, message)
                writer.write(LENGTH.pack(len(reply)) + reply)
                await writer.drain()

    def _answer(self, member: str, message: bytes) -> bytes:
        """In one go, the disk included: what one member is told, no other can be told as well."""
        before = self.ledger.line
        reply = self.ledger.answer(member, message)
        line = self.ledger.line
        if line != before:
            try:
                self._store.write(self._config.cluster, line)
            except OSError as error:
                self.ledger.line = before
                raise ClusterError(f"cannot write {self._config.state}: {reason_of(error)}") from None
            self.votes += 1
            log.info("%s: epoch %#x is %s's", self._config.cluster, line.epoch, line.member or "nobody")
        return reply

    def _refuse(self, why: str) -> None:
        self.refused += 1
        if self._lines.take(asyncio.get_running_loop().time()):
            log.warning("refused a client: %s (%d refused so far)", why, self.refused)


def run(path: Path) -> int:
    """Run the witness until it is told to stop; the exit code.  Raises PolicyError for a wrong configuration."""
    config = load_witness(path)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        asyncio.run(_serve(config))
    except (IpsecHaError, OSError) as error:
        log.error("%s", error)
        return EXIT_FAILURE
    return EXIT_OK


async def _serve(config: WitnessDaemonConfig) -> None:
    server = WitnessServer(config)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    await server.start()
    line = server.ledger.line
    log.info("%s: witness for %s, epoch %#x", config.cluster, " and ".join(config.members), line.epoch)
    with contextlib.suppress(asyncio.CancelledError):
        await stopped.wait()
    await server.stop()
