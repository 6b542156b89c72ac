"""``ipsecha cluster``: two members get certificates that a synch channel accepts, by files and by token."""

from __future__ import annotations

import datetime
import json
import re
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ipsecha.cli.main import app
from ipsecha.cli.output import ExitCode
from ipsecha.gateway import join, pki
from ipsecha.gateway.config_witness import load_witness
from ipsecha.gateway.join import Invitation
from ipsecha.model.errors import ClusterError


def cluster(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["cluster", *map(str, arguments)], env={"COLUMNS": "80", "TERM": "dumb"})


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(result: Result, reason: str, code: int = ExitCode.FAILED) -> None:
    assert result.exit_code == code
    assert reason in result.stderr


@pytest.fixture
def alpha(tmp_path: Path) -> Path:
    folder = tmp_path / "alpha"
    output = good(cluster("init", "berlin", "alpha", "-d", folder))
    assert f"wrote {folder}/ca.key" in output
    assert sorted(path.name for path in folder.iterdir()) == ["alpha.crt", "alpha.key", "ca.crt", "ca.key"]
    return folder


def test_by_files(alpha: Path, tmp_path: Path) -> None:
    beta, request, bundle = tmp_path / "beta", tmp_path / "beta.csr", tmp_path / "beta.bundle"
    asked = good(cluster("join", "beta", "--request", request, "-d", beta))
    signed = good(cluster("sign", request, "--output", bundle, "-d", alpha))
    prints = [re.findall(r"fingerprint of beta's key: ([0-9a-f ]+)", text) for text in (asked, signed)]
    assert prints[0] == prints[1] != []
    assert "PRIVATE" not in request.read_text() + bundle.read_text()
    good(cluster("join", "beta", "--bundle", bundle, "-d", beta))
    assert sorted(path.name for path in beta.iterdir()) == ["beta.crt", "beta.key", "ca.crt"]
    refused(cluster("join", "gamma", "--bundle", bundle, "-d", beta), 'for the member "beta", expected "gamma"')


def test_a_certificate_is_renewed_with_the_same_key(alpha: Path, tmp_path: Path) -> None:
    """Also that of a member whose key has no request lying about: the first one's, or one that came by token."""
    request, bundle, key = tmp_path / "alpha.csr", tmp_path / "alpha.bundle", alpha / "alpha.key"
    before = key.read_bytes(), (alpha / "alpha.crt").read_bytes()
    assert "alpha.key" not in good(cluster("join", "alpha", "--request", request, "-d", alpha))
    good(cluster("sign", request, "--output", bundle, "-d", alpha))
    good(cluster("join", "alpha", "--bundle", bundle, "-d", alpha))
    assert key.read_bytes() == before[0]
    assert (alpha / "alpha.crt").read_bytes() != before[1]
    key.write_bytes(b"not a key")
    refused(cluster("join", "alpha", "--request", tmp_path / "again.csr", "-d", alpha), "not a member's private key")


def test_by_token(alpha: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made: list[Invitation] = []
    begin = Invitation.__init__

    def remember(self: Invitation, *arguments: Any) -> None:
        begin(self, *arguments)
        made.append(self)
        ready.set()

    ready = threading.Event()
    monkeypatch.setattr(Invitation, "__init__", remember)
    beta = tmp_path / "beta"
    outcome: list[str] = []

    def join_quietly() -> None:
        assert ready.wait(10)
        for _ in range(200):
            try:
                join.join(made[0].token, pki.MemberFiles(beta), datetime.datetime.now(datetime.UTC))
            except ClusterError as error:
                if "cannot join" not in str(error):
                    outcome.append(str(error))
                    return
            else:
                outcome.append("joined")
                return

    thread = threading.Thread(target=join_quietly)
    thread.start()
    output = good(cluster("invite", "beta", "--listen", f"127.0.0.1:{port}", "--valid", "30s", "-d", alpha))
    thread.join(30)
    assert outcome == ["joined"]
    assert "ipsecha cluster join --token ipsecha1-" in output
    assert "beta has joined." in output
    assert (beta / "beta.crt").exists()


def test_invitation_that_nobody_follows(alpha: Path) -> None:
    result = cluster("invite", "beta", "--listen", "127.0.0.1:0", "--valid", "1s", "-d", alpha)
    assert result.exit_code == ExitCode.USAGE  # port 0 is none
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(cluster("invite", "beta", "--listen", f"127.0.0.1:{port}", "-d", alpha), "address already in use")
    result = cluster("invite", "beta", "--listen", f"127.0.0.1:{port}", "--valid", "1s", "-d", alpha)
    refused(result, "beta has not joined: the token is void now")


def test_nothing_is_overwritten(alpha: Path, tmp_path: Path) -> None:
    refused(cluster("init", "berlin", "alpha", "-d", alpha), "holds a cluster's CA already")
    request = tmp_path / "beta.csr"
    good(cluster("join", "beta", "--request", request, "-d", tmp_path / "beta"))
    refused(cluster("join", "beta", "--request", request, "-d", tmp_path / "other"), "is there already")
    assert not (tmp_path / "other").exists()


def test_json(tmp_path: Path) -> None:
    found = json.loads(good(cluster("init", "berlin", "alpha", "-d", tmp_path, "--json")))
    assert found["member"] == "alpha"
    assert f"{tmp_path}/ca.crt" in found["files"]
    result = cluster("init", "berlin", "alpha", "-d", tmp_path, "--json")
    assert result.exit_code == ExitCode.FAILED
    assert json.loads(result.stdout)["ok"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["join"], 2, "expected one of --token, --request"),
        (["join", "beta", "--token", "x"], 2, "expected the member's name with"),
        (["join", "--request", "x"], 2, "expected the member's name with"),
        (["join", "--token", "ipsecha1-nonsense"], 1, "not a token of ipsecha cluster invite"),
        (["join", "beta", "--bundle", "/nonexistent"], 1, "cannot read /nonexistent: no such file"),
        (["sign", "/nonexistent", "-o", "/nonexistent/out"], 1, "cannot read"),
        (["init", "berlin", "Alpha"], 1, "expected a member's name"),
        (["invite", "beta", "--listen", "nowhere"], 2, "expected an address with a port"),
    ],
)
def test_mistakes(tmp_path: Path, arguments: list[str], code: int, reason: str) -> None:
    result = cluster(*arguments, "-d", tmp_path)
    assert result.exit_code == code
    assert reason in " ".join(re.sub("[│╭╮╰╯─]", " ", result.stderr).split())
    assert list(tmp_path.iterdir()) == []


def test_the_witness_gets_its_certificate_like_a_member(alpha: Path, tmp_path: Path) -> None:
    """By files; its own file then loads."""
    folder = tmp_path / "third"
    good(cluster("join", "witness", "--request", tmp_path / "witness.csr", "-d", folder))
    good(cluster("sign", tmp_path / "witness.csr", "--output", tmp_path / "witness.bundle", "-d", alpha))
    good(cluster("join", "witness", "--bundle", tmp_path / "witness.bundle", "-d", folder))
    (folder / "witness.toml").write_text(
        'cluster = "berlin"\nmembers = ["alpha", "beta"]\nlisten = "127.0.0.1:4603"\nstate = "ledger.json"\n'
        'certificate = "witness.crt"\nprivate_key = "witness.key"\nca = "ca.crt"\n'
    )
    assert load_witness(folder / "witness.toml").members == ("alpha", "beta")


def test_a_witness_with_a_wrong_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "witness.toml").write_text('cluster = "berlin"\n')
    result = cluster("witness", "--config", tmp_path / "witness.toml")
    assert result.exit_code == ExitCode.USAGE
    assert "members" in result.stderr


def test_serve_alone_wants_to_hear_yes(tmp_path: Path) -> None:
    result = cluster("serve-alone", "--socket", tmp_path / "nobody.sock")
    assert result.exit_code == ExitCode.USAGE
    assert "--yes" in result.stderr
    refused(cluster("serve-alone", "--yes", "--socket", tmp_path / "nobody.sock"), "no daemon", ExitCode.UNREACHABLE)


@pytest.mark.parametrize("command", ["init", "invite", "witness"])
def test_help_keeps_the_names_of_tables(command: str) -> None:
    """In markup, brackets are something else."""
    assert "[cluster]" in good(cluster(command, "--help"))
