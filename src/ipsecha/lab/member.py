"""Members of a cluster, or single gateways, as real processes: their files, their life, their control socket."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ipsecha.gateway.control import ControlClient, ControlError
from ipsecha.gateway.views import ChildView, OutcomeView, SasView, SaView, StatusView, from_answer
from ipsecha.lab.daemon import Daemon
from ipsecha.lab.namespaces import Namespace
from ipsecha.lab.processes import LabError, start, tail

Table = Mapping[str, Any]
T = TypeVar("T")

COMMAND = "ipsecha.cli.main"
"""The module whose ``run`` is a member's process."""


def toml(table: Table, path: str = "") -> str:
    """A nested mapping as TOML; lists of mappings become arrays of tables."""
    lines, tables = [], []
    for key, value in table.items():
        name = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            tables.append(f"\n[{name}]\n{toml(value, name)}")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            tables += [f"\n[[{name}]]\n{toml(entry, name)}" for entry in value]
        else:
            lines.append(f"{key} = {json.dumps(value)}\n")
    return "".join(lines + tables)


def write_secret(path: Path, data: bytes) -> Path:
    """A file that only its owner can read: the gateway refuses others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
    return path


class Member(Daemon):
    """Run from ``directory/member.toml``; in ``namespace``, or right here where that is None."""

    command = COMMAND

    def __init__(self, name: str, directory: Path, settings: Table, namespace: Namespace | None = None) -> None:
        """``settings``: the member's file without name, state directory and control socket, which are added here."""
        self.name = name
        self.directory = directory
        self.namespace = namespace
        self.path = directory / "member.toml"
        self.socket = directory / "control.sock"
        super().__init__(name, self.path, directory / "member.log")
        directory.mkdir(parents=True, exist_ok=True)
        own = {"name": name, "control": {"socket": "control.sock"}}
        self.path.write_text(toml({**own, **settings}))

    def _spawn(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", f"from {self.command} import run; run()", "run", str(self.path)]
        spawn = self.namespace.start if self.namespace is not None else start
        return spawn(argv, self.log)

    def _serves(self) -> bool:
        """It answers."""
        try:
            self.status()
        except (ControlError, OSError):
            return False
        return True

    def hang(self) -> float:
        """Stops the daemon's execution (SIGSTOP) without ending it; ``resume`` goes on."""
        assert self._process is not None
        at = time.monotonic()
        self._process.send_signal(signal.SIGSTOP)
        return at

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def request(self, command: str, timeout_s: float = 10.0, **arguments: Any) -> dict[str, Any]:
        """One command over the control socket.  Raises ControlError."""
        with ControlClient(self.socket, timeout_s=timeout_s) as client:
            return client.request(command, **arguments)

    def status(self, timeout_s: float = 2.0) -> StatusView:
        return from_answer(self.request("status", timeout_s), StatusView)

    def sas(self) -> tuple[SaView, ...]:
        return from_answer(self.request("sas"), SasView).sas

    def children(self, name: str = "") -> list[ChildView]:
        """The child SAs of all IKE SAs, or those of that name."""
        return [child for sa in self.sas() for child in sa.children if name in ("", child.name)]

    def initiate(self, connection: str, child: str = "") -> OutcomeView:
        return self._change("initiate", connection=connection, child=child)

    def rekey(self, connection: str, child: str = "") -> OutcomeView:
        """Rekeys a connection's child SA, or with no ``child`` its IKE SA."""
        return self._change("rekey", connection=connection, child=child)

    def terminate(self, connection: str, child: str = "") -> OutcomeView:
        """Deletes a connection's child SA, or with no ``child`` its IKE SA."""
        return self._change("terminate", connection=connection, child=child)

    def switchover(self) -> OutcomeView:
        return self._change("switchover")

    def _change(self, command: str, **arguments: str) -> OutcomeView:
        given = {name: value for name, value in arguments.items() if value}
        return from_answer(self.request(command, 30.0, **given), OutcomeView)

    def role(self) -> str:
        """The member's role in its cluster; ``down`` where it does not answer, ``single`` without a cluster."""
        try:
            cluster = self.status(0.2).cluster
        except (ControlError, OSError):
            return "down"
        return cluster.role if cluster is not None else "single"

    def wait_for(self, what: str, condition: Callable[[Member], T], timeout_s: float = 15.0) -> T:
        """Waits until ``condition(self)`` is true and returns it.  Raises LabError naming ``what`` if it never is."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                result = condition(self)
            except (ControlError, OSError):
                result = None
            if result:
                return result
            if time.monotonic() > deadline or not self.running:
                raise LabError(f"{self.name}: no {what} within {timeout_s:g} s\n{tail(self.log)}")
            time.sleep(0.03)
