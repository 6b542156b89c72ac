"""The witness as a daemon: it keeps its word over a restart, and strangers get nothing."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from channel_ends import Papers, free_port, until
from ipsecha.cluster.witness import Kind, Line, Reply, Request
from ipsecha.gateway.config_problems import ConfigError
from ipsecha.gateway.config_witness import WitnessDaemonConfig, load_witness
from ipsecha.gateway.witness_link import LENGTH, WitnessConfig, WitnessEvents, WitnessLink
from ipsecha.gateway.witness_server import MAX_STRANGERS, Store, WitnessServer
from ipsecha.lab.pki import Authority
from ipsecha.model.errors import ClusterError

BOOT = {"alpha": b"a" * 16, "beta": b"b" * 16}
E1, E2, E3 = 0x110, 0x121, 0x130


class Box:
    """The third box, and papers for whoever dials it."""

    def __init__(self, directory: Path) -> None:
        self.authority, self.directory = Authority("Cluster"), directory
        own = self.papers("witness")
        self.config = WitnessDaemonConfig(
            "berlin",
            ("alpha", "beta"),
            ("127.0.0.1", free_port()),
            directory / "ledger.json",
            own.certificate,
            own.private_key,
            own.ca,
        )
        self.server = WitnessServer(self.config)

    def papers(self, name: str, issuer: Authority | None = None) -> Papers:
        return Papers(self.directory / name, name, issuer or self.authority, self.authority)

    async def restart(self) -> None:
        await self.server.stop()
        self.server = WitnessServer(self.config)
        await self.server.start()

    def dialler(self, name: str) -> Dialler:
        return Dialler(self, self.papers(name))


class Dialler:
    def __init__(self, box: Box, papers: Papers) -> None:
        self.ups = 0
        self.replies: list[Reply] = []
        self.refused: list[str] = []
        self.link = WitnessLink(
            WitnessConfig(box.config.listen, str(papers.certificate), str(papers.private_key), str(papers.ca)),
            WitnessEvents(self._up, lambda: None, self._message, self.refused.append),
        )

    def _up(self) -> None:
        self.ups += 1

    def _message(self, data: bytes) -> None:
        self.replies.append(msgspec.msgpack.decode(data, type=Reply))

    async def ask(self, member: str, epoch: int, base: int) -> bool:
        count = len(self.replies)
        request = Request(Kind.CLAIM, count + 1, "berlin", BOOT[member], epoch, base, E1)
        await until(lambda: self.link.is_up)
        self.link.send(msgspec.msgpack.encode(request))
        await until(lambda: len(self.replies) > count)
        return self.replies[-1].granted


Scene = Callable[[Box], Awaitable[None]]


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scene], None]:
    async def played(scene: Scene) -> None:
        box = Box(tmp_path)
        await box.server.start()
        try:
            await scene(box)
        finally:
            await box.server.stop()

    return lambda scene: asyncio.run(played(scene))


def test_one_vote_and_it_outlives_the_witness(play: Callable[[Scene], None]) -> None:
    async def scene(box: Box) -> None:
        alpha, beta = box.dialler("alpha"), box.dialler("beta")
        alpha.link.start()
        beta.link.start()
        assert await beta.ask("beta", E2, E1)
        assert not await alpha.ask("alpha", E3, E1)
        await box.restart()
        await until(lambda: alpha.ups == beta.ups == 2)
        assert not await alpha.ask("alpha", E3, E1)
        assert await beta.ask("beta", E2, E1)
        assert json.loads(box.config.state.read_text())["berlin"]["member"] == "beta"
        assert box.config.state.stat().st_mode & 0o077 == 0
        await alpha.link.stop()
        await beta.link.stop()

    play(scene)


def test_a_disk_that_refuses_means_no_vote(play: Callable[[Scene], None], monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(box: Box) -> None:
        beta = box.dialler("beta")
        beta.link.start()
        await until(lambda: beta.link.is_up)

        def full(store: Store, cluster: str, line: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Store, "write", full)
        beta.link.send(msgspec.msgpack.encode(Request(Kind.CLAIM, 1, "berlin", BOOT["beta"], E2, 0)))
        await until(lambda: box.server.refused == 1)
        assert not beta.replies
        assert box.server.ledger.line.epoch == 0
        await beta.link.stop()

    play(scene)


@pytest.mark.parametrize("name", ["mallory", "witness"])
def test_whoever_is_no_member_is_refused(play: Callable[[Scene], None], name: str) -> None:
    async def scene(box: Box) -> None:
        stranger = box.dialler(name)
        stranger.link.start()
        await until(lambda: box.server.refused > 0)
        await stranger.link.stop()
        assert not stranger.replies

    play(scene)


def test_another_authority_does_not_get_beyond_tls(play: Callable[[Scene], None]) -> None:
    async def scene(box: Box) -> None:
        context = box.papers("alpha", Authority("Cluster")).client()

        async def asked() -> bytes:
            reader, writer = await asyncio.open_connection(*box.config.listen, ssl=context, server_hostname="")
            writer.write(LENGTH.pack(1) + b"x")
            return await reader.readexactly(1)

        with pytest.raises((ssl.SSLError, OSError, asyncio.IncompleteReadError)):
            await asked()

    play(scene)


@pytest.mark.parametrize("octets", [LENGTH.pack(65535), LENGTH.pack(1) + b"\xc1", LENGTH.pack(0) * 200])
def test_a_member_that_talks_nonsense_is_hung_up_on(play: Callable[[Scene], None], octets: bytes) -> None:
    async def scene(box: Box) -> None:
        context = box.papers("alpha").client()
        reader, writer = await asyncio.open_connection(*box.config.listen, ssl=context, server_hostname="")
        writer.write(octets)
        with pytest.raises((OSError, ssl.SSLError, asyncio.IncompleteReadError)):
            await reader.readexactly(10_000)
        await until(lambda: box.server.refused == 1)
        beta = box.dialler("beta")
        beta.link.start()
        assert await beta.ask("beta", E2, 0)
        await beta.link.stop()

    play(scene)


def test_strangers_do_not_take_all_descriptors(play: Callable[[Scene], None]) -> None:
    """Keeping a promise needs one; a member that is connected keeps its vote."""

    async def scene(box: Box) -> None:
        beta = box.dialler("beta")
        beta.link.start()
        await until(lambda: beta.link.is_up)
        crowd = [await asyncio.open_connection(*box.config.listen) for _ in range(MAX_STRANGERS + 8)]
        await until(lambda: box.server.refused == 8)
        assert await beta.ask("beta", E2, 0)
        for _, writer in crowd:
            writer.close()
        await until(lambda: box.server.refused == MAX_STRANGERS + 8)
        alpha = box.dialler("alpha")
        alpha.link.start()
        assert not await alpha.ask("alpha", E3, E1)
        await alpha.link.stop()
        await beta.link.stop()

    play(scene)


def test_a_fault_of_a_member_does_not_end_its_connection_for_ever(play: Callable[[Scene], None]) -> None:
    async def scene(box: Box) -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context["exception"]))
        beta = box.dialler("beta")
        beta.link.start()
        await until(lambda: beta.link.is_up)
        beta.replies = None  # type: ignore[assignment]
        beta.link.send(msgspec.msgpack.encode(Request(Kind.LOOK, 1, "berlin", BOOT["beta"])))
        await until(lambda: bool(faults))
        beta.replies = []
        await until(lambda: beta.ups == 2)
        assert await beta.ask("beta", E2, 0)
        await beta.link.stop()

    play(scene)


def test_a_member_does_not_believe_another_member(play: Callable[[Scene], None], tmp_path: Path) -> None:
    """Somebody with a member's certificate at the witness's address has no vote."""

    async def scene(box: Box) -> None:
        await box.server.stop()
        false = box.papers("beta")
        config = msgspec.structs.replace(
            box.config, certificate=false.certificate, private_key=false.private_key, state=tmp_path / "other.json"
        )
        box.server = WitnessServer(config)
        await box.server.start()
        alpha = box.dialler("alpha")
        alpha.link.start()
        await until(lambda: bool(alpha.refused))
        assert not alpha.ups
        assert "beta" in alpha.refused[0]
        await alpha.link.stop()

    play(scene)


@pytest.mark.parametrize("text", ["", "{", '{"berlin": 7}', '{"berlin": {"epoch": 1}}'])
def test_a_damaged_ledger_is_not_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(text)
    with pytest.raises(ClusterError, match="damaged"):
        Store(path).read("berlin")


def test_a_ledger_that_is_no_file_does_not_hang_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ledger.json")
    with pytest.raises(ClusterError, match="not a regular file"):
        Store(tmp_path / "ledger.json").read("berlin")


def test_the_ledger_of_another_cluster_is_not_wiped_out(tmp_path: Path) -> None:
    """Two witnesses with one file, or a cluster with a new name: what was promised is not forgotten."""
    path = tmp_path / "ledger.json"
    Store(path).write("paris", Line(E2, BOOT["beta"], "beta", E1))
    with pytest.raises(ClusterError, match="the ledger of 'paris'"):
        Store(path).read("berlin")
    assert Store(path).read("paris").epoch == E2


def test_nothing_is_followed_from_where_a_ledger_is_written(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".ledger.json.new").symlink_to(victim)
    Store(tmp_path / "ledger.json").write("berlin", Line(E2, BOOT["beta"], "beta", E1))
    assert victim.read_text() == "precious"
    assert (tmp_path / "ledger.json").stat().st_mode & 0o077 == 0


def test_a_configuration_with_mistakes_names_them_all(tmp_path: Path) -> None:
    papers = Papers(tmp_path, "alpha", Authority("Cluster"), Authority("Cluster"))
    for path in (papers.certificate, papers.private_key, papers.ca):
        path.chmod(0o600)
    (tmp_path / "witness.toml").write_text(
        'cluster = "berlin"\nmembers = ["alpha"]\nlisten = "nowhere"\n'
        'certificate = "own.pem"\nprivate_key = "own.key"\nca = "ca.pem"\nquorum = 3\n'
    )
    with pytest.raises(ConfigError) as found:
        load_witness(tmp_path / "witness.toml")
    text = str(found.value)
    for word in ("listen", "quorum", "two to four members", 'the witness ("witness")'):
        assert word in text
