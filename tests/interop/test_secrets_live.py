"""A pair and its peer as real processes: nothing that they log or answer holds a secret (invariant I6)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from ipsecha.lab import stage
from ipsecha.lab.failover import protection, wait_for_pair
from ipsecha.lab.loopback import on_loopback
from ipsecha.lab.member import Member
from ipsecha.lab.processes import run
from ipsecha.lab.stage import CHILD, CONNECTION
from needles import Needles

PSK = bytes.fromhex(stage.PSK_TEXT[2:])
LONG_HEX = re.compile(r"[0-9a-fA-F]{24,}")
LONG_BASE64 = re.compile(r"(?=[A-Za-z0-9+/]*[0-9])(?=[A-Za-z0-9+/]*[A-Z])[A-Za-z0-9+/]{30,}={0,2}")
"""Whatever keys a session has, 12 octets of them would look like this; SPIs (8 octets) do not."""
OCTETS = re.compile(r"\\x[0-9a-f]{2}.{0,3}\\x[0-9a-f]{2}")


@pytest.mark.slow
def test_logs_and_answers_of_a_whole_life(tmp_path: Path) -> None:
    """Handshake, rekeys, a death, a return and a switchover; then everything that an operator can look at."""
    texts: list[str] = []
    with on_loopback(tmp_path) as scene:
        active, standby = wait_for_pair(scene.members)
        scene.bring_up()
        scene.probes.wait_until_answered()
        for child in (CHILD, ""):
            active.rekey(CONNECTION, child)
            texts += answers(active, standby, scene.peer)
        active.kill()
        standby.wait_for("takeover", lambda member: member.role() == "active")
        active.start()
        active, standby = wait_for_pair(scene.members)
        active.wait_for("protection", lambda member: protection(member) == "protected")
        active.switchover()
        standby.wait_for("switchover", lambda member: member.role() == "active")
        scene.peer.terminate(CONNECTION)
        texts += shown(active, standby, scene.peer)
        files = sorted(tmp_path.rglob("*"))
        members = [active, standby, scene.peer]
    texts += [member.log.read_text() for member in members]
    needles = Needles()
    needles.add("PSK", PSK)
    for path in files:
        if path.suffix == ".key":
            for number, line in enumerate(path.read_text().splitlines()[1:-1]):
                needles.add(f"{path.name} line {number}", line.encode())
    whole = "\n".join(texts)
    assert CONNECTION in whole
    assert CHILD in whole
    assert len(needles) > 20
    assert needles.found(texts) == set()
    for pattern in (LONG_HEX, LONG_BASE64, OCTETS):
        assert pattern.findall(whole.replace(str(tmp_path), "")) == []
    assert "PRIVATE KEY" not in whole
    assert "Traceback" not in whole


def answers(*members: Member) -> list[str]:
    """The control socket's answers."""
    return [json.dumps(member.request(command)) for member in members for command in ("status", "sas")]


def shown(*members: Member) -> list[str]:
    """What the commands print, for people and for scripts."""
    texts = answers(*members)
    for member in members:
        for command in (["status"], ["status", "--json"], ["sas"], ["sas", "--json"]):
            argv = [sys.executable, "-c", "from ipsecha.cli.main import app; app()", *command]
            texts.append(run([*argv, "--socket", str(member.socket)]).stdout)
    return texts
