"""The command line: what people and scripts get, and the exit codes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

import ipsecha.gateway.daemon
from ipsecha import __version__
from ipsecha.cli.main import app
from ipsecha.cli.output import ExitCode
from ipsecha.gateway.control import ControlError, ControlServer
from ipsecha.gateway.views import (
    AfterTakeoverView,
    ChildView,
    ClusterView,
    GapView,
    LeaseView,
    LossBound,
    OutcomeView,
    SasView,
    SaView,
    SharingView,
    StatusView,
    as_answer,
)

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
STATUS = StatusView(
    member="alpha",
    version="9.9",
    uptime_s=273000,
    cluster=ClusterView(
        name="berlin",
        mode="hot-standby",
        role="active",
        epoch=4711,
        protection="protected",
        partner="beta",
        partner_state="connected",
        last_beat_s=0.04,
        sync_lag=2,
        sync_lag_s=0.002,
        fencing="pair, no witness",
        addresses=("192.0.2.10/24", "2001:db8::1234:10/64"),
        holds_addresses=True,
        half_open=SharingView(shared=1234, withheld=5, octets=1_200_000, continued=2, held=7, per_s=100, used=0.25),
    ),
    ike_sas=1,
    child_sas=1,
    loss_bound=LossBound(444, 0.1),
    packets_in=41234560,
    bytes_in=52 * 10**9,
    counters={"esp-replayed": 3},
)
CHILD = ChildView(
    "offices",
    "established",
    "c1a2b3c4",
    "99887766",
    "ESP",
    "aes256gcm16-esn",
    ("10.1.0.0/16",),
    ("2001:db8:1234::/48",),
    4123455,
    5_200_000_000,
    88001233,
    91 * 10**9,
    732,
    2868,
    0.1,
    LeaseView(4123456, 4123900, 88001234, 88051233, 445),
)
SA = SaView(
    "paris",
    "established",
    True,
    "1122334455667788",
    "99aabbccddeeff00",
    "berlin.example.net",
    "paris.example.net",
    "192.0.2.10:4500",
    "[2001:db8:ffff:1234::1]:4500",
    "remote",
    "aes256gcm16-prfsha256-x25519",
    4332,
    9000,
    12,
    7,
    (CHILD, msgspec.structs.replace(CHILD, protocol="AH", suite="sha256-esn")),
)


class Daemon:
    """A control server in a thread; ``asked`` holds what the commands asked for."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.status = STATUS
        self.sas = SasView((SA,), 1)
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._end = asyncio.Event()

    async def _serve(self) -> None:
        server = ControlServer(self.socket, self._handle)
        await server.start()
        self._ready.set()
        await self._end.wait()
        await server.stop()

    async def _handle(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((command, arguments))
        if arguments.get("connection") == "pariss":
            raise ControlError("not-found", 'no connection "pariss"')
        if command == "reload":
            return as_answer(OutcomeView("reloaded: 1 connection", 1, ("policy.toml:4: warning: short",)))
        views = {"status": self.status, "sas": self.sas}
        return as_answer(views.get(command, OutcomeView(f"{command} done", 1)))

    def __enter__(self) -> Daemon:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path / "control.sock") as running:
        yield running


def command_line(*arguments: object, columns: int = 80) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], env={"COLUMNS": str(columns), "TERM": "dumb"})


def ask(daemon: Daemon, *arguments: object, columns: int = 80) -> Result:
    return command_line(*arguments, "--socket", daemon.socket, columns=columns)


def test_version() -> None:
    result = command_line("--version")
    assert (result.exit_code, result.output) == (0, f"ipsecha {__version__}\n")


COMMANDS = [
    "run", "check", "status", "sas", "initiate", "terminate", "rekey", "switchover", "reload", "stop",
    "cluster", "cluster init", "cluster invite", "cluster join", "cluster sign",
]  # fmt: skip


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_teaches(command: str) -> None:
    result = command_line(*command.split(), "--help", columns=120)
    assert result.exit_code == 0
    assert f"ipsecha {command}".strip() in result.output
    assert command == "" or "xample" in result.output or command == "cluster"
    assert command in ("", "run", "cluster") or "--json" in result.output


def test_help_lists_all_commands_and_the_exit_codes() -> None:
    output = command_line("--help").output
    assert all(command.split()[0] in output for command in [*COMMANDS, "lab"])
    assert "Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration, 3 no daemon, 4 not" in output


def test_lab_is_mounted_when_asked_for() -> None:
    result = command_line("lab", "--help")
    assert result.exit_code == 0
    assert "failover" in result.output


@pytest.mark.parametrize(
    "arguments", [["stauts"], ["check"], ["status", "--wrong"], ["sas", "--limit", "0"], ["cluster"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    assert command_line(*arguments).exit_code == ExitCode.USAGE


def test_no_daemon_is_3(tmp_path: Path) -> None:
    for arguments in (["status"], ["sas"], ["initiate", "paris"], ["stop"]):
        result = command_line(*arguments, "--socket", tmp_path / "none.sock")
        assert result.exit_code == ExitCode.UNREACHABLE
        assert result.stdout == ""
        assert "none.sock: is it running, with this control socket?" in result.stderr.replace("\n", "")
    result = command_line("status", "--json", "--socket", tmp_path / "none.sock")
    assert json.loads(result.stdout)["error"]["code"] == "unreachable"
    assert result.exit_code == ExitCode.UNREACHABLE


def test_socket_from_the_environment(daemon: Daemon) -> None:
    result = CliRunner().invoke(app, ["status", "--json"], env={"IPSECHA_SOCKET": str(daemon.socket)})
    assert json.loads(result.stdout)["member"] == "alpha"


@pytest.mark.parametrize("columns", [80, 120])
def test_status_for_people(daemon: Daemon, columns: int) -> None:
    output = ask(daemon, "status", columns=columns).output
    assert max(map(len, output.splitlines())) <= columns
    for text in (
        "alpha · active · protected",
        "ipsecha 9.9, up 3d 3h",
        "berlin (hot-standby), epoch 4711",
        "beta, connected, last beat 40ms ago",
        "2 commits, 2ms",
        "pair, no witness",
        "1,234 shared (1.20 MB), 5 withheld, 2 taken over",
        "100 a second, 25% used, 7 held by the standby",
        "192.0.2.10/24, 2001:db8::1234:10/64 (held here)",
        "an SA would lose at most 444 packets inbound (100ms of traffic)",
        "41.2 M packets, 52.0 GB",
        "1 IKE SA, 1 child SA",
        "esp-replayed  3",
    ):
        assert text in output


def test_status_of_a_single_gateway(daemon: Daemon) -> None:
    daemon.status = StatusView(member="gw")
    output = ask(daemon, "status").output
    assert "gw · single gateway" in output
    assert "partner" not in output
    assert ask(daemon, "status", "--check").exit_code == ExitCode.UNPROTECTED


def test_status_tells_of_lazy_commit_and_of_repairs(daemon: Daemon) -> None:
    daemon.status = StatusView(cluster=ClusterView(commit="lazy", open_sas=12, suspects=1))
    output = ask(daemon, "status").output
    assert "lazy: 12 IKE SAs may be ahead of the partner" in output
    assert "1 IKE SA may have lost an update" in output
    daemon.status = StatusView(cluster=ClusterView())
    assert "lazy" not in ask(daemon, "status").output


@pytest.mark.parametrize(
    ("protection", "code"), [("protected", 0), ("joining", 4), ("unprotected (silence)", 4), ("", 4)]
)
def test_status_for_monitoring(daemon: Daemon, protection: str, code: int) -> None:
    daemon.status = StatusView(cluster=ClusterView(protection=protection, sync_progress=0.4))
    result = ask(daemon, "status", "--check")
    assert result.exit_code == code
    assert "40% of the state" in result.output


@pytest.mark.parametrize("columns", [80, 120])
def test_sas_for_people(daemon: Daemon, columns: int) -> None:
    """Colons and brackets are what they are: no emoji in IPv6 addresses, no markup in selectors."""
    output = ask(daemon, "sas", columns=columns).output
    assert max(map(len, output.splitlines())) <= columns
    rows = [line.split() for line in output.splitlines()]
    assert ["offices", "10.1.0.0/16", "c1a2b3c4", "4.12M", "5.20GB", "4.12M", "+445", "47m", "48s"] in rows
    assert [row[1] for row in rows if row[:1] in (["ESP"], ["AH"])] == ["aes256gcm16-esn", "sha256-esn"]
    for text in (
        "age 1h 12m, rekey in 2h 30m",
        "paris.example.net  [2001:db8:ffff:1234::1]:4500, behind a NAT",
        "1122334455667788_i  99aabbccddeeff00_r",
        "our next ID is 12, the peer's is 7",
        "IKE       aes256gcm16-prfsha256-x25519, initiator",
        "99887766",
        "+50.0k",
    ):
        assert text in output


def test_sas_pages(daemon: Daemon) -> None:
    daemon.sas = SasView((SA, SA), 200)
    output = ask(daemon, "sas", "paris", "--limit", 2, "--offset", 10).output
    assert "IKE SAs 11 to 12 of 200: see --limit, --offset" in output
    assert daemon.asked == [("sas", {"connection": "paris", "limit": 2, "offset": 10})]
    daemon.sas = SasView()
    assert ask(daemon, "sas").output == "no IKE SA\n"


def test_sas_asks_for_as_many_pages_as_it_takes(daemon: Daemon) -> None:
    """One answer of the daemon holds some hundred IKE SAs at most."""
    daemon.sas = SasView((SA, SA), 200)
    view = json.loads(ask(daemon, "sas", "--limit", 5, "--offset", 10, "--json").stdout)
    assert [arguments for _, arguments in daemon.asked] == [
        {"connection": "", "limit": 5, "offset": 10},
        {"connection": "", "limit": 3, "offset": 12},
        {"connection": "", "limit": 1, "offset": 14},
    ]
    assert view["total"] == 200
    daemon.asked.clear()
    daemon.sas = SasView((SA, SA), 2)
    ask(daemon, "sas")
    assert len(daemon.asked) == 1


def test_json_is_the_view(daemon: Daemon) -> None:
    assert json.loads(ask(daemon, "status", "--json").stdout) == json.loads(json.dumps(as_answer(STATUS)))
    assert json.loads(ask(daemon, "sas", "--json").stdout)["sas"][0]["children"][0]["lease"]["exposure"] == 445
    assert json.loads(ask(daemon, "stop", "--json").stdout) == {"text": "stop done", "affected": 1, "warnings": []}


@pytest.mark.parametrize(
    ("arguments", "command", "expected"),
    [
        (["initiate", "paris"], "initiate", {"connection": "paris"}),
        (["initiate", "paris", "--child", "lan"], "initiate", {"connection": "paris", "child": "lan"}),
        (["terminate", "paris"], "terminate", {"connection": "paris"}),
        (["terminate", "--spi", "0xC1A2B3C4"], "terminate", {"spi": "c1a2b3c4"}),
        (["rekey", "--spi", "1122334455667788_i"], "rekey", {"spi": "1122334455667788"}),
        (["rekey", "paris", "-c", "lan"], "rekey", {"connection": "paris", "child": "lan"}),
        (["switchover"], "switchover", {}),
        (["stop"], "stop", {}),
    ],
)
def test_commands(daemon: Daemon, arguments: list[str], command: str, expected: dict[str, str]) -> None:
    result = ask(daemon, *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{command} done\n")
    assert daemon.asked == [(command, expected)]


@pytest.mark.parametrize(
    "arguments",
    [["terminate"], ["rekey", "paris", "--spi", "c1a2b3c4"], ["rekey", "--spi", "xyz"], ["rekey", "--spi", "123"],
     ["terminate", "--spi", "c1a2b3c4", "--child", "lan"]],
)  # fmt: skip
def test_what_is_meant_must_be_clear(daemon: Daemon, arguments: list[str]) -> None:
    assert ask(daemon, *arguments).exit_code == ExitCode.USAGE
    assert daemon.asked == []


def test_refusals_of_the_daemon_are_1(daemon: Daemon) -> None:
    result = ask(daemon, "initiate", "pariss")
    assert (result.exit_code, result.stdout) == (ExitCode.FAILED, "")
    assert result.stderr == 'ipsecha: no connection "pariss"\n'
    result = ask(daemon, "initiate", "pariss", "--json")
    assert result.exit_code == ExitCode.FAILED
    error = {"code": "not-found", "message": 'no connection "pariss"'}
    assert json.loads(result.stdout) == {"ok": False, "error": error, "problems": []}


def test_reload_shows_warnings(daemon: Daemon) -> None:
    result = ask(daemon, "reload")
    assert result.stdout == "reloaded: 1 connection\n"
    assert result.stderr == "warning: policy.toml:4: warning: short\n"


def test_daemon_of_another_language(daemon: Daemon) -> None:
    daemon.sas = StatusView()  # type: ignore[assignment]
    daemon.status = OutcomeView("what?")  # type: ignore[assignment]
    assert ask(daemon, "status").exit_code == 0
    daemon.status = SasView((SaView(children=5),))  # type: ignore[assignment,arg-type]
    daemon.sas = daemon.status  # type: ignore[assignment]
    result = ask(daemon, "sas")
    assert result.exit_code == ExitCode.FAILED
    assert "the daemon speaks another language" in result.stderr


def test_check_of_a_policy() -> None:
    path = EXAMPLES / "single-psk" / "policy.toml"
    result = command_line("check", "--no-secrets", path)
    assert result.exit_code == 0
    assert result.stdout == f"{path}: policy is good (single gateway, 1 connection, 1 child)\n"
    result = command_line("check", "--no-secrets", "--json", path)
    assert json.loads(result.stdout) == {"ok": True, "connections": 1, "children": 1, "problems": []}


def test_check_shows_every_mistake(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    text = (EXAMPLES / "single-psk" / "policy.toml").read_text()
    path.write_text(text.replace("remote =", "remte =", 1).replace('"10.2.0.0/16"', '"10.2.0.0/99[x]"'))
    result = command_line("check", path)
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert 'error: connections.paris.remte: unknown key; did you mean "remote"?' in result.stderr
    assert result.stderr.endswith("ipsecha: 4 mistakes in the configuration: nothing was changed\n")
    found = json.loads(command_line("check", "--json", path).stdout)
    assert found["ok"] is False
    assert [problem["line"] for problem in found["problems"]] == [3, 5, 6, 10]
    assert found["problems"][1]["nearest"] == "remote"


def test_check_of_a_member(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text((EXAMPLES / "single-psk" / "policy.toml").read_text())
    (tmp_path / "paris.psk").write_text("short\n")
    (tmp_path / "paris.psk").chmod(0o600)
    (tmp_path / "gateway.toml").write_text((EXAMPLES / "single-psk" / "gateway.toml").read_text())
    result = command_line("check", tmp_path / "gateway.toml")
    assert result.exit_code == 0
    assert "member gateway is good" in result.stdout
    assert "warning: connections.paris.psk_file: a pre-shared key of 5 octets can be guessed" in result.stderr


def test_check_of_nothing(tmp_path: Path) -> None:
    result = command_line("check", tmp_path / "nothing.toml")
    assert result.exit_code == ExitCode.USAGE
    assert "cannot read the file: no such file or directory" in result.stderr.replace("\n", "")


def test_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Path] = []

    def run(path: Path) -> int:
        seen.append(path)
        return 7

    monkeypatch.setattr(ipsecha.gateway.daemon, "run", run)
    assert command_line("run", tmp_path / "gateway.toml").exit_code == 7
    assert seen == [tmp_path / "gateway.toml"]


def test_run_with_a_wrong_configuration_is_2(tmp_path: Path) -> None:
    result = command_line("run", tmp_path / "gateway.toml")
    assert result.exit_code == ExitCode.USAGE
    assert "cannot read the file" in result.stderr


@pytest.mark.parametrize("columns", [80, 120])
def test_status_tells_what_a_failover_has_cost_and_what_is_done_about_it(daemon: Daemon, columns: int) -> None:
    told = AfterTakeoverView(100, 16, 20, 30, 2, 12, refused=45678, open_gaps=12, closed_gaps=3000, learnt=1)
    daemon.status = msgspec.structs.replace(STATUS, after_takeover=told)
    output = ask(daemon, "status", columns=columns).output
    assert max(map(len, output.splitlines())) <= columns
    text = " ".join(output.split())
    assert "45,678 packets refused; 12 SAs wait for the first packet beyond the gap, 3,000 got it" in text
    assert "1 window from traffic: replays were possible" in text
    assert "64 of 180 child SAs: 20 synchronised, 30 rekeyed, 12 closed by itself, 16 under way, 100 waiting" in text
    assert "2 refused by the peer" in text


def test_sas_tell_what_a_failover_would_cost_and_the_last_one_has(daemon: Daemon) -> None:
    child = SA.children[0]
    assert child.lease is not None
    for gap, exposure_s, text in (
        (None, None, "a failover now loses at most 445 packets"),
        (None, 0.098, "a failover now loses at most 445 packets, 98ms of traffic"),
        (GapView(500, 12345, 0, 12.0), None, "the last one: 12,345 packets refused, closed 12s ago"),
        (GapView(500, 1, 200), None, "the last one: 1 packet refused, up to 200 more to come"),
        (GapView(500, 0, 0, 1.0, True), None, "the window was learnt: replays were possible"),
    ):
        lease = msgspec.structs.replace(child.lease, exposure=445, exposure_s=exposure_s, gap=gap)
        one = msgspec.structs.replace(SA, children=(msgspec.structs.replace(child, lease=lease),))
        daemon.sas = SasView((one,), 1)
        assert text in " ".join(ask(daemon, "sas").output.split())
