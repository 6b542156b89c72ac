"""Two members' ends of a synch channel on loopback, and everybody else who knocks at it."""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from ipsecha.gateway.channel import ChannelConfig, ChannelEvents, LossReason, SynchChannel
from ipsecha.lab.pki import Authority

ALPHA, BETA, STRANGER = "127.0.0.1", "127.0.0.2", "127.0.0.3"
PATIENCE_S = 20.0


class Papers:
    """A certificate, its key and the CA that is trusted, as files."""

    def __init__(self, directory: Path, name: str, issuer: Authority, trusted: Authority) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        credential = issuer.issue(name)
        self.certificate, self.private_key, self.ca = (directory / file for file in ("own.pem", "own.key", "ca.pem"))
        self.certificate.write_bytes(credential.certificate)
        self.private_key.write_bytes(credential.private_key)
        self.ca.write_bytes(trusted.certificate)

    def client(self, latest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3, *, show: bool = True) -> ssl.SSLContext:
        """How somebody with these papers dials; he believes whatever the other side shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.maximum_version = latest
        if show:
            context.load_cert_chain(self.certificate, self.private_key)
        return context


class End:
    """One member's channel and what it has been told."""

    def __init__(self, host: str, partner_host: str, port: int, partner: str, papers: Papers, *, dials: bool) -> None:
        self.ups = 0
        self.downs: list[LossReason] = []
        self.frames: list[bytes] = []
        self.refused: list[str] = []
        config = ChannelConfig(
            listen=(host, port),
            partner=(partner_host, port),
            partner_name=partner,
            dials=dials,
            certificate=str(papers.certificate),
            private_key=str(papers.private_key),
            ca=str(papers.ca),
        )
        self.channel = SynchChannel(
            config, ChannelEvents(self._up, self.downs.append, self.frames.append, self.refused.append)
        )

    def _up(self) -> None:
        self.ups += 1


class Members:
    """``alpha`` listens, ``beta`` dials; ``port`` is the same for both."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority("Cluster")
        self.port = free_port()
        self.papers = {name: self.paper(name) for name in ("alpha", "beta")}
        self.alpha = End(ALPHA, BETA, self.port, "beta", self.papers["alpha"], dials=False)
        self.beta = self.another_beta()

    def paper(self, name: str, issuer: Authority | None = None) -> Papers:
        return Papers(self.directory / f"{name}-{id(issuer)}", name, issuer or self.authority, self.authority)

    def another_beta(self) -> End:
        return End(BETA, ALPHA, self.port, "alpha", self.papers["beta"], dials=True)

    async def start(self) -> None:
        await self.alpha.channel.start()
        await self.beta.channel.start()
        await until(lambda: self.alpha.channel.is_up and self.beta.channel.is_up)

    async def stop(self) -> None:
        await self.beta.channel.stop()
        await self.alpha.channel.stop()

    async def exchange(self) -> None:
        """Frames pass both ways."""
        for sender, receiver in ((self.alpha, self.beta), (self.beta, self.alpha)):
            count = len(receiver.frames)
            sender.channel.send(b"a frame")
            await until(lambda receiver=receiver, count=count: len(receiver.frames) > count)  # type: ignore[misc]
            assert receiver.frames[-1] == b"a frame"

    async def dial(
        self, context: ssl.SSLContext | None, source: str = BETA
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to alpha's port from ``source``."""
        name = "" if context is not None else None
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.open_connection(
                ALPHA, self.port, local_addr=(source, 0), ssl=context, server_hostname=name
            )


def free_port() -> int:
    """A port that both members can listen on, outside of the range that the system takes ports for connections from."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as alpha, socket.socket() as beta:
            try:
                alpha.bind((ALPHA, port))
                beta.bind((BETA, port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free on loopback")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.005)


async def hung_up(reader: asyncio.StreamReader) -> None:
    """Whoever dialled is hung up on, one way or the other, without having been told anything."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            assert await reader.read() == b""
        except (OSError, ssl.SSLError):
            return
