"""How the second member gets its certificate over the cluster link, by a token that works once and for a short time.

The token travels by the operator's hand (ssh, a password manager).  It holds the fingerprint of the cluster's CA and a
secret.  The joiner connects with TLS 1.3 and reads the CA's certificate: it must have the token's fingerprint and must
have signed the certificate that the server has just proved to own.  Only then does the joiner send its certificate
request, with a MAC under the token's secret over the request and the server's certificate: the secret itself never
travels, and what is signed is what the holder of the token wrote.  Private keys stay where they were made.

    server -> {"ca": PEM}
    joiner -> {"member": "beta", "request": PEM, "proof": hexadecimal}
    server -> {"certificate": PEM}  or  {"error": "..."}
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import datetime
import hashlib
import hmac
import secrets
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ipsecha.gateway import pki
from ipsecha.gateway.pki import Authority, MemberFiles
from ipsecha.model.errors import ClusterError
from ipsecha.model.records import Address

CLIENT_TIMEOUT_S = 10.0
MAX_GUESTS = 8
MAX_LINE = 32 * 1024
_PREFIX = "ipsecha1-"
_CHECK_OCTETS = 4
_CONTEXT = b"ipsecha cluster join 1"

Now = Callable[[], datetime.datetime]


class Token(msgspec.Struct, frozen=True, array_like=True):
    host: str
    port: int
    cluster: str
    member: str  # whom it invites
    authority: bytes  # SHA-256 of the CA's certificate
    secret: bytes
    expires: int  # seconds since 1970, for a clear message: the inviting member decides

    def encode(self) -> str:
        """One word without blanks, with a check against cut off copies."""
        data = msgspec.msgpack.encode(self)
        return _PREFIX + base64.urlsafe_b64encode(data + _check(data)).decode().rstrip("=")

    def __repr__(self) -> str:
        return f"Token({self.cluster!r}, {self.member!r}, {self.host}:{self.port})"


def decode_token(text: str) -> Token:
    """Raises ClusterError for anything that is not a whole token."""
    word = text.strip()
    try:
        body = word.removeprefix(_PREFIX).encode("ascii")
        data = base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4))
        data, check = data[:-_CHECK_OCTETS], data[-_CHECK_OCTETS:]
        token = msgspec.msgpack.decode(data, type=Token)
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise ClusterError("not a token of ipsecha cluster invite: was it copied as a whole?") from None
    if not word.startswith(_PREFIX) or check != _check(data) or not 1 <= token.port <= 65535:
        raise ClusterError("not a token of ipsecha cluster invite: was it copied as a whole?")
    return token


def _check(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:_CHECK_OCTETS]


def _proof(secret: bytes, server: bytes, request: bytes) -> str:
    """``server`` and ``request``: the server's certificate and the certificate request, DER."""
    parts = (_CONTEXT, hashlib.sha256(server).digest(), hashlib.sha256(request).digest())
    return hmac.new(secret, b"".join(parts), hashlib.sha256).hexdigest()


class _Welcome(msgspec.Struct):
    ca: str


class _Application(msgspec.Struct):
    member: str
    request: str
    proof: str


class _Decision(msgspec.Struct, omit_defaults=True):
    certificate: str = ""
    error: str = ""


class Invitation:
    """Listens on the cluster link until the invited member has its certificate, or the time is over."""

    def __init__(self, files: MemberFiles, member: str, listen: Address, valid_s: float, now: Now) -> None:
        """Raises ClusterError where this directory does not hold the CA."""
        self._files = files
        self._authority: Authority = files.authority()
        self._now = now
        self._valid_s = valid_s
        own = files.own_member()
        if member == own:
            raise ClusterError(f'"{member}" is this member itself')
        self._server_der = pki.parse_certificate(pki.read_pem(files.certificate(own))).public_bytes(Encoding.DER)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_3
        self._tls.load_cert_chain(files.certificate(own), files.private_key(own))
        fingerprint = pki.fingerprint(self._authority.certificate)
        expires = int(now().timestamp() + valid_s)
        self._listen = listen
        self.token = Token(*listen, self._authority.cluster, member, fingerprint, secrets.token_bytes(16), expires)
        self._guests = 0
        self._spent = False
        self._done = asyncio.Event()
        self.refused = 0
        self.listening = asyncio.Event()

    async def serve(self) -> bool:
        """Wait for the member; True when its certificate went out, False when the time was over.

        Raises OSError where the address cannot be bound.
        """
        server = await asyncio.start_server(
            self._guest, *self._listen, ssl=self._tls, ssl_handshake_timeout=CLIENT_TIMEOUT_S / 2, limit=MAX_LINE
        )
        self.listening.set()
        try:
            async with asyncio.timeout(self._valid_s):
                await self._done.wait()
        except TimeoutError:
            return False
        finally:
            self._spent = True
            server.close()
        return True

    async def _guest(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._guests >= MAX_GUESTS:
            writer.close()
            return
        self._guests += 1
        try:
            async with asyncio.timeout(CLIENT_TIMEOUT_S):
                await self._attend(reader, writer)
        except (OSError, ValueError, TimeoutError, ssl.SSLError):
            self.refused += 1
        finally:
            self._guests -= 1
            writer.close()

    async def _attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ca_pem = self._authority.certificate.public_bytes(Encoding.PEM).decode()
        writer.write(msgspec.json.encode(_Welcome(ca_pem)) + b"\n")
        await writer.drain()
        line = await reader.readline()
        try:
            decision = _Decision(certificate=self._decide(line).decode())
        except ClusterError as error:
            self.refused += 1
            decision = _Decision(error=str(error))
        writer.write(msgspec.json.encode(decision) + b"\n")
        await writer.drain()
        if decision.certificate:
            with contextlib.suppress(OSError, TimeoutError):
                await reader.read(1)  # the joiner hangs up when it has the certificate
            self._done.set()

    def _decide(self, line: bytes) -> bytes:
        """The certificate for an application.  Raises ClusterError with as little as a stranger may know."""
        try:
            application = msgspec.json.decode(line, type=_Application)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ClusterError("not an application") from None
        request = pki.parse_request(application.request.encode())
        expected = _proof(self.token.secret, self._server_der, request.public_bytes(Encoding.DER))
        if self._spent or not hmac.compare_digest(expected.encode(), application.proof.encode()):
            raise ClusterError("the token is not valid, or was used already")
        if application.member != self.token.member or pki.requested_member(request) != self.token.member:
            raise ClusterError(f'the token invites the member "{self.token.member}"')
        self._spent = True
        return pki.issue(self._authority, request, self._now())


def join(token: Token, files: MemberFiles, now: datetime.datetime, *, timeout_s: float = CLIENT_TIMEOUT_S) -> None:
    """Make this member's key, have its certificate signed by the member that gave the token, and write both.

    Raises ClusterError where that member is not who the token says, or refuses.
    """
    if now.timestamp() > token.expires:
        raise ClusterError("the token has expired: ask for a new one (ipsecha cluster invite)")
    if files.private_key(token.member).exists():
        raise ClusterError(
            f"{files.private_key(token.member)} is there already: nothing was overwritten (--request renews)"
        )
    private_pem, request_pem = pki.create_request(token.member)
    try:
        with _connected(token, timeout_s) as connection:
            lines = _Lines(connection)
            server = connection.getpeercert(binary_form=True) or b""
            ca_pem = _expected_authority(lines.read(_Welcome).ca, token, server, now)
            request = pki.parse_request(request_pem).public_bytes(Encoding.DER)
            application = _Application(token.member, request_pem.decode(), _proof(token.secret, server, request))
            connection.sendall(msgspec.json.encode(application) + b"\n")
            decision = lines.read(_Decision)
    except (OSError, ssl.SSLError) as error:
        raise ClusterError(f"cannot join by {token.host}:{token.port}: {error.strerror or error}") from None
    if decision.error:
        raise ClusterError(f"{token.host} refuses: {_printable(decision.error)}")
    files.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    pki.write_new(files.private_key(token.member), private_pem, secret=True)
    try:
        files.install(token.member, decision.certificate.encode(), ca_pem, now)
    except ClusterError:
        files.private_key(token.member).unlink()
        raise


def _connected(token: Token, timeout_s: float) -> ssl.SSLSocket:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    # there is no CA to check against yet: _expected_authority does it, before anything is sent
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_NONE
    raw = socket.create_connection((token.host, token.port), timeout_s)
    try:
        return tls.wrap_socket(raw)
    except BaseException:
        raw.close()
        raise


def _expected_authority(pem: str, token: Token, server: bytes, now: datetime.datetime) -> bytes:
    """The CA's certificate, PEM, where it is the token's and has signed the server's certificate (DER)."""
    authority = pki.parse_certificate(pem.encode())
    if not hmac.compare_digest(pki.fingerprint(authority), token.authority):
        raise ClusterError(f"{token.host} is not the member that gave the token: its CA is another")
    try:
        certificate = x509.load_der_x509_certificate(server)
    except ValueError:
        raise ClusterError(f"{token.host} has a certificate that cannot be read") from None
    pki.check_member_certificate(certificate, authority, now)
    return authority.public_bytes(Encoding.PEM)


S = TypeVar("S", bound=msgspec.Struct)


class _Lines:
    """Reads JSON lines of bounded length."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self._buffer = b""

    def read(self, kind: type[S]) -> S:
        while b"\n" not in self._buffer:
            data = self._connection.recv(MAX_LINE)
            if not data or len(self._buffer) > MAX_LINE:
                raise ClusterError("the other member hung up: has the token been used, or expired?")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return msgspec.json.decode(line, type=kind)
        except (msgspec.DecodeError, RecursionError):
            raise ClusterError("the other member's answer makes no sense") from None


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text[:200])
