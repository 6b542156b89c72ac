"""The witness of a pair as a real process, in a namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ipsecha.lab.daemon import Daemon
from ipsecha.lab.namespaces import Namespace

_COMMAND_LINE = "from ipsecha.cli.main import run; run()"


class Witness(Daemon):
    """Run from ``directory/witness.toml``."""

    def __init__(self, directory: Path, namespace: Namespace) -> None:
        super().__init__("the witness", directory / "witness.log")
        self.directory = directory
        self.namespace = namespace
        self.ledger = directory / "ledger.json"

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.log.unlink(missing_ok=True)
        configuration = str(self.directory / "witness.toml")
        argv = [sys.executable, "-c", _COMMAND_LINE, "cluster", "witness", "--config", configuration]
        return self.namespace.start(argv, self.log)

    def _serves(self) -> bool:
        """It has its ledger."""
        return "witness for" in (self.log.read_text() if self.log.exists() else "")

    @property
    def epoch(self) -> int:
        """What it has on disk."""
        return int(json.loads(self.ledger.read_text())["lab"]["epoch"])
