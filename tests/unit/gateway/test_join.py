"""Joining by token: the right member gets in once; nobody else does, on either side."""

from __future__ import annotations

import asyncio
import datetime
import json
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ipsecha.gateway import pki
from ipsecha.gateway.join import CLIENT_TIMEOUT_S, Invitation, Token, _proof, decode_token, join
from ipsecha.gateway.pki import MemberFiles
from ipsecha.model.errors import ClusterError

NOW = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def now() -> datetime.datetime:
    return NOW


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def alpha(tmp_path: Path) -> MemberFiles:
    files = MemberFiles(tmp_path / "alpha")
    files.init("berlin", "alpha", NOW)
    return files


@pytest.fixture
def beta(tmp_path: Path) -> MemberFiles:
    return MemberFiles(tmp_path / "beta")


def invited(alpha: MemberFiles, guest: Callable[[Token], Any], *, valid_s: float = 30.0) -> tuple[bool, Any]:
    """Whether the invitation was used, and what the guest made of it."""

    async def run() -> tuple[bool, Any]:
        invitation = Invitation(alpha, "beta", ("127.0.0.1", free_port()), valid_s, now)
        serving = asyncio.create_task(invitation.serve())
        await invitation.listening.wait()
        result = await asyncio.to_thread(guest, invitation.token)
        if not serving.done():
            await asyncio.wait([serving], timeout=0.2)
        used = serving.done() and serving.result()
        serving.cancel()
        return used, result

    return asyncio.run(run())


def refused(token: Token, files: MemberFiles, reason: str) -> None:
    with pytest.raises(ClusterError, match=reason):
        join(token, files, NOW, timeout_s=5)
    assert not files.directory.exists()


def test_join(alpha: MemberFiles, beta: MemberFiles) -> None:
    used, _ = invited(alpha, lambda token: join(decode_token(token.encode()), beta, NOW))
    assert used
    assert beta.own_member() == "beta"
    assert beta.ca.read_bytes() == alpha.ca.read_bytes()
    assert not beta.ca_key.exists()
    certificate = pki.parse_certificate(beta.certificate("beta").read_bytes())
    assert pki.check_member_certificate(certificate, alpha.authority().certificate, NOW) == "beta"


def test_token_works_once(alpha: MemberFiles, beta: MemberFiles, tmp_path: Path) -> None:
    def guest(token: Token) -> None:
        join(token, beta, NOW)
        refused(token, MemberFiles(tmp_path / "second"), "hung up|refuses: the token is not valid|cannot join")

    assert invited(alpha, guest)[0]


def test_failures_do_not_spend_the_token(alpha: MemberFiles, beta: MemberFiles, tmp_path: Path) -> None:
    def guest(token: Token) -> None:
        changed = Token(token.host, token.port, token.cluster, "beta", token.authority, b"x" * 16, token.expires)
        refused(changed, MemberFiles(tmp_path / "thief"), "refuses: the token is not valid, or was used already")
        changed = Token(token.host, token.port, token.cluster, "gamma", token.authority, token.secret, token.expires)
        refused(changed, MemberFiles(tmp_path / "gamma"), 'refuses: the token invites the member "beta"')
        join(token, beta, NOW)

    assert invited(alpha, guest)[0]


def test_joiner_authenticates_the_server(alpha: MemberFiles, beta: MemberFiles, tmp_path: Path) -> None:
    """Somebody in the middle with a CA of his own learns nothing: neither the secret nor a request."""
    rome = MemberFiles(tmp_path / "rome")
    rome.init("rome", "alpha", NOW)
    theirs = pki.fingerprint(alpha.authority().certificate)

    def guest(token: Token) -> None:
        fooled = Token(token.host, token.port, "berlin", "beta", theirs, token.secret, token.expires)
        refused(fooled, beta, "is not the member that gave the token: its CA is another")

    assert not invited(rome, guest)[0]


def test_joiner_wants_the_server_certificate_of_that_ca(alpha: MemberFiles, beta: MemberFiles, tmp_path: Path) -> None:
    """Whoever shows the right CA must own a certificate that it signed: the CA's certificate is no secret."""
    rome = MemberFiles(tmp_path / "rome")
    rome.init("rome", "alpha", NOW)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(rome.certificate("alpha"), rome.private_key("alpha"))
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def impostor() -> None:
            raw, _ = listener.accept()
            with context.wrap_socket(raw, server_side=True) as connection:
                connection.sendall(json.dumps({"ca": alpha.ca.read_text()}).encode() + b"\n")
                heard.append(connection.recv(10))

        thread = threading.Thread(target=impostor)
        thread.start()
        fingerprint = pki.fingerprint(alpha.authority().certificate)
        address = listener.getsockname()
        token = Token(*address, "berlin", "beta", fingerprint, b"s" * 16, int(NOW.timestamp()) + 60)
        refused(token, beta, "not signed by the cluster's CA")
        thread.join(10)
    assert heard == [b""]


def test_proof_is_bound_to_server_and_request() -> None:
    """A proof that was overheard (by a server that cheats) is good for nothing else."""
    proofs = {_proof(b"s", b"server", b"request"), _proof(b"s", b"other", b"request"), _proof(b"s", b"server", b"mine")}
    assert len(proofs) == 3
    assert _proof(b"s", b"a", b"bc") != _proof(b"s", b"ab", b"c")


def test_expired(alpha: MemberFiles, beta: MemberFiles) -> None:
    token = Token("127.0.0.1", 1, "berlin", "beta", b"x" * 32, b"s" * 16, int(NOW.timestamp()) - 1)
    refused(token, beta, "has expired")

    async def run() -> bool:
        return await Invitation(alpha, "beta", ("127.0.0.1", free_port()), 0.05, now).serve()

    assert asyncio.run(run()) is False


def test_nobody_listens(beta: MemberFiles) -> None:
    token = Token("127.0.0.1", free_port(), "berlin", "beta", b"x" * 32, b"s" * 16, int(NOW.timestamp()) + 60)
    refused(token, beta, "cannot join by 127.0.0.1")


def test_key_that_is_there_already_is_kept(alpha: MemberFiles, beta: MemberFiles) -> None:
    beta.directory.mkdir()
    beta.private_key("beta").write_bytes(b"precious")
    token = Token("127.0.0.1", 1, "berlin", "beta", b"x" * 32, b"s" * 16, int(NOW.timestamp()) + 60)
    with pytest.raises(ClusterError, match="nothing was overwritten"):
        join(token, beta, NOW)
    assert beta.private_key("beta").read_bytes() == b"precious"


def test_member_does_not_invite_itself(alpha: MemberFiles) -> None:
    with pytest.raises(ClusterError, match="this member itself"):
        Invitation(alpha, "alpha", ("127.0.0.1", 1), 1, now)


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"[]\n",
        b"{}\n",
        b"[" * 30000 + b"\n",
        b"x" * 100000,
        b'{"member":"beta","request":"x","proof":"\xc3\xa9"}\n',
        b"",
    ],
)
def test_hostile_guests_do_not_spoil_the_invitation(alpha: MemberFiles, beta: MemberFiles, line: bytes) -> None:
    def guest(token: Token) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(alpha.ca)
        raw = socket.create_connection((token.host, token.port), CLIENT_TIMEOUT_S)
        with context.wrap_socket(raw) as connection:
            try:
                connection.sendall(line)
                connection.unwrap()
            except (OSError, ssl.SSLError):
                pass
        with socket.create_connection((token.host, token.port)) as plain:
            plain.sendall(line)
        join(token, beta, NOW)

    assert invited(alpha, guest)[0]


def test_old_tls_is_refused(alpha: MemberFiles) -> None:
    def guest(token: Token) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        raw = socket.create_connection((token.host, token.port), CLIENT_TIMEOUT_S)
        with pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(raw)
        raw.close()

    assert not invited(alpha, guest)[0]


def test_tokens_show_no_secret() -> None:
    token = Token("10.0.0.1", 4602, "berlin", "beta", b"x" * 32, b"secret!!", 5)
    assert "secret" not in repr(token)
    assert decode_token(f"  {token.encode()}\n") == token


def test_cut_tokens_are_noticed() -> None:
    text = Token("10.0.0.1", 4602, "berlin", "beta", b"x" * 32, b"s" * 16, 5).encode()
    for length in range(len(text)):
        with pytest.raises(ClusterError, match="not a token"):
            decode_token(text[:length])


@given(st.text(max_size=200))
def test_any_text_is_a_token_or_none(text: str) -> None:
    with pytest.raises(ClusterError):
        decode_token(text)
    with pytest.raises(ClusterError):
        decode_token("ipsecha1-" + text)


def test_private_key_never_travels(alpha: MemberFiles, beta: MemberFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    original = ssl.SSLSocket.sendall

    def sendall(self: ssl.SSLSocket, data: bytes, *rest: Any) -> None:
        sent.append(bytes(data))
        original(self, data, *rest)

    monkeypatch.setattr(ssl.SSLSocket, "sendall", sendall)
    invited(alpha, lambda token: join(token, beta, NOW))
    assert b"CERTIFICATE REQUEST" in sent[0]
    assert not any(b"PRIVATE" in data for data in sent)
    assert pki.parse_certificate(beta.ca.read_bytes()).public_bytes(Encoding.PEM) == alpha.ca.read_bytes()
