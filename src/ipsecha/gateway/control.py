"""The control socket: JSON lines over a unix socket, one request and one answer at a time.

    -> {"command": "rekey", "arguments": {"connection": "paris"}}
    <- {"ok": true, "result": {"text": "rekeying 1 IKE SA", "affected": 1}}
    <- {"ok": false, "error": {"code": "not-found", "message": "no connection \\"pariss\\""}}

Who may connect is decided by the file's permissions (0660).  A client that is allowed in is still not trusted with
the gateway's health: a request is bounded in size, a silent or slow client in time, and all clients in number.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import socket
import stat
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ipsecha.model.errors import IpsecHaError

MAX_REQUEST = 64 * 1024
MAX_ANSWER = 512 * 1024 * 1024
MAX_CLIENTS = 16
CLIENT_TIMEOUT_S = 30.0
COMMANDS = ("status", "sas", "initiate", "terminate", "rekey", "switchover", "serve-alone", "reload", "stop")

_log = logging.getLogger(__name__)


class ControlError(IpsecHaError):
    """A command could not be carried out; ``code`` is a short stable name (``not-found``, ``failed``)."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


class DaemonUnreachable(ControlError):  # noqa: N818 - the state that it reports
    """Nobody listens on the control socket, or we may not use it."""

    def __init__(self, message: str) -> None:
        super().__init__("unreachable", message)


class Request(msgspec.Struct, forbid_unknown_fields=True):
    command: str
    arguments: dict[str, Any] = {}


class Failure(msgspec.Struct):
    code: str
    message: str


class Answer(msgspec.Struct, omit_defaults=True):
    ok: bool
    result: dict[str, Any] | None = None
    error: Failure | None = None


class Handler(Protocol):
    """The daemon's side.  Raises ControlError (or any IpsecHaError) for what it cannot do."""

    async def __call__(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]: ...


_encoder = msgspec.json.Encoder(enc_hook=str)
_request_decoder = msgspec.json.Decoder(Request)
_answer_decoder = msgspec.json.Decoder(Answer)


class ControlServer:
    """Listens on a unix socket and hands every well-formed request to the handler."""

    def __init__(
        self,
        path: Path | str,
        handler: Handler,
        *,
        group: str = "",
        client_timeout_s: float = CLIENT_TIMEOUT_S,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._path = Path(path)
        self._handler = handler
        self._group = group
        self._client_timeout_s = client_timeout_s
        self._max_clients = max_clients
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen.  Raises ControlError where the path is taken by a living daemon or by something else than a socket,
        where the group does not exist, and OSError where the directory cannot be written."""
        listener = _bind(self._path, self._group)
        try:
            self._server = await asyncio.start_unix_server(self._client, sock=listener, limit=MAX_REQUEST)
        except BaseException:
            listener.close()
            raise

    async def stop(self) -> None:
        """Stop listening, hang up on all clients but the one that asks for it, and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for task in tuple(self._clients):
            if task is not asyncio.current_task():
                task.cancel()
        with contextlib.suppress(OSError):
            self._path.unlink()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        crowded = len(self._clients) >= self._max_clients
        self._clients.add(task)
        try:
            if crowded:
                await self._send(writer, _failure("busy", "too many clients are connected"))
            else:
                await self._serve(reader, writer)
        except (OSError, TimeoutError):
            pass  # the client went away, or does not read what it asked for
        except asyncio.CancelledError:
            if self._server is not None:
                raise
        finally:
            self._clients.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                async with asyncio.timeout(self._client_timeout_s):
                    line = await reader.readline()
            except ValueError:
                await self._send(writer, _failure("too-large", f"a request has at most {MAX_REQUEST} octets"))
                return
            if not line.endswith(b"\n"):
                return
            await self._send(writer, await self._answer(line))

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(self._client_timeout_s):
            await writer.drain()

    async def _answer(self, line: bytes) -> bytes:
        try:
            request = _request_decoder.decode(line)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            return _failure("malformed", f"not a request: {error}")
        if request.command not in COMMANDS:
            return _failure("unknown-command", f"expected one of {', '.join(COMMANDS)}")
        try:
            result = await self._handler(request.command, request.arguments)
            return _encoder.encode(Answer(True, result)) + b"\n"
        except ControlError as error:
            return _failure(error.code, error.message)
        except IpsecHaError as error:
            return _failure("failed", str(error))
        except Exception:
            _log.exception("the control command %s failed", request.command)
            return _failure("internal", f"{request.command} failed in an unexpected way: see the log")


def _failure(code: str, message: str) -> bytes:
    return _encoder.encode(Answer(False, error=Failure(code, message))) + b"\n"


def _bind(path: Path, group: str) -> socket.socket:
    group_id = _group_id(group)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)  # nobody gets in before owner and group are right
    try:
        listener.bind(str(path))
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    try:
        if group_id is not None:
            os.chown(path, -1, group_id)
        path.chmod(0o660)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        path.unlink(missing_ok=True)
        raise
    return listener


def _group_id(group: str) -> int | None:
    if not group:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ControlError("failed", f'the group "{group}" of the control socket does not exist') from None


def _remove_stale(path: Path) -> None:
    """Remove the socket of a daemon that died.  Raises ControlError where a daemon still answers on it."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ControlError("failed", f"{path} is there already and is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            raise ControlError("failed", f"cannot tell whether a daemon uses {path}: {error.strerror}") from error
    raise ControlError("failed", f"another daemon listens on {path}")


class ControlClient:
    """A synchronous client: one connection, many requests.  Usable as a context manager."""

    def __init__(self, path: Path | str, *, timeout_s: float = 60.0) -> None:
        """Connect.  Raises DaemonUnreachable with what can be done about it."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        self._buffer = bytearray()
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise DaemonUnreachable(_why_unreachable(Path(path), error)) from error

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Carry out one command.  Raises ControlError with the daemon's reason; DaemonUnreachable where it vanishes."""
        try:
            self._socket.sendall(_encoder.encode(Request(command, arguments)) + b"\n")
            line = self._read_line()
        except TimeoutError as error:
            raise DaemonUnreachable(f"the daemon did not answer {command} in time") from error
        except OSError as error:
            raise DaemonUnreachable(f"the daemon hung up during {command}: {error.strerror}") from error
        try:
            answer = _answer_decoder.decode(line)
        except msgspec.DecodeError as error:
            raise ControlError("malformed", f"the daemon's answer makes no sense: {error}") from error
        if not answer.ok:
            failure = answer.error or Failure("failed", "the daemon gave no reason")
            raise ControlError(failure.code, failure.message)
        return answer.result or {}

    def _read_line(self) -> bytes:
        while b"\n" not in self._buffer:
            data = self._socket.recv(1 << 20)
            if not data:
                raise ConnectionResetError(0, "connection closed")
            self._buffer += data
            if len(self._buffer) > MAX_ANSWER:
                raise ControlError("malformed", "the daemon's answer has no end")
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer = bytearray(rest)
        return line

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _why_unreachable(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"no daemon listens on {path}: is it running, with this control socket?"
    if isinstance(error, ConnectionRefusedError):
        return f"the daemon that listened on {path} has died: start it again"
    if isinstance(error, PermissionError):
        return f"no permission to use {path}: run as root, or as a member of the socket's group"
    return f"cannot connect to {path}: {error.strerror or error}"
